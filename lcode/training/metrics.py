"""Counts that add up: over batches, over devices, over processes.

Names are those of docs/architecture.md: *available accuracy* A_a is argmax F(x) = label, *reconstruction
accuracy* is argmax of the reconstruction = argmax F(x), *degraded accuracy* A_d is argmax of the
reconstruction = label; the last two over unavailable data units only.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Counts:
  """Sums over groups, a row for each scenario and a column for each data position: all f32[s, k]."""

  loss: Any            # sum of the per-unit loss over erased units
  erased: Any          # how many units were erased
  reconstructed: Any   # of them, argmax of the reconstruction = argmax of F
  degraded: Any        # of them, argmax of the reconstruction = label
  available: Any       # of them, argmax F = label (the same units, so that the drop is a paired figure)
  squared_error: Any   # sum over them of |reconstruction - F(x)|^2
  squared_norm: Any    # sum over them of |F(x)|^2


def count(loss, reconstructed, base_outputs, labels, mask) -> Counts:
  """Counts of one batch.

  Args:
    loss: f32[g, s, k], the loss of every unit.
    reconstructed: f32[g, s, k, C].
    base_outputs: f32[g, k, C], F on the data units.
    labels: int32[g, k].
    mask: bool[g, s, k], True where a unit is erased and its group is real (not padding).
  """
  guess = jnp.argmax(reconstructed, -1)
  base_guess = jnp.argmax(base_outputs, -1)[:, None]
  label = labels[:, None]
  squared_error = jnp.sum(jnp.square(reconstructed - base_outputs[:, None]), -1)
  squared_norm = jnp.sum(jnp.square(base_outputs), -1)[:, None]

  def over_groups(values):
    return jnp.sum(jnp.where(mask, values, 0), axis=0, dtype=jnp.float32)

  return Counts(loss=over_groups(loss), erased=over_groups(True), reconstructed=over_groups(guess == base_guess),
                degraded=over_groups(guess == label), available=over_groups(base_guess == label),
                squared_error=over_groups(squared_error), squared_norm=over_groups(squared_norm))


def merge(a: Counts, b: Counts) -> Counts:
  return jax.tree.map(lambda x, y: x + y, a, b)


def select(counts: Counts, scenarios) -> Counts:
  """The counts of some scenarios: rows by index or by a boolean mask."""
  return jax.tree.map(lambda x: x[scenarios], counts)


def summarise(counts: Counts, by_position: bool = False) -> dict[str, Any]:
  """Fractions from counts: floats, or with `by_position` f64[k] arrays over all scenarios.

  Returns:
    `loss`, `reconstruction_accuracy`, `degraded_accuracy`, `available_accuracy` (the last over the erased
    units too), `relative_error` (root of the summed |reconstruction - F(x)|^2 over the summed |F(x)|^2, for outputs
    that are no class scores) and `erased`, the number of units they are taken over.
  """
  sums = jax.tree.map(lambda x: np.asarray(x, np.float64).sum(0), counts)
  if not by_position:
    sums = jax.tree.map(lambda x: x.sum(), sums)
  units = np.maximum(sums.erased, 1)
  figures = {'loss': sums.loss / units, 'reconstruction_accuracy': sums.reconstructed / units,
             'degraded_accuracy': sums.degraded / units, 'available_accuracy': sums.available / units,
             'relative_error': np.sqrt(sums.squared_error / np.maximum(sums.squared_norm, 1e-30)),
             'erased': sums.erased}
  return figures if by_position else {name: float(value) for name, value in figures.items()}


def overall_accuracy(available_accuracy: float, degraded_accuracy: float, unavailable: float) -> float:
  """A_o(f) = (1 - f) A_a + f A_d, f the fraction of predictions that are unavailable."""
  return (1 - unavailable) * available_accuracy + unavailable * degraded_accuracy


def wilson_interval(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
  """Wilson's score interval of a proportion (Wilson 1927, JASA 22), 95 % by default; (0, 1) of no trials."""
  if trials == 0:
    return 0.0, 1.0
  p = successes / trials
  centre = p + z * z / (2 * trials)
  half = z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
  scale = 1 + z * z / trials
  return float((centre - half) / scale), float((centre + half) / scale)
