"""A learned code of shared parts: features of every query by one extractor, weighted sums of these, a painted parity.

The setting of "Learning a Code" (arXiv:1806.01259): F is frozen and answers the parity itself, and encoder and decoder
are trained through it. Its dense encoder and decoder have weights of their own for every place in a group. Here the
places share them, but for fixed weights of the sums: F's answer to a parity is to tell the sums of features of the
answers, so that what is missing follows by the same equations as in a code of sums.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.code import Code
from lcode.coding.coders.linear import parity_weights, solve_sums

# Channels of the two layers of windows, features a query, hidden features of what paints; fewer where that would be
# more than the paper's encoder multiplies.
WIDTHS = 8, 32, 128, 512
LEAST = 4, 4, 8, 8  # fewer are all zero too often
SHARE = 0.95  # of that work: biases and activations count, too
WINDOW, STRIDE = 4, 2
SCALE = 1 / 8  # of answers as inputs: logits are several units wide
paint_init = nn.initializers.normal(0.01)  # F is to see little but the sum of the queries at first


def feature_weights(code: Code) -> np.ndarray:
  """The weights of the queries' features in each parity: f64[r, k], the first row constant, rows of norm 1.

  Row j is cos(pi j (i + 1/4) / k), k or r where there are more: polynomials of degree j in distinct nodes, so that any
  of the first m rows tell m queries apart; better conditioned than positive weights, which features do not need.
  """
  places = np.arange(code.k) + 0.25
  weights = np.cos(np.pi * np.outer(np.arange(code.r), places) / max(code.k, code.r))
  return weights / np.linalg.norm(weights, axis=1, keepdims=True)


def widths(sides: tuple[int, ...], code: Code) -> tuple[int, ...]:
  """`WIDTHS`, halved until a parity takes no more multiply-adds than the paper's MLPEncoder, or these are `LEAST`.

  Args:
    sides: (height, width) of images, (length,) of other queries; of one channel.
    code: the (k, r) code.
  """
  pixels = math.prod(sides)
  budget = SHARE * code.k * pixels * (code.k + code.r) * pixels
  chosen = WIDTHS
  while multiply_adds(sides, code, chosen) > budget and chosen != LEAST:
    chosen = tuple(max(width // 2, least) for width, least in zip(chosen, LEAST))
  return chosen


def multiply_adds(sides: tuple[int, ...], code: Code, chosen: tuple[int, ...]) -> int:
  """Of a group, for one channel; arguments as of `widths`, and what it returns."""
  first, second, features, hidden = chosen
  if len(sides) == 2:
    once, twice = (math.prod(-(-side // STRIDE**i) for side in sides) for i in (1, 2))
    query = WINDOW**2 * first * (once + twice * second) + twice * second * features
  else:
    query = (math.prod(sides) + features) * 2 * features
  sums = code.r * code.k * (features + math.prod(sides))
  return code.k * query + sums + code.r * hidden * (features + math.prod(sides))


def windows(x):
  """Windows of 4x4 every second pixel, zeros beyond: f32[b, H, W, c] -> f32[b, ceil(H / 2), ceil(W / 2), 16c].

  Cut by reshaping and shifting, since a dense layer over them is faster on processors than a convolution of so few
  channels.
  """
  b, height, width, channels = x.shape
  rows, columns = -(-height // STRIDE), -(-width // STRIDE)
  more = WINDOW // STRIDE - 1
  x = jnp.pad(x, ((0, 0), (0, STRIDE * (rows + more) - height), (0, STRIDE * (columns + more) - width), (0, 0)))
  x = x.reshape(b, rows + more, STRIDE, columns + more, STRIDE, channels).transpose(0, 1, 3, 2, 4, 5)
  x = x.reshape(b, rows + more, columns + more, STRIDE**2 * channels)
  return jnp.concatenate([x[:, i:i + rows, j:j + columns] for i in range(more + 1) for j in range(more + 1)], -1)


class FeaturesEncoder(nn.Module):
  """Weighted sums of the queries, and over them what one hidden layer paints from weighted sums of their features.

  Features of images are two layers of windows and a dense one, of other queries two dense layers; all queries share
  them, and all colour channels, each encoded for itself. The sums are ParM's (`parity_weights`).
  """

  code: Code
  parities = 'learned'

  @nn.compact
  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S]; the last axis of S is colour channels if S has three axes."""
    r, images = self.code.r, x.ndim == 4
    x_CkS = jnp.moveaxis(x, -1, 0) if images else x.reshape(1, len(x), -1)
    channels, sides = len(x_CkS), x_CkS.shape[2:]
    first, second, features, hidden = widths(sides, self.code)
    h = x_CkS.reshape(-1, *sides, 1) if images else x_CkS[0]
    if images:
      h = nn.relu(nn.Dense(first, name='windows_0')(windows(h)))
      h = nn.relu(nn.Dense(second, name='windows_1')(windows(h)))
      h = h.reshape(len(h), -1)
    else:
      h = nn.relu(nn.Dense(2 * features, name='wide')(h))
    h = nn.relu(nn.Dense(features, name='features')(h)).reshape(channels, -1, features)
    sums = jnp.einsum('rk,ckf->crf', jnp.asarray(feature_weights(self.code), h.dtype), h)
    h = nn.relu(nn.Dense(hidden, name='hidden')(sums.reshape(channels, -1)))
    painted = nn.Dense(r * math.prod(sides), kernel_init=paint_init, name='paint')(h).reshape(channels, r, *sides)
    painted = (jnp.moveaxis(painted, 0, -1) if images else painted[0]).reshape(r, *x.shape[1:])
    return jnp.tensordot(jnp.asarray(parity_weights(self.code), x.dtype), x, 1) + painted


class FeaturesDecoder(nn.Module):
  """Solves for features of what is missing, and tells the answers from these and from the parities' answers.

  One small network makes features of every data unit's answer, another of every parity's, which are to be the weighted
  sums of the former (`feature_weights`).
  """

  code: Code
  systematic = True
  features: int = 64
  hidden: int = 128

  @nn.compact
  def __call__(self, outputs, available):
    """outputs: f32[n, C] (zero where missing), available: bool[n] -> f32[k, C]."""
    k, num_outputs = self.code.k, outputs.shape[-1]
    answers = jnp.concatenate([SCALE * outputs, jnp.where(available[:, None], jax.nn.softmax(outputs), 0)], -1)
    units = self._told('parity', answers[k:])
    own = self._told('own', answers[:k]) if k > 1 else jnp.zeros_like(units, shape=(1, self.features))
    units = jnp.where(available[:, None], jnp.concatenate([own, units]), 0)
    solved = solve_sums(self.code, units, available, feature_weights(self.code))
    places = jnp.concatenate([jnp.eye(k, dtype=units.dtype), jnp.broadcast_to(available, (k, self.code.n))], -1)
    parities = jnp.broadcast_to(answers[k:].reshape(-1), (k, answers[k:].size))
    h = nn.relu(nn.Dense(self.hidden, name='hidden_0')(jnp.concatenate([solved, parities, places], -1)))
    h = nn.relu(nn.Dense(self.hidden, name='hidden_1')(h))
    return nn.Dense(num_outputs, name='out')(h)

  def _told(self, name, answers):
    h = nn.relu(nn.Dense(self.features, name=f'{name}_0')(answers))
    return nn.Dense(self.features, name=f'{name}_1')(h)
