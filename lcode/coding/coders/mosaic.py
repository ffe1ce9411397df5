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
    The same with smaller sides, of at most 1/k of the numbers. Tiles need not lie on a grid; k of them fit into the
    numbers of a query, and that is what counts.

  Raises:
    InputError: if the query is neither an image nor a sequence, or too small for a number of each.

  >>> lcode.tile_shape((28, 28, 1), k=4)
  (14, 14, 1)
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
  """The queries down-sampled by learned maps, one after the other, then zeros where they do not fill a query.

  A linear map for each side and parity; colour channels share them. They start from antialiased interpolation, parity j
  at a phase of its own, j of r steps within a pixel of the tile, so that several that arrive say more than one. They
  are trained with the students that answer: what a student of few pixels needs most is no mean of neighbours.
  """

  code: Code
  parities = 'mosaics'
  on_host = 'mosaic'

  @nn.compact
  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S].

    Raises:
      InputError: as `tile_shape`.
    """
    tile = tile_shape(x.shape[1:], self.code.k)
    sides = 2 if x.ndim == 4 else 1
    tiles = jnp.broadcast_to(x, (self.code.r, *x.shape))
    for axis in range(sides):
      reading = self.param(f'side_{axis}', lambda key, axis=axis: jnp.stack([
          interpolation(x.shape[1 + axis], tile[axis], (j + 0.5) / self.code.r - 0.5) for j in range(self.code.r)]))
      tiles = jnp.moveaxis(jnp.einsum('rts,rk...s->rk...t', reading, jnp.moveaxis(tiles, 2 + axis, -1)), -1, 2 + axis)
    flat = tiles.reshape(self.code.r, -1)
    return jnp.pad(flat, ((0, 0), (0, x[0].size - flat.shape[1]))).reshape(self.code.r, *x.shape[1:])


def interpolation(size: int, to: int, phase: float):
  """Antialiased linear interpolation of `size` values at `to` places, `phase` of a place off: f32[to, size]."""
  return jax.image.scale_and_translate(jnp.eye(size), (to, size), (0,), jnp.array([to / size]), jnp.array([phase]),
                                       'linear')


def take_apart(parities, k: int):
  """Mosaics f32[b, *S] -> their tiles f32[b, k, *tile]."""
  tile = tile_shape(parities.shape[1:], k)
  flat = parities.reshape(parities.shape[0], -1)[:, :k * math.prod(tile)]
  return flat.reshape(parities.shape[0], k, *tile)
