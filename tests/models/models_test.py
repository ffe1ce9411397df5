import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode import models
from lcode.errors import InputError
from lcode.models.backup import make_backup
from lcode.models.small import dense_network
from lcode.models.mlp import Logistic, MLP
from lcode.models.resnet import ResNet
from lcode.models.student import make_student


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


def test_mlp_in_numpy(rng):
  x = rng.normal(size=(3, 4, 4, 1)).astype('f4')
  model = models.make_model('mlp', (4, 4, 1), 10)
  params = model.init(jax.random.key(0), x)['params']
  h = x.reshape(3, 16).astype('f8')
  for layer in range(3):
    h = h @ np.asarray(params[f'Dense_{layer}']['kernel']) + np.asarray(params[f'Dense_{layer}']['bias'])
    h = np.maximum(h, 0) if layer < 2 else h
  np.testing.assert_allclose(models.make_apply(model)({'params': params}, x), h, rtol=1e-4, atol=1e-5)


def numpy_conv(x, kernel, stride):
  """NHWC, padded by half the kernel."""
  pad = kernel.shape[0] // 2
  x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  side = (x.shape[1] - kernel.shape[0]) // stride + 1
  out = np.zeros((len(x), side, side, kernel.shape[-1]))
  for i in range(side):
    for j in range(side):
      window = x[:, i * stride:i * stride + kernel.shape[0], j * stride:j * stride + kernel.shape[1]]
      out[:, i, j] = np.einsum('bhwc,hwco->bo', window, kernel)
  return out


def test_resnet_in_numpy(rng):
  x = rng.normal(size=(2, 6, 6, 2)).astype('f4')
  model = ResNet(3, stages=(1, 1), width=4)
  shapes = jax.eval_shape(model.init, jax.random.key(0), x)
  variables = jax.tree.map(lambda w: np.asarray(0.5 + rng.random(w.shape), 'f4'), shapes)
  variables['params'] = jax.tree.map(lambda w: w * rng.choice([-1, 1], w.shape).astype('f4'), variables['params'])

  def norm(h, where):
    params, stats = variables['params'], variables['batch_stats']
    for name in where:
      params, stats = params[name], stats[name]
    return (h - stats['mean']) / np.sqrt(stats['var'] + 1e-5) * params['scale'] + params['bias']

  params = variables['params']
  h = np.maximum(norm(numpy_conv(x, params['Conv_0']['kernel'], 1), ['BatchNorm_0']), 0)
  for stage, stride in enumerate((1, 2)):
    name = f'BasicBlock_{stage}'
    block = params[name]
    inner = np.maximum(norm(numpy_conv(h, block['Conv_0']['kernel'], stride), [name, 'BatchNorm_0']), 0)
    inner = norm(numpy_conv(inner, block['Conv_1']['kernel'], 1), [name, 'BatchNorm_1'])
    shortcut = h if stage == 0 else norm(numpy_conv(h, block['Conv_2']['kernel'], 2), [name, 'BatchNorm_2'])
    h = np.maximum(inner + shortcut, 0)
  expected = h.mean((1, 2)) @ params['Dense_0']['kernel'] + params['Dense_0']['bias']
  np.testing.assert_allclose(models.make_apply(model)(variables, x), expected, rtol=1e-3)


def tiny():
  return ResNet(3, stages=(1, 1), width=4)


def test_a_frozen_resnet_runs_on_running_averages(rng):
  x = rng.normal(size=(6, 8, 8, 2)).astype('f4')
  model = tiny()
  variables = jax.jit(model.init)(jax.random.key(0), x)
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
  variables = jax.jit(model.init)(jax.random.key(0), x)
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


@pytest.mark.parametrize('call, words', [
    (lambda: models.make_model('mlp', (0, 28, 1), 10), r'image_shape=\(0, 28, 1\) .*\(28, 28, 1\)'),
    (lambda: models.make_model('mlp', (), 10), r'image_shape=\(\)'),
    (lambda: models.make_model('mlp', 784, 10), 'image_shape=784'),
    (lambda: models.make_model('mlp', (2.5,), 10), r'image_shape=\(2.5,\)'),
    (lambda: models.make_model('mlp', (4,), 0), 'num_outputs=0'),
    (lambda: models.make_model('mlp', (4,), 3, 7), 'axis_name=7'),
    (lambda: models.make_apply('mlp'), "model='mlp' is no Flax module"),
    (lambda: dense_network((4,), 3, -1), 'multiply_adds=-1'),
    (lambda: dense_network((4,), 0, 100), 'num_outputs=0'),
    (lambda: make_backup((4,), 3, None), 'multiply_adds=None'),
    (lambda: make_backup((4,), 3, 100, 'mlp'), "base='mlp'"),
    (lambda: make_student(MLP(3), (4,), 0), 'share=0'),
    (lambda: make_student(MLP(3), 4, 2), 'image_shape=4'),
    (lambda: make_student('mlp', (4,), 2), "model='mlp' is no Flax module")])
def test_each_function_says_what_it_was_handed(call, words):
  with pytest.raises(InputError, match=words):
    call()


def test_a_model_of_ones_own_is_registered_with_what_is_true_of_it(monkeypatch):
  monkeypatch.setattr(models, 'MODELS', dict(models.MODELS))
  known = [name for name in models.MODELS if models.is_affine(name)], [
      name for name in models.MODELS if models.is_convolutional(name)]
  assert known == (['logistic'], ['vgg11', 'resnet18', 'resnet20'])

  def make(image_shape, num_outputs, axis_name):
    return Logistic(num_outputs + len(image_shape) + (axis_name == 'devices'))

  for _ in range(2):  # a module may be imported twice
    models.register_model('own', make, affine=True)
  assert models.is_affine('own') and not models.is_convolutional('own')
  assert models.make_model('own', [3, 2], 5, 'devices') == Logistic(8)
  models.register_model('no-module', lambda *_: len)
  models.register_model('no-train', lambda *_: nn.Dense(3))
  for name in ('no-module', 'no-train'):
    with pytest.raises(InputError, match=f"base model '{name}' was registered with .*train=False"):
      models.make_model(name, (3,), 5)
  for name, other, words in (('own', lambda *_: None, 'there already'), ('a b', make, 'the model name'),
                             ('other', 'mlp', "make='mlp' is no function")):
    with pytest.raises(InputError, match=words):
      models.register_model(name, other)
  with pytest.raises(InputError, match="unknown base model 'vit'.*own"):
    models.is_affine('vit')
