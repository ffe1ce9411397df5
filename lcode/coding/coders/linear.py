"""Codes that need no training over a linear F, and a trained parity model over any other.

Addition and concatenation encoders with the subtraction decoder are those of ParM (Kosaian et al., "Parity Models",
SOSP 2019, arXiv:1905.00863); replication sends every query again.
"""

import functools
import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.code import Code
from lcode.errors import InputError

_log = logging.getLogger('lcode')

EXACT = jax.lax.Precision.HIGHEST  # on GPUs products of float32 have 10 bits by default
MOST_AMPLIFIED = 1e5  # of float32's rounding: an error of some per cent
SPREAD = 4.0  # the nodes of the weights lie between 1/SPREAD and SPREAD, evenly in the logarithm


def parity_weights(code: Code) -> np.ndarray:
  """The weights of the queries in each parity: f64[r, k], rows adding up to 1, every square minor invertible.

  Row j is t_i^e_j with exponents 0, 1, -1, 2, -2, ...: the first is the plain sum, as in ParM, up to its scale. A
  generalised Vandermonde matrix of distinct positive nodes is totally nonsingular (Gantmacher and Krein), so any
  m <= r missing queries follow from any m parities. Nodes that are even in the logarithm keep it well-conditioned: at
  (10, 3) no three queries amplify an error in the parities more than 713 times, 2,175 with the powers of 1 ... k.
  Rows add up to 1 so that a parity has the range of a query, and the code is exact over an affine F too.
  """
  nodes = SPREAD ** np.linspace(-1, 1, code.k) if code.k > 1 else np.ones(1)
  exponents = [(j + 1) // 2 * (1 if j % 2 else -1) for j in range(code.r)]
  weights = nodes ** np.asarray(exponents, float)[:, None]
  return weights / weights.sum(1, keepdims=True)


@functools.cache
def amplification(code: Code) -> float:
  """How many times an error in the parities can grow where as many neighbouring queries are missing as can be.

  Of the largest error of an answer to that of a parity. Neighbours are the hardest to tell apart: of their weights the
  pseudo-inverse has the largest norm (by trying all, up to (10, 4)).
  """
  weights, missing = parity_weights(code), min(code.r, code.k)
  return max(float(np.linalg.norm(np.linalg.pinv(weights[:, first:first + missing]), np.inf))
             for first in range(code.k - missing + 1))


@functools.cache
def _warn_of_amplification(code: Code) -> None:
  if amplification(code) > MOST_AMPLIFIED:
    _log.warning('a (%d, %d) code of sums amplifies an error in the answers, be it of rounding alone, up to %.0e times '
                 'where all that can be missing is: take fewer parities, or another code.', code.k, code.r,
                 amplification(code))


def solve_sums(code: Code, outputs, available, weights=None):
  """What is missing of f32[n, C] (zero there), parity j being the j-th weighted sum: f32[k, C], by least squares.

  The weights are f64[r, k], those of `parity_weights` unless others are given.
  """
  weights = jnp.asarray(parity_weights(code) if weights is None else weights, outputs.dtype)
  there = available[code.k:, None]
  rest = jnp.where(there, outputs[code.k:] - jnp.matmul(weights, outputs[:code.k], precision=EXACT), 0)
  # The pseudo-inverse depends on the pattern alone: computed once for any number of groups.
  inverse = jnp.linalg.pinv(jnp.where(there & ~available[None, :code.k], weights, 0), rtol=1e-6)
  return jnp.matmul(inverse, rest, precision=EXACT)


class AdditionEncoder(nn.Module):
  """Weighted sums of the queries; the first parity is their mean."""

  code: Code
  parities = 'sums'
  on_host = 'weights'

  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S]."""
    return jnp.tensordot(jnp.asarray(parity_weights(self.code), x.dtype), x, 1, precision=EXACT)


class ConcatenationEncoder(nn.Module):
  """Every query resized to a tile of the parity: halves at k = 2, quadrants at 4, a grid of tiles at any k.

  All r parities are the same image: what differs is the parity model that each goes to.
  """

  code: Code
  parities = 'tiles'

  def __call__(self, x):
    """x: f32[k, H, W, c] -> parities: f32[r, H, W, c].

    Raises:
      InputError: if x is no images, or too small for a pixel of each.
    """
    columns = int(np.ceil(np.sqrt(self.code.k)))
    rows = -(-self.code.k // columns)
    if x.ndim != 4 or x.shape[1] < rows or x.shape[2] < columns:
      raise InputError(f'the concatenation encoder takes images [height, width, channels] of at least {rows} x '
                       f"{columns} pixels; a query here is {list(x.shape[1:])}: use encoder='addition'.")
    tops = np.linspace(0, x.shape[1], rows + 1).round().astype(int)
    lefts = np.linspace(0, x.shape[2], columns + 1).round().astype(int)
    parity = jnp.zeros(x.shape[1:], x.dtype)
    for i in range(self.code.k):
      row, column = divmod(i, columns)
      shape = tops[row + 1] - tops[row], lefts[column + 1] - lefts[column], x.shape[-1]
      tile = jax.image.resize(x[i], shape, 'linear')  # with antialiasing: half the size is a weighted mean
      parity = parity.at[tops[row]:tops[row + 1], lefts[column]:lefts[column + 1]].set(tile)
    return jnp.broadcast_to(parity, (self.code.r, *parity.shape))


class SubtractionDecoder(nn.Module):
  """Solves the parities' equations for what is missing: at r = 1 the parity minus the rest, in ParM's words.

  Parity j is taken for the weighted sum of the outputs, row j of `parity_weights`. With more parities than missing
  queries the least squares are solved; with fewer, the smallest answer that fits. Where r is large rounding is
  amplified so much (`amplification`) that the code is exact in name only; a warning says so.
  """

  code: Code
  refuses = ('copies', 'bundles', 'mosaics', 'packs')  # no answer to these is a sum of answers
  systematic = True
  on_host = 'weights'

  def __post_init__(self):
    _warn_of_amplification(self.code)
    super().__post_init__()

  def __call__(self, outputs, available):
    """outputs: f32[n, C] (zero where missing), available: bool[n] -> f32[k, C]."""
    return solve_sums(self.code, outputs, available)


class ReplicationEncoder(nn.Module):
  """Copies: parity i is query i mod k, of any dtype."""

  code: Code
  mixes = False
  parities = 'copies'
  on_host = 'weights'

  def __post_init__(self):
    check_replication(self.code)
    super().__post_init__()

  def __call__(self, x):
    """x: [k, *S] -> [r, *S]."""
    return jnp.concatenate([x] * (self.code.r // self.code.k))


class ReplicationDecoder(nn.Module):
  """Of each query, the mean of the copies that arrived; zeros where none did."""

  code: Code
  goes_with = ('copies',)
  systematic = True
  on_host = 'weights'

  def __post_init__(self):
    check_replication(self.code)
    super().__post_init__()

  def __call__(self, outputs, available):
    """outputs: f32[n, C] (zero where missing), available: bool[n] -> f32[k, C]."""
    copies = outputs[self.code.k:].reshape(-1, self.code.k, outputs.shape[-1])
    there = available[self.code.k:].reshape(-1, self.code.k, 1)
    return copies.sum(0) / jnp.maximum(there.sum(0), 1)


def check_replication(code: Code) -> None:
  if code.r % code.k:
    raise InputError(f'r={code.r} copies of k={code.k} queries cannot be made: replication wants r to be a '
                     f'multiple of k, such as {code.k}.')
