"""Sizes: what a backup may cost, counted by others, and the parameters of the models that it is compared with."""

import math

import jax
import jax.numpy as jnp
import pytest

from lcode.errors import InputError
from lcode.models import make_model
from lcode.models.backup import NARROWEST, SmallCNN, cnn_multiply_adds, make_backup, mlp_multiply_adds
from lcode.models.resnet import ResNet, resnet_multiply_adds

COUNTS = {False: mlp_multiply_adds, True: cnn_multiply_adds}


def variables(model, image_shape):
  return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image_shape)))


def traced_multiply_adds(model, image_shape):
  """From what the model traces to: of each product, the size of the result times the terms of each entry."""
  jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x))(variables(model, image_shape), jnp.zeros((1, *image_shape)))
  todo, total = [jaxpr.jaxpr], 0
  while todo:
    for equation in todo.pop().eqns:
      todo += [p.jaxpr for p in equation.params.values() if hasattr(p, 'jaxpr')]
      out = equation.outvars[0].aval
      if equation.primitive.name == 'dot_general':
        (contracted, _), _ = equation.params['dimension_numbers']
        total += out.size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
      elif equation.primitive.name == 'conv_general_dilated':
        total += out.size * equation.invars[1].aval.size // out.shape[-1]
  return total


@pytest.mark.parametrize('image_shape, convolutional, width', [
    ((28, 28, 1), False, 16), ((5, 3), False, 1), ((7,), False, 33), ((28, 28, 1), True, 1), ((32, 32, 3), True, 8),
    ((9, 7, 2), True, 5)])
def test_multiply_adds_are_those_of_the_trace(image_shape, convolutional, width):
  count = COUNTS[convolutional](image_shape, 10, width)
  model = make_backup(image_shape, 10, count, convolutional)
  assert (model.width if convolutional else model.hidden[0]) == width
  assert traced_multiply_adds(model, image_shape) == count


@pytest.mark.parametrize('image_shape, convolutional, least', [
    ((28, 28, 1), False, 0.99), ((64, 64, 3), True, 0.94)])
def test_multiply_adds_are_half_of_what_xla_counts(image_shape, convolutional, least):
  """XLA adds biases and ReLU to them, and leaves out the products with padding."""
  count = COUNTS[convolutional](image_shape, 10, 16)
  model = make_backup(image_shape, 10, count, convolutional)
  shapes = variables(model, image_shape), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  cost = jax.jit(lambda v, x: model.apply(v, x)).lower(*shapes).compile().cost_analysis()
  assert least < cost['flops'] / 2 / count < 1.02


