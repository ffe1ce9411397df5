"""Berrut's rational interpolant as a code: it needs no training, and takes any model F.

"Berrut Approximated Coded Computing" (Jahani-Nezhad and Maddah-Ali, arXiv:2009.08327) and ApproxIFER (Soleymani,
Ali, Mahdavifar, Avestimehr, AAAI 2022, arXiv:2109.09868). The queries are values at data nodes of a rational function
u, the workers get its values at theirs, F(u) is interpolated again through what came back and read at the data nodes.
Over the nodes z_0 > z_1 > ... the interpolant is the sum of w_i(z) y_i with w_i(z) proportional to (-1)^i / (z - z_i)
and adding up to 1 (Berrut, Computers & Mathematics with Applications 15, 1988): it has no poles.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.code import Code
from lcode.coding.coders.linear import EXACT
from lcode.errors import InputError

LARGEST = 1e30  # of an answer in the vote: the reciprocals of larger ones are flushed to zero


def first_kind(count: int) -> np.ndarray:
  """Chebyshev nodes of the first kind, descending: f64[count]."""
  return np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count))


def second_kind(count: int) -> np.ndarray:
  """Chebyshev nodes of the second kind, 1 to -1: f64[count], count at least 2."""
  return np.cos(np.arange(count) * np.pi / (count - 1))


def plain_nodes(code: Code) -> tuple[np.ndarray, np.ndarray]:
  """ApproxIFER's data nodes f64[k] and worker nodes f64[n]."""
  return first_kind(code.k), second_kind(code.n)


def systematic_nodes(code: Code) -> tuple[np.ndarray, np.ndarray]:
  """The systematic form: the first k of n nodes of the first kind carry the queries themselves."""
  nodes = first_kind(code.n)
  return nodes[:code.k], nodes


def interpolation_weights(targets, nodes, available, dtype=jnp.float32):
  """w_i(z) for each target z over the available nodes, the signs alternating among these: floats [targets, nodes].

  Args:
    targets, nodes: f64[t], f64[n], nodes descending.
    available: bool[n], may be traced; if none is True all weights are zero.
    dtype: of the weights.
  """
  available = jnp.asarray(available)[None]
  sign = 1 - 2 * ((jnp.cumsum(available, 1) - 1) % 2)
  distance = np.subtract.outer(targets, nodes)
  same = np.abs(distance) < 1e-12  # a target that is a node: the node's value
  weights = jnp.where(available, sign / np.where(same, 1, distance), 0)
  total = weights.sum(1, keepdims=True)
  weights = weights / jnp.where(total == 0, 1, total)  # where nothing is available, zeros
  hit = same & available
  return jnp.where(hit.any(1, keepdims=True), hit, weights).astype(dtype)


class BerrutEncoder(nn.Module):
  """The interpolant through the queries, read at the parities' nodes: the systematic form."""

  code: Code
  systematic = True
  parities = 'berrut'
  on_host = 'weights'

  def __call__(self, x):
    """x: f32[k, *S] -> parities f32[r, *S] (ApproxIFEREncoder: all n coded queries, f32[n, *S])."""
    data, workers = systematic_nodes(self.code) if self.systematic else plain_nodes(self.code)
    workers = workers[self.code.k:] if self.systematic else workers
    weights = interpolation_weights(workers, data, np.ones(self.code.k, bool), x.dtype)
    return jnp.tensordot(weights, x, 1, precision=EXACT)


