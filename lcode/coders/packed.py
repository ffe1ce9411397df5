"""Answers packed into a parity: whatever a frontend works out about k queries, brought back by a frozen F.

Far from the origin a network of ReLUs is affine (see `coders.preimage`), so that C pixels can be set such that F gives
any C numbers one likes, to some 250 steps each where F is shallow. So a frontend that answers k queries by small
networks of its own can write all k answers, in digits, into one query, and F at the parity worker reads them out. Over
such an F, frozen, there is therefore always a code as accurate as the approximate backup of the same frontend's work;
and as pointless, since the frontend has the answers before anybody is late. It is here as the mark that codes over a
frozen F have to beat, and is no code to deploy.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from lcode.code import Code
from lcode.errors import InputError

CAPACITY = 256  # steps that an output of F is read to, in float32
RANGE = 8.0  # nats below the highest score; what is lower counts as that
SCALES = (1e2, 1e3, 1e4, 1e5)  # of anchors, queries being of size 1
UNITS = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)  # of a step, relative to the anchor's scale
RAYS, TRIES = 8, 4  # of each ray so many places are tried on all probes
SCREENING, INNER = 64, 512  # random probes
MAX_CORNERS = 4096
MAX_ERROR = 0.3  # of a step, over the probes; at 0.5 a digit is misread


class Packing(NamedTuple):
  """How numbers are written into a query, and what F makes of them.

  Attributes:
    anchor: f32[*S], around which F is affine.
    pixels: int[C], the places of the flat anchor that are written to.
    inverse: f32[C, C], outputs -> changes of these pixels.
    constant: f32[C], F of the anchor.
    unit: f32[], what a step of an output is.
  """

  anchor: Any
  pixels: Any
  inverse: Any
  constant: Any
  unit: Any

  def write(self, steps):
    """The query, f32[*S], that F answers by the constant and `steps` f32[C] units."""
    flat = self.anchor.reshape(-1).at[self.pixels].add(self.unit * steps @ self.inverse)
    return flat.reshape(self.anchor.shape)

  def read(self, outputs):
    """Steps f32[m, C], as they were written up to F's rounding, from its outputs f32[m, C]."""
    return (outputs - self.constant[None]) / self.unit


class PackedEncoder(nn.Module):
  """The k answers of a network of the frontend's, in digits, one upon the other; every parity holds all of them.

  Attributes:
    packing: from `find_packing` for this k.
    answer: (variables, x f32[k, *S]) -> scores f32[k, C]; answer_variables: as they were trained elsewhere.
  """

  code: Code
  packing: Packing
  answer: Callable
  answer_variables: Any
  fixed = True

  @nn.compact
  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S]."""
    packing = self.param('packing', lambda key: jax.tree.map(jnp.asarray, self.packing))
    scores = self.answer(self.param('answer', lambda key: self.answer_variables), x)
    steps = places(self.code.k) @ to_digits(scores, levels(self.code.k))
    return jnp.broadcast_to(packing.write(steps), (self.code.r, *x.shape[1:]))


class PackedDecoder(nn.Module):
  """Each query's digits, as scores below the highest, read from the parities that arrived."""

  code: Code
  packing: Packing
  goes_with = ('PackedEncoder',)
  fixed = True

  @nn.compact
  def __call__(self, outputs, available):
    """outputs: f32[n, C], zeros where missing, available: bool[n] -> f32[k, C]."""
    k, base = self.code.k, levels(self.code.k)
    packing = self.param('packing', lambda key: jax.tree.map(jnp.asarray, self.packing))
    mean = outputs[k:].sum(0) / jnp.maximum(available[k:].sum(), 1)  # they are all the same
    digits = jnp.floor(jnp.round(packing.read(mean[None])) / places(k)[:, None]) % base
    return RANGE * (digits / (base - 1) - 1)


def levels(k: int) -> int:
  """How many values a digit can take if k of them share an output.

  Raises:
    InputError: if not even two are left.
  """
  found = int(CAPACITY ** (1 / k) + 1e-9)
  if found < 2:
    raise InputError(f'k={k} is too large to pack: an output of F holds the answers of at most '
                     f'{int(np.log2(CAPACITY))} queries.')
  return found