@pytest.mark.parametrize('convolutional', [False, True])
@pytest.mark.parametrize('budget', [13_000, 26_000, 1_000_000])
def test_the_widest_backup_that_fits(budget, convolutional):
  shape, num_outputs = (28, 28, 1), 10
  model = make_backup(shape, num_outputs, budget, convolutional)
  assert model.num_outputs == num_outputs
  assert traced_multiply_adds(model, shape) <= budget
  if convolutional:
    wider = SmallCNN(num_outputs, model.width + 1)
  else:
    width = model.hidden[0]
    assert model.hidden[1] == width // 2
    wider = model.clone(hidden=(width + 1, (width + 1) // 2))
  assert traced_multiply_adds(wider, shape) > budget


@pytest.mark.parametrize('convolutional', [False, True])
def test_a_budget_is_met_to_the_last_multiply_add(convolutional):
  shape = (12, 10, 3)
  smallest = traced_multiply_adds(make_backup(shape, 4, 10_000, convolutional).clone(
      **{'width': 1} if convolutional else {'hidden': (1, 1)}), shape)
  model = make_backup(shape, 4, smallest, convolutional)
  assert (model.width if convolutional else model.hidden[0]) == 1
  with pytest.raises(InputError, match=f'--backup_multiply_adds={smallest - 1} .*at least {smallest} .*12, 10, 3'):
    make_backup(shape, 4, smallest - 1, convolutional)


@pytest.mark.parametrize('name, image_shape', [
    ('resnet20', (32, 32, 3)), ('resnet18', (32, 32, 3)), ('resnet18', (28, 28, 1)), ('resnet20', (13, 7, 2))])
def test_multiply_adds_of_resnets_are_those_of_the_trace(name, image_shape):
  model = make_model(name, image_shape, 10)
  assert resnet_multiply_adds(model, image_shape) == traced_multiply_adds(model, image_shape)


@pytest.mark.parametrize('share', [0.2, 0.05])
def test_the_backup_of_a_resnet_is_the_widest_of_one_block_a_stage_that_fits(share):
  shape = (32, 32, 3)
  base = make_model('resnet20', shape, 10)
  budget = int(share * traced_multiply_adds(base, shape))
  model = make_backup(shape, 10, budget, True, base)
  assert isinstance(model, ResNet) and model.stages == (1, 1, 1) and model.width < base.width
  assert traced_multiply_adds(model, shape) <= budget < traced_multiply_adds(model.clone(width=model.width + 1), shape)


@pytest.mark.parametrize('share', [1.0, 0.9, 0.5, 0.31])
def test_the_backup_of_a_resnet_keeps_as_many_blocks_as_fit(share):
  shape = (32, 32, 3)
  base = make_model('resnet20', shape, 10)
  budget = int(share * traced_multiply_adds(base, shape))
  model = make_backup(shape, 10, budget, True, base)
  assert model == base if share == 1 else sum(model.stages) < sum(base.stages)
  assert model.width == base.width and min(model.stages) >= 1
  assert traced_multiply_adds(model, shape) <= budget
  for stage, blocks in enumerate(model.stages):  # one block more is one too many
    more = tuple(n + (i == stage) for i, n in enumerate(model.stages))
    assert blocks == base.stages[stage] or traced_multiply_adds(model.clone(stages=more), shape) > budget


def test_where_no_narrow_resnet_fits_the_backup_is_the_small_network():
  shape = (32, 32, 3)
  base = make_model('resnet20', shape, 10)
  narrowest = base.clone(stages=(1, 1, 1), width=NARROWEST)
  least = traced_multiply_adds(narrowest, shape)
  assert make_backup(shape, 10, least, True, base) == narrowest
  assert isinstance(make_backup(shape, 10, least - 1, True, base), SmallCNN)
  assert isinstance(make_backup(shape, 10, least, True, make_model('lenet5', shape, 10)), SmallCNN)


def vgg11_parameters(channels, num_outputs):
  """From configuration A: 3x3 kernels without bias, scale and shift of each batch norm, one dense layer."""
  widths = [channels, 64, 128, 256, 256, 512, 512, 512, 512]
  layers = sum(9 * before * after + 2 * after for before, after in zip(widths, widths[1:]))
  return layers + 512 * num_outputs + num_outputs


@pytest.mark.parametrize('name, image_shape, num_outputs, expected', [
    ('lenet5', (28, 28, 1), 10, 61_706),  # the well-known counts
    ('lenet5', (32, 32, 1), 10, 61_706),  # 28x28 is padded to the 32x32 of the paper
    ('resnet20', (32, 32, 3), 10, 272_474),
    ('vgg11', (32, 32, 3), 10, 9_231_114 - 2_752),  # the well-known count has biases, which batch norm makes idle
    ('vgg11', (28, 28, 1), 12, vgg11_parameters(1, 12)),
    ('vgg11', (1, 1, 3), 10, vgg11_parameters(3, 10))])
def test_parameter_counts(name, image_shape, num_outputs, expected):
  params = variables(make_model(name, image_shape, num_outputs), image_shape)['params']
  assert sum(w.size for w in jax.tree.leaves(params)) == expected


@pytest.mark.parametrize('name', ['lenet5', 'vgg11', 'resnet20'])
@pytest.mark.parametrize('image_shape', [(33, 17, 3), (12, 12, 1)])
def test_logits_of_any_image_that_is_large_enough(name, image_shape):
  model = make_model(name, image_shape, 7)
  x = jnp.zeros((5, *image_shape))
  assert jax.eval_shape(model.apply, variables(model, image_shape), x).shape == (5, 7)


def test_pooling_of_vgg_loses_no_pixel():
  model = make_model('vgg11', (28, 28, 1), 10)
  _, seen = jax.eval_shape(lambda v, x: model.apply(v, x, capture_intermediates=True, mutable=['intermediates']),
                           variables(model, (28, 28, 1)), jnp.zeros((1, 28, 28, 1)))
  sides = [seen['intermediates'][f'Conv_{i}']['__call__'][0].shape[1:3] for i in range(8)]
  assert sides == [(28, 28), (14, 14), (7, 7), (7, 7), (4, 4), (4, 4), (2, 2), (2, 2)]


@pytest.mark.parametrize('name', ['lenet5', 'vgg11', 'resnet20'])
@pytest.mark.parametrize('image_shape', [(784,), (28, 28), (2, 28, 28, 1), (0, 28, 1)])
def test_what_is_no_image_is_refused(name, image_shape):
  with pytest.raises(InputError, match=f'{name} takes images .*a query here is \\[{image_shape[0]}'):
    make_model(name, image_shape, 10)


@pytest.mark.parametrize('image_shape', [(11, 28, 1), (28, 11, 3), (1, 1, 1)])
def test_lenet_wants_12_pixels_a_side(image_shape):
  with pytest.raises(InputError, match='lenet5 .*at least 12 pixels a side'):
    make_model('lenet5', image_shape, 10)
