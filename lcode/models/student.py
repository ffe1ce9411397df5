"""Students: smaller networks than F, so that k of them together cost about what F does."""

import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.errors import InputError, whole
from lcode.models.backup import dense_network, query_shape, small_network
from lcode.models.lenet import LeNet5
from lcode.models.mlp import MLP
from lcode.models.resnet import part_of, ResNet, resnet_multiply_adds, smaller
from lcode.models.vgg import VGG


DENSE_SHARE = 0.7  # of the work: several small products take longer than a large one (on two cores, 64 groups)


def make_student(model: nn.Module, image_shape: tuple[int, ...], share: int) -> nn.Module:
  """A network of about 1/share of the base model's multiply-adds for one query.

  A ResNet leaves out residual blocks, and channels where one block a stage is still too much; what is kept starts from
  F's weights (`start_from`). VGG's channels shrink by the square root of `share`, since a convolution's work grows with
  their square. The student of a dense network or LeNet-5 is a small network of its own (`small_network`).

  Raises:
    InputError: if the base model has no smaller form (logistic regression, a model of one's own), or none so small.
  """
  image_shape, share = query_shape(image_shape), whole('share', share)
  if not isinstance(model, nn.Module):
    raise InputError(f'model={model!r} is no Flax module: give the base model as make_model returns it.')
  scale = 1 / math.sqrt(share)
  if isinstance(model, ResNet):
    if shallower := smaller(model, image_shape, resnet_multiply_adds(model, image_shape) / share):
      return shallower
  if isinstance(model, VGG) and min(filter(None, model.channels)) * scale >= 1:
    return model.clone(channels=tuple(channels and int(channels * scale) for channels in model.channels))
  if isinstance(model, (MLP, LeNet5)):
    work = _mlp_multiply_adds if isinstance(model, MLP) else _lenet5_multiply_adds
    if small := small_network(image_shape, model.num_outputs, work(model, image_shape) // share):
      return small
  raise InputError(f'share={share}: a {type(model).__name__} has no form of 1/{share} of its work; use fewer queries a '
                   'group, or parity models that start from F (parity_model=\'from_base\') instead of students.')


def make_tile_student(model: nn.Module, image_shape: tuple[int, ...], tile: tuple[int, ...], share: int) -> nn.Module:
  """A network for queries of the shape `tile`, of about 1/share of what the base model multiplies for one query.

  Of the base model's own kind, so that equal work takes equal time: convolutions of few channels take several times as
  long on processors. A dense network is two hidden layers of the width that the budget allows. A ResNet is itself where
  the smaller query alone saves enough, else leaves out residual blocks and channels. VGG's and LeNet-5's are
  those of `make_student`, which take less of a smaller query.

  Raises:
    InputError: if the base model has no such form (logistic regression, a model of one's own), or none so small.
  """
  image_shape, tile, share = query_shape(image_shape), query_shape(tile), whole('share', share)
  if isinstance(model, ResNet):
    budget = resnet_multiply_adds(model, image_shape) / share
    if resnet_multiply_adds(model, tile) <= 1.02 * budget:  # up to what rounding the tile's sides adds
      return model
    if shallower := smaller(model, tile, budget):
      return shallower
  if isinstance(model, MLP):
    budget = int(DENSE_SHARE * _mlp_multiply_adds(model, image_shape) / share)
    if dense := dense_network(tile, model.num_outputs, budget):
      return dense
  if isinstance(model, (VGG, LeNet5)):
    return make_student(model, image_shape, share)
  raise InputError(f'share={share}: a {type(model).__name__} has no form of 1/{share} of its work for queries of '
                   f'{list(tile)}; use fewer queries per group, or name a student of your own by lcode.tile_students.')


def start_from(model: nn.Module, student: nn.Module, base_variables, fresh) -> Any:
  """First variables of a student or backup: what it has of a ResNet's, else its own fresh ones.

  The last layer is the sum of both: the students of several parities would be one and the same otherwise.
  """
  if not (isinstance(model, ResNet) and isinstance(student, ResNet)):
    return fresh
  variables = part_of(model, student, base_variables)
  variables['params']['Dense_0'] = jax.tree.map(jnp.add, variables['params']['Dense_0'], fresh['params']['Dense_0'])
  return variables


def _mlp_multiply_adds(model: MLP, image_shape) -> int:
  sizes = math.prod(image_shape), *model.hidden, model.num_outputs
  return sum(a * b for a, b in itertools.pairwise(sizes))


def _lenet5_multiply_adds(model: LeNet5, image_shape) -> int:
  padding = 4 if min(image_shape[:2]) < 32 else 0
  first = [side + padding - 4 for side in image_shape[:2]]
  second = [side // 2 - 4 for side in first]
  features = 16 * math.prod(side // 2 for side in second)
  convolutions = math.prod(first) * 25 * image_shape[-1] * 6 + math.prod(second) * 25 * 6 * 16
  return convolutions + features * 120 + 120 * 84 + 84 * model.num_outputs
