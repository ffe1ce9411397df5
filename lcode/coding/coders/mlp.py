"""The fully connected encoder and decoder of "Learning a Code" (arXiv:1806.01259, section 3).

Shapes, activations and initial weights are those of the authors' published code.
"""

import flax.linen as nn
import jax.numpy as jnp

from lcode.coding.code import Code

# Every dense layer of the paper starts from normal(0, 0.01) weights and zero biases.
dense_init = nn.initializers.normal(0.01)


class MLPEncoder(nn.Module):
  """kd -> kd -> rd with one ReLU, d the pixels of one channel; colour channels share the weights."""

  code: Code
  parities = 'learned'

  @nn.compact
  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S]; the last axis of S is colour channels if S has three axes."""
    k, r = self.code.k, self.code.r
    shape = x.shape[1:]
    channels = shape[-1] if len(shape) == 3 else 1
    x_CD = jnp.moveaxis(x.reshape(k, -1, channels), -1, 0).reshape(channels, -1)
    pixels = x_CD.shape[-1] // k
    x_CD = nn.relu(nn.Dense(k * pixels, kernel_init=dense_init, name='hidden')(x_CD))
    x_CD = nn.Dense(r * pixels, kernel_init=dense_init, name='parity')(x_CD)
    return jnp.moveaxis(x_CD.reshape(channels, r, pixels), 0, -1).reshape(r, *shape)


class MLPDecoder(nn.Module):
  """(k+r)C -> (k+r)C -> kC -> kC with ReLU between; what is missing arrives as zeros."""

  code: Code

  @nn.compact
  def __call__(self, outputs, available):
    """outputs: f32[n, C] (zero where missing), available: bool[n] (not used) -> f32[k, C]."""
    del available  # the paper's decoder tells what is missing from the zeros
    k, (n, num_outputs) = self.code.k, outputs.shape
    h = outputs.reshape(-1)
    h = nn.relu(nn.Dense(n * num_outputs, kernel_init=dense_init, name='hidden_0')(h))
    h = nn.relu(nn.Dense(k * num_outputs, kernel_init=dense_init, name='hidden_1')(h))
    h = nn.Dense(k * num_outputs, kernel_init=dense_init, name='out')(h)
    return h.reshape(k, num_outputs)
