"""Counts that add up: over batches, over devices, over processes.

Names are those of docs/architecture.md: *available accuracy* A_a is argmax F(x) = label, *reconstruction
accuracy* is argmax of the reconstruction = argmax F(x), *degraded accuracy* A_d is argmax of the
reconstruction = label; the last two over unavailable data units only.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.code import Code
from lcode.errors import InputError, one_of


@flax.struct.dataclass
class Counts:
  """Sums over groups, a row for each pattern and a column for each data position: all but the last f32[s, k]."""

  loss: Any            # sum of the per-unit loss over erased units
  erased: Any          # how many units were erased
  reconstructed: Any   # of them, argmax of the reconstruction = argmax of F
  degraded: Any        # of them, argmax of the reconstruction = label
  available: Any       # of them, argmax F = label (the same units, so that the drop is a paired figure)
  squared_error: Any   # sum over them of |reconstruction - F(x)|^2
  squared_norm: Any    # sum over them of |F(x)|^2
  clusters: Any = None  # f32[q, k + 1, 5, 5], what intervals follow from (`cluster`); None where nobody asks for them


KINDS = ('groups', 'erased', 'reconstructed', 'degraded', 'available')  # what `cluster` multiplies with each other
ACCURACIES = {'available_accuracy': 'available', 'reconstruction_accuracy': 'reconstructed',
              'degraded_accuracy': 'degraded'}


def count(loss, reconstructed, base_outputs, labels, mask) -> Counts:
  """Counts of one batch.

  Args:
    loss: f32[g, s, k], the loss of every unit.
    reconstructed: f32[g, s, k, C].
    base_outputs: f32[g, k, C], F on the data units.
    labels: int32[g, k].
    mask: bool[g, s, k], True where a unit is erased and its group is real (not padding).
  """
  _check_shapes(loss, reconstructed, base_outputs, labels, mask)
  squared_error = jnp.sum(jnp.square(reconstructed - base_outputs[:, None]), -1)
  squared_norm = jnp.sum(jnp.square(base_outputs), -1)[:, None]
  right = _right(reconstructed, base_outputs, labels)

  def over_groups(values):
    return jnp.sum(jnp.where(mask, values, 0), axis=0, dtype=jnp.float32)

  return Counts(loss=over_groups(loss), erased=over_groups(True), squared_error=over_groups(squared_error),
                squared_norm=over_groups(squared_norm), **{kind: over_groups(values) for kind, values in right.items()})


def _right(reconstructed, base_outputs, labels) -> dict[str, Any]:
  """Which units are right: bool[g, s, k] or [g, 1, k]. An answer with a NaN is no class, so never right."""
  guess = jnp.where(jnp.isnan(jnp.max(reconstructed, -1)), -1, jnp.argmax(reconstructed, -1))
  base_guess, label = jnp.argmax(base_outputs, -1)[:, None], labels[:, None]
  return {'reconstructed': guess == base_guess, 'degraded': guess == label, 'available': base_guess == label}


def _check_shapes(loss, reconstructed, base_outputs, labels, mask):
  groups, patterns, k, num_outputs = jnp.shape(reconstructed)
  expected = {'loss': (groups, patterns, k), 'mask': (groups, patterns, k), 'base_outputs': (groups, k, num_outputs),
              'labels': (groups, k)}
  given = {'loss': loss, 'mask': mask, 'base_outputs': base_outputs, 'labels': labels}
  for name, shape in expected.items():
    if jnp.shape(given[name]) != shape:
      raise InputError(f'{name} {list(jnp.shape(given[name]))} does not go with reconstructions '
                       f'{list(jnp.shape(reconstructed))}: it must be {list(shape)}.')


def tally(reconstructed, base_outputs, labels, mask, sets):
  """What each group adds to each set of patterns: f32[g, q, k, 4], units erased and of them those right.

  Args:
    reconstructed, base_outputs, labels, mask: as in `count`.
    sets: bool[q, s], the patterns of each set.

  Returns:
    For each data position `KINDS` but the first. Those of parts of the patterns add up.
  """
  right = _right(reconstructed, base_outputs, labels)
  marks = jnp.stack([jnp.where(mask, right.get(kind, True), False) for kind in KINDS[1:]], -1)
  return jnp.einsum('gskm,qs->gqkm', marks.astype(jnp.float32), jnp.asarray(sets, jnp.float32))


def cluster(tallies):
  """Sums over groups of products of tallies f32[g, q, k, 4], which add up over batches: f32[q, k + 1, 5, 5].

  For each set of patterns, and each data position and last all of them, the products of `KINDS` with each other, the
  first of which is 1 for a group with an erased unit.
  """
  tallies = jnp.concatenate([tallies, jnp.sum(tallies, 2, keepdims=True)], 2)
  tallies = jnp.concatenate([(tallies[..., :1] > 0).astype(tallies.dtype), tallies], -1)
  return jnp.einsum('gqia,gqib->qiab', tallies, tallies, precision='highest')


def merge(a: Counts, b: Counts) -> Counts:
  return jax.tree.map(lambda x, y: x + y, a, b)


def select(counts: Counts, patterns) -> Counts:
  """The counts of some patterns, rows by index or by a boolean mask; without `clusters`, whose sets are fixed."""
  return jax.tree.map(lambda x: x[patterns], counts.replace(clusters=None))


def summarise(counts: Counts, by_position: bool = False) -> dict[str, Any]:
  """Fractions from counts: floats, or with `by_position` f64[k] arrays over all patterns.

  Returns:
    `loss`, `reconstruction_accuracy`, `degraded_accuracy`, `available_accuracy` (the last over the erased
    units too), `relative_error` (root of the summed |reconstruction - F(x)|^2 over the summed |F(x)|^2, for outputs
    that are no class scores) and `erased`, the number of units they are taken over.
  """
  sums = jax.tree.map(lambda x: np.asarray(x, np.float64).sum(0), counts.replace(clusters=None))
  if not by_position:
    sums = jax.tree.map(lambda x: x.sum(), sums)
  units = np.maximum(sums.erased, 1)
  figures = {'loss': sums.loss / units, 'reconstruction_accuracy': sums.reconstructed / units,
             'degraded_accuracy': sums.degraded / units, 'available_accuracy': sums.available / units,
             'relative_error': np.sqrt(sums.squared_error / np.maximum(sums.squared_norm, 1e-30)),
             'erased': sums.erased}
  return figures if by_position else {name: float(value) for name, value in figures.items()}


def overall_accuracy(unavailable: float, code: Code, by_missing: Sequence[float], available_accuracy: float,
                     default_accuracy: float, intact_accuracy: float | None = None, at_frontend: bool = False) -> float:
  """A_o(f): the share of right answers when each unit is unavailable with probability f, independently of the others.

  Summed exactly over the numbers missing. Where more than r units are, the code repairs nothing, and what did not
  arrive is answered by the default answer.

  Args:
    unavailable: f.
    code: how many units there are.
    by_missing: degraded accuracy with 1, 2, ..., r units missing (with parities at the frontend: data units), over the
      answers that are approximations then.
    available_accuracy: F's.
    default_accuracy: of always answering the class that F answers most.
    intact_accuracy: of a code whose every answer is an approximation, with nothing missing; None for one that passes on
      what arrives.
    at_frontend: whether the parities are never missing, as a backup's.

  Raises:
    InputError: if f is no fraction, or by_missing does not go up to r (at the frontend: to the data units).
  """
  if not 0 <= unavailable <= 1:
    raise InputError(f'unavailable={unavailable} is no fraction: it must be from 0 to 1.')
  units = code.k if at_frontend else code.n
  most = min(code.r, units)
  if len(by_missing) < most:
    raise InputError(f'by_missing has {len(by_missing)} accuracies: a ({code.k}, {code.r}) code needs {most}, with 1 '
                     f'to {most} missing.')
  total = 0.0
  for missing in range(units + 1):
    chance = math.comb(units, missing) * unavailable**missing * (1 - unavailable)**(units - missing)
    rebuilt = by_missing[missing - 1] if 1 <= missing <= most else default_accuracy
    if intact_accuracy is None:  # of the data units as many are missing as of all, on the average
      right = (1 - missing / units) * available_accuracy + missing / units * rebuilt
    else:
      right = rebuilt if missing else intact_accuracy
    total += chance * right
  return total


def wilson_interval(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
  """Wilson's score interval of a proportion (Wilson 1927, JASA 22), 95 % by default; (0, 1) of no trials."""
  if not 0 <= successes <= trials:
    raise InputError(f'successes={successes} of trials={trials} is no proportion: it must be from 0 to all of them.')
  if trials == 0:
    return 0.0, 1.0
  p = successes / trials
  centre = p + z * z / (2 * trials)
  half = z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
  scale = 1 + z * z / trials
  return float((centre - half) / scale), float((centre + half) / scale)


def cluster_interval(products, accuracy: str) -> tuple[float, float]:
  """95 % interval of an accuracy over units that are not independent: those of a group, each in many patterns.

  Wilson's interval for as many independent units as would give the variance of the ratio of two sums over groups
  (Cochran, Sampling Techniques, 1977; Dean and Pagano 2015, J. Surv. Stat. Methodol. 3, compare such intervals). Where
  all units are right, or all are wrong, nothing is known of that variance: then a group counts as one unit, the least
  that it can be.

  Args:
    products: [5, 5], one set of patterns and one position of `cluster`.
    accuracy: one of `ACCURACIES`.
  """
  products, kind = np.asarray(products, np.float64), KINDS.index(ACCURACIES[one_of('accuracy', accuracy, ACCURACIES)])
  groups, erased, right = products[0, 0], products[0, 1], products[0, kind]
  if erased == 0:
    return 0.0, 1.0
  p = right / erased
  units = groups
  if 0 < p < 1 and groups > 1:
    residuals = max(products[kind, kind] - 2 * p * products[1, kind] + p * p * products[1, 1], 0)
    variance = groups / (groups - 1) * residuals / erased**2
    units = min(p * (1 - p) / max(variance, 1e-30), erased)
  return wilson_interval(p * units, units)
