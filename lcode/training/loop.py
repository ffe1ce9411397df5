"""The training loop: epochs of steps, validation, the best so far, and when to save."""

import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from lcode.errors import DivergedError, InputError, OutOfTime, whole
from lcode.training.step import TrainState


class StopRequest:
  """Somebody's wish, from outside of the loop, that the training in this process save what it has and stop.

  Attributes:
    wanted: whether it is to stop after the call of the step that runs.
    heeded: whether a training runs that would.
  """

  wanted = False
  heeded = False


stop_request = StopRequest()


class Best(NamedTuple):
  """The best epoch so far on the validation split (the first of equals).

  Attributes:
    step: how many steps had been taken.
    value: of the figure that is judged by.
    variables: (params, model_state).
    partial: not of a whole epoch: it stands in for evaluation, and no later epoch competes with it.
  """

  step: int
  value: float
  variables: Any
  partial: bool = False


class Result(NamedTuple):
  """What a run ends with.

  Attributes:
    state: the last one.
    best: the best epoch, by validation.
    history: figures of each epoch of this part of the run.
    seconds: of steps, validation and saving, over all parts of a resumed run.
    steps_per_epoch: how many there were.
  """

  state: TrainState
  best: Best
  history: list[dict]
  seconds: float
  steps_per_epoch: int


class Store(Protocol):
  """Where a run is kept; `checkpoint.Store` is one."""

  def claim(self, values: dict[str, Any]) -> None: ...
  def save(self, state: TrainState, best: Best | None, seconds: float) -> None: ...
  def restore(self, state: TrainState) -> tuple[TrainState, Best | None, float] | None: ...
  def describe_latest(self) -> str: ...


class Reporter:
  """Told of every call of the step and every epoch; this one is silent."""

  def start(self, total_steps: int, done: int) -> None: ...
  def steps(self, done: int, losses: np.ndarray) -> None: ...
  def epoch(self, figures: dict) -> None: ...


class Schedule(NamedTuple):
  """How long to train.

  Attributes:
    epochs: how many.
    steps_per_epoch: in each of them.
    steps_per_call: taken by one call of the step (`devices.steps_per_call`).
    max_steps: stop early after so many, None for not.
    save_every_s: seconds between two checkpoints, at a second's distance at least within an epoch; the end of an
      epoch that is due and the end of a run are always saved.
    stop_at: time.monotonic() after which no more calls of the step are made, one at least; None for not. Of several
      processes it is the first that looks at its clock, for this and for `save_every_s`.
    criterion: the validation figure that the best epoch has most of, or `loss`, which it has least of.
  """

  epochs: int
  steps_per_epoch: int
  steps_per_call: int = 1
  max_steps: int | None = None
  save_every_s: float = 60.0
  stop_at: float | None = None
  criterion: str = 'reconstruction_accuracy'


def run(make_step: Callable, evaluate: Callable, make_plan: Callable, state: TrainState, schedule: Schedule,
        store: Store | None = None, reporter: Reporter | None = None, place: Callable = lambda tree: tree) -> Result:
  """Trains, from the store's newest checkpoint if it has one.

  A run that is stopped anywhere and run again takes the same steps: batches and random keys follow from the seed
  and the step's number alone.

  Args:
    make_step: number of steps -> compiled (state, plan) -> state, metrics with `loss` f32[] or f32[steps].
    evaluate: (params, model_state) -> figures on the validation split, with `loss` and the schedule's criterion.
    make_plan: epoch -> the plan as the step takes it.
    state: where to start from.
    schedule: how long.
    store: where to save and to resume from; None keeps nothing.
    reporter: who is told of the progress.
    place: puts a restored state on the devices.

  Raises:
    InputError: if the schedule has a number that makes no sense.
    DivergedError: at the first loss that is not finite; what was saved stays.
    OutOfTime: past `stop_at`, or on `stop_request`, with steps left to take; all that was done is in the store.
  """
  stop_request.heeded = True
  try:
    return _run(make_step, evaluate, make_plan, state, schedule, store, reporter or Reporter(), place)
  finally:
    stop_request.heeded = stop_request.wanted = False


