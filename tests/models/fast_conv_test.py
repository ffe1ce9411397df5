"""Gradients of convolutions against those that JAX derives, and against sums over every pixel."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from lcode import models
from lcode.models import fast_conv


@pytest.mark.parametrize('chunk_bytes', [1, 2**14, 2**30])
@pytest.mark.parametrize('shape, kernel, strides, padding', [
    ((6, 8, 8, 3), (3, 3, 3, 5), (1, 1), 'SAME'),
    ((7, 9, 5, 2), (3, 3, 2, 4), (2, 2), 'SAME'),
    ((4, 8, 8, 3), (1, 1, 3, 2), (2, 2), 'VALID'),
    ((4, 7, 6, 1), (5, 3, 1, 2), (1, 2), [(2, 2), (0, 1)]),
])
def test_gradients_are_those_of_the_plain_convolution(shape, kernel, strides, padding, chunk_bytes, rng, monkeypatch):
  monkeypatch.setattr(fast_conv, 'CHUNK_BYTES', chunk_bytes)
  x, w = (jnp.asarray(rng.normal(size=size), jnp.float32) for size in (shape, kernel))
  how = {'window_strides': strides, 'padding': padding, 'dimension_numbers': fast_conv.DIMENSIONS}
  expected, pull = jax.vjp(partial(lax.conv_general_dilated, **how), x, w)
  actual, our_pull = jax.vjp(jax.jit(lambda x, w: fast_conv.convolve(x, w, strides, padding)), x, w)
  np.testing.assert_array_equal(actual, expected)
  gradient = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
  for one, other in zip(our_pull(gradient), pull(gradient)):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_weights_gradient_is_a_sum_over_pixels(rng):
  x, gradient = rng.normal(size=(3, 4, 4, 2)), rng.normal(size=(3, 2, 2, 3))
  expected = np.zeros((3, 3, 2, 3))
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  for b in range(3):
    for row in range(2):
      for column in range(2):
        expected += padded[b, 2 * row:2 * row + 3, 2 * column:2 * column + 3, :, None] * gradient[b, row, column]
  layer = fast_conv.Conv(3, (3, 3), 2, padding=1, use_bias=False)
  variables = layer.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
  _, pull = jax.vjp(lambda variables: layer.apply(variables, jnp.asarray(x, jnp.float32)), variables)
  actual = pull(jnp.asarray(gradient, jnp.float32))[0]['params']['kernel']
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_bfloat16_add_up_in_float32(rng, monkeypatch):
  """An image at a time, 2,048 terms of one sign for each weight: a sum kept in bfloat16 would stop at 256 of them."""
  monkeypatch.setattr(fast_conv, 'CHUNK_BYTES', 1)
  x, gradient = (jnp.asarray(1 + rng.random(size), jnp.bfloat16) for size in ((512, 2, 2, 1), (512, 2, 2, 2)))
  w = jnp.ones((1, 1, 1, 2), jnp.bfloat16)
  _, pull = jax.vjp(lambda w: fast_conv.convolve(x, w, (1, 1), 'SAME'), w)
  actual = pull(gradient)[0]
  expected = np.einsum('bhwc,bhwd->cd', np.asarray(x, 'f8'), np.asarray(gradient, 'f8'))
  assert actual.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.asarray(actual, 'f8')[0, 0], expected, rtol=2**-8)  # of the one rounding at the end


@pytest.mark.parametrize('options', [
    {'feature_group_count': 2}, {'kernel_dilation': 2}, {'input_dilation': 2, 'padding': 1}])
def test_what_is_no_plain_convolution_is_left_to_jax(options, rng):
  x = jnp.asarray(rng.normal(size=(2, 8, 8, 4)), jnp.float32)
  variables = nn.Conv(4, (3, 3), **options).init(jax.random.key(0), x)
  own = fast_conv.Conv(4, (3, 3), **options).init(jax.random.key(0), x)
  assert jax.tree.structure(own) == jax.tree.structure(variables)
  np.testing.assert_array_equal(fast_conv.Conv(4, (3, 3), **options).apply(variables, x),
                                nn.Conv(4, (3, 3), **options).apply(variables, x))


@pytest.mark.parametrize('name', ['resnet20', 'lenet5'])
def test_models_have_the_gradients_of_plain_convolutions(name, rng, monkeypatch):
  x = jnp.asarray(rng.normal(size=(5, 12, 12, 2)), jnp.float32)
  model = models.make_model(name, x.shape[1:], 3)
  variables = model.init(jax.random.key(0), x)

  def loss(params):
    return jnp.square(models.make_apply(model)(variables | {'params': params}, x)).sum()

  actual = jax.grad(loss)(variables['params'])
  monkeypatch.setattr(fast_conv, '_convolve', fast_conv._plain)
  expected = jax.grad(loss)(variables['params'])
  for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
    np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4 * float(jnp.abs(other).max() + 1))
  assert any((one != other).any() for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)))
