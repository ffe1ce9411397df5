"""Answers packed into a parity: whatever a frontend works out about k queries is brought back by a frozen F.

Far from the origin a network of ReLUs is affine, or nearly so (see `experiments.bounds.preimage`). An image there can
be changed so that F answers any numbers you like, precisely enough to tell ten values of each output apart. That holds
for ResNet-20 as for a dense network. So a frontend that answers k queries by its own small networks can write all k
classes, in digits, into one query, and F at the parity worker reads them out. With such an F, frozen, there is
therefore always a code as accurate as a backup with the same work at the frontend. Nobody gains by it, since the
frontend has the answers before any worker is late. It is the mark that codes with a frozen F have to beat, and not a
code to deploy.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from lcode.coding.code import Code
from lcode.coding.scheme import make_scheme, Scheme
from lcode.errors import InputError

SCALES = (1e2, 1e3, 1e4)  # of anchors, queries being of size 1
UNITS = tuple(10.0**e for e in np.arange(-7, -1.9, 0.5))  # of what is written, relative to the anchor's scale
RAYS = 4
SCREENING = 32  # messages that every place is tried on
MESSAGES = 1024  # what a place is confirmed on: all there are, up to so many, else random ones
MAX_ERROR = 0.3  # of the distance between digits, over the messages; at 0.5 one is misread


class Packing(NamedTuple):
  """How numbers are written into a query, and what F makes of them.

  F's outputs are free up to one number added to all of them, which deep classifiers hardly let move: C - 1 numbers.

  Attributes:
    anchor: f32[*S], around which F is affine enough.
    pixels: int[p], the places of the flat anchor that are written to.
    inverse: f32[C - 1, p], free outputs -> changes of these pixels.
    constant: f32[C - 1], the free outputs of the anchor.
    unit: f32[], what a one in a free output is.
  """

  anchor: Any
  pixels: Any
  inverse: Any
  constant: Any
  unit: Any

  def write(self, message):
    """The query, f32[*S], whose free outputs are the constant and `message`, f32[C - 1], times the unit."""
    flat = self.anchor.reshape(-1).at[self.pixels].add(self.unit * message @ self.inverse)
    return flat.reshape(self.anchor.shape)

  def read(self, outputs):
    """Messages f32[m, C - 1] as they were written, up to F's curvature and rounding, from its outputs f32[m, C]."""
    return (outputs @ _free(outputs.shape[-1]).T - self.constant[None]) / self.unit


