"""Students: F's architecture made narrower, so that k of them together cost about what one inference by F costs."""

import math

import flax.linen as nn

from lcode.errors import InputError
from lcode.models.backup import make_backup, mlp_multiply_adds
from lcode.models.resnet import ResNet
from lcode.models.simple import MLP
from lcode.models.vgg import CHANNELS, VGG

BASE_MLP = (200, 100)


def make_student(base_model: str, image_shape: tuple[int, ...], num_outputs: int, share: int) -> nn.Module:
  """A network of about 1/share of the base model's multiply-adds for one query.

  Channels shrink by the square root of `share`, since a convolution's work grows with their square.

  Raises:
    InputError: if the base model has no narrower form (logistic regression), or none so narrow.
  """
  if base_model == 'mlp':
    pixels = math.prod(image_shape)
    budget = (pixels * BASE_MLP[0] + BASE_MLP[0] * BASE_MLP[1] + BASE_MLP[1] * num_outputs) / share
    widths = [w for w in range(1, BASE_MLP[0] + 1) if mlp_multiply_adds(image_shape, num_outputs, w) <= budget]
    if widths:
      return MLP(num_outputs, (widths[-1], max(widths[-1] // 2, 1)))
  if base_model in ('resnet18', 'resnet20', 'vgg11'):
    widest = 16 if base_model == 'resnet20' else 64
    if share <= widest:
      scale = 1 / math.sqrt(share)
      if base_model == 'vgg11':
        return VGG(num_outputs, tuple(c and int(c * scale) for c in CHANNELS))
      stages = (3, 3, 3) if base_model == 'resnet20' else (2, 2, 2, 2) if min(image_shape[:2]) >= 32 else (2, 2, 2)
      return ResNet(num_outputs, stages, int(widest * scale))
  if base_model == 'lenet5':
    return make_backup(image_shape, num_outputs, _lenet5_multiply_adds(image_shape, num_outputs) // share, True)
  raise InputError(f'--parity_model=students with k={share}: {base_model} has no form of 1/{share} of its work; use '
                   'fewer queries a group, or --parity_model=from_base.')


def _lenet5_multiply_adds(image_shape, num_outputs) -> int:
  """Of one inference by LeNet-5, whose students are small networks of another shape."""
  padding = 4 if min(image_shape[:2]) < 32 else 0
  first = [side + padding - 4 for side in image_shape[:2]]
  second = [side // 2 - 4 for side in first]
  features = 16 * math.prod(side // 2 for side in second)
  convolutions = math.prod(first) * 25 * image_shape[-1] * 6 + math.prod(second) * 25 * 6 * 16
  return convolutions + features * 120 + 120 * 84 + 84 * num_outputs
