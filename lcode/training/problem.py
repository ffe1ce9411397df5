"""What is trained, bound to the devices: the same for codes and base models."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lcode.data import epoch_order, plan_batches
from lcode.errors import InputError
from lcode.training import loop
from lcode.training.devices import many_steps, replicate, run_on, split_plan, steps_per_call
from lcode.training.metrics import summarise
from lcode.training.options import TrainingOptions
from lcode.training.reporters import default_reporter
from lcode.training.step import make_planned_step, make_train_step

# Seeds of the parts of a run are split from the run's seed by these, so that one does not follow another.
INIT, STEPS, ORDER, PATTERNS = 0, 1, 2, 3


class Problem(NamedTuple):
  """What is trained, over arrays that lie on the devices."""

  make_objective: Callable          # axis name -> objective
  counts_of: Callable               # (params, model_state) -> counts on the validation split
  base_variables: Any
  split: dict                       # the training split
  fetch: Callable
  k: int
  drop_last: bool
  sample: Callable | None = None    # (epoch, steps) -> the patterns of each step


def check_reporter(reporter) -> None:
  """Raises InputError if `reporter` is neither None nor can be told of a training's progress."""
  if reporter is not None and not all(callable(getattr(reporter, name, None)) for name in ('start', 'steps', 'epoch')):
    raise InputError(f'reporter={reporter!r} is none: give a lcode.training.loop.Reporter, or None.')


def train(problem: Problem, tx, state, schedule: loop.Schedule, options: TrainingOptions, devices, store,
          reporter) -> loop.Result:
  """Binds the arrays to the compiled step and evaluation, and trains."""

  def make_step(count):
    def make(axis):
      step = make_train_step(problem.make_objective(axis), tx, axis)
      return many_steps(make_planned_step(step, problem.fetch), count)
    fn = run_on(devices, make, 4, split=3, donate=(0,))
    return lambda state, plan: fn(state, problem.base_variables, problem.split, plan)

  def make_plan(epoch):
    order = epoch_order(len(problem.split['labels']), seed_of(options.seed, ORDER), epoch)
    plan = plan_batches(order, problem.k, options.batch_size, problem.drop_last)
    if problem.sample is not None:
      plan = dataclasses.replace(plan, available=problem.sample(epoch, plan.steps))
    return split_plan(plan, devices)

  def place(tree):
    return replicate(tree, devices)

  return loop.run(make_step, lambda *variables: summarise(problem.counts_of(*variables)), make_plan, place(state),
                  schedule, store, default_reporter('training') if reporter is None else reporter, place)


def schedule_of(options: TrainingOptions, epochs: int, steps_per_epoch: int, devices, criterion: str) -> loop.Schedule:
  """How long to train, as the options say."""
  return loop.Schedule(epochs, steps_per_epoch, steps_per_call(devices), options.max_steps, options.save_every_s,
                       options.stop_at, criterion)


def as_store(store):
  """A `checkpoint.Store` of a directory, or what is one already; raises InputError for anything else."""
  if isinstance(store, str) and not store.strip():
    raise InputError(f'store={store!r} names no directory: give one, or None to keep nothing.')
  if isinstance(store, (str, Path)):
    from lcode.training import checkpoint  # Orbax takes a second to import
    return checkpoint.Store(Path(store))
  if store is not None and not all(hasattr(store, name) for name in ('save', 'restore', 'claim', 'describe_latest')):
    raise InputError(f'store={store!r} is no store: give a directory, or a checkpoint.Store.')
  return store


def seed_of(seed: int, part: int) -> int:
  """The seed of a part of a run."""
  return int(np.random.SeedSequence([seed, part]).generate_state(1)[0])


def key_of(seed: int, part: int):
  """The random key of a part of a run."""
  return jax.random.key(seed_of(seed, part))
