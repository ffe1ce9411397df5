"""Objectives and the training step: pure functions, no I/O, no knowledge of devices beyond an axis name."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from lcode.coding.scheme import Scheme
from lcode.coding.units import stack_units
from lcode.data import crop_and_flip
from lcode.errors import InputError, whole
from lcode.training import losses, metrics
from lcode.training.patterns import check_patterns

# Numbers of [groups, patterns, n, W], outputs with a pattern's erasures, that evaluation decodes at once on a device:
# 64 MiB of float32, of which XLA holds a few such arrays. Training keeps all of a step's, which its gradients need.
DECODED_AT_ONCE = 2**24
DROPOUT = 2**32 - 1  # what a step's key is folded with for dropout: no group has this position


@flax.struct.dataclass
class TrainState:
  """All that training changes: donated, replicated and checkpointed whole.

  Attributes: `step` int32[], `params`, `model_state` (what is not trained by gradients, such as batch statistics),
  `opt_state`, and `key`, the typed PRNG key of the run.

  >>> state = lcode.TrainState(jnp.int32(0), params, model_state, optax.sgd(0.1).init(params), jax.random.key(0))
  >>> int(state.replace(step=state.step + 1).step)
  1
  """

  step: Any         # int32[]
  params: Any
  model_state: Any  # what is not trained by gradients: batch statistics
  opt_state: Any
  key: Any          # the typed PRNG key of the run; a step folds its number in


@flax.struct.dataclass
class Batch:
  """g groups of k queries.

  Attributes: `x` f32[g, k, *S]; `base_outputs` f32[g, k, C], F on the plain (not augmented) queries; `labels`
  int32[g, k]; `real` bool[g], False for groups that only fill the batch; `available` bool[s, n], patterns of its own.

  >>> groups, answers = x.reshape(100, 2, 6), apply(variables, x).reshape(100, 2, 3)
  >>> batch = lcode.Batch(groups, answers, y.reshape(100, 2), real=np.ones(100, bool))
  >>> batch.available is None
  True
  """

  x: Any             # f32[g, k, *S]
  base_outputs: Any  # f32[g, k, C], F on the plain (not augmented) queries; None where F itself is trained
  labels: Any        # int32[g, k]
  real: Any          # bool[g], False for groups that only fill the batch
  available: Any = None  # bool[s, n], the step's own patterns; None for those of the objective


class Outcome(NamedTuple):
  """What an objective says of a batch: sums, so that batches and devices add up."""

  loss_sum: Any
  weight: Any       # how many terms are in loss_sum
  model_state: Any
  counts: Any       # metrics.Counts


def init_state(params, model_state, tx: optax.GradientTransformation, seed: int) -> TrainState:
  """The state before the first step; `seed` is that of the run's key, 0 to 2**32 - 1."""
  if whole('seed', seed, 0) >= 2**32:  # a key takes the lowest 32 bits, without a word
    raise InputError(f'seed={seed} is too large for a random key: it must be below {2**32}.')
  return TrainState(jnp.int32(0), params, model_state, tx.init(params), jax.random.key(seed))


