import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode import models
from lcode.errors import InputError
from lcode.models.resnet import ResNet


def shapes(name, image_shape):
  model = models.make_model(name, image_shape, 10)
  return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image_shape)))


@pytest.mark.parametrize('name, image_shape, expected', [
    ('logistic', (28, 28, 1), 7_850), ('mlp', (28, 28, 1), 178_110),
    ('resnet18', (32, 32, 3), 11_173_962),  # the well-known count of ResNet-18 with a 3x3 stem and 10 classes
    ('resnet18', (28, 28, 1), 2_776_522)])
def test_parameter_counts(name, image_shape, expected):
  assert sum(w.size for w in jax.tree.leaves(shapes(name, image_shape)['params'])) == expected


def test_28x28_leaves_out_the_512_channel_stage():
  small, large = (sum(w.size for w in jax.tree.leaves(shapes('resnet18', (side, side, 3))['params']))
                  for side in (28, 32))
  block_1 = 9 * 256 * 512 + 9 * 512 * 512 + 256 * 512 + 6 * 512
  block_2 = 2 * 9 * 512 * 512 + 4 * 512
  assert large - small == block_1 + block_2 + 10 * 256  # and the last layer sees 256 features


def tiny():
  return ResNet(3, stages=(1, 1), width=4)


def test_a_frozen_resnet_runs_on_running_averages(rng):
  x = rng.normal(size=(6, 8, 8, 2)).astype('f4')
  model = tiny()
  variables = model.init(jax.random.key(0), x)
  _, updated = model.apply(variables, x, train=True, mutable=['batch_stats'])
  variables = {'params': variables['params'], **updated}
  apply = models.make_apply(model)
  alone = np.concatenate([apply(variables, x[i:i + 1]) for i in range(6)])
  np.testing.assert_allclose(apply(variables, x), alone, rtol=1e-4, atol=1e-5)  # no example sees its batch
  batch, _ = model.apply(variables, x, train=True, mutable=['batch_stats'])
  assert np.abs(batch - alone).max() > 1e-2


def test_running_averages_move_a_tenth_towards_the_batch(rng):
  x = 5 + rng.normal(size=(6, 8, 8, 2)).astype('f4')
  model = tiny()
  variables = model.init(jax.random.key(0), x)
  _, updated = model.apply(variables, x, train=True, mutable=['batch_stats'])
  stem = jax.lax.conv_general_dilated(x, variables['params']['Conv_0']['kernel'], (1, 1), 'SAME',
                                      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
  stats = updated['batch_stats']['BatchNorm_0']
  np.testing.assert_allclose(stats['mean'], 0.1 * np.mean(stem, (0, 1, 2)), rtol=1e-4)
  np.testing.assert_allclose(stats['var'], 0.9 + 0.1 * np.var(stem, (0, 1, 2)), rtol=1e-4)


def test_bad_requests_are_sentences():
  with pytest.raises(InputError, match='logistic, mlp, resnet18'):
    models.make_model('vit', (8, 8, 1), 10)
  with pytest.raises(InputError, match='images'):
    models.make_model('resnet18', (64,), 10)
