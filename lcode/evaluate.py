"""A code on a test split: every scenario over the same consecutive groups, every position apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lcode import metrics, parallel, train
from lcode.code import every_scenario
from lcode.data import Arrays
from lcode.fitting import apply_in_batches, make_evaluator, put_split
from lcode.losses import get_loss
from lcode.scheme import Scheme

FIGURES = ('available_accuracy', 'reconstruction_accuracy', 'degraded_accuracy')


def evaluate(scheme: Scheme, params, model_state, base_variables, test: Arrays, *, preprocess, loss: str,
             devices: Sequence, scenarios: np.ndarray | None = None) -> dict[str, Any]:
  """Figures of a code on a split.

  Returns:
    `available_accuracy` over the whole split; `reconstruction_accuracy`, `degraded_accuracy` and `test_loss` over
    the erased units; `default_accuracy`, of always answering the class that F answers most; `positions`, a
    dictionary for each data position; each accuracy with its 95 % interval under `<name>_interval`.
  """
  outputs = apply_in_batches(scheme.base_apply, base_variables, test.images, preprocess)
  available = every_scenario(scheme.code) if scenarios is None else scenarios
  objective = train.make_code_objective(scheme, get_loss(loss), available)
  counts = make_evaluator(objective, train.make_fetch(preprocess, False), put_split(test, outputs, devices),
                          parallel.replicate(base_variables, devices), scheme.code.k, devices)(params, model_state)
  guesses = outputs.argmax(-1)
  default = np.bincount(guesses, minlength=outputs.shape[-1]).argmax()
  figures = _with_intervals(metrics.summarise(counts))
  figures['test_loss'] = figures.pop('loss')
  # F's accuracy is that on the whole split; on the erased units alone it differs by the groups left over.
  figures |= _proportion('available_accuracy', float((guesses == test.labels).mean()), len(test))
  figures |= _proportion('default_accuracy', float((default == test.labels).mean()), len(test))
  figures['test_groups'] = len(test) // scheme.code.k
  by_position = metrics.summarise(counts, by_position=True)
  figures['positions'] = [
      {'position': position} | _with_intervals({name: float(value[position]) for name, value in by_position.items()})
      for position in range(scheme.code.k)
  ]
  return figures


def _with_intervals(figures):
  """Adds the interval of each accuracy; a unit that is erased in several scenarios counts in each of them."""
  for name in FIGURES:
    figures |= _proportion(name, figures[name], figures['erased'])
  return figures


def _proportion(name, value, trials):
  return {name: value, f'{name}_interval': list(metrics.wilson_interval(value * trials, trials))}
