"""Smoothing splines as a code: it needs no training, only two smoothing parameters.

NeRCC (arXiv:2402.04377) and LeTCC (Moradi, Tahmasebi, Maddah-Ali, NeurIPS 2024, arXiv:2406.00300). The encoder is the
u that minimises sum_k |u(alpha_k) - x_k|^2 + lambda_e * integral |u''|^2, read at the workers' nodes; the decoder
the same through what came back, with lambda_d, read at the data nodes. Both are linear in the values. Nodes are
ApproxIFER's (see `berrut`).

The minimiser is a natural cubic spline, kept as its values g and second derivatives gamma at the knots (Green and
Silverman, "Nonparametric Regression and Generalized Linear Models", 1994, chapter 2): Q' g = R gamma.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from lcode.coding.code import Code
from lcode.coding.coders.berrut import plain_nodes
from lcode.coding.coders.linear import EXACT
from lcode.errors import InputError

# What is tried for each of the two parameters on the validation groups, as log10.
CANDIDATES = (-8.0, -6.0, -5.0, -4.0, -3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 1.0)


def band_matrices(knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Green and Silverman's Q f64[n, n-2] and R f64[n-2, n-2] of ascending knots (their section 2.1.2)."""
  n, h = len(knots), np.diff(knots)
  q, r = np.zeros((n, max(n - 2, 0))), np.zeros((max(n - 2, 0),) * 2)
  for j in range(n - 2):
    q[j:j + 3, j] = 1 / h[j], -1 / h[j] - 1 / h[j + 1], 1 / h[j + 1]
    r[j, j] = (h[j] + h[j + 1]) / 3
    if j + 1 < n - 2:
      r[j, j + 1] = r[j + 1, j] = h[j + 1] / 6
  return q, r


def reading_matrices(targets: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """A f64[t, n] and B f64[t, n-2] with u(targets) = A g + B gamma; outside the knots u is linear (their 2.4)."""
  n = len(knots)
  values, bends = np.zeros((len(targets), n)), np.zeros((len(targets), n))
  for row, t in enumerate(targets):
    i = int(np.clip(np.searchsorted(knots, t) - 1, 0, n - 2))
    h = knots[i + 1] - knots[i]
    left, right = t - knots[i], knots[i + 1] - t
    values[row, i:i + 2] = right / h, left / h
    if left >= 0 and right >= 0:
      bends[row, i:i + 2] = -left * right / 6 * np.array([1 + right / h, 1 + left / h])
    else:  # the slope at the end: (g_2 - g_1) / h -+ h gamma / 6
      inner = i + 1 if left < 0 else i
      bends[row, inner] = (-left if left < 0 else -right) * h / 6
  return values, bends[:, 1:-1]  # gamma is zero at the ends


def smoothing_weights(targets, knots, available, log_lambda):
  """The smoothing spline through the available knots, read at the targets, as weights: f32[targets, knots].

  Knots that are missing stay in the system, with the equation that the spline is smooth there (Q gamma = 0), so that
  one shape serves every pattern; and the penalty is spread so that the system is well-conditioned from
  lambda = 0 (interpolation) to 1e37 (the least-squares line).

  Args:
    targets, knots: f64[t], f64[n], the knots in any order.
    available: bool[n], may be traced; with a single one the spline is constant.
    log_lambda: log10 of the smoothing parameter, may be traced.
  """
  order = np.argsort(knots)
  q, r = (np.asarray(m, np.float32) for m in band_matrices(knots[order]))
  values, bends = (np.asarray(m, np.float32) for m in reading_matrices(targets, knots[order]))
  there = jnp.asarray(available)[order]
  smoothing = jnp.power(10.0, log_lambda)
  small = 1 / (1 + smoothing)  # what is solved for is gamma / small
  bend = q * jnp.where(there, smoothing * small, 1)[:, None]
  system = jnp.block([[jnp.diag(there.astype(jnp.float32)), bend], [-q.T, r * small]])
  data = jnp.concatenate([jnp.diag(there.astype(jnp.float32)), jnp.zeros(q.T.shape)])
  few = there.sum() < 2
  system = jnp.where(few, jnp.eye(len(system)), system)
  solved = jnp.linalg.solve(system, data)
  weights = jnp.matmul(values, solved[:len(knots)], precision=EXACT)
  weights += small * jnp.matmul(bends, solved[len(knots):], precision=EXACT)
  weights = jnp.where(few, there / jnp.maximum(there.sum(), 1), weights)
  return weights[:, np.argsort(order)]


class SplineEncoder(nn.Module):
  """The smoothing spline through the queries, read at all n workers' nodes."""

  code: Code
  systematic = False
  parities = 'spline'
  on_host = 'weights'

  def __post_init__(self):
    if self.code.k < 2:
      raise InputError(f'k={self.code.k} leaves a spline too few workers: through fewer than two answers there is no '
                       'line; choose k of at least 2.')
    super().__post_init__()

  @nn.compact
  def __call__(self, x):
    """x: f32[k, *S] -> coded queries f32[n, *S]."""
    log_lambda = self.param('log_lambda', nn.initializers.constant(-6.0), ())
    data, workers = plain_nodes(self.code)
    weights = smoothing_weights(workers, data, np.ones(self.code.k, bool), log_lambda)
    return jnp.tensordot(weights, x, 1, precision=EXACT)

  def candidates(self):
    """Values of the parameters to choose from on validation groups."""
    return [{'log_lambda': np.float32(value)} for value in CANDIDATES]


class SplineDecoder(SplineEncoder):
  """The smoothing spline through what came back, read at the data nodes."""

  goes_with = ('spline',)

  @nn.compact
  def __call__(self, outputs, available):
    """outputs: f32[n, C] (zero where missing), available: bool[n] -> f32[k, C]."""
    log_lambda = self.param('log_lambda', nn.initializers.constant(-3.0), ())
    data, workers = plain_nodes(self.code)
    return jnp.matmul(smoothing_weights(data, workers, available, log_lambda), outputs, precision=EXACT)
