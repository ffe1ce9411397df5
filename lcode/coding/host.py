"""A code for a group alone, in NumPy: there a dispatch to a device takes longer than the arithmetic.

Encoders and decoders say by `on_host` how they are computed: 'weights' are sums of the units, weighted alike in all of
their numbers (of a decoder the weights depend on what is available); 'mosaic' is a matrix for each side, 'bundle' the
queries, or answers, themselves. What says nothing is computed as it was handed over.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from lcode.coding.code import Code
from lcode.errors import instance

MOST_PATTERNS = 4096  # whose weights are kept


def host_code(code: Code, on_host: Sequence[str | None], encode: Callable, decode: Callable, query_shape: Sequence[int],
              answer_shape: Sequence[int], encoder_arrays: Sequence[np.ndarray] = ()) -> tuple[Callable, Callable]:
  """The functions of a `Codec` over one group, of NumPy arrays and to NumPy arrays; the same numbers up to rounding.

  A part that does not compute what it says (a subclass with other arithmetic) is found by a random group, and left as
  it was. What is available has to be finite: it is not looked at again.

  Args:
    code: of both.
    on_host: what encoder and decoder say.
    encode, decode: as of a `Codec`.
    query_shape: S.
    answer_shape: of a unit's answer as `decode` takes it: O, of bundles [k, *O].
    encoder_arrays: the encoder's parameters in the order of `jax.tree.leaves`: of a mosaic f32[r, tile, side], a side
      each.

  Returns:
    encode, f32[1, k, *S] -> [1, r, ...], and decode, (floats [1, n, ...], available bool[n]) -> [1, k, *O]. Decoding
    raises InputError where more than r units are missing.
  """
  instance('code', code, Code)
  slow_encode, slow_decode = _to_host(encode), _to_host(decode)
  rng = np.random.default_rng(0)
  queries = rng.normal(size=(1, code.k, *query_shape)).astype('f4')
  units = rng.normal(size=(1, code.n, *answer_shape)).astype('f4')
  encoders = {'weights': lambda: _weighted_encoder(code, slow_encode, query_shape), 'bundle': lambda: _bundle(code.r),
              'mosaic': lambda: _mosaic([np.asarray(side) for side in encoder_arrays])}
  decoders = {'weights': lambda: _weighted_decoder(code, slow_decode, answer_shape),
              'bundle': lambda: _bundle_decoder(code, slow_decode)}
  patterns = np.arange(code.n) >= code.r, np.arange(code.n) < code.k
  return (_if_the_same(encoders.get(on_host[0]), slow_encode, [(queries,)]),
          _if_the_same(decoders.get(on_host[1]), slow_decode, [(units, pattern) for pattern in patterns]))


def _to_host(function: Callable) -> Callable:
  return lambda *inputs: np.asarray(function(*inputs))


def _if_the_same(make: Callable | None, slow: Callable, inputs) -> Callable:
  if make is None:
    return slow
  fast = make()
  for arrays in inputs:
    wanted, made = slow(*arrays), fast(*arrays)
    if wanted.shape != made.shape or wanted.dtype != made.dtype or not np.allclose(made, wanted, 1e-3, 1e-3):
      return slow
  return fast


def _units_alone(count: int, shape: Sequence[int]) -> np.ndarray:
  """As many groups as units: in each one unit is 1 everywhere, the others are 0; f32[count, count, *shape]."""
  return np.broadcast_to(np.eye(count, dtype='f4').reshape(count, count, *[1] * len(shape)), (count, count, *shape))


def _weighted_encoder(code, encode, shape):
  coded = encode(_units_alone(code.k, shape))
  weights = np.ascontiguousarray(coded.reshape(*coded.shape[:2], -1)[..., 0].T)  # [sent, k]

  def encoded(x):
    return (weights @ x.reshape(code.k, -1)).astype(x.dtype, copy=False).reshape(1, -1, *x.shape[2:])

  return encoded


def _weighted_decoder(code, decode, shape):
  alone = _units_alone(code.n, shape)

  @functools.lru_cache(MOST_PATTERNS)
  def weights_of(available: bytes) -> np.ndarray:
    there = np.frombuffer(available, bool)
    decoded = decode(np.where(there.reshape(1, -1, *[1] * len(shape)), alone, 0), there)
    return np.ascontiguousarray(decoded.reshape(code.n, code.k, -1)[..., 0].T)  # [k, n]

  for missing in range(code.n):  # at the start, not while queries wait
    weights_of((np.arange(code.n) != missing).tobytes())

  def decoded(units, available):
    flat = units.reshape(code.n, -1)
    if not available.all():
      flat = np.where(available[:, None], flat, 0)  # whatever it held, NaN too
    answers = weights_of(available.tobytes()) @ flat
    return answers.astype(units.dtype, copy=False).reshape(1, code.k, *units.shape[2:])

  return decoded


def _bundle(r: int):
  return lambda x: np.broadcast_to(x[:, None], (1, r, *x.shape[1:]))


def _mosaic(sides: list[np.ndarray]):
  r = len(sides[0])

  def encoded(x):
    _, k, *shape = x.shape
    coded = np.zeros((1, r, math.prod(shape)), x.dtype)
    for j, flat in enumerate(coded[0]):
      tiles = x[0]
      for axis, side in enumerate(sides):
        tiles = _along(axis + 1, tiles, side[j])
      flat[:tiles.size] = tiles.ravel()
    return coded.reshape(1, r, *shape)

  return encoded


def _along(axis: int, x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """x with this axis mapped by matrix [to, from]: one product where nothing comes after the axis but an axis of 1."""
  before, (size, *after) = x.shape[:axis], x.shape[axis:]
  if math.prod(after) == 1:
    return (x.reshape(-1, size) @ matrix.T).reshape(*before, len(matrix), *after)
  return np.matmul(matrix, x.reshape(*before, size, -1)).reshape(*before, len(matrix), *after)


def _bundle_decoder(code: Code, decode):
  k, own = code.k, range(code.k)

  def decoded(units, available):
    there = available.tolist()
    if sum(there) < k:
      return decode(units, available)  # which says that it is too little
    replies = [units[0, k + j] for j in range(code.r) if there[k + j]]
    answers = np.array(replies[0]) if len(replies) == 1 else np.mean(replies, 0) if replies else np.zeros_like(
        units[0, 0])
    for i in itertools.compress(own, there):
      answers[i] = units[0, i, 0]
    return answers[None]

  return decoded
