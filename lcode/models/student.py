"""Students: F's architecture with fewer blocks or narrower, so that k of them together cost about what F does."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.errors import InputError
from lcode.models.backup import make_backup
from lcode.models.lenet import LeNet5
from lcode.models.resnet import ResNet, part_of, resnet_multiply_adds, smaller
from lcode.models.simple import MLP
from lcode.models.vgg import VGG


def make_student(model: nn.Module, image_shape: tuple[int, ...], share: int) -> nn.Module:
  """A network of about 1/share of the base model's multiply-adds for one query.

  A ResNet leaves out residual blocks, and channels where one block a stage is still too much; what is kept starts from
  F's weights (`start_from`). VGG's channels shrink by the square root of `share`, since a convolution's work grows with
  their square. LeNet-5 has another small network for a student.

  Raises:
    InputError: if the base model has no narrower form (logistic regression), or none so narrow.
  """
  scale = 1 / math.sqrt(share)
  if isinstance(model, MLP):
    pixels = math.prod(image_shape)
    budget = _dense_multiply_adds(pixels, *model.hidden, model.num_outputs) / share
    for width in range(model.hidden[0], 0, -1):
      hidden = tuple(max(width * other // model.hidden[0], 1) for other in model.hidden)
      if _dense_multiply_adds(pixels, *hidden, model.num_outputs) <= budget:
        return model.clone(hidden=hidden)
  if isinstance(model, ResNet):
    if found := smaller(model, image_shape, resnet_multiply_adds(model, image_shape) / share):
      return found
  if isinstance(model, VGG) and min(filter(None, model.channels)) * scale >= 1:
    return model.clone(channels=tuple(channels and int(channels * scale) for channels in model.channels))
  if isinstance(model, LeNet5):
    return make_backup(image_shape, model.num_outputs, _lenet5_multiply_adds(image_shape, model.num_outputs) // share,
                       True)
  raise InputError(f'--parity_model=students with k={share}: a {type(model).__name__} has no form of 1/{share} of its '
                   'work; use fewer queries a group, or --parity_model=from_base.')


def start_from(model: nn.Module, student: nn.Module, base_variables, fresh) -> Any:
  """First variables of a student or backup: what it has of a ResNet's, else its own fresh ones.

  The last layer is the sum of both: the students of several parities would be one and the same otherwise.
  """
  if not (isinstance(model, ResNet) and isinstance(student, ResNet)):
    return fresh
  variables = part_of(model, student, base_variables)
  variables['params']['Dense_0'] = jax.tree.map(jnp.add, variables['params']['Dense_0'], fresh['params']['Dense_0'])
  return variables


def _dense_multiply_adds(*sizes: int) -> int:
  return sum(a * b for a, b in zip(sizes, sizes[1:]))


def _lenet5_multiply_adds(image_shape, num_outputs) -> int:
  padding = 4 if min(image_shape[:2]) < 32 else 0
  first = [side + padding - 4 for side in image_shape[:2]]
  second = [side // 2 - 4 for side in first]
  features = 16 * math.prod(side // 2 for side in second)
  convolutions = math.prod(first) * 25 * image_shape[-1] * 6 + math.prod(second) * 25 * 6 * 16
  return convolutions + _dense_multiply_adds(features, 120, 84, num_outputs)
