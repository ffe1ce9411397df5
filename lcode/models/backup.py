"""Approximate backups: networks much cheaper than F, distilled from it, sized by their multiply-adds.

The rival of every code: what a frontend that can afford so much work might compute instead.
"""

import bisect
import itertools
import math
import operator

import flax.linen as nn
import numpy as np

from lcode.errors import InputError, whole
from lcode.models.fast_conv import Conv
from lcode.models.mlp import MLP
from lcode.models.resnet import ResNet, smaller

LEAST_SIDE = 16  # pixels; over smaller images dense networks do better (digits: 97.2 against 93.1 at 5 % of F)
LAST_SIDE = 8  # pixels, at most, of what the dense layers see
HIDDEN_A_CHANNEL = 8  # hidden features that every further channel of the first convolution has to leave
# Of a ResNet's channels; below, a backup is the small CNN. For ResNet-20 (CIFAR-10), at 5 % of F, it has 68.6, a ResNet
# of 6 of 16 channels 64.1 (at 2 %: 66.0, 53.7); but at 20 % 70.7, while a ResNet of 12.5 %, 10 channels, has 73.7.
NARROWEST = 1 / 2


def query_shape(shape) -> tuple[int, ...]:
  """`shape` as a tuple; raises InputError unless it is the shape of a query, of at least one number."""
  try:
    sides = tuple(map(operator.index, shape))
  except TypeError:
    sides = ()
  if not sides or min(sides) < 1:
    raise InputError(f'image_shape={shape!r} is not allowed: give the shape of one query, whole numbers of at least 1, '
                     'as in (28, 28, 1).')
  return sides


class SmallCNN(nn.Module):
  """x f32[b, H, W, c] -> f32[b, num_outputs]: 3x3 convolutions of stride 2 until sides are 8 or less, two dense layers.

  The i-th of them, of at least two, has width * 2**i channels; the dense layer between has `hidden` features.
  """

  num_outputs: int
  width: int
  hidden: int

  @nn.compact
  def __call__(self, x, train: bool = False):
    del train
    for i in range(_convolutions(x.shape[-3:])):
      x = nn.relu(Conv(self.width * 2**i, (3, 3), 2)(x))
    x = nn.relu(nn.Dense(self.hidden)(x.reshape(*x.shape[:-3], -1)))
    return nn.Dense(self.num_outputs)(x)


def _convolutions(image_shape) -> int:
  return max(2, int(np.ceil(np.log2(max(image_shape[:2]) / LAST_SIDE))))


def mlp_multiply_adds(image_shape, num_outputs: int, width: int) -> int:
  """Multiply-adds of d -> width -> width / 2 -> C for one query."""
  half = max(width // 2, 1)
  return int(np.prod(image_shape)) * width + width * half + half * num_outputs


def cnn_multiply_adds(image_shape, num_outputs: int, width: int, hidden: int) -> int:
  """Multiply-adds of `SmallCNN` for one query."""
  height, wide, channels = image_shape
  total = 0
  for i in range(_convolutions(image_shape)):
    height, wide = -(-height // 2), -(-wide // 2)
    total += height * wide * 9 * channels * width * 2**i
    channels = width * 2**i
  return total + (height * wide * channels + num_outputs) * hidden


def small_network(image_shape, num_outputs: int, multiply_adds: int) -> nn.Module | None:
  """The largest small network of at most `multiply_adds` a query, convolutional over images; None if none fits.

  Queries f32[H, W, c] of at least 16x16 pixels are images; where the budget is too small for one channel, and over all
  other queries, the network is dense.
  """
  image_shape, num_outputs = query_shape(image_shape), whole('num_outputs', num_outputs)
  multiply_adds = whole('multiply_adds', multiply_adds, 0)
  if len(image_shape) == 3 and min(image_shape[:2]) >= LEAST_SIDE:
    if cnn := _widest_cnn(image_shape, num_outputs, multiply_adds):
      return cnn
  return dense_network(image_shape, num_outputs, multiply_adds)


def dense_network(image_shape, num_outputs: int, multiply_adds: int) -> MLP | None:
  """The widest d -> width -> width / 2 -> C of at most `multiply_adds` for a query; None if none fits."""
  image_shape, num_outputs = query_shape(image_shape), whole('num_outputs', num_outputs)
  multiply_adds = whole('multiply_adds', multiply_adds, 0)
  # The work grows with the width: the widest within the budget is found by halving.
  width = bisect.bisect_right(range(1, multiply_adds + 1), multiply_adds,
                              key=lambda width: mlp_multiply_adds(image_shape, num_outputs, width))
  return MLP(num_outputs, (width, max(width // 2, 1))) if width else None


def _widest_cnn(image_shape, num_outputs, multiply_adds):
  widest = None
  for width in itertools.count(1):
    convolutions, with_one = (cnn_multiply_adds(image_shape, num_outputs, width, hidden) for hidden in (0, 1))
    hidden = (multiply_adds - convolutions) // (with_one - convolutions)  # what is left goes to the dense layer
    if hidden < max(HIDDEN_A_CHANNEL * (width - 1), 1):
      return widest
    widest = SmallCNN(num_outputs, width, hidden)


def make_backup(image_shape, num_outputs: int, multiply_adds: int, base: nn.Module | None = None) -> nn.Module:
  """The largest backup of at most `multiply_adds` a query.

  Args:
    image_shape: of a query.
    num_outputs: C.
    multiply_adds: the budget.
    base: F; the backup of a ResNet is a student's kind of network, F with fewer blocks and, where one a stage is too
      much, narrower down to `NARROWEST` of its channels. All others, and smaller ones, are `small_network`.

  Raises:
    InputError: if not even a dense width of 1 fits.
  """
  image_shape, multiply_adds = query_shape(image_shape), whole('multiply_adds', multiply_adds, 0)
  if base is not None and not isinstance(base, nn.Module):
    raise InputError(f'base={base!r} is no Flax module: give F as make_model returns it, or None.')
  if isinstance(base, ResNet):
    if shallower := smaller(base, image_shape, multiply_adds, math.ceil(NARROWEST * base.width)):
      return shallower
  if small := small_network(image_shape, num_outputs, multiply_adds):
    return small
  raise InputError(f'multiply_adds={multiply_adds} is too small for any backup: it must be at least '
                   f'{mlp_multiply_adds(image_shape, num_outputs, 1)} for queries of {list(image_shape)}.')
