"""Forms of small networks: their sizes against XLA's count and brute force, what they start from, and old configs."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode.coding.costs import cost
from lcode.errors import InputError
from lcode.models import make_model
from lcode.models.backup import make_backup
from lcode.models.forms import default_form, FORMS, make_form, make_parity_network
from lcode.models.mlp import MLP
from lcode.models.resnet import ResNet
from lcode.models.small import (convolves, fine_multiply_adds, half_shape, LowResolution, multiply_adds_of,
                                SmallCNN)
from lcode.models.student import make_student, make_tile_student, start_from
from lcode.runs import records
from lcode.runs.configs import CodeConfig
from lcode.runs.presets import config_of


def means(x):
  padded = np.pad(x, [(0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)])
  b, height, width, c = padded.shape
  return padded.reshape(b, height // 2, 2, width // 2, 2, c).mean((2, 4))


def xla_multiply_adds(model, shape):
  x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  return cost(model.apply, jax.eval_shape(model.init, jax.random.key(0), x), x)['flops'] / 2


@pytest.mark.parametrize('form, base, shape, least', [
    ('dense', 'mlp', (28, 28, 1), 0.8), ('resolution', 'mlp', (28, 28, 1), 0.8), ('cnn', 'mlp', (28, 28, 1), 0.5),
    ('fine', 'mlp', (14, 14, 1), 0.5), ('fine', 'resnet20', (16, 16, 3), 0.8),
    ('blocks', 'resnet20', (32, 32, 3), 0.6), ('resolution', 'resnet20', (32, 32, 3), 0.5)])
def test_a_form_is_as_large_as_its_budget_by_the_count_of_xla(form, base, shape, least):
  """XLA adds biases, ReLU, norms and means to the products, and leaves out those with padding."""
  model = make_model(base, shape, 10)
  for share in (0.35, 0.1):
    budget = share * multiply_adds_of(model, shape)
    small = make_form(form, model, shape, 10, budget)
    assert least < xla_multiply_adds(small, shape) / budget < 1.06
    assert multiply_adds_of(small, shape) <= budget


@pytest.mark.parametrize('shape', [(14, 14, 1), (11, 9, 1), (3, 2, 3), (1, 1, 1), (32, 32, 3)])
def test_a_fine_cnn_is_the_widest_within_its_budget_and_keeps_every_pixel(shape):
  budget = 200_000 if shape[0] < 32 else 5_000_000
  network = make_form('fine', None, shape, 10, budget)
  assert multiply_adds_of(network, shape) == fine_multiply_adds(shape, 10, network.width) <= budget
  assert multiply_adds_of(network.clone(width=network.width + 1), shape) > budget
  x = jnp.zeros((1, *shape))
  params = network.init(jax.random.key(0), x)['params']
  sizes = [params[f'Conv_{i}']['kernel'].shape[-1] for i in range(len(params) - 2)]
  assert sizes == [network.width * 2**i for i in range(len(sizes))]
  assert params['Dense_0']['kernel'].shape[0] <= 16 * sizes[-1]  # what the dense layers see is 4x4 pixels or less
  sides = [-(-side // 2**(len(sizes) - 1)) for side in shape[:2]]  # every convolution but the first halves the sides
  assert params['Dense_0']['kernel'].shape[0] == sides[0] * sides[1] * sizes[-1]


@pytest.mark.parametrize('name, shape', [('mlp', (28, 28, 1)), ('lenet5', (28, 28, 1)), ('resnet18', (28, 28, 1)),
                                         ('logistic', (7,))])
def test_multiply_adds_of_any_module_are_about_half_of_what_xla_counts(name, shape):
  model = make_model(name, shape, 10)
  assert xla_multiply_adds(model, shape) / multiply_adds_of(model, shape) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize('shape', [(2, 28, 28, 1), (3, 17, 20, 3), (1, 16, 19, 2)])
def test_a_network_at_half_the_resolution_gets_weighted_sums_of_2x2_pixels(shape, rng):
  x = rng.normal(size=shape).astype('f4')
  model = LowResolution(nn.Sequential([lambda x, train: x]))
  variables = model.init(jax.random.key(0), x)
  np.testing.assert_allclose(model.apply(variables, x), means(x), atol=1e-6)
  weights = rng.normal(size=(4, 1, *half_shape(shape[1:]))).astype('f4')
  got = model.apply({'params': {'reading': weights}}, x)
  i, j = 3, 5
  expected = sum(weights[2 * a + b, 0, i, j] * x[:, 2 * i + a, 2 * j + b] for a in range(2) for b in range(2))
  np.testing.assert_allclose(got[:, i, j], expected, atol=1e-5)


def test_at_half_the_resolution_a_resnet_is_itself_and_starts_from_f():
  shape = (32, 32, 3)
  base = make_model('resnet20', shape, 10)
  small = make_student(base, shape, 4, 'resolution')
  assert small.network == make_form('resolution', base, shape, 10, 1.05 / 4 * multiply_adds_of(base, shape)).network
  small = LowResolution(base)
  x = np.random.default_rng(0).random((2, *shape), np.float32)
  variables, fresh = base.init(jax.random.key(0), x), small.init(jax.random.key(1), x)
  got = start_from(base, small, variables, fresh)
  assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, fresh)
  last = jax.tree.map(jnp.add, variables['params']['Dense_0'], fresh['params']['small']['Dense_0'])
  expected = base.apply({**variables, 'params': variables['params'] | {'Dense_0': last}}, means(x))
  np.testing.assert_allclose(small.apply(got, x), expected, rtol=1e-4, atol=1e-5)


def test_what_is_taken_where_no_form_is_named():
  for name, shape, student, tile, backup in [
      ('mlp', (28, 28, 1), LowResolution, MLP, LowResolution), ('mlp', (8, 8, 1), MLP, MLP, MLP),
      ('lenet5', (32, 32, 3), SmallCNN, SmallCNN, SmallCNN), ('resnet20', (32, 32, 3), ResNet, ResNet, ResNet)]:
    base = make_model(name, shape, 10)
    assert isinstance(make_student(base, shape, 4), student)
    assert isinstance(make_tile_student(base, shape, (shape[0] // 2, shape[1] // 2, shape[2]), 4), (tile, MLP))
    assert isinstance(make_backup(shape, 10, multiply_adds_of(base, shape) // 4, base), backup)
  assert default_form(make_model('vgg11', (32, 32, 3), 10), (32, 32, 3)) == 'blocks'
  assert convolves(jax.jit(lambda v, x: jax.lax.conv(x, v, (1, 1), 'SAME')), jnp.ones((2, 2, 3, 3)),
                   jnp.ones((1, 2, 5, 5)))  # inside a jitted function too
  assert not convolves(lambda v, x: x @ v, jnp.ones((3, 2)), jnp.ones((1, 3)))


def test_a_named_size_is_kept_to_and_says_what_is_too_small():
  base, shape = make_model('mlp', (28, 28, 1), 10), (28, 28, 1)
  for form in ('dense', 'resolution', 'cnn'):
    sized = make_student(base, shape, 2, form, 20_000)
    assert sized == make_form(form, base, shape, 10, 20_000) == make_student(base, shape, 5, form, 20_000)
    assert sized == make_parity_network(base, shape, form, 20_000)
  assert multiply_adds_of(make_parity_network(base, shape, 'cnn'), shape) <= multiply_adds_of(base, shape)
  for call, words in ((lambda: make_student(base, shape, 2, 'blocks'), "form='blocks' .*over a MLP"),
                      (lambda: make_student(base, shape, 2, 'dense', 9), 'at most 9 multiply-adds'),
                      (lambda: make_form('resolution', base, (8, 8, 1), 10, 1e6), r'\[8, 8, 1\]'),
                      (lambda: make_form('wide', base, shape, 10, 1e6), "unknown form 'wide'"),
                      (lambda: make_backup(shape, 10, 9999, base, 'wide'), "unknown form 'wide'")):
    with pytest.raises(InputError, match=words):
      call()


def test_a_config_says_its_form_and_old_ones_keep_theirs(tmp_path):
  config = config_of('bundle', 3, 1, 'fashion_mnist', 'mlp', form='dense')
  stored = dataclasses.asdict(config)
  records.claim(tmp_path, {'kind': 'code', **stored})
  assert records.config_as(CodeConfig, records.read_config(tmp_path), tmp_path) == config
  del stored['form'], stored['multiply_adds']
  stored['backup_multiply_adds'] = None
  for base_model, scheme, expected in [('mlp', 'bundle', 'cnn'), ('mlp', 'mosaic', ''), ('resnet20', 'bundle', ''),
                                       ('lenet5', 'bundle', 'cnn'), ('mlp', 'nercc', '')]:
    old = stored | {'base_model': base_model, 'parity_model': config_of(scheme, 3).parity_model}
    (tmp_path / 'config.json').write_text(records.json.dumps({'kind': 'code', **old}))
    read = records.config_as(CodeConfig, records.read_config(tmp_path), tmp_path)
    assert (read.form, read.multiply_adds) == (expected, None) and read.resolved() == read


@pytest.mark.parametrize('changes, words', [
    ({'form': 'wide'}, "unknown form 'wide'"), ({'parity_model': 'base', 'form': 'cnn'}, 'no small network; use'),
    ({'parity_model': 'from_base', 'multiply_adds': 10}, 'no small network'), ({'multiply_adds': 0}, 'multiply_adds=0'),
    ({'parity_model': 'from_scratch', 'multiply_adds': 10}, 'name a form'),
    ({'parity_model': 'backup'}, 'backup has to be told')])
def test_a_form_that_makes_no_sense_is_a_sentence(changes, words):
  with pytest.raises(InputError, match=words):
    CodeConfig(**{'encoder': 'bundle', 'decoder': 'bundle', 'parity_model': 'students'} | changes).resolved()


def test_there_is_a_line_on_every_form():
  assert all(form.text and 0 < form.share <= 1 for form in FORMS.values())
