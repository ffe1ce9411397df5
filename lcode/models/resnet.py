"""ResNets for small images (He et al., arXiv:1512.03385, with the 3x3 stem used for CIFAR-10), and shallower ones.

Following "Learning a Code", ResNet-18 leaves out its last, 512-channel stage for images smaller than 32x32.
"""

import itertools
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

conv_init = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class BasicBlock(nn.Module):
  """Two 3x3 convolutions with batch normalisation, and a shortcut (1x1 where the shape changes)."""

  channels: int
  stride: int
  norm: partial

  @nn.compact
  def __call__(self, x):
    conv = partial(nn.Conv, use_bias=False, kernel_init=conv_init)
    h = conv(self.channels, (3, 3), self.stride, padding=1)(x)
    h = nn.relu(self.norm()(h))
    h = conv(self.channels, (3, 3), padding=1)(h)
    h = self.norm()(h)
    if x.shape != h.shape:
      x = self.norm()(conv(self.channels, (1, 1), self.stride)(x))
    return nn.relu(x + h)


class ResNet(nn.Module):
  """x f32[b, H, W, c] -> logits f32[b, num_outputs]; batch statistics over `axis_name` too where it is given."""

  num_outputs: int
  stages: tuple[int, ...] = (2, 2, 2, 2)
  width: int = 64
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train: bool = False):
    norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5,
                   axis_name=self.axis_name if train else None)
    x = nn.Conv(self.width, (3, 3), padding=1, use_bias=False, kernel_init=conv_init)(x)
    x = nn.relu(norm()(x))
    for stage, blocks in enumerate(self.stages):
      for block in range(blocks):
        x = BasicBlock(self.width * 2**stage, 2 if stage > 0 and block == 0 else 1, norm)(x)
    return nn.Dense(self.num_outputs)(jnp.mean(x, axis=(1, 2)))


def resnet_multiply_adds(model: ResNet, image_shape) -> int:
  """Multiply-adds of a ResNet for one query."""
  height, wide, channels = image_shape
  total = height * wide * 9 * channels * model.width
  channels = model.width
  for stage, blocks in enumerate(model.stages):
    new = model.width * 2**stage
    for block in range(blocks):
      if stage > 0 and block == 0:  # strided, with a projection for a shortcut
        height, wide = -(-height // 2), -(-wide // 2)
        total += height * wide * channels * new
      total += height * wide * 9 * (channels + new) * new
      channels = new
  return total + channels * model.num_outputs


def shallower(model: ResNet, image_shape, multiply_adds: float) -> ResNet | None:
  """The ResNet with the most of the model's blocks within the budget, each stage keeping its first; None if none is."""
  options = [model.clone(stages=stages) for stages in itertools.product(*(range(1, n + 1) for n in model.stages))]
  fitting = [option for option in options if resnet_multiply_adds(option, image_shape) <= multiply_adds]
  return max(fitting, key=lambda option: resnet_multiply_adds(option, image_shape), default=None)
