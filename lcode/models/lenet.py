"""LeNet-5 (LeCun et al., Proceedings of the IEEE, 1998), with ReLU and max pooling as ParM and others use it."""

from functools import partial

import flax.linen as nn

from lcode.models.fast_conv import Conv


class LeNet5(nn.Module):
  """x f32[b, H, W, c], sides of at least 12 -> logits f32[b, num_outputs].

  61,706 parameters on 28x28x1. Images under 32x32 are padded by 2, which makes 28x28 the 32x32 of the paper.
  """

  num_outputs: int

  @nn.compact
  def __call__(self, x, train: bool = False):
    del train
    pool = partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    padding = 2 if min(x.shape[1:3]) < 32 else 0
    x = pool(nn.relu(Conv(6, (5, 5), padding=padding)(x)))
    x = pool(nn.relu(Conv(16, (5, 5), padding=0)(x)))
    x = x.reshape(x.shape[0], -1)
    for width in (120, 84):
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(self.num_outputs)(x)