def make_code_objective(scheme: Scheme, loss_fn: Callable, available, axis_name: str | None = None,
                        train_parity_model: bool = True, sets: np.ndarray | None = None) -> Callable:
  """The reconstruction loss of "Learning a Code" (arXiv:1806.01259, section 4), for any code and patterns.

  Encoding and inference on the parities run once per group, decoding once per pattern. In each pattern
  the data units that are missing count; of a code without `passthrough`, all k answers.

  Args:
    scheme: the code.
    loss_fn: a loss of each unit, such as `lcode.kl_base`.
    available: bool[s, n], the patterns; a batch that brings its own goes by these.
    axis_name: of the devices that a batch is split over, for the batch statistics of a parity model.
    train_parity_model: False where it stays as it is, its batch statistics too.
    sets: bool[q, s], sets of the patterns to count `Counts.clusters` over; None for none.

  Returns:
    (params, model_state, base_variables, batch, train, key=None) -> outcome, with `loss_sum`, `weight` (how many terms
    are in it), `model_state` and `counts`; `key` is what dropout draws from in training. Without `train` at most 2^24
    numbers are decoded at once.

  Raises:
    InputError: if `available`, or `sets`, do not go with the code or with each other.

  >>> objective = lcode.make_code_objective(scheme, lcode.mse_base, lcode.every_pattern(code))
  >>> float(objective(params, model_state, variables, batch, train=False).weight)    # 2 patterns, 1 missing
  200.0
  """
  available = np.asarray(available)
  check_patterns(scheme, available)
  if sets is not None and np.shape(sets)[1:] != available.shape[:1]:
    raise InputError(f'sets {list(np.shape(sets))} are not of the {len(available)} patterns: give bool[q, '
                     f'{len(available)}].')

  def objective(params, model_state, base_variables, batch, train, key=None):
    patterns = jnp.asarray(available if batch.available is None else batch.available)
    if patterns.dtype != bool or patterns.ndim != 2 or patterns.shape[1] != scheme.code.n:
      raise InputError(f'available {patterns.dtype}{list(patterns.shape)} of a batch are no patterns: give '
                       f'bool[s, {scheme.code.n}].')
    coded = jax.vmap(scheme.encode, (None, 0))(params, batch.x)
    outputs, model_state = scheme.infer(params, model_state, base_variables, coded, train and train_parity_model,
                                        axis_name, key)
    if scheme.systematic:
      outputs = stack_units(batch.base_outputs, outputs)
    judge = functools.partial(_judge, scheme, loss_fn, params, outputs, batch, not train)
    at_once = len(patterns) if train else max(DECODED_AT_ONCE // math.prod(outputs.shape), 1)
    in_parts = judge if at_once >= len(patterns) else functools.partial(_in_chunks, judge, at_once)
    loss_sum, weight, counts, tallies = in_parts(patterns, None if sets is None else jnp.asarray(sets, bool))
    clusters = None if tallies is None else metrics.cluster(tallies)
    return Outcome(loss_sum, weight, model_state, counts.replace(clusters=clusters))

  return objective


def _judge(scheme, loss_fn, params, outputs, batch, check_finite, patterns, sets):
  """(loss_sum, weight, counts, tallies of the sets) of outputs f32[g, n, W] decoded in all patterns bool[s, n].

  In training nothing is kept from the loss for not being finite: it is to be seen there.
  """
  decode = functools.partial(scheme.decode, check_finite=check_finite)
  decode = jax.vmap(jax.vmap(decode, (None, None, 0)), (None, 0, None))
  reconstructed = decode(params, outputs, patterns)  # [g, s, k, C]
  unit_loss = loss_fn(reconstructed, jnp.broadcast_to(batch.base_outputs[:, None], reconstructed.shape),
                      jnp.broadcast_to(batch.labels[:, None], reconstructed.shape[:-1]))
  approximated = ~patterns[:, :scheme.code.k] | (not scheme.passthrough)
  mask = approximated[None] & batch.real[:, None, None]
  loss_sum, weight = losses.masked_sum(unit_loss, mask)
  counts = metrics.count(unit_loss, reconstructed, batch.base_outputs, batch.labels, mask)
  tallies = None if sets is None else metrics.tally(reconstructed, batch.base_outputs, batch.labels, mask, sets)
  return loss_sum, weight, counts, tallies


def _in_chunks(judge, at_once, patterns, sets):
  """`judge` of at most `at_once` patterns at a time: the same counts, in less memory."""
  count, n = patterns.shape
  chunks = -(-count // at_once)
  at_once = -(-count // chunks)
  padding = (0, chunks * at_once - count)
  patterns = jnp.pad(patterns, (padding, (0, 0)), constant_values=True).reshape(chunks, at_once, n)
  if sets is not None:
    sets = jnp.pad(sets, ((0, 0), padding)).reshape(len(sets), chunks, at_once).swapaxes(0, 1)
  shapes = jax.eval_shape(judge, patterns[0], jax.tree.map(lambda x: x[0], sets))[3]

  def add(total, chunk):
    _, _, counts, tallies = judge(*chunk)
    return jax.tree.map(jnp.add, total, tallies), counts

  tallies, counts = jax.lax.scan(add, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes), (patterns, sets))
  counts = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1])[:count], counts)
  return counts.loss.sum(), counts.erased.sum(), counts, tallies


def make_base_objective(model) -> Callable:
  """Cross-entropy of a base model to the labels; groups of one. Same signature as `make_code_objective`'s."""

  def objective(params, model_state, base_variables, batch, train, key=None):
    del base_variables
    variables = {'params': params, **model_state}
    x = batch.x[:, 0]
    rngs = {'dropout': key} if train and key is not None else {}
    if train and model_state:
      logits, model_state = model.apply(variables, x, train=True, rngs=rngs, mutable=list(model_state))
    else:
      logits = model.apply(variables, x, train=train, rngs=rngs)
    unit_loss = losses.xent_label(logits, None, batch.labels[:, 0])
    loss_sum, weight = losses.masked_sum(unit_loss, batch.real)
    # F is its own reconstruction here, so that "degraded accuracy" reads as plain accuracy.
    counts = metrics.count(unit_loss[:, None, None], logits[:, None, None], logits[:, None], batch.labels,
                           batch.real[:, None, None])
    return Outcome(loss_sum, weight, model_state, counts)

  return objective


