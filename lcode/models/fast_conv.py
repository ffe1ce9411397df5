"""Convolutions whose weights' gradients do not wait for XLA's CPU backend.

There, of the three convolutions of a training step (outputs, and the gradients of inputs and of weights) the last is
the slowest by far where channels are many. Here it is a product of matrices, patches by gradients, over so many images
at a time as fit into a core's cache: a step of a parity model of ResNet-18 takes 1.6 s instead of 3.4, one of
ResNet-20, of 16 to 64 channels, as long as before (docs/results/costs.md).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

CHUNK_BYTES = 2**22  # of patches at a time, about a core's cache
DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


def convolve(x, kernel, strides, padding, *, lhs_dilation=(1, 1), rhs_dilation=(1, 1), dimension_numbers=None,
             feature_group_count=1, **options):
  """`lax.conv_general_dilated` for Flax's `Conv` over images, x: f32[b, H, W, c]; differentiable in reverse alone."""
  given = [value for value in options.values() if value is not None]
  if x.ndim != 4 or feature_group_count != 1 or {*lhs_dilation, *rhs_dilation} != {1} or given:
    return lax.conv_general_dilated(x, kernel, strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
                                    feature_group_count, **options)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
  return _convolve(x, kernel, tuple(strides), tuple(map(tuple, padding)))


Conv = partial(nn.Conv, conv_general_dilated=convolve)


def _plain(x, kernel, strides, padding):
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=DIMENSIONS)


_convolve = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))


def _forward(x, kernel, strides, padding):
  return _plain(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, saved, gradient):
  x, kernel = saved
  of_x = jax.linear_transpose(lambda x: _plain(x, kernel, strides, padding), x)(gradient)[0]
  of_kernel = lax.platform_dependent(
      x, gradient, cpu=partial(_by_patches, kernel.shape, strides, padding),
      default=lambda x, gradient: jax.linear_transpose(
          lambda kernel: _plain(x, kernel, strides, padding), kernel)(gradient)[0])
  return of_x, of_kernel


_convolve.defvjp(_forward, _backward)


def _by_patches(kernel_shape, strides, padding, x, gradient):
  """The gradient of the weights [h, w, c, d] in x's dtype, summed in float32 at least, over chunks of images."""
  height, wide, channels, features = kernel_shape
  count, rows, columns = gradient.shape[:3]
  an_image = rows * columns * height * wide * channels * x.dtype.itemsize
  chunk = next(size for size in range(min(count, max(1, CHUNK_BYTES // an_image)), 0, -1) if count % size == 0)
  dtype, sums = x.dtype, jnp.promote_types(x.dtype, jnp.float32)  # in bfloat16 a long sum stops growing
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

  def add(total, images):
    x, gradient = images
    patches = jnp.concatenate([
        x[:, i:i + (rows - 1) * strides[0] + 1:strides[0], j:j + (columns - 1) * strides[1] + 1:strides[1]]
        for i in range(height) for j in range(wide)], axis=-1)
    of_chunk = jnp.matmul(patches.reshape(-1, patches.shape[-1]).T, gradient.reshape(-1, features),
                          preferred_element_type=sums)
    return total + of_chunk, None

  images = [array.reshape(-1, chunk, *array.shape[1:]) for array in (x, gradient)]
  total, _ = lax.scan(add, jnp.zeros((height * wide * channels, features), sums), images)
  return total.reshape(kernel_shape).astype(dtype)
