"""A code on a test split: every scenario over the same consecutive groups, every position and number missing apart."""

import functools
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.checks import shown
from lcode.coding.code import every_pattern, MAX_PATTERNS, num_patterns, sampled_patterns
from lcode.coding.scheme import Scheme
from lcode.coding.units import stack_units
from lcode.data import Arrays
from lcode.errors import InputError, whole
from lcode.training import metrics
from lcode.training.batched import apply_in_batches, in_batches, make_evaluator, put_split
from lcode.training.devices import replicate
from lcode.training.inputs import check_labels, check_outputs, check_pair, devices_to_ask
from lcode.training.losses import get_loss
from lcode.training.patterns import check_patterns
from lcode.training.step import make_code_objective, make_fetch

SAMPLED = 512  # scenarios, where there are more than MAX_PATTERNS
BYZANTINE_GROUPS = 256  # groups that are inferred, and decoded, at once where answers are wrong
HUGE = {'huge': np.float32(1e30), 'largest': np.finfo(np.float32).max}  # wrong answers whose squares are not finite


def scenarios_of(scheme: Scheme) -> np.ndarray:
  """The scenarios that a scheme is judged by: bool[s, n], all of up to r missing, or a fixed sample."""
  kind = not scheme.at_frontend, scheme.passthrough
  if num_patterns(scheme.code, None, *kind) <= MAX_PATTERNS:
    return every_pattern(scheme.code, None, *kind)
  return sampled_patterns(scheme.code, SAMPLED, 0, None, *kind)


def evaluate(scheme: Scheme, params, model_state, base_variables, test: Arrays, *, preprocess=jnp.asarray,
             loss: str = 'kl_base', devices: Sequence | None = None, scenarios: np.ndarray | None = None,
             base_outputs: np.ndarray | None = None) -> dict[str, Any]:
  """Figures of a code on a split: every erasure pattern of the same consecutive groups.

  Args:
    scheme: the code.
    params, model_state: its parameters and state.
    base_variables: F's.
    test: the split; labels None stand for the classes that F answers.
    preprocess: images -> f32[..., *S], run on the device.
    loss: a name in `lcode.losses.LOSSES`.
    devices: where to run; None for all accelerators, or on CPU the first device.
    scenarios: bool[s, n]; None for all of up to r missing units, or 512 of them where there are more than 4096.
    base_outputs: f32[N, C], F on the split, where it is known already.

  Returns:
    `available_accuracy`, F's over the whole split; `reconstruction_accuracy`, `degraded_accuracy`, `relative_error` and
    `test_loss` over what the scenarios make an approximation; `intact_accuracy`, what is answered when nothing is
    missing: F's accuracy, or less of a code without `passthrough`; `default_accuracy` and `default_relative_error`, of
    always answering the class that F answers most, or F's mean; `positions` and `missing`, a dictionary for each data
    position and for each number of missing units; each accuracy with its 95 % interval under `<name>_interval`, which
    takes groups as independent, units of a group not.

  Raises:
    InputError: if the loss is unknown, labels, patterns or base outputs do not go with the split and the code, or F
      answers what is not finite.

  >>> figures = lcode.evaluate(scheme, params, model_state, variables, lcode.data.Arrays(x, y), loss='mse_base')
  >>> figures['available_accuracy'], figures['degraded_accuracy'], len(figures['positions'])
  (1.0, 1.0, 2)
  """
  _check_split(scheme, test, preprocess)
  devices = devices_to_ask(scheme.base_apply, devices)
  loss_fn, available = get_loss(loss), _checked_patterns(scheme, scenarios)
  outputs = base_outputs
  if outputs is None:
    outputs = apply_in_batches(scheme.base_apply, base_variables, test.images, preprocess)
  outputs = np.asarray(outputs)
  check_outputs('test', outputs)
  check_labels('test', test.labels, outputs.shape[-1])
  labels = outputs.argmax(-1) if test.labels is None else np.asarray(test.labels)
  split = put_split(Arrays(test.images, labels), outputs, devices)
  intact = np.ones((0 if scheme.passthrough else 1, scheme.code.n), bool)
  patterns, missing = np.concatenate([intact, available]), (~available).sum(1)
  judged = np.arange(len(patterns)) >= len(intact)
  numbers = np.unique(missing)
  of_number = np.concatenate([np.full(len(intact), -1), missing]) == numbers[:, None]
  everything = make_evaluator(
      lambda axis: make_code_objective(scheme, loss_fn, patterns, axis, sets=np.concatenate([judged[None], of_number])),
      make_fetch(preprocess, False), split, replicate(base_variables, devices), scheme.code.k, devices)(
          params, model_state)
  counts, clusters = metrics.select(everything, judged), everything.clusters

  figures = _with_intervals(metrics.summarise(counts), clusters[0, -1])
  figures['test_loss'] = figures.pop('loss')
  # F's accuracy is that on the whole split; on the erased units alone it differs by the groups left over.
  figures |= _of_base(outputs, labels)
  figures['intact_accuracy'] = figures['available_accuracy']
  if not scheme.passthrough:
    figures['intact_accuracy'] = metrics.summarise(metrics.select(everything, [0]))['degraded_accuracy']
  figures['test_groups'], figures['scenarios'] = len(test) // scheme.code.k, len(available)
  figures['positions'] = _positions(counts, clusters[0])
  figures['missing'] = [
      {'missing': int(m)} | _with_intervals(metrics.summarise(metrics.select(counts, missing == m)), products[-1])
      for m, products in zip(numbers, clusters[1:])]
  return figures


