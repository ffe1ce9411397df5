"""Approximate backups: networks much cheaper than F, distilled from it, sized by their multiply-adds.

The rival of every code: what a frontend that can afford so much work might compute instead.
"""

import flax.linen as nn
import numpy as np

from lcode.errors import InputError
from lcode.models.resnet import ResNet, smaller
from lcode.models.simple import MLP

STAGES = (1, 2, 4)  # channels of the strided convolutions, in multiples of the width
NARROWEST = 3  # channels of a ResNet's first stage; below, a backup is the small CNN (a choice, not measured)


class SmallCNN(nn.Module):
  """x f32[b, H, W, c] -> f32[b, num_outputs]: three 3x3 convolutions of stride 2, mean over pixels, dense layer."""

  num_outputs: int
  width: int

  @nn.compact
  def __call__(self, x, train: bool = False):
    del train
    for multiple in STAGES:
      x = nn.relu(nn.Conv(self.width * multiple, (3, 3), 2)(x))
    return nn.Dense(self.num_outputs)(x.mean(axis=(1, 2)))


def mlp_multiply_adds(image_shape, num_outputs: int, width: int) -> int:
  """Multiply-adds of d -> width -> width / 2 -> C for one query."""
  half = max(width // 2, 1)
  return int(np.prod(image_shape)) * width + width * half + half * num_outputs


def cnn_multiply_adds(image_shape, num_outputs: int, width: int) -> int:
  """Multiply-adds of `SmallCNN` for one query."""
  height, wide, channels = image_shape
  total = 0
  for multiple in STAGES:
    height, wide = -(-height // 2), -(-wide // 2)
    total += height * wide * 9 * channels * width * multiple
    channels = width * multiple
  return total + channels * num_outputs


def make_backup(image_shape, num_outputs: int, multiply_adds: int, convolutional: bool,
                base: nn.Module | None = None) -> nn.Module:
  """The widest backup of at most `multiply_adds` a query: dense, or convolutional where F and the queries are.

  Args:
    image_shape: of a query.
    num_outputs: C.
    multiply_adds: the budget.
    convolutional: whether F is.
    base: F; the backup of a ResNet is a student's kind of network, F with fewer blocks and, where one a stage is too
      much, narrower down to `NARROWEST` channels.

  Raises:
    InputError: if not even a width of 1 fits.
  """
  convolutional = convolutional and len(image_shape) == 3
  if isinstance(base, ResNet) and convolutional:
    if found := smaller(base, image_shape, multiply_adds, NARROWEST):
      return found
  count = cnn_multiply_adds if convolutional else mlp_multiply_adds
  if count(image_shape, num_outputs, 1) > multiply_adds:
    raise InputError(f'--backup_multiply_adds={multiply_adds} is too small for any backup: it must be at least '
                     f'{count(image_shape, num_outputs, 1)} for queries of {list(image_shape)}.')
  width = 1
  while count(image_shape, num_outputs, width + 1) <= multiply_adds:
    width += 1
  if convolutional:
    return SmallCNN(num_outputs, width)
  return MLP(num_outputs, (width, max(width // 2, 1)))