def make_train_step(objective: Callable, tx: optax.GradientTransformation, axis_name: str | None = None) -> Callable:
  """The training step, a pure function: (state, base_variables, batch) -> state, {'loss': f32[]}.

  The loss is the mean over the whole batch: sums and weights are added over the devices of `axis_name` before
  they are divided, so any number of devices takes the same step, padding included. Of a model state the devices keep
  the mean: modules that know the axis have the same on each already, the batch statistics of others are one device's.
  Dropout draws from a key that follows from the run's key, the step's number and the device's.

  Args:
    objective: from `make_code_objective`.
    tx: an optax transformation.
    axis_name: of the devices (`jax.pmap`) that the batch is split over; None for one device.

  >>> mlp, tx = lcode.make_scheme(code, apply, 'mlp', 'mlp'), optax.adam(1e-3)
  >>> params, model_state = mlp.init(jax.random.key(0), x[:2], num_outputs=3)
  >>> step = jax.jit(lcode.make_train_step(
  ...     lcode.make_code_objective(mlp, lcode.kl_base, lcode.every_pattern(code)), tx))
  >>> state = lcode.TrainState(jnp.int32(0), params, model_state, tx.init(params), jax.random.key(0))
  >>> state, metrics = step(state, variables, batch)
  >>> int(state.step), metrics['loss'].shape
  (1, ())
  """

  def add_up(tree):
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)

  def average(x):
    shared = axis_name is None or not jnp.issubdtype(x.dtype, jnp.inexact)
    return x if shared else jax.lax.pmean(x, axis_name)

  def step(state, base_variables, batch):
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), DROPOUT)
    key = key if axis_name is None else jax.random.fold_in(key, jax.lax.axis_index(axis_name))

    def local_loss(params):
      outcome = objective(params, state.model_state, base_variables, batch, True, key)
      # Dividing this device's sum by everybody's weight makes the sum of gradients the gradient of the mean.
      return outcome.loss_sum / jnp.maximum(add_up(outcome.weight), 1), outcome

    (loss, outcome), grads = jax.value_and_grad(local_loss, has_aux=True)(state.params)
    loss, grads = add_up((loss, grads))
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    state = state.replace(step=state.step + 1, params=optax.apply_updates(state.params, updates),
                          opt_state=opt_state, model_state=jax.tree.map(average, outcome.model_state))
    return state, {'loss': loss}

  return step


def make_fetch(normalise: Callable, augment: bool) -> Callable:
  """Returns (split, indices int32[g, k], real bool[g], keys[g]) -> Batch, gathered on the device.

  `split` is a dictionary of device arrays: `images` [N, *S], `labels` int32[N], `base_outputs` f32[N, C] or None.
  """

  def fetch(split, indices, real, keys=None):
    images = split['images'][indices]
    if augment and keys is not None:
      keys = jax.vmap(lambda key: jax.random.split(key, indices.shape[1]))(keys)
      images = jax.vmap(jax.vmap(crop_and_flip))(keys, images)
    base_outputs = None if split['base_outputs'] is None else split['base_outputs'][indices]
    return Batch(normalise(images), base_outputs, split['labels'][indices], real)

  return fetch


def make_planned_step(train_step: Callable, fetch: Callable) -> Callable:
  """Wraps a step so that it takes its own batch: (state, base_variables, split, plan) -> state, metrics.

  `plan` holds `indices` int32[steps, g, k], `real` bool[steps, g] and `position` int32[g], each group's place in
  the whole batch; and where patterns are sampled a step, `available` bool[steps, s, n]. Step t takes row t mod steps;
  a group's random key depends on the run's key, t and its position alone, not on the device it is on.
  """

  def step(state, base_variables, split, plan):
    row = state.step % len(plan['indices'])
    key = jax.random.fold_in(state.key, state.step)
    keys = jax.vmap(lambda position: jax.random.fold_in(key, position))(plan['position'])
    batch = fetch(split, plan['indices'][row], plan['real'][row], keys)
    if 'available' in plan:
      batch = batch.replace(available=plan['available'][row])
    return train_step(state, base_variables, batch)

  return step


def make_planned_evaluation(objective: Callable, fetch: Callable, axis_name: str | None = None) -> Callable:
  """Returns ((params, model_state), base_variables, split, plan, row int32[]) -> metrics.Counts of that batch."""

  def evaluate(variables, base_variables, split, plan, row):
    batch = fetch(split, plan['indices'][row], plan['real'][row])
    counts = objective(*variables, base_variables, batch, False).counts
    return counts if axis_name is None else jax.lax.psum(counts, axis_name)

  return evaluate
