"""A mosaic: the k queries at 1/k of their pixels, side by side in the bytes of one query, and an answer for each.

ParM's concatenation (arXiv:1905.00863) tiles the queries too, but its parity model has to answer all tiles by one sum
of answers. Here the parity model takes the tiles apart and answers each by a small network for queries of that size, so
that nothing has to be undone: one query on the wire to the worker, k answers back.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.coding.code import Code
from lcode.errors import InputError

STRETCH = 1.5  # how many times wider or higher than the query a tile may become, to use more of the bytes


def tile_shape(query_shape: tuple[int, ...], k: int) -> tuple[int, ...]:
  """The shape of a query down-sampled so that k of them fill one: as many of its numbers as fit, hardly stretched.

  Args:
    query_shape: (height, width, channels) of images; (length,) or (length, channels) of sequences.
    k: how many.

  Returns:
    The same with smaller sides, of at most 1/k of the numbers. Tiles need be no part of a grid: what counts is that k
    of them fit into the numbers of a query.

  Raises:
    InputError: if the query is neither an image nor a sequence, or too small for a number of each.
  """
  sides, channels = (query_shape[:2], query_shape[2:]) if len(query_shape) == 3 else (query_shape[:1], query_shape[1:])
  if len(query_shape) not in (1, 2, 3) or math.prod(sides) < k:
    raise InputError(f'a mosaic of k={k} takes images [height, width, channels] or sequences [length, ...] of at least '
                     f'{k} places; a query here is {list(query_shape)}: use encoder=\'bundle\', or a smaller k.')
  if len(sides) == 1:
    return (sides[0] // k, *channels)
  most = math.prod(sides) // k

  def stretched(tile):  # how far from the query's own proportions, 0 for not at all
    return round(abs(math.log(tile[0] * sides[1] / (tile[1] * sides[0]))), 9)

  tiles = [(height, min(most // height, sides[1])) for height in range(1, min(most, sides[0]) + 1)]
  near = [tile for tile in tiles if stretched(tile) <= math.log(STRETCH) + 1e-9] or tiles
  return (*max(near, key=lambda tile: (math.prod(tile), -stretched(tile))), *channels)


class MosaicEncoder(nn.Module):
  """The queries down-sampled with antialiasing, one after the other, then zeros where they do not fill a query.

  Parity j samples the same pixels at another phase, j of r steps within a pixel of the tile, so that several that
  arrive say more than one.
  """

  code: Code
  parities = 'mosaics'

  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S].

    Raises:
      InputError: as `tile_shape`.
    """
    tile = tile_shape(x.shape[1:], self.code.k)
    return jnp.stack([self._mosaic(x, tile, j) for j in range(self.code.r)])

  def _mosaic(self, x, tile, j):
    tiles = _down_sampled(x, tile, (j + 0.5) / self.code.r - 0.5)
    flat = tiles.reshape(-1)
    return jnp.pad(flat, (0, x[0].size - flat.size)).reshape(x.shape[1:])


def _down_sampled(x, tile, phase: float):
  """x f32[k, *S] -> f32[k, *tile], by antialiased linear interpolation, `phase` of a tile's pixel off its centre."""
  axes = list(range(1, max(x.ndim - 1, 2)))  # not the channels
  if phase == 0:
    return jax.image.resize(x, (len(x), *tile), 'linear')
  scale = jnp.asarray([tile[axis - 1] / x.shape[axis] for axis in axes], x.dtype)
  return jax.image.scale_and_translate(x, (len(x), *tile), axes, scale, jnp.full(len(axes), phase, x.dtype), 'linear')


def take_apart(parities, k: int):
  """Mosaics f32[b, *S] -> their tiles f32[b, k, *tile]."""
  tile = tile_shape(parities.shape[1:], k)
  flat = parities.reshape(len(parities), -1)[:, :k * math.prod(tile)]
  return flat.reshape(len(parities), k, *tile)