def _run(make_step, evaluate, make_plan, state, schedule, store, reporter, place) -> Result:
  total = total_steps(_checked(schedule))
  make_step = functools.cache(make_step)
  best, seconds, history = None, 0.0, []
  restored = store.restore(state) if store else None
  if restored:
    state, best, seconds = place(restored[0]), *restored[1:]
    best = None if best and best.partial and int(state.step) < total else best
  done = int(state.step)
  reporter.start(total, done)
  timed = _common(store is not None or schedule.stop_at is not None)
  saved_at = started_at = time.monotonic()
  while done < total:
    epoch, row = divmod(done, schedule.steps_per_epoch)
    rows = min(schedule.steps_per_epoch - row, total - done)
    began = time.monotonic()
    deadline = max(saved_at + schedule.save_every_s, began + 1) if store else math.inf
    deadline = min(deadline, math.inf if schedule.stop_at is None else schedule.stop_at)
    state, losses = _take(make_step, make_plan(epoch), state, rows, schedule.steps_per_call, done,
                          functools.partial(_in_time, timed, deadline), store, reporter)
    done += len(losses)
    figures = {'epoch': epoch + 1, 'step': done, 'train_loss': float(losses.mean()), 'steps': len(losses),
               'seconds': time.monotonic() - began}
    whole = done % schedule.steps_per_epoch == 0
    if whole or (done == total and best is None):
      validation = evaluate(state.params, state.model_state)
      if not math.isfinite(validation['loss']):
        _diverged(f'the validation loss ({validation["loss"]})', done, store)
      figures |= {f'validation_{name}': value for name, value in validation.items()}
      value = _criterion(validation, schedule)
      if best is None or value > best.value:
        # A copy: the next step takes over the state's own buffers.
        best = Best(done, value, jax.tree.map(jnp.copy, (state.params, state.model_state)), not whole)
    history.append(figures)
    reporter.epoch(figures)
    now = time.monotonic()
    late = schedule.stop_at is not None and now >= schedule.stop_at
    over = done < total and (late or stop_request.wanted)
    over, due = _common((over, now - saved_at >= schedule.save_every_s))
    if store and (done == total or over or due):
      if not _all_finite(state.params):
        _diverged('a parameter', done, store)
      store.save(state, best, seconds + time.monotonic() - started_at)
      saved_at = time.monotonic()
    if over:
      raise OutOfTime(f'stopped at step {done} of {total}')
  if best is None:  # stopped in the first epoch, past what max_steps now allows
    value = _criterion(evaluate(state.params, state.model_state), schedule)
    best = Best(done, value, (state.params, state.model_state), partial=True)
    if store and total == 0:  # nothing to train: what was initialised or chosen is kept as a trained code is
      store.save(state, best, seconds + time.monotonic() - started_at)
  return Result(state, best, history, seconds + time.monotonic() - started_at, schedule.steps_per_epoch)


def _criterion(validation: dict, schedule: Schedule) -> float:
  """What the best epoch has most of."""
  value = validation[schedule.criterion]
  return -value if schedule.criterion == 'loss' else value


def _checked(schedule: Schedule) -> Schedule:
  for name, least in (('epochs', 0), ('steps_per_epoch', 1), ('steps_per_call', 1), ('max_steps', 0)):
    if name != 'max_steps' or schedule.max_steps is not None:
      whole(name, getattr(schedule, name), least)
  if not schedule.save_every_s >= 0:
    raise InputError(f'save_every_s={schedule.save_every_s!r} is not allowed: it must be 0 seconds or more.')
  return schedule


def total_steps(schedule: Schedule) -> int:
  """How many steps a run of this schedule takes in all."""
  total = schedule.epochs * schedule.steps_per_epoch
  return total if schedule.max_steps is None else min(total, schedule.max_steps)


def _take(make_step, plan, state, rows, steps_per_call, done, in_time, store, reporter):
  """Takes `rows` steps, fewer where they are no longer `in_time`; a call's metrics are fetched while the next one runs.

  A run that was stopped (not by max_steps) makes its calls at the same steps as one that was not.
  """
  losses, pending, taken = [], None, 0
  while taken < rows and (taken == 0 or in_time()):
    count = min(steps_per_call, rows - taken)
    state, metrics = make_step(count)(state, plan)
    if pending is not None:
      losses.append(_fetch(pending, done, losses, store, reporter))
    pending, taken = metrics['loss'], taken + count
  losses.append(_fetch(pending, done, losses, store, reporter))
  return state, np.concatenate(losses)


def _fetch(loss, done, losses, store, reporter):
  values = np.atleast_1d(jax.device_get(loss))
  first = done + sum(map(len, losses)) + 1
  for step, value in enumerate(values, first):
    if not math.isfinite(value):
      _diverged(f'the loss ({value})', step, store, untrained=step == 1)
  reporter.steps(first + len(values) - 1, values)
  return values


def _diverged(what, step, store, untrained=False):
  kept = f'the last good checkpoint, {store.describe_latest()}, is kept' if store else 'nothing was saved'
  if untrained:  # it is the loss of the parameters at the start, so no learning rate has had a say
    advice = 'look for values that are not finite in the queries, after the preprocessing, and in what F answers'
  else:
    advice = ('most often the learning rate is too high, so try a lower one; else look for single queries on which F '
              'or the preprocessing is not finite')
  raise DivergedError(f'{what} is not finite at step {step}: training stopped, {kept}; {advice}.')


def _in_time(timed, deadline) -> bool:
  """Whether there is time for another call; without a deadline no process asks the others."""
  return not timed or bool(_common(time.monotonic() < deadline and not stop_request.wanted))


def _common(decision):
  """In several processes that of the first, for all of them: each has a clock of its own, and steps are taken together.

  Every process has to ask at the same place.
  """
  return decision if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(np.asarray(decision))


@jax.jit
def _all_finite(tree):
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))
