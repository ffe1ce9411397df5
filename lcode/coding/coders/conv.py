"""The dilated convolutional encoder of "Learning a Code" (arXiv:1806.01259, section 3).

The k images are the input channels of a fully convolutional net whose dilations widen the receptive field
as in Yu and Koltun (arXiv:1511.07122); the parities are its r output channels.
"""

import flax.linen as nn
import jax.numpy as jnp

from lcode.coding.code import Code
from lcode.errors import InputError

DILATIONS = (1, 1, 2, 4, 8, 1)
CHANNELS_PER_QUERY = 20

# Xavier-uniform with the gain sqrt(2) of ReLU, as the authors' code starts every convolution.
conv_init = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')


class ConvEncoder(nn.Module):
  """Six 3x3 convolutions of 20k channels, dilations 1, 1, 2, 4, 8, 1, ReLU after each; then 1x1 to r channels."""

  code: Code
  parities = 'learned'

  @nn.compact
  def __call__(self, x):
    """x: f32[k, H, H, c] -> parities: f32[r, H, H, c]; colour channels share the weights.

    Raises:
      InputError: if x is not square images with a channel axis.
    """
    if x.ndim != 4 or x.shape[1] != x.shape[2]:
      raise InputError(f'the conv encoder takes square images [height, width, channels]; a query here is '
                       f"{list(x.shape[1:])}: use encoder='mlp'.")
    h = jnp.moveaxis(x, 0, -1)  # [H, W, c, k]
    h = jnp.moveaxis(h, 2, 0)   # [c, H, W, k]: each colour channel is one image of k channels
    for layer, dilation in enumerate(DILATIONS):
      h = nn.relu(nn.Conv(CHANNELS_PER_QUERY * self.code.k, (3, 3), kernel_dilation=dilation,
                          kernel_init=conv_init, name=f'conv_{layer}')(h))
    h = nn.Conv(self.code.r, (1, 1), kernel_init=conv_init, name='parity')(h)  # [c, H, W, r]
    return jnp.moveaxis(jnp.moveaxis(h, 0, 2), -1, 0)
