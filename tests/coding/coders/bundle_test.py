"""Bundles against the same students called one query at a time, and what they cost."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode import models
from lcode.coding.code import Code
from lcode.coding.costs import cost, extra_work, group_costs
from lcode.coding.parity_model import from_module, students
from lcode.coding.scheme import make_scheme
from lcode.coding.units import stack_units
from lcode.errors import InputError
from lcode.models.mlp import MLP
from lcode.models.resnet import part_of, resnet_multiply_adds
from lcode.models.student import make_student, start_from
from lcode.runs.base_model import count_parameters
from lcode.runs.code_run import build_scheme
from lcode.runs.configs import CodeConfig
from tests.coding.coders.means import check_means

SHAPE, C = (5, 4, 1), 3


def base_apply(variables, x):
  return jnp.sin(x.reshape(len(x), -1) @ variables)


@pytest.mark.parametrize('k, r', [(1, 1), (3, 1), (4, 2)])
def test_what_is_missing_is_the_mean_of_the_students_that_arrived(k, r, rng):
  student = MLP(C, (6,))
  scheme = make_scheme(Code(k, r), base_apply, 'bundle', 'bundle', students(student))
  x = rng.normal(size=(k, *SHAPE)).astype('f4')
  variables = rng.normal(size=(20, C)).astype('f4')
  params, state = scheme.init(jax.random.key(0), x, C)
  replies, _ = scheme.infer(params, state, variables, scheme.encode(params, x)[None])
  outputs = stack_units(base_apply(variables, x), replies[0])
  own = np.stack([[student.apply({'params': params['parity_model'][str(j)]}, q[None])[0] for q in x] for j in range(r)])
  check_means(scheme, params, outputs, base_apply(variables, x), own)


@pytest.mark.parametrize('name, shape, k', [
    ('mlp', (28, 28, 1), 2), ('mlp', (28, 28, 1), 8), ('resnet20', (32, 32, 3), 4), ('resnet18', (28, 28, 1), 2),
    ('resnet20', (32, 32, 3), 2), ('resnet20', (32, 32, 3), 3),
    ('vgg11', (32, 32, 3), 3), ('lenet5', (28, 28, 1), 2), ('lenet5', (32, 32, 3), 3)])
def test_k_students_cost_no_more_than_one_inference(name, shape, k):
  def flops(model, count):
    x = jnp.zeros((count, *shape))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    return cost(lambda variables, x: model.apply(variables, x), variables, x)['flops']

  base = models.make_model(name, shape, 10)
  student = make_student(base, shape, k)
  share = flops(student, k) / flops(base, 1)
  least = 0.45 if name == 'mlp' else 0.6  # half of its work takes F's time, where reading is most of it
  assert least < share <= 1.05  # what does not shrink with the square is left: 3 % at most


def without_effect(block):
  """A residual block whose second batch norm is nothing: relu(x + 0) = x, since x is what a ReLU gave."""
  return block | {'BatchNorm_1': jax.tree.map(jnp.zeros_like, block['BatchNorm_1'])}


def test_a_student_starts_as_f_without_the_blocks_it_leaves_out(rng):
  x = rng.normal(size=(3, 8, 8, 2)).astype('f4')
  base = models.make_model('resnet20', (8, 8, 2), 5)
  variables = jax.tree.map(lambda a: jnp.asarray(np.abs(rng.normal(1, 0.2, a.shape)), 'f4') * a + 0.01 * (a == 0),
                           base.init(jax.random.key(0), x))
  student = make_student(base, (8, 8, 2), 2)
  assert student.width == base.width and sum(student.stages) < sum(base.stages)
  fresh = student.init(jax.random.key(1), x)
  got = start_from(base, student, variables, fresh)
  assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, fresh)
  params, number = dict(variables['params']), 0
  for blocks, kept in zip(base.stages, student.stages):
    for i in range(blocks):
      if i >= kept:
        params[f'BasicBlock_{number}'] = without_effect(params[f'BasicBlock_{number}'])
      number += 1
  params['Dense_0'] = jax.tree.map(jnp.add, params['Dense_0'], fresh['params']['Dense_0'])
  expected = base.apply({**variables, 'params': params}, x)
  np.testing.assert_allclose(student.apply(got, x), expected, rtol=1e-4, atol=1e-4)
  assert np.abs(expected - base.apply({**variables, 'params': variables['params'] | {'Dense_0': params['Dense_0']}},
                                      x)).max() > 1e-2


def test_a_narrower_student_starts_from_the_channels_that_f_reads(rng):
  """An F of which only some channels are read is the same function as what is made of those alone."""
  x = rng.normal(size=(3, 8, 8, 2)).astype('f4')
  base = models.ResNet(5, (1, 2, 1), 6)
  variables = jax.tree.map(lambda a: jnp.asarray(0.1 + np.abs(rng.normal(0, 0.3, a.shape)), 'f4'),
                           jax.eval_shape(base.init, jax.random.key(0), x))
  params = variables['params']
  shared = [np.sort(rng.permutation(6 * 2**stage)[:4 * 2**stage]) for stage in range(3)]

  def silence(tree, name, read):
    kernel = np.asarray(tree[name]['kernel'])
    tree[name]['kernel'] = jnp.asarray(kernel * np.isin(np.arange(kernel.shape[-2]), read)[:, None], 'f4')

  for block, stage, before in [(0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 2, 1)]:
    tree = params[f'BasicBlock_{block}']
    for name in {'Conv_0', 'Conv_2'} & set(tree):
      silence(tree, name, shared[before])
    silence(tree, 'Conv_1', rng.permutation(6 * 2**stage)[:4 * 2**stage])
  silence(params, 'Dense_0', shared[2])
  student = base.clone(width=4)
  fresh = jax.eval_shape(student.init, jax.random.key(1), x)
  got = part_of(base, student, variables)
  assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, fresh)
  expected = jax.jit(base.apply)(variables, x)
  np.testing.assert_allclose(jax.jit(student.apply)(got, x), expected, rtol=1e-4, atol=1e-4)
  assert np.ptp(expected) > 1e-2
  fewer = part_of(base, base.clone(width=4, stages=(1, 1, 1)), variables)
  np.testing.assert_array_equal(fewer['params']['BasicBlock_2']['Conv_2']['kernel'],
                                got['params']['BasicBlock_3']['Conv_2']['kernel'])


def test_a_backup_starts_from_f_as_a_student_does(rng):
  x = rng.normal(size=(1, 8, 8, 2)).astype('f4')
  base = models.make_model('resnet20', (8, 8, 2), 5)
  config = CodeConfig('cifar10', 'resnet20', 1, 1, 'replication', 'replication', 'backup',
                      multiply_adds=resnet_multiply_adds(base, (8, 8, 2)) // 2).resolved()
  variables = base.init(jax.random.key(0), x)
  params, state = build_scheme(config, (8, 8, 2), 5).init(jax.random.key(1), x, 5, variables)
  own = params['parity_model']['0']
  assert len(own) < len(variables['params']) and set(state['0']) == {'batch_stats'}
  np.testing.assert_array_equal(own['Conv_0']['kernel'], variables['params']['Conv_0']['kernel'])


def test_students_that_start_from_f_differ_from_parity_to_parity(rng):
  x = rng.normal(size=(2, 8, 8, 2)).astype('f4')
  scheme = build_scheme(CodeConfig('cifar10', 'resnet20', 2, 2, 'bundle', 'bundle', 'students').resolved(),
                        (8, 8, 2), 5)
  variables = models.make_model('resnet20', (8, 8, 2), 5).init(jax.random.key(0), x)
  own = scheme.init(jax.random.key(1), x, 5, variables)[0]['parity_model']
  np.testing.assert_array_equal(own['0']['Conv_0']['kernel'], variables['params']['Conv_0']['kernel'])
  assert np.abs(own['0']['Dense_0']['kernel'] - own['1']['Dense_0']['kernel']).max() > 0.01


def test_a_share_that_cannot_be_is_a_sentence():
  for name, k, said in [('logistic', 800, 'Logistic'), ('resnet20', 1000, 'ResNet'), ('mlp', 2000, 'MLP')]:
    with pytest.raises(InputError, match=f'share={k}.*{said}'):
      make_student(models.make_model(name, (28, 28, 1), 10), (28, 28, 1), k)


def test_bundles_and_students_go_together_alone():
  small = students(MLP(C))
  for encoder, decoder, model in [('bundle', 'bundle', None), ('addition', 'mlp', small),
                                  ('bundle', 'mlp', small),
                                  ('addition', 'bundle', from_module(MLP(C)))]:
    with pytest.raises(InputError, match='(?i)bundle'):
      make_scheme(Code(2, 1), base_apply, encoder, decoder, model)


def test_over_ones_own_model_as_readme_says(rng):
  variables, x = (0.2 * rng.normal(size=(20, C))).astype('f4'), rng.normal(size=(1200, *SHAPE)).astype('f4')
  scheme = lcode.make_scheme(Code(2, 1), base_apply, 'bundle', 'bundle', lcode.students(
      nn.Sequential([lambda x: x.reshape(len(x), -1), nn.Dense(64), nn.relu, nn.Dense(C)])))
  codec = lcode.fit(scheme, variables, x, epochs=60).codec
  outputs = np.asarray(base_apply(variables, x[-100:])).reshape(50, 2, C)  # of those held out
  units = lcode.stack_units(outputs, codec.infer(variables, codec.encode(x[-100:].reshape(50, 2, *SHAPE))))
  answers = np.asarray(codec.decode(units, np.array([True, False, True])))
  np.testing.assert_array_equal(answers[:, 0], outputs[:, 0])
  assert (answers[:, 1].argmax(-1) == outputs[:, 1].argmax(-1)).mean() > 0.8  # by chance: a third


def test_work_is_the_workers(rng):
  base = MLP(10)
  variables = base.init(jax.random.key(0), np.zeros((1, 28, 28, 1)))
  scheme = make_scheme(Code(4, 1), base.apply, 'bundle', 'bundle',
                       students(make_student(base, (28, 28, 1), 4)))
  params, state = scheme.init(jax.random.key(0), np.zeros((4, 28, 28, 1)), 10)
  assert count_parameters(params['encoder']) == count_parameters(params['decoder']) == 0
  work = extra_work(scheme, group_costs(scheme, params, state, variables, (28, 28, 1), 10))
  assert work['frontend_work'] < 0.001 and 0.11 < work['worker_work'] <= 0.5 / 4 + 0.01  # of F's time, by its work
