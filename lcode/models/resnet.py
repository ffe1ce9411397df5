"""ResNets for small images (He et al., arXiv:1512.03385, with the 3x3 stem used for CIFAR-10), and smaller ones.

Following "Learning a Code", ResNet-18 leaves out its last, 512-channel stage for images smaller than 32x32.
"""

import itertools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.models.fast_conv import Conv

conv_init = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class BasicBlock(nn.Module):
  """Two 3x3 convolutions with batch normalisation, and a shortcut (1x1 where the shape changes)."""

  channels: int
  stride: int
  norm: partial

  @nn.compact
  def __call__(self, x):
    conv = partial(Conv, use_bias=False, kernel_init=conv_init)
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
    x = Conv(self.width, (3, 3), padding=1, use_bias=False, kernel_init=conv_init)(x)
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


def smaller(model: ResNet, image_shape, multiply_adds: float, narrowest: int = 1) -> ResNet | None:
  """A smaller ResNet within the budget: fewer blocks as long as each stage keeps its first, then narrower besides.

  What is kept of the model's blocks and channels can start from its weights (`part_of`), and a few wide blocks take
  less time than many narrow ones of the same work.

  Returns:
    None where not even one block a stage of `narrowest` channels fits.
  """
  options = [model.clone(stages=stages) for stages in itertools.product(*(range(1, n + 1) for n in model.stages))]
  fitting = [option for option in options if resnet_multiply_adds(option, image_shape) <= multiply_adds]
  if fitting:
    return max(fitting, key=lambda option: resnet_multiply_adds(option, image_shape))
  for width in range(model.width - 1, narrowest - 1, -1):
    narrower = options[0].clone(width=width)
    if resnet_multiply_adds(narrower, image_shape) <= multiply_adds:
      return narrower
  return None


def part_of(model: ResNet, small: ResNet, variables):
  """The variables of `small` that are the model's: of each stage its first blocks, of each layer the channels kept.

  Kept are the channels that the next layers read with the largest weights in sum of magnitudes (as in pruning of
  filters, arXiv:1608.08710). A network as wide as the model gets its blocks whole.
  """
  kept, first = {}, 0
  for blocks, all_blocks in zip(small.stages, model.stages):
    kept |= {f'BasicBlock_{len(kept) + i}': f'BasicBlock_{first + i}' for i in range(blocks)}
    first += all_blocks
  names = {'Conv_0': 'Conv_0', 'BatchNorm_0': 'BatchNorm_0'} | kept | {'Dense_0': 'Dense_0'}
  variables = {kind: {name: tree[own] for name, own in names.items() if own in tree}
               for kind, tree in variables.items()}
  return variables if small.width == model.width else _narrowed(small, variables)


def _narrowed(small: ResNet, variables):
  params, width = variables['params'], small.width
  stage_of = [stage for stage, blocks in enumerate(small.stages) for _ in range(blocks)]
  reads = [[] for _ in small.stages]  # what reads the channels that the blocks of a stage share
  for i, stage in enumerate(stage_of):
    block = params[f'BasicBlock_{i}']
    reads[stage_of[max(i - 1, 0)]] += [block[name]['kernel'] for name in ('Conv_0', 'Conv_2') if name in block]
  reads[-1].append(params['Dense_0']['kernel'])
  shared = [_heaviest(kernels, width * 2**stage) for stage, kernels in enumerate(reads)]
  cuts = {('Conv_0',): (None, shared[0]), ('BatchNorm_0',): (None, shared[0]), ('Dense_0',): (shared[-1], None)}
  for i, stage in enumerate(stage_of):
    name, before = f'BasicBlock_{i}', shared[stage_of[max(i - 1, 0)]]
    inner = _heaviest([params[name]['Conv_1']['kernel']], width * 2**stage)
    cuts |= {(name, 'Conv_0'): (before, inner), (name, 'BatchNorm_0'): (None, inner),
             (name, 'Conv_1'): (inner, shared[stage]), (name, 'BatchNorm_1'): (None, shared[stage]),
             (name, 'Conv_2'): (before, shared[stage]), (name, 'BatchNorm_2'): (None, shared[stage])}

  def cut(path, leaf):
    ins, outs = cuts[tuple(key.key for key in path[1:-1])]
    leaf = leaf if ins is None or leaf.ndim == 1 else jnp.take(leaf, ins, axis=-2)  # a bias has outputs alone
    return leaf if outs is None else jnp.take(leaf, outs, axis=-1)

  return jax.tree_util.tree_map_with_path(cut, variables)


def _heaviest(kernels, count: int):
  """The input channels, in order, that the kernels [..., in, out] read with the largest weights in sum."""
  weights = sum(jnp.sum(jnp.abs(kernel), axis=(*range(kernel.ndim - 2), kernel.ndim - 1)) for kernel in kernels)
  return jnp.sort(jnp.argsort(-weights)[:count])
