"""Parity models: where they start, whose variables are whose, batch statistics; what goes together, what is trained."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode import models
from lcode.coding.code import Code
from lcode.coding.coders.mlp import MLPDecoder
from lcode.coding.parity_model import default_answer, from_module
from lcode.coding.scheme import make_scheme, parts_to_train
from lcode.errors import InputError
from lcode.models.mlp import Logistic
from lcode.models.vgg import VGG

K, R, GROUPS, SHAPE, NUM_OUTPUTS = 2, 2, 3, (4, 4, 1), 3
NORMED = VGG(NUM_OUTPUTS, channels=(4, None))  # one convolution with batch norm
DENSE = Logistic(NUM_OUTPUTS)


def variables_of(module, rng):
  """Random variables, batch statistics too: no variance below 0.5."""
  shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))
  return jax.tree.map(lambda w: jnp.asarray(0.5 + rng.random(w.shape), jnp.float32), shapes)


def scheme_of(module, model, rng, encoder='addition', decoder='subtraction'):
  """(scheme, params, model_state, F's variables, parities f32[g, r, *S])."""
  scheme = make_scheme(Code(K, R), models.make_apply(module), encoder, decoder, model)
  variables = variables_of(module, rng)
  start = jax.jit(lambda variables: scheme.init(jax.random.key(1), jnp.zeros((K, *SHAPE)), NUM_OUTPUTS, variables))
  params, model_state = start(variables)
  return scheme, params, model_state, variables, rng.normal(size=(GROUPS, R, *SHAPE)).astype('f4')


def f_on_each(module, variables, parities):
  return np.asarray(jax.jit(jax.vmap(module.apply, (None, 0)))(variables, parities))


def same(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and all(map(np.array_equal, *map(jax.tree.leaves, (a, b))))


@pytest.mark.parametrize('module, make, keys', [
    (NORMED, lambda: None, []),
    (NORMED, lambda: from_module(NORMED, start_from_base=True), ['0', '1']),
    (DENSE, lambda: from_module(DENSE, start_from_base=True, shared=True), ['0'])])
def test_what_starts_from_f_answers_as_f(module, make, keys, rng):
  scheme, params, model_state, variables, parities = scheme_of(module, make(), rng)
  assert sorted(params['parity_model']) == keys
  got, _ = scheme.infer(params, model_state, variables, parities)
  np.testing.assert_allclose(got, f_on_each(module, variables, parities), rtol=1e-5, atol=1e-5)
  # Only F itself follows F's variables from there on.
  other, _ = scheme.infer(params, model_state, jax.tree.map(lambda w: 2 * w, variables), parities)
  assert np.array_equal(other, got) == bool(keys)


def test_fresh_parity_models_start_each_from_its_own(rng):
  _, params, _, _, _ = scheme_of(DENSE, from_module(DENSE), rng)
  kernels = [params['parity_model'][key]['Dense_0']['kernel'] for key in ('0', '1')]
  assert np.abs(kernels[0] - kernels[1]).min() > 0


def test_each_parity_has_its_own_variables_or_all_share_them(rng):
  for shared in (False, True):
    scheme, params, model_state, variables, parities = scheme_of(DENSE, from_module(DENSE, shared=shared), rng)
    before, _ = scheme.infer(params, model_state, variables, parities)
    assert len(params['parity_model']) == (1 if shared else R)
    for key in params['parity_model']:
      changed = jax.tree.map(lambda w: w + 1, params['parity_model'][key])
      moved = {**params, 'parity_model': {**params['parity_model'], key: changed}}
      after, _ = scheme.infer(moved, model_state, variables, parities)
      differs = (np.abs(np.asarray(after - before)) > 1e-3).all((0, 2))
      equals = (np.asarray(after) == before).all((0, 2))
      expected = np.ones(R, bool) if shared else np.arange(R) == int(key)
      np.testing.assert_array_equal(differs, expected)
      np.testing.assert_array_equal(equals, ~expected)
    if shared:
      own = {'params': params['parity_model']['0']}
      np.testing.assert_allclose(before, f_on_each(DENSE, own, parities), rtol=1e-5, atol=1e-5)


class Dropping(nn.Module):
  """Half of its inputs left out while it trains, the others doubled."""

  normed: bool = False

  @nn.compact
  def __call__(self, x, train: bool = False):
    x = nn.Dropout(0.5, deterministic=not train)(x)
    x = nn.BatchNorm(use_running_average=not train)(x) if self.normed else x
    return nn.Dense(NUM_OUTPUTS)(x.reshape(len(x), -1))


@pytest.mark.parametrize('normed', [False, True])
def test_dropout_draws_from_the_key_in_training_alone(normed, rng):
  scheme, params, model_state, variables, parities = scheme_of(DENSE, from_module(Dropping(normed)), rng)
  params['parity_model']['1'] = params['parity_model']['0']
  parities[:, 1] = parities[:, 0]

  @partial(jax.jit, static_argnums=1)
  def infer(key, train):
    return scheme.infer(params, model_state, variables, parities, train, key=key)

  (plain, kept), (answers, moved) = infer(jax.random.key(5), False), infer(jax.random.key(5), True)
  np.testing.assert_array_equal(plain, infer(None, False)[0])
  np.testing.assert_array_equal(answers, infer(jax.random.key(5), True)[0])
  assert np.abs(answers - infer(jax.random.key(6), True)[0]).min() > 0
  assert np.abs(answers[:, 0] - answers[:, 1]).min() > 0  # each parity's model draws its own
  assert same(kept, model_state) and same(moved, model_state) != normed
  own = {'params': params['parity_model']['0'], **model_state.get('0', {})}
  for j in range(R):
    expected, _ = Dropping(normed).apply(own, parities[:, j], train=True, mutable=['batch_stats'],
                                         rngs={'dropout': jax.random.fold_in(jax.random.key(5), j)})
    np.testing.assert_allclose(answers[:, j], expected, rtol=1e-4, atol=1e-5)


def convolved(x, kernel):
  """3x3, zeros around, in NumPy: f64[b, 4, 4, channels]."""
  x = np.pad(x.astype('f8'), ((0, 0), (1, 1), (1, 1), (0, 0)))
  return sum(np.einsum('bhwc,co->bhwo', x[:, i:i + 4, j:j + 4], kernel[i, j]) for i in range(3) for j in range(3))


def test_batch_statistics_move_in_training_alone(rng):
  model = from_module(NORMED, start_from_base=True)
  scheme, params, model_state, variables, parities = scheme_of(NORMED, model, rng)
  assert 'batch_stats' not in params['parity_model']['0'] and sorted(model_state) == ['0', '1']
  _, kept = scheme.infer(params, model_state, variables, parities, False)
  assert same(kept, model_state)
  _, moved = jax.jit(lambda *args: scheme.infer(*args, True))(params, model_state, variables, parities)
  for j in range(R):  # a tenth of the way to those of its own parities
    h = convolved(parities[:, j], np.asarray(variables['params']['Conv_0']['kernel']))
    stats, old = moved[str(j)]['batch_stats']['BatchNorm_0'], variables['batch_stats']['BatchNorm_0']
    np.testing.assert_allclose(stats['mean'], 0.9 * old['mean'] + 0.1 * h.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats['var'], 0.9 * old['var'] + 0.1 * h.var((0, 1, 2)), rtol=1e-4, atol=1e-5)
  assert same(kept, model_state)


def test_batch_statistics_over_devices_are_those_of_the_whole_batch(rng):
  model = from_module(NORMED, start_from_base=True)
  scheme, params, model_state, variables, parities = scheme_of(NORMED, model, rng)
  parities = np.concatenate([parities, 3 + parities[:1]])
  whole, state = jax.jit(lambda x: scheme.infer(params, model_state, variables, x, True))(parities)
  apart, states = jax.jit(jax.vmap(lambda x: scheme.infer(params, model_state, variables, x, True, 'devices'),
                                   axis_name='devices'))(parities.reshape(2, 2, *parities.shape[1:]))
  np.testing.assert_allclose(apart.reshape(whole.shape), whole, rtol=1e-4, atol=1e-5)
  for ours, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(states)):
    np.testing.assert_allclose(theirs, np.stack([ours, ours]), rtol=1e-4, atol=1e-5)


def test_a_default_answer_is_the_same_for_all_and_learns_the_mean(rng):
  model = default_answer()
  scheme, params, model_state, variables, parities = scheme_of(DENSE, model, rng, 'replication', 'replication')
  assert scheme.at_frontend and model_state == {}
  answer = np.array([1.0, -2.0, 0.5], 'f4')
  params['parity_model'] = {'0': {'answer': jnp.asarray(answer)}}
  got, _ = scheme.infer(params, model_state, variables, parities)
  np.testing.assert_array_equal(got, np.broadcast_to(answer, (GROUPS, R, NUM_OUTPUTS)))
  answers = f_on_each(DENSE, variables, parities)

  def loss(params):
    return jnp.mean((scheme.infer(params, model_state, variables, parities)[0] - answers) ** 2)

  step = jax.grad(loss)(params)['parity_model']['0']['answer']  # 2 / C times the distance from the mean
  np.testing.assert_allclose(answer - step * NUM_OUTPUTS / 2, answers.mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_who_answers_at_the_frontend():
  assert not make_scheme(Code(2, 1), np.tanh).at_frontend
  backup = from_module(DENSE, shared=True, at_frontend=True, takes=('copies',))
  assert make_scheme(Code(2, 2), np.tanh, 'replication', 'replication', backup).at_frontend


OWN = from_module(DENSE)
BACKUP = from_module(DENSE, shared=True, at_frontend=True, takes=('copies',))


@pytest.mark.parametrize('encoder, decoder, model, match', [
    ('approxifer', 'approxifer', OWN, 'ApproxIFEREncoder .*leave parity_model out'),
    ('spline', 'mlp', OWN, 'SplineEncoder .*leave parity_model out'),
    ('replication', 'subtraction', None, "SubtractionDecoder .*'copies', which ReplicationEncoder makes: .*'addition'"),
    ('approxifer', 'berrut', None, "BerrutDecoder .*ApproxIFEREncoder.* use encoder='berrut'"),
    ('berrut', 'approxifer', None, "ApproxIFERDecoder .*BerrutEncoder.* use encoder='approxifer'"),
    ('addition', 'replication', None, "ReplicationDecoder .*AdditionEncoder.* use encoder='replication'"),
    ('addition', 'subtraction', BACKUP, "AdditionEncoder.*encoder='replication'"),
    ('mlp', 'mlp', default_answer(), "MLPEncoder.*encoder='replication'"),
    ('approxifer', 'approxifer', default_answer(), "ApproxIFEREncoder.*encoder='replication'")])
def test_what_does_not_go_together_is_refused_in_a_sentence(encoder, decoder, model, match):
  with pytest.raises(InputError, match=match) as error:
    make_scheme(Code(2, 2), np.tanh, encoder, decoder, model)
  message = str(error.value)
  assert message.endswith('.') and '. ' not in message and '\n' not in message and '--' not in message


@pytest.mark.parametrize('encoder, decoder, model', [
    ('concatenation', 'subtraction', OWN), ('mlp', 'subtraction', OWN), ('replication', 'mlp', BACKUP),
    ('approxifer', 'approxifer', None), ('spline', 'mlp', None), ('berrut', 'berrut', OWN)])
def test_what_goes_together(encoder, decoder, model):
  assert make_scheme(Code(2, 2), np.tanh, encoder, decoder, model).code == Code(2, 2)


def trained(encoder, decoder, model, wanted=None):
  scheme = make_scheme(Code(K, R), models.make_apply(DENSE), encoder, decoder, model)
  params, _ = jax.eval_shape(lambda key: scheme.init(
      key, jnp.zeros((K, *SHAPE)), NUM_OUTPUTS, DENSE.init(key, jnp.zeros((1, *SHAPE)))), jax.random.key(0))
  return parts_to_train(scheme, params, wanted)


@pytest.mark.parametrize('encoder, decoder, model, wanted, expected', [
    ('mlp', 'mlp', None, None, ('encoder', 'decoder')),
    ('mlp', 'mlp', OWN, None, ('encoder', 'parity_model', 'decoder')),
    ('addition', 'subtraction', None, None, ()),
    ('addition', 'subtraction', OWN, None, ('parity_model',)),
    ('spline', 'spline', None, None, ()),
    ('spline', 'mlp', None, None, ('decoder',)),
    ('replication', 'replication', default_answer(), None, ('parity_model',)),
    ('mlp', 'mlp', OWN, ('decoder', 'encoder'), ('encoder', 'decoder')),
    ('mlp', 'mlp', OWN, ['parity_model'], ('parity_model',)),
    ('mlp', 'mlp', OWN, (), ())])
def test_parts_to_train(encoder, decoder, model, wanted, expected):
  assert trained(encoder, decoder, model, wanted) == expected


@pytest.mark.parametrize('encoder, decoder, model, wanted, match', [
    ('mlp', 'mlp', None, ['parity_model'], 'parity model .*nothing to train.* encoder, decoder,'),
    ('addition', 'mlp', OWN, ['decoder', 'encoder'], "'encoder' is no part.* parity_model, decoder,"),
    ('spline', 'spline', None, ['decoder'], "'decoder' is no part.*choose from none"),
    ('mlp', 'mlp', None, ['base'], "unknown part to train 'base'.*decoder, encoder, parity_model")])
def test_parts_that_cannot_be_trained(encoder, decoder, model, wanted, match):
  with pytest.raises(InputError, match=match):
    trained(encoder, decoder, model, wanted)


def test_a_module_of_ones_own_is_an_encoder_for_parity_models():
  class Difference(nn.Module):
    @nn.compact
    def __call__(self, x):
      return jnp.stack([x[0] - x[1], x[1] - x[0]])
  scheme = make_scheme(Code(2, 2), np.tanh, Difference(), MLPDecoder(Code(2, 2)), OWN)
  assert scheme.systematic and scheme.candidates == {}
  assert make_scheme(Code(2, 2), np.tanh, Difference(), 'subtraction', OWN).systematic  # its models learn the sums
  with pytest.raises(InputError, match='Difference declares None'):
    make_scheme(Code(2, 2), np.tanh, Difference(), 'berrut', OWN)