class PackedEncoder(nn.Module):
  """The classes that a network of the frontend's finds in the k queries, in digits; every parity holds all of them.

  Attributes:
    packing: from `find_packing` for this k.
    answer: (variables, x f32[k, *S]) -> scores f32[k, C]; answer_variables: as they were trained elsewhere.
  """

  code: Code
  packing: Packing
  answer: Callable
  answer_variables: Any
  parities = 'packed answers'

  @nn.compact
  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S]."""
    packing = self.param('packing', lambda key: jax.tree.map(jnp.asarray, self.packing))
    scores = self.answer(self.param('answer', lambda key: self.answer_variables), x)
    query = packing.write(message_of(scores.argmax(-1), scores.shape[-1]))
    return jnp.broadcast_to(query, (self.code.r, *x.shape[1:]))


class PackedDecoder(nn.Module):
  """Each class's score is how close, squared, what F read out is to that class's digits; the highest is 0."""

  code: Code
  packing: Packing
  goes_with = ('packed answers',)

  @nn.compact
  def __call__(self, outputs, available):
    """outputs: f32[n, C], zeros where missing, available: bool[n] -> f32[k, C]."""
    k = self.code.k
    packing = self.param('packing', lambda key: jax.tree.map(jnp.asarray, self.packing))
    mean = outputs[k:].sum(0) / jnp.maximum(available[k:].sum(), 1)  # they are all the same
    digits = class_digits(k, outputs.shape[-1])
    read = packing.read(mean[None])[0][:k * digits.shape[1]].reshape(k, 1, -1)
    scores = -jnp.square(read - digits[None]).sum(-1)
    return scores - scores.max(-1, keepdims=True)


def make_packed(code: Code, base_apply: Callable, packing: Packing, answer: Callable, answer_variables) -> Scheme:
  """The scheme that answers at the frontend and sends the answers through F; its parameters are those that init makes.

  Args:
    packing: from `find_packing` for code.k over the same F.
    answer: (variables, x f32[k, *S]) -> scores f32[k, C].
    answer_variables: as they were trained elsewhere.
  """
  return make_scheme(code, base_apply, PackedEncoder(code, packing, answer, answer_variables),
                     PackedDecoder(code, packing))


def class_digits(k: int, classes: int) -> np.ndarray:
  """Every class as so many digits in [-1, 1], as coarse as k of them fit into C - 1 numbers: f32[C, digits].

  Raises:
    InputError: if not even one digit a query does.
  """
  if k >= classes:
    raise InputError(f'k={k} is too large to pack: the {classes} outputs of F hold the classes of at most '
                     f'{classes - 1} queries.')
  digits = (classes - 1) // k
  base = next(base for base in itertools.count(2) if base**digits >= classes)
  written = np.arange(classes)[:, None] // base**np.arange(digits) % base
  return np.asarray(2 * written / (base - 1) - 1, np.float32)


def message_of(chosen, classes: int):
  """The digits of classes, int[k], side by side, and zeros: f32[C - 1]."""
  digits = jnp.asarray(class_digits(len(chosen), classes))[chosen].reshape(-1)
  return jnp.pad(digits, (0, classes - 1 - len(digits)))


def find_packing(key, base_apply: Callable, base_variables, query_shape: tuple[int, ...], k: int) -> Packing:
  """Looks for a place where F is affine enough to be written to; deterministic in `key`.

  As few pixels as do: C - 1 of them, the most independent ones, or all. Up to a thousand messages all of them are
  tried, of more a thousand.

  Raises:
    InputError: if k is too large, or F is nowhere affine enough: a network of other units than ReLUs.
  """
  ray_key, message_key = jax.random.split(key)
  infer = jax.jit(base_apply)
  jacobian_of = jax.jit(jax.jacrev(lambda image: base_apply(base_variables, image[None])[0]))
  classes = infer(base_variables, jnp.zeros((1, *query_shape))).shape[-1]
  messages = _messages(message_key, k, classes)
  step = np.diff(np.unique(class_digits(k, classes))).min()  # from a digit to the next
  for ray, scale in itertools.product(jax.random.normal(ray_key, (RAYS, *query_shape)), SCALES):
    outputs, jacobian = infer(base_variables, scale * ray[None])[0], jacobian_of(scale * ray)
    for around in _around(scale * ray, outputs, np.asarray(jacobian, float).reshape(len(outputs), -1)):
      screened = [around._replace(unit=jnp.float32(unit * scale)) for unit in UNITS]
      best = min(screened, key=lambda packing: _error(packing, messages[:SCREENING], infer, base_variables))
      if _error(best, messages, infer, base_variables) < MAX_ERROR * step:
        return best
  raise InputError(f'no place was found where F is affine enough to be written to in digits {step:.2g} of their range '
                   'apart: take an F of ReLUs alone, or a smaller k.')


def _messages(key, k: int, classes: int) -> np.ndarray:
  """All messages of k classes, or `MESSAGES` random ones; f32[m, C - 1], in random order."""
  if classes**k <= MESSAGES:
    every = np.arange(classes**k)[:, None] // classes**np.arange(k) % classes
    every = jax.random.permutation(key, every)
  else:
    every = jax.random.randint(key, (MESSAGES, k), 0, classes)
  return np.asarray(jax.vmap(lambda chosen: message_of(chosen, classes))(every))


def _around(anchor, outputs, jacobian):
  """Packings, as yet without a unit, by the C - 1 pixels that move the free outputs most independently, and by all."""
  free = _free(len(outputs))
  jacobian = free @ jacobian
  if not np.isfinite(jacobian).all() or np.linalg.matrix_rank(jacobian) < len(jacobian):
    return
  for pixels in scipy.linalg.qr(jacobian, mode='economic', pivoting=True)[2][:len(jacobian)], np.arange(anchor.size):
    inverse = jnp.asarray(np.linalg.pinv(jacobian[:, pixels]).T, jnp.float32)
    yield Packing(anchor, jnp.asarray(pixels), inverse, free @ outputs, None)


def _free(classes: int) -> np.ndarray:
  """f32[C - 1, C] of orthonormal rows that sum to zero."""
  return scipy.linalg.helmert(classes).astype(np.float32)


def _error(packing: Packing, messages, infer, base_variables) -> float:
  """The largest error of a number over `messages` f32[m, C - 1] that are written."""
  outputs = infer(base_variables, jax.vmap(packing.write)(jnp.asarray(messages)))
  return float(jnp.nan_to_num(jnp.abs(packing.read(outputs) - messages).max(), nan=jnp.inf))
