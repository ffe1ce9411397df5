"""A code on a test split: every scenario over the same consecutive groups, every position and number missing apart."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from lcode.coding.code import every_pattern, MAX_PATTERNS, num_patterns, sampled_patterns
from lcode.coding.scheme import make_codec, Scheme, stack_units
from lcode.data import Arrays
from lcode.training import metrics
from lcode.training.batched import apply_in_batches, make_evaluator, put_split
from lcode.training.devices import replicate
from lcode.training.losses import get_loss
from lcode.training.step import make_code_objective, make_fetch

FIGURES = ('available_accuracy', 'reconstruction_accuracy', 'degraded_accuracy')
SAMPLED = 512  # scenarios, where there are more than MAX_PATTERNS


def scenarios_of(scheme: Scheme) -> np.ndarray:
  """The scenarios that a scheme is judged by: bool[s, n], all of up to r missing, or a fixed sample."""
  kind = not scheme.at_frontend, scheme.passthrough
  if num_patterns(scheme.code, None, *kind) <= MAX_PATTERNS:
    return every_pattern(scheme.code, None, *kind)
  return sampled_patterns(scheme.code, SAMPLED, 0, None, *kind)


def evaluate(scheme: Scheme, params, model_state, base_variables, test: Arrays, *, preprocess, loss: str,
             devices: Sequence, scenarios: np.ndarray | None = None,
             base_outputs: np.ndarray | None = None) -> dict[str, Any]:
  """Figures of a code on a split.

  Args:
    test: the split; labels may be None (the classes that F answers then stand in for them).
    scenarios: bool[s, n]; None for `scenarios_of(scheme)`.
    base_outputs: f32[N, C], F on the split, where it is known already.

  Returns:
    `available_accuracy`, F's over the whole split; `reconstruction_accuracy`, `degraded_accuracy`, `relative_error` and
    `test_loss` over what the scenarios make an approximation; `intact_accuracy`, what is answered when nothing is
    missing: F's accuracy, or less if the code does not pass it on; `default_accuracy` and `default_relative_error`, of
    always answering the class that F answers most, or F's mean; `positions` and `missing`, a dictionary for each data
    position and for each number of missing units; each accuracy with its 95 % interval under `<name>_interval`.
  """
  outputs = base_outputs
  if outputs is None:
    outputs = apply_in_batches(scheme.base_apply, base_variables, test.images, preprocess)
  guesses = outputs.argmax(-1)
  test = Arrays(test.images, guesses if test.labels is None else test.labels)
  available = scenarios_of(scheme) if scenarios is None else np.asarray(scenarios, bool)
  intact = np.ones((0 if scheme.passthrough else 1, scheme.code.n), bool)
  with_intact = np.concatenate([intact, available])
  everything = make_evaluator(
      lambda axis: make_code_objective(scheme, get_loss(loss), with_intact, axis),
      make_fetch(preprocess, False), put_split(test, outputs, devices),
      replicate(base_variables, devices), scheme.code.k, devices)(params, model_state)
  counts = metrics.select(everything, slice(len(intact), None))

  figures = _with_intervals(metrics.summarise(counts))
  figures['test_loss'] = figures.pop('loss')
  # F's accuracy is that on the whole split; on the erased units alone it differs by the groups left over.
  figures |= _proportion('available_accuracy', float((guesses == test.labels).mean()), len(test))
  figures['intact_accuracy'] = figures['available_accuracy']
  if not scheme.passthrough:
    figures['intact_accuracy'] = metrics.summarise(metrics.select(everything, [0]))['degraded_accuracy']
  default = np.bincount(guesses, minlength=outputs.shape[-1]).argmax()
  figures |= _proportion('default_accuracy', float((default == test.labels).mean()), len(test))
  figures['default_relative_error'] = float(np.sqrt(outputs.var(0).sum() / np.square(outputs).mean(0).sum()))
  figures['test_groups'], figures['scenarios'] = len(test) // scheme.code.k, len(available)
  figures['positions'] = _positions(counts, scheme.code.k)
  figures['missing'] = _by_number(counts, (~available).sum(1))
  return figures


def evaluate_byzantine(scheme: Scheme, params, model_state, base_variables, test: Arrays, *, preprocess,
                       num_byzantine: int, scale: float = 10.0, seed: int = 0) -> dict[str, float]:
  """Accuracy when workers answer wrongly instead of not at all, all n answers being there.

  In every group `num_byzantine` of the n units, drawn at random, answer with their own outputs plus normal noise of
  `scale` times the spread of F's outputs (ApproxIFER, section 5, takes noise of a fixed variance).

  Returns:
    `byzantine_accuracy`, the label's share among the k answers of each group; `num_byzantine`, `scale`.
  """
  code = scheme.code
  images = test.images[:len(test) // code.k * code.k]
  x = np.asarray(preprocess(jnp.asarray(images))).reshape(-1, code.k, *images.shape[1:])
  codec = make_codec(scheme, params, model_state)
  outputs = codec.infer(base_variables, codec.encode(x))
  if scheme.systematic:
    own = apply_in_batches(scheme.base_apply, base_variables, images, preprocess).reshape(len(x), code.k, -1)
    outputs = stack_units(own, outputs)
  rng = np.random.default_rng(seed)
  chosen = np.argsort(rng.random((len(x), code.n)), axis=1)[:, :num_byzantine]
  noise = np.zeros(outputs.shape, np.float32)
  np.put_along_axis(noise, chosen[..., None], rng.normal(size=(len(x), num_byzantine, outputs.shape[-1])), axis=1)
  answers = codec.decode(outputs + scale * np.std(outputs) * noise, np.ones(code.n, bool))
  right = np.asarray(answers).argmax(-1) == np.asarray(test.labels)[:len(images)].reshape(-1, code.k)
  return {'byzantine_accuracy': float(right.mean()), 'num_byzantine': num_byzantine, 'scale': scale}


def _positions(counts, k):
  by_position = metrics.summarise(counts, by_position=True)
  return [{'position': i} | _with_intervals({name: float(value[i]) for name, value in by_position.items()})
          for i in range(k)]


def _by_number(counts, missing):
  return [{'missing': int(m)} | _with_intervals(metrics.summarise(metrics.select(counts, missing == m)))
          for m in np.unique(missing)]


def _with_intervals(figures):
  """Adds the interval of each accuracy; a unit that is erased in several scenarios counts in each of them."""
  for name in FIGURES:
    figures |= _proportion(name, figures[name], figures['erased'])
  return figures


def _proportion(name, value, trials):
  return {name: value, f'{name}_interval': list(metrics.wilson_interval(value * trials, trials))}