def _checked_patterns(scheme, patterns):
  if patterns is None:
    return scenarios_of(scheme)
  try:
    patterns = np.asarray(patterns)
  except ValueError as error:  # rows of different lengths
    raise InputError(f'scenarios={patterns!r} is no array: give bool[s, {scheme.code.n}].') from error
  check_patterns(scheme, patterns)
  return patterns


def _check_split(scheme, test, preprocess):
  if not isinstance(scheme, Scheme):
    raise InputError(f'scheme={shown(scheme)} is no Scheme: give what make_scheme returned.')
  if not isinstance(test, Arrays):
    raise InputError(f'test is a {type(test).__name__}: give lcode.data.Arrays(images, labels), with None for labels '
                     'that are not known.')
  if not callable(preprocess):
    raise InputError(f'preprocess={shown(preprocess)} is no function: give one from images to queries, such as '
                     'jax.numpy.asarray.')
  check_pair('images', test.images, test.labels)
  if len(test) < scheme.code.k:
    raise InputError(f'a split of {len(test)} queries has no group of k={scheme.code.k}: give more.')


def _of_base(outputs, labels) -> dict[str, Any]:
  """What F's outputs on the split say without any code."""
  guesses = outputs.argmax(-1)
  default = np.bincount(guesses, minlength=outputs.shape[-1]).argmax()
  return (_proportion('available_accuracy', float((guesses == labels).mean()), len(labels)) |
          _proportion('default_accuracy', float((default == labels).mean()), len(labels)) |
          {'default_relative_error': float(np.sqrt(outputs.var(0).sum() / np.square(outputs).mean(0).sum()))})


def _positions(counts, clusters):
  by_position = metrics.summarise(counts, by_position=True)
  return [{'position': i} | _with_intervals({name: float(value[i]) for name, value in by_position.items()}, products)
          for i, products in enumerate(clusters[:-1])]


def _with_intervals(figures, products):
  """Adds the interval of each accuracy; `products` are of the same units (`metrics.cluster`)."""
  return figures | {f'{name}_interval': list(metrics.cluster_interval(products, name)) for name in metrics.ACCURACIES}


def _proportion(name, value, trials):
  """An accuracy over independent queries, with its interval."""
  return {name: value, f'{name}_interval': list(metrics.wilson_interval(value * trials, trials))}


