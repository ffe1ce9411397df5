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

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.coding.checks import kind
from lcode.coding.code import Code
from lcode.errors import InputError


class Format(NamedTuple):
  """How a number is held in bits.

  Attributes:
    bits: how many.
    largest: the largest number.
    nan: the bits of NaN, those of a negative zero.
    to_codes: f32 from -largest to largest -> their bits, uint32, never `nan`'s.
    to_numbers: the bits -> f32; of NaN's anything.
  """

  bits: int
  largest: float
  nan: int
  to_codes: Callable
  to_numbers: Callable


def _float(dtype, integer) -> Format:
  """The numbers of `dtype`, of as many bits as `integer`."""
  bits = jnp.iinfo(integer).bits
  nan = 1 << (bits - 1)

  def to_codes(x):
    codes = jax.lax.bitcast_convert_type(x.astype(dtype), integer).astype(jnp.uint32)
    return jnp.where(codes == nan, jnp.uint32(0), codes)

  def to_numbers(codes):
    return jax.lax.bitcast_convert_type(codes.astype(integer), dtype).astype(jnp.float32)

  return Format(bits, float(jnp.finfo(dtype).max), nan, to_codes, to_numbers)


def _four_bits() -> Format:
  """Half the numbers of float4_e2m1fn: 0, 1/4, 1/2, 3/4, 1, 3/2, 2, 3, numbered 0 to 7; negative ones as 15 to 8.

  By hand, since XLA does not compile the bits of 4-bit floats on CPUs.
  """

  def to_codes(x):
    x = 4 * x  # of which these are the numbers up to 4; then the steps double twice
    size = jnp.abs(x)
    level = jnp.round(jnp.where(size < 4, size, jnp.where(size < 8, size / 2 + 2, size / 4 + 4)))
    return jnp.where((x < 0) & (level > 0), 15 - level, level).astype(jnp.uint32)

  def to_numbers(codes):
    level = jnp.where(codes > 7, 15 - codes, codes).astype(jnp.float32)
    size = jnp.where(level < 4, level, jnp.where(level < 6, 2 * level - 4, 4 * level - 16)) / 4
    return jnp.where(codes > 7, -size, size)

  return Format(4, 3.0, 15, to_codes, to_numbers)


FORMATS = {2: _float(jnp.float16, jnp.uint16), 4: _float(jnp.float8_e3m4, jnp.uint8), 8: _four_bits()}  # by places
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
  """k queries f32[k, *S] -> one, f32[*S], in whose bits they are, the last one highest; k = 1 as it is.

  Finite queries make normal finite numbers, so that nothing that flushes subnormal ones to zero, or takes what is not
  finite for missing, harms them on the way.

  Raises:
    InputError: if x is not float32, or k more than 8.
  """
  count = places(len(_checked('queries', x)))
  if count == 1:
    return x[0]
  form = FORMATS[count]
  codes = form.to_codes(jnp.clip(x, -form.largest, form.largest))
  codes = jnp.where(jnp.isnan(x), jnp.uint32(form.nan), codes)
  words = (codes << _shifts(len(x), form, x.ndim - 1)).sum(0, dtype=jnp.uint32)
  # Subnormal are words with an exponent of 0, not finite those with one of 255. Without this step these have 0 to 253:
  # no finite number of 16 or 8 bits has an exponent of ones, and 254 takes 1111 of 4 bits, which is NaN.
  return jax.lax.bitcast_convert_type(words + jnp.uint32(ONE_EXPONENT), jnp.float32)


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
  codes = words[:, None] >> _shifts(k, form, words.ndim - 1)[None] & jnp.uint32((1 << form.bits) - 1)
  return jnp.where(codes == form.nan, jnp.nan, form.to_numbers(codes))


def _shifts(k: int, form: Format, dims: int):
  """Where in a word each query's numbers begin: u32[k, 1, ...], for queries of `dims` axes."""
  return jnp.arange(32 - k * form.bits, 32, form.bits, dtype=jnp.uint32).reshape(k, *[1] * dims)


def _checked(name: str, x):
  if getattr(x, 'dtype', None) != jnp.float32:
    raise InputError(f'{name} must be float32, whose bits are to hold them, not {kind(x)}: convert them to float32, or '
                     "use encoder='bundle', which sends them as they are.")
  return x
