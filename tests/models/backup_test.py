"""Sizes: what a backup may cost, counted by others, and the parameters of the models that it is compared with."""

import math

import jax
import jax.numpy as jnp
import pytest

from lcode.errors import InputError
from lcode.models import make_model
from lcode.models.backup import make_backup, NARROWEST
from lcode.models.mlp import MLP
from lcode.models.resnet import ResNet, resnet_multiply_adds
from lcode.models.small import cnn_multiply_adds, HIDDEN_A_CHANNEL, mlp_multiply_adds, SmallCNN


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


@pytest.mark.parametrize('image_shape, model', [
    ((28, 28, 1), MLP(10, (16, 8))), ((5, 3), MLP(10, (1, 1))), ((7,), MLP(10, (33, 16))),
    ((28, 28, 1), SmallCNN(10, 1, 2)), ((32, 32, 3), SmallCNN(10, 8, 9)), ((9, 17, 2), SmallCNN(10, 5, 3)),
    ((65, 30, 3), SmallCNN(10, 2, 7))])
def test_multiply_adds_are_those_of_the_trace(image_shape, model):
  if isinstance(model, MLP):
    count = mlp_multiply_adds(image_shape, 10, model.hidden[0])
  else:
    count = cnn_multiply_adds(image_shape, 10, model.width, model.hidden)
  assert traced_multiply_adds(model, image_shape) == count


@pytest.mark.parametrize('image_shape, model, least', [
    ((28, 28, 1), MLP(10, (16, 8)), 0.99), ((64, 64, 3), SmallCNN(10, 16, 64), 0.94)])
def test_multiply_adds_are_half_of_what_xla_counts(image_shape, model, least):
  """XLA adds biases and ReLU to them, and leaves out the products with padding."""
  shapes = variables(model, image_shape), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  cost = jax.jit(lambda v, x: model.apply(v, x)).lower(*shapes).compile().cost_analysis()
  assert least < cost['flops'] / 2 / traced_multiply_adds(model, image_shape) < 1.02


@pytest.mark.parametrize('image_shape', [(28, 28, 1), (16, 19, 3), (33, 40, 2)])
@pytest.mark.parametrize('budget', [9_000, 89_055, 1_000_000])
def test_the_small_network_over_images_by_brute_force(image_shape, budget):
  fitting = []
  for width in range(1, 60):
    for hidden in range(HIDDEN_A_CHANNEL * (width - 1) or 1, 8000):
      if cnn_multiply_adds(image_shape, 10, width, hidden) > budget:
        break
      fitting.append((width, hidden))
  model = make_backup(image_shape, 10, budget)
  assert (model.width, model.hidden) == max(fitting) if fitting else isinstance(model, MLP)


@pytest.mark.parametrize('image_shape', [(28, 28), (15, 28, 1), (40,)])
@pytest.mark.parametrize('budget', [3000, 89_055])
def test_over_other_queries_the_small_network_is_the_widest_dense_one(image_shape, budget):
  model = make_backup(image_shape, 10, budget)
  width, half = model.hidden
  assert half == width // 2
  wider = MLP(10, (width + 1, (width + 1) // 2))
  assert traced_multiply_adds(model, image_shape) <= budget < traced_multiply_adds(wider, image_shape)


def test_a_budget_is_met_to_the_last_multiply_add():
  shape = (16, 20, 3)
  smallest = traced_multiply_adds(MLP(4, (1, 1)), shape)
  assert make_backup(shape, 4, smallest) == MLP(4, (1, 1))
  with pytest.raises(InputError, match=f'multiply_adds={smallest - 1} .*at least {smallest} .*16, 20, 3'):
    make_backup(shape, 4, smallest - 1)
  convolutional = traced_multiply_adds(SmallCNN(4, 1, 1), shape)
  assert make_backup(shape, 4, convolutional) == SmallCNN(4, 1, 1)
  assert isinstance(make_backup(shape, 4, convolutional - 1), MLP)


@pytest.mark.parametrize('name, image_shape', [
    ('resnet20', (32, 32, 3)), ('resnet18', (32, 32, 3)), ('resnet18', (28, 28, 1)), ('resnet20', (13, 7, 2))])
def test_multiply_adds_of_resnets_are_those_of_the_trace(name, image_shape):
  model = make_model(name, image_shape, 10)
  assert resnet_multiply_adds(model, image_shape) == traced_multiply_adds(model, image_shape)


@pytest.mark.parametrize('share', [0.2, 0.1])
def test_the_backup_of_a_resnet_is_the_widest_of_one_block_a_stage_that_fits(share):
  shape = (32, 32, 3)
  base = make_model('resnet20', shape, 10)
  budget = int(share * traced_multiply_adds(base, shape))
  model = make_backup(shape, 10, budget, base)
  assert isinstance(model, ResNet) and model.stages == (1, 1, 1) and model.width < base.width
  assert traced_multiply_adds(model, shape) <= budget < traced_multiply_adds(model.clone(width=model.width + 1), shape)


@pytest.mark.parametrize('share', [1.0, 0.9, 0.5, 0.31])
def test_the_backup_of_a_resnet_keeps_as_many_blocks_as_fit(share):
  shape = (32, 32, 3)
  base = make_model('resnet20', shape, 10)
  budget = int(share * traced_multiply_adds(base, shape))
  model = make_backup(shape, 10, budget, base)
  assert model == base if share == 1 else sum(model.stages) < sum(base.stages)
  assert model.width == base.width and min(model.stages) >= 1
  assert traced_multiply_adds(model, shape) <= budget
  for stage, blocks in enumerate(model.stages):  # one block more is one too many
    more = tuple(n + (i == stage) for i, n in enumerate(model.stages))
    assert blocks == base.stages[stage] or traced_multiply_adds(model.clone(stages=more), shape) > budget


def test_where_no_narrow_resnet_fits_the_backup_is_the_small_network():
  shape = (32, 32, 3)
  base = make_model('resnet20', shape, 10)
  narrowest = base.clone(stages=(1, 1, 1), width=math.ceil(NARROWEST * base.width))
  least = traced_multiply_adds(narrowest, shape)
  assert make_backup(shape, 10, least, base) == narrowest
  assert isinstance(make_backup(shape, 10, least - 1, base), SmallCNN)
  assert isinstance(make_backup(shape, 10, least, make_model('lenet5', shape, 10)), SmallCNN)


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
@pytest.mark.parametrize('image_shape', [(784,), (28, 28), (2, 28, 28, 1)])
def test_what_is_no_image_is_refused(name, image_shape):
  with pytest.raises(InputError, match=f'{name} takes images .*a query here is \\[{image_shape[0]}'):
    make_model(name, image_shape, 10)


@pytest.mark.parametrize('image_shape', [(11, 28, 1), (28, 11, 3), (1, 1, 1)])
def test_lenet_wants_12_pixels_a_side(image_shape):
  with pytest.raises(InputError, match='lenet5 .*at least 12 pixels a side'):
    make_model('lenet5', image_shape, 10)