def evaluate_byzantine(scheme: Scheme, params, model_state, base_variables, test: Arrays, *, preprocess,
                       num_byzantine: int, scale: float = 10.0, seed: int = 0) -> dict[str, Any]:
  """Accuracy when workers answer wrongly instead of not at all, all n answers being there.

  In every group `num_byzantine` of the n units, drawn at random, answer wrongly, in one way of `wrong_answers` after
  the other. An answer of the code that is NaN counts as wrong.

  Args:
    scheme, params, model_state, base_variables, test, preprocess: as in `evaluate`.
    num_byzantine: 0 to n.
    scale: of the wrong answers, in spreads (standard deviations) of all outputs.
    seed: of the units drawn and of the noise.

  Returns:
    `byzantine_accuracy`, with `noise`, the label's share among the k answers of each group;
    `byzantine_accuracy_by_kind`, the same for each way of answering wrongly; `num_byzantine`, `scale`.

  Raises:
    InputError: if labels do not go with the split, or a number is not as above.
  """
  _check_split(scheme, test, preprocess)
  code = scheme.code
  whole('seed', seed, 0)
  if whole('num_byzantine', num_byzantine, 0) > code.n:
    raise InputError(f'num_byzantine={num_byzantine} is more than the n={code.n} units of a group: choose fewer.')
  if not isinstance(scale, numbers.Real) or not 0 <= scale < np.inf:
    raise InputError(f'scale={scale} is not allowed: it must be a finite number of at least 0.')
  groups = len(test) // code.k
  outputs, labels = _all_outputs(scheme, params, model_state, base_variables, test, preprocess)
  check_labels('test', labels, outputs.shape[-1])
  rng = np.random.default_rng(seed)
  chosen = np.argsort(rng.random((groups, code.n)), axis=1)[:, :num_byzantine]
  wrong = np.zeros((groups, code.n, 1), bool)
  np.put_along_axis(wrong, chosen[..., None], True, axis=1)
  noise = np.zeros(outputs.shape, np.float32)
  np.put_along_axis(noise, chosen[..., None], rng.normal(size=(groups, num_byzantine, outputs.shape[-1])), axis=1)

  decode = jax.jit(lambda params, outputs: jax.vmap(scheme.decode, (None, 0, None))(
      params, outputs, np.ones(code.n, bool)))

  def right(instead):
    answers = in_batches(functools.partial(decode, params), BYZANTINE_GROUPS, np.where(wrong, instead, outputs))
    return float(((answers.argmax(-1) == labels) & ~np.isnan(answers).any(-1)).mean())

  by_kind = {kind: right(instead) for kind, instead in wrong_answers(outputs, noise, scale).items()}
  return {'byzantine_accuracy': by_kind['noise'], 'byzantine_accuracy_by_kind': by_kind,
          'num_byzantine': num_byzantine, 'scale': scale}


def wrong_answers(outputs: np.ndarray, noise: np.ndarray, scale: float) -> dict[str, np.ndarray]:
  """What workers answer that answer wrongly: kind -> f32[g, n, W], or what broadcasts to it.

  Args:
    outputs: f32[g, n, W], the right answers.
    noise: f32[g, n, W], normal.
    scale: in standard deviations of `outputs`.

  Returns:
    `noise`, added to the right answer (ApproxIFER, section 5, takes noise of a fixed variance); `nan`, `inf`, `zeros`;
    `huge` and `largest`, 1e30 and the largest float32, with the noise's signs; `swapped`, the same worker's answer to
    the group before (or the worker's before where there is one group); `constant`, `scale` for the first output and 0
    for the others, whatever the query.
  """
  size = np.float32(scale * np.std(outputs))
  first = np.arange(outputs.shape[-1]) == 0
  signs = np.where(noise < 0, -1, 1).astype('f4')
  return {'noise': outputs + size * noise, 'nan': np.full(1, np.nan, 'f4'), 'inf': np.full(1, np.inf, 'f4'),
          **{kind: value * signs for kind, value in HUGE.items()}, 'zeros': np.zeros(1, 'f4'),
          'swapped': np.roll(outputs, 1, axis=0 if len(outputs) > 1 else 1), 'constant': size * first.astype('f4')}


def _all_outputs(scheme, params, model_state, base_variables, test, preprocess):
  """(f32[g, n, W], int[g, k]): what all units answer, and the labels (F's classes where there are none)."""
  k = scheme.code.k
  images = test.images[:len(test) // k * k]

  @jax.jit
  def infer(params, base_variables, groups):
    x = preprocess(groups.reshape(-1, *images.shape[1:]))
    coded = jax.vmap(scheme.encode, (None, 0))(params, x.reshape(-1, k, *x.shape[1:]))
    return scheme.infer(params, model_state, base_variables, coded)[0]

  outputs = in_batches(functools.partial(infer, params, base_variables), BYZANTINE_GROUPS,
                       images.reshape(-1, k, *images.shape[1:]))
  labels = test.labels
  if scheme.systematic or labels is None:
    own = apply_in_batches(scheme.base_apply, base_variables, images, preprocess)
    labels = own.argmax(-1) if labels is None else labels
    if scheme.systematic:
      outputs = np.asarray(stack_units(own.reshape(len(outputs), k, -1), outputs))
  return outputs, np.asarray(labels)[:len(images)].reshape(-1, k)