class BerrutDecoder(nn.Module):
  """The interpolant through what came back, read at the data nodes.

  Attributes:
    num_byzantine: E, how many of the answers may be wrong: these are located (`locate_byzantine`) and left out. In
      the systematic form a query whose own answer was left out is interpolated, too. n must be at least 2(k + E) + S
      for S stragglers (ApproxIFER, section 4).
  """

  code: Code
  num_byzantine: int = 0
  systematic = True
  goes_with = ('berrut',)

  def __post_init__(self):
    if self.num_byzantine and not 1 <= self.num_byzantine <= (self.code.n - 2 * self.code.k) // 2:
      raise InputError(f'num_byzantine={self.num_byzantine} answers cannot be located among n={self.code.n}: with '
                       f'k={self.code.k} choose r of at least {self.code.k + 2 * self.num_byzantine}, and one more for '
                       'each straggler.')
    super().__post_init__()

  @property
  def passthrough(self) -> bool:
    """Whether what arrived may be passed on as it is."""
    return not self.num_byzantine

  @property
  def on_host(self) -> str | None:
    """Weights, unless wrong answers are located first."""
    return None if self.num_byzantine else 'weights'

  def __call__(self, outputs, available):
    """outputs: f32[n, C] (zero where missing), available: bool[n] -> f32[k, C]."""
    data, workers = systematic_nodes(self.code) if self.systematic else plain_nodes(self.code)
    if self.num_byzantine:
      available = available & ~locate_byzantine(workers, outputs, available, self.code.k, self.num_byzantine)
    weights = interpolation_weights(data, workers, available, outputs.dtype)
    return jnp.matmul(weights, jnp.where(available[:, None], outputs, 0), precision=EXACT)


class ApproxIFEREncoder(BerrutEncoder):
  """The plain form: all n workers get coded queries."""

  systematic = False
  parities = 'approxifer'


class ApproxIFERDecoder(BerrutDecoder):
  """The plain form: every answer is interpolated, also when nothing is missing."""

  systematic = False
  goes_with = ('approxifer',)


def locate_byzantine(nodes, outputs, available, k: int, num_byzantine: int):
  """Which of the answers are wrong: bool[n], `num_byzantine` of the available ones (ApproxIFER, algorithm 2).

  For each of the C outputs polynomials P and Q of degree k + E - 1 are fitted so that P(z_i) = y_i Q(z_i) at the nodes
  that arrived: where an answer is wrong Q wants to vanish. The E nodes of smallest |Q| get a vote from every
  output. Here in the basis of Chebyshev polynomials, and with Q of unit norm instead of a constant term of 1: in
  float32 powers of z, or a Q that vanishes at 0, would spoil the fit. In the plain form one wrong answer of a linear
  F is always found; of tanh of one, 100 % at k = 4, 96 to 99 % at 8, 92 at 12; in the systematic form some points less.

  Args:
    nodes: f64[n].
    outputs: f32[n, C], zero where missing.
    available: bool[n].
    k: data units.
    num_byzantine: E, at least 1; 2(k + E) answers should be available.
  """
  basis = jnp.asarray(np.polynomial.chebyshev.chebvander(nodes, k + num_byzantine - 1), jnp.float32)  # [n, k + E]
  basis = jnp.where(available[:, None], basis, 0)
  span, _ = jnp.linalg.qr(basis)

  def ballot(y):
    # The best P for a given Q is a projection; what remains is ||(I - span span') diag(y) basis q||, smallest at
    # the last right singular vector q.
    y = jnp.clip(y, -LARGEST, LARGEST)
    y = (y - y.sum() / jnp.maximum(available.sum(), 1)) / jnp.maximum(jnp.abs(y).max(), 1e-30)
    scaled = jnp.where(available, y, 0)[:, None] * basis
    projected = jnp.matmul(span, jnp.matmul(span.T, scaled, precision=EXACT), precision=EXACT)
    _, _, rows = jnp.linalg.svd(scaled - projected, full_matrices=False)
    size = jnp.where(available, jnp.abs(jnp.matmul(basis, rows[-1], precision=EXACT)), jnp.inf)
    return jnp.zeros(len(nodes)).at[jnp.argsort(size)[:num_byzantine]].add(1.0)

  votes = jax.vmap(ballot, 1)(outputs).sum(0)
  chosen = jnp.argsort(jnp.where(available, -votes, jnp.inf))[:num_byzantine]
  return jnp.zeros(len(nodes), bool).at[chosen].set(True)
