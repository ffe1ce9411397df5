"""Codes over one's own function and arrays, as README shows it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lcode
from lcode.coding.parity_model import from_module
from lcode.data import make_normalise, SPECS
from lcode.models.mlp import MLP
from lcode.training.batched import apply_in_batches
from lcode.training.inputs import split_arrays
from lcode.training.patterns import patterns_of
from lcode.training.problem import INIT, seed_of


def apply(variables, x):
  return jnp.tanh(x @ variables['w1']) @ variables['w2']


@pytest.fixture
def problem(rng):
  variables = {'w1': rng.normal(size=(5, 16)).astype('f4') / 2, 'w2': rng.normal(size=(16, 3)).astype('f4')}
  return variables, rng.normal(size=(600, 5)).astype('f4')


def test_a_code_over_a_regression_learns_and_leaves_the_callers_arrays(problem):
  variables, x = problem
  variables = jax.tree.map(jnp.asarray, variables)
  scheme = lcode.make_scheme(lcode.Code(2, 1), apply)
  fitted = lcode.fit(scheme, variables, x, loss='mse_base', epochs=100, batch_size=16, seed=1)
  history = fitted.result.history
  default = np.asarray(apply(variables, x)).var(0).sum()  # the loss of always answering the mean
  assert history[-1]['validation_loss'] < 0.75 * default
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(variables))
  again = lcode.fit(scheme, variables, x, loss='mse_base', epochs=100, batch_size=16, seed=1)
  jax.tree.map(np.testing.assert_array_equal, fitted.params, again.params)


def test_without_classes_the_best_epoch_is_that_of_the_least_loss(problem):
  variables, x = problem
  one = {**variables, 'w2': variables['w2'][:, :1]}
  for own, labels in ((one, np.zeros(len(x), int)), (variables, None)):
    result = lcode.fit(lcode.make_scheme(lcode.Code(2, 1), apply), own, x, labels, loss='mse_base', epochs=12,
                       seed=1).result
    assert result.best.step == min(result.history, key=lambda epoch: epoch['validation_loss'])['step']


def test_the_codecs_calls_upload_no_parameters(problem):
  variables, x = problem
  scheme = lcode.make_scheme(lcode.Code(2, 1), apply)
  params, _ = scheme.init(jax.random.key(0), jnp.asarray(x[:2]), 3)
  codec = lcode.make_codec(scheme, jax.device_get(params))
  groups = jnp.asarray(x[:8].reshape(4, 2, 5))
  codec.encode(groups)
  with jax.transfer_guard('disallow'):
    codec.encode(groups)


def test_codec_is_the_scheme_over_a_batch_and_compiles_once(problem, rng):
  variables, x = problem
  scheme = lcode.make_scheme(lcode.Code(3, 2), apply)
  traces = []
  counted = scheme._replace(decode=lambda *args, **kwargs: (traces.append(1), scheme.decode(*args, **kwargs))[1])
  params, _ = scheme.init(jax.random.key(0), jnp.asarray(x[:3]), 3)
  codec = lcode.make_codec(counted, params)
  groups = x[:24].reshape(8, 3, 5)
  for group, parities in zip(groups, codec.encode(groups)):
    np.testing.assert_allclose(parities, scheme.encode(params, group), rtol=1e-5, atol=1e-7)
  outputs = rng.normal(size=(8, 5, 3)).astype('f4')
  scenarios = lcode.every_pattern(lcode.Code(3, 2))
  for available in (scenarios[0], scenarios[:8]):
    answers = codec.decode(outputs, available)
    for i in range(8):
      row = available if available.ndim == 1 else available[i]
      np.testing.assert_allclose(answers[i], scheme.decode(params, outputs[i], row), rtol=1e-5, atol=1e-7)
  assert len(traces) == 1


def test_applying_in_batches_is_applying_at_once(rng):
  images = rng.integers(0, 256, size=(23, 2, 2, 1), dtype=np.uint8)
  preprocess = make_normalise(SPECS['mnist'])
  weights = rng.normal(size=(4, 3)).astype('f4')

  def flat(variables, x):
    return x.reshape(len(x), -1) @ variables
  actual = apply_in_batches(flat, weights, images, preprocess, batch_size=5)
  np.testing.assert_allclose(actual, images.reshape(23, 4) / 255 @ weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('count, held_out', [(20, 2), (101, 11), (100_000, 5_000)])
def test_without_a_validation_split_the_last_tenth_is_held_out(count, held_out):
  images = np.arange(count)
  training, validation = split_arrays(images, images % 7, None)
  assert len(validation) == held_out
  np.testing.assert_array_equal(np.concatenate([training.images, validation.images]), images)
  np.testing.assert_array_equal(validation.labels, validation.images % 7)


def test_bad_requests_are_sentences(problem):
  variables, x = problem
  scheme = lcode.make_scheme(lcode.Code(2, 1), apply)
  with pytest.raises(lcode.InputError, match='k=70 is larger than the split of 60'):
    lcode.fit(lcode.make_scheme(lcode.Code(70, 1), apply), variables, x)
  with pytest.raises(lcode.InputError, match='distil, distil_shifted, features, onecycle'):
    lcode.fit(scheme, variables, x, recipe='slow')
  with pytest.raises(lcode.InputError, match='599 labels for 600 queries'):
    lcode.fit(scheme, variables, x, np.zeros(599, int))
  with pytest.raises(lcode.InputError, match='validation: 3 labels for 4 queries'):
    lcode.fit(scheme, variables, x, validation=(x[:4], np.zeros(3, int)))
  with pytest.raises(lcode.InputError, match='too few'):
    lcode.fit(scheme, variables, x[:1])
  with pytest.raises(lcode.InputError, match='60 of 60 validation queries are not finite'):
    lcode.fit(scheme, variables, np.where(np.arange(5) == 2, np.nan, x), epochs=1)


def test_only_the_named_parts_are_trained(problem):
  variables, x = problem
  scheme = lcode.make_scheme(lcode.Code(2, 1), apply, parity_model=from_module(MLP(3, (4,))))
  key = jax.random.key(seed_of(3, INIT))
  start, _ = jax.jit(scheme.init, static_argnums=2)(key, jnp.asarray(x[:2]), 3)
  fitted = lcode.fit(scheme, variables, x, epochs=2, seed=3, train_parts=('decoder',))
  for part in ('encoder', 'parity_model', 'decoder'):
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), start[part], fitted.params[part])
    assert all(jax.tree.leaves(same)) == (part != 'decoder'), part
  moments = [leaf.size for leaf in jax.tree.leaves(fitted.result.state.opt_state) if leaf.ndim]
  assert sum(moments) == 2 * sum(leaf.size for leaf in jax.tree.leaves(start['decoder']))


def test_a_parity_model_learns_the_sum(rng):
  """ParM over a linear F: a linear parity model is F itself, found from fresh weights."""
  weights = rng.normal(size=(5, 3)).astype('f4')
  x = rng.normal(size=(800, 5)).astype('f4')
  scheme = lcode.make_scheme(lcode.Code(2, 2), lambda v, x: x @ v, 'addition', 'subtraction',
                             from_module(MLP(3, ())))
  recipe = lcode.Recipe(lambda steps: optax.adam(optax.cosine_decay_schedule(0.05, steps)), lambda k: 32, {'': 30})
  fitted = lcode.fit(scheme, weights, x, loss='mse_base', recipe=recipe)
  for j in ('0', '1'):
    np.testing.assert_allclose(fitted.params['parity_model'][j]['Dense_0']['kernel'], weights, atol=0.03)
  assert fitted.result.history[-1]['validation_relative_error'] < 0.05


def test_a_parity_model_that_starts_from_f_leaves_fs_arrays(problem):
  _, x = problem
  model = MLP(3, (4,))
  variables = jax.tree.map(jnp.asarray, model.init(jax.random.key(0), x[:1]))
  scheme = lcode.make_scheme(lcode.Code(2, 1), lambda v, x: model.apply(v, x), 'addition', 'subtraction',
                             from_module(model, start_from_base=True))
  before = jax.device_get(variables)
  fitted = lcode.fit(scheme, variables, x, loss='mse_base', epochs=2)
  jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(variables))
  changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before['params'], fitted.params['parity_model']['0'])
  assert all(jax.tree.leaves(changed))


def test_smoothing_is_chosen_on_the_validation_groups(problem):
  variables, x = problem
  scheme = lcode.make_scheme(lcode.Code(3, 1), apply, 'spline', 'spline')
  lists = {part: [{'log_lambda': np.float32(v)} for v in (-6.0, -2.0, 0.0)] for part in ('encoder', 'decoder')}
  scheme = scheme._replace(candidates=lists)
  fitted = lcode.fit(scheme, variables, x[:270], validation=(x[270:360], None), loss='mse_base')
  own = np.asarray(apply(variables, x[270:360])).reshape(30, 3, 3)
  losses = {}
  for e, d in itertools.product(lists['encoder'], lists['decoder']):
    params = {'encoder': e, 'parity_model': {}, 'decoder': d}
    codec = lcode.make_codec(scheme, params)
    outputs = apply(variables, codec.encode(x[270:360].reshape(30, 3, 5)))
    losses[float(e['log_lambda']), float(d['log_lambda'])] = np.mean(
        [((codec.decode(outputs, available) - own)**2).sum() for available in ~np.eye(4, dtype=bool)])
  best = min(losses, key=losses.get)
  assert len(set(losses.values())) == 9
  assert (fitted.params['encoder']['log_lambda'], fitted.params['decoder']['log_lambda']) == best
  assert int(fitted.result.state.step) == 0


def test_each_step_samples_its_ownpatterns_of(problem):
  variables, x = problem
  code = lcode.Code(4, 3)
  scheme = lcode.make_scheme(code, apply)
  sample, validated = patterns_of(scheme, 5, 1)
  listed = set(map(tuple, lcode.every_pattern(code).tolist()))
  drawn = sample(0, 40)
  assert drawn.shape == (40, 5, 7) and validated.shape == (20, 7)
  for step in drawn:
    assert len({tuple(row) for row in step.tolist()}) == 5 and {tuple(row) for row in step.tolist()} <= listed
  assert len({step.tobytes() for step in drawn}) > 30
  np.testing.assert_array_equal(drawn, sample(0, 40))
  assert not np.array_equal(drawn, sample(1, 40))
  hits = sum(sample(epoch, 200).sum((0, 1)) for epoch in range(5)) / (5 * 200 * 5)
  expected = np.mean(sorted(listed), axis=0)
  np.testing.assert_allclose(hits, expected, atol=0.03)
  assert patterns_of(scheme, None, 0)[0] is None  # 60 in all are few enough to take each time
  more = patterns_of(lcode.make_scheme(lcode.Code(40, 3), apply), 4, 0)[0](0, 2)  # too many to list
  assert more.shape == (2, 4, 43) and (~more[..., :40]).any(-1).all()


def test_a_run_with_sampled_scenarios_is_the_same_on_several_devices(problem):
  variables, x = problem
  scheme = lcode.make_scheme(lcode.Code(3, 2), apply)
  runs = [lcode.fit(scheme, variables, x, epochs=2, batch_size=32, scenarios=3, seed=2, devices=jax.devices()[:count])
          for count in (1, 4)]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), *(run.params for run in runs))
