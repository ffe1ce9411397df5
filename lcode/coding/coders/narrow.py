"""Narrow queries: k of them in the bits of one float32 query, each number rounded to at most 32/k bits.

Where a mosaic (`coders.mosaic`) drops all but 1/k of a query's numbers, this keeps them all, at less precision: for
queries of few numbers, each of which counts. The parity worker unpacks them and answers each by a small network, as a
bundle's does: one query's bytes to the worker, k answers back.

It is a code for queries that really are 32-bit floats. Pixels of 8 bits that are sent as float32 leave 24 bits empty,
which this fills; such queries could travel as bytes, and four of those take what a pack of four takes, without loss.

The formats are IEEE half precision and the small ones of ml_dtypes, among them the FP4 of the Microscaling formats
(Open Compute Project; Rouhani et al., arXiv:2310.10537). Of those of 16 and 8 bits these have the least validation
loss (docs/results): the numbers of queries are taken to be of order one. What is further out, infinities too, becomes
the format's largest number. NaN stays NaN, of its own query alone; a negative zero gives it its bits, and comes back
as a positive one.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.coding.checks import kind
from lcode.coding.code import Code
from lcode.errors import InputError


class Format(NamedTuple):
  """How a number is held: times `scale`, as `dtype` of `bits` bits."""

  dtype: Any
  bits: int
  scale: float = 1.0

  @property
  def largest(self) -> float:
    return float(jnp.finfo(self.dtype).max) / self.scale

  @property
  def nan(self) -> int:
    """The bits of a negative zero, which stand for NaN."""
    return 1 << (self.bits - 1)


FORMATS = {  # by how many queries there is room for
    2: Format(jnp.float16, 16),         # up to 65504
    4: Format(jnp.float8_e3m4, 8),      # up to 15.5, in steps of 1/64 below 1/2
    8: Format(jnp.float4_e2m1fn, 4, 2)  # 0, 1/4, 1/2, 3/4, 1, 3/2, 2, 3
}
ONE_EXPONENT = 1 << 23  # of a float32, in its bits


def places(k: int) -> int:
  """How many queries there is room for where k are packed: 1, 2, 4 or 8, of 32, 16, 8 or 4 bits a number.

  Raises:
    InputError: if k is more than 8.
  """
  if k > max(FORMATS):
    raise InputError(f'k={k} queries do not fit into the bits of one: a float32 holds {max(FORMATS)} numbers of 4 bits '
                     "at most; choose a smaller k, or encoder='mosaic'.")
  return next(count for count in (1, *FORMATS) if count >= k)


class NarrowEncoder(nn.Module):
  """The queries packed into the bits of one. All r parities are the same; the students that answer them differ.

  There is nothing to train, and no gradient passes through bits: a parity's with respect to the queries is zero.
  """

  code: Code
  mixes = False
  parities = 'packs'

  def __post_init__(self):
    places(self.code.k)
    super().__post_init__()

  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S], to be copied alone: as numbers they mean nothing.

    Raises:
      InputError: if x is not float32.
    """
    return jnp.broadcast_to(pack(x), (self.code.r, *x.shape[1:]))


def pack(x):
  """k queries f32[k, *S] -> one, f32[*S], in whose bits they are, the first one lowest; k = 1 as it is.

  Finite queries make normal finite numbers, so that nothing that flushes subnormal ones to zero, or takes what is not
  finite for missing, harms them on the way.

  Raises:
    InputError: if x is not float32, or k more than 8.
  """
  count = places(len(_checked('queries', x)))
  if count == 1:
    return x[0]
  form = FORMATS[count]
  x = jnp.moveaxis(jnp.concatenate([x, jnp.zeros((count - len(x), *x.shape[1:]), x.dtype)]), 0, -1)
  narrow = (jnp.clip(x, -form.largest, form.largest) * form.scale).astype(form.dtype)
  codes = _apart(jax.lax.bitcast_convert_type(narrow, jnp.uint32), form)
  codes = jnp.where(jnp.isnan(x), form.nan, jnp.where(codes == form.nan, 0, codes)).astype(jnp.uint32)
  words = (codes << _shifts(codes.shape, form)).sum(-1, dtype=jnp.uint32)
  # Subnormal are words with an exponent of 0, not finite those with one of 255; without the step these have 0 to 253.
  return jax.lax.bitcast_convert_type(_inverted(words, form) + jnp.uint32(ONE_EXPONENT), jnp.float32)


def unpack(parities, k: int):
  """Packs f32[b, *S] -> the rounded queries f32[b, k, *S].

  Raises:
    InputError: if the packs are not float32, or k is more than 8.
  """
  count = places(k)
  if count == 1:
    return _checked('parities', parities)[:, None]
  form = FORMATS[count]
  words = jax.lax.bitcast_convert_type(_checked('parities', parities), jnp.uint32) - jnp.uint32(ONE_EXPONENT)
  words = _inverted(words, form)
  x = jax.lax.bitcast_convert_type(words, form.dtype).astype(jnp.float32) / form.scale
  x = jnp.where(_apart(words, form) == form.nan, jnp.nan, x)
  return jnp.moveaxis(x, -1, 1)[:, :k]


def _apart(words, form):
  """Words u32[*S] -> the bits of each of their numbers, u32[*S, places]: XLA has no bits of 4-bit floats on CPUs."""
  shape = *words.shape, 32 // form.bits
  return (words[..., None] >> _shifts(shape, form)) & jnp.uint32((1 << form.bits) - 1)


def _shifts(shape, form):
  return form.bits * jax.lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1)


def _inverted(words, form):
  """Of words of 4-bit numbers the magnitudes of negative ones are inverted, there and back again; others stay.

  An exponent of 254 or 255 has 1111 in it, which would be the largest negative number and so becomes NaN alone.
  """
  if form.bits != 4:
    return words
  negative = words & jnp.uint32(0x88888888)
  return words ^ (negative - (negative >> 3))


def _checked(name: str, x):
  if getattr(x, 'dtype', None) != jnp.float32:
    raise InputError(f'{name} must be float32 to be packed bit by bit, not {kind(x)}: convert them to float32 first, or '
                     "where they are narrower already use encoder='bundle'.")
  return x