def places(k: int) -> np.ndarray:
  """What a one is worth in each query's digit, f32[k]."""
  return np.float32(levels(k)) ** np.arange(k, dtype=np.float32)


def to_digits(scores, base: int):
  """Scores f32[..., C] -> whole numbers f32[..., C] below `base`; none but the highest score has base - 1."""
  below = scores - scores.max(-1, keepdims=True)
  return jnp.floor((base - 1) * jnp.clip(1 + below / RANGE, 0, 1))


def find_packing(key, base_apply: Callable, base_variables, query_shape: tuple[int, ...], k: int) -> Packing:
  """Looks for a place where F is affine enough to be written to; deterministic in `key`.

  What a network of ReLUs is affine on is convex. So where all corners of the box of steps are read rightly, everything
  in it is, up to rounding; with more than twelve outputs corners are sampled.

  Raises:
    InputError: if k is too large, or F is nowhere affine enough: a network of other units than ReLUs, or a deep one,
      whose linear regions are too small for what float32 tells apart (ResNet-20).
  """
  top = levels(k) ** k - 1
  ray_key, inner_key, corner_key = jax.random.split(key, 3)
  infer = jax.jit(base_apply)
  jacobian_of = jax.jit(jax.jacrev(lambda image: base_apply(base_variables, image[None])[0]))
  outputs = len(infer(base_variables, jnp.zeros((1, *query_shape)))[0])
  inner = np.asarray(jax.random.randint(inner_key, (INNER, outputs), 0, top + 1), np.float32)
  corners = top * _corners(corner_key, outputs)
  for ray in jax.random.normal(ray_key, (RAYS, *query_shape)):
    screened = []
    for scale in SCALES:
      if around := _around(scale * ray, infer(base_variables, scale * ray[None])[0], jacobian_of(scale * ray)):
        packings = [around._replace(unit=jnp.float32(unit * scale)) for unit in UNITS]
        screened += [(_error(packing, corners[:SCREENING], infer, base_variables), packing) for packing in packings]
    for error, packing in sorted(screened, key=lambda pair: pair[0])[:TRIES]:
      if error < MAX_ERROR and _error(packing, np.concatenate([corners, inner]), infer, base_variables) < MAX_ERROR:
        return packing
  raise InputError(f'no place was found where F is affine enough to be written to in steps of 1/{top}: take a '
                   'shallow F of ReLUs alone.')


def _corners(key, outputs: int) -> np.ndarray:
  """All corners of the unit box, or `MAX_CORNERS` random ones; f32[m, C], in random order."""
  if 2**outputs <= MAX_CORNERS:
    every = np.arange(2**outputs)[:, None] >> np.arange(outputs) & 1
    return np.asarray(jax.random.permutation(key, every.astype(np.float32)))
  return np.asarray(jax.random.randint(key, (MAX_CORNERS, outputs), 0, 2), np.float32)


def _around(anchor, constant, jacobian) -> Packing | None:
  """With the C pixels that move F's outputs most independently; None where F is constant in some direction."""
  jacobian = np.asarray(jacobian, float).reshape(len(constant), -1)
  if not np.isfinite(jacobian).all() or np.linalg.matrix_rank(jacobian) < len(jacobian):
    return None
  pixels = scipy.linalg.qr(jacobian, mode='economic', pivoting=True)[2][:len(jacobian)]
  inverse = np.linalg.inv(jacobian[:, pixels]).T
  return Packing(anchor, jnp.asarray(pixels), jnp.asarray(inverse, jnp.float32), constant, None)


def _error(packing: Packing, steps, infer, base_variables) -> float:
  """The largest error, in steps, over `steps` f32[m, C] that are written."""
  outputs = infer(base_variables, jax.vmap(packing.write)(jnp.asarray(steps)))
  return float(jnp.nan_to_num(jnp.abs(packing.read(outputs) - steps).max(), nan=jnp.inf))
