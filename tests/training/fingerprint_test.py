"""A store is resumed by the training that it holds, and by no other."""

import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lcode

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 5)).astype('f4')
W = RNG.normal(size=(5, 3)).astype('f4')


def apply(variables, x):
  return jnp.tanh(x @ variables)


def other_apply(variables, x):
  return jnp.sin(x @ variables)


BASE = {'scheme': lambda: lcode.make_scheme(lcode.Code(2, 1), apply), 'variables': W, 'x': X, 'labels': None,
        'epochs': 3, 'batch_size': 8}


def run(store, **changes):
  arguments = BASE | changes
  scheme, variables, x, labels = (arguments.pop(name) for name in ('scheme', 'variables', 'x', 'labels'))
  return lcode.fit(scheme(), variables, x, labels, store=store, **arguments)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  folder = tmp_path_factory.mktemp('store')
  run(folder, max_steps=5)
  return folder


@pytest.mark.parametrize('changes, field', [
    ({'variables': W + 1}, 'base_variables'), ({'scheme': lambda: lcode.make_scheme(lcode.Code(2, 1), other_apply)},
                                               'base_outputs'),
    ({'x': X[::-1].copy()}, 'queries'), ({'labels': np.zeros(80, int)}, 'labels'), ({'seed': 1}, 'seed'),
    ({'loss': 'mse_base'}, 'loss'), ({'epochs': 4}, 'epochs'), ({'batch_size': 4}, 'batch_size'),
    ({'recipe': 'paper'}, 'optimizer'), ({'train_parts': ('decoder',)}, 'train_parts'), ({'scenarios': 1}, 'scenarios'),
    ({'scheme': lambda: lcode.make_scheme(lcode.Code(4, 1), apply)}, 'code'),
    ({'scheme': lambda: lcode.make_scheme(lcode.Code(2, 1), apply, 'addition')}, 'parameters|parities|train_parts'),
    ({'preprocess': lambda x: 2 * jnp.asarray(x)}, 'base_outputs|parities')])
def test_another_training_is_refused_by_what_differs(store, changes, field):
  before = {path: path.read_bytes() for path in store.rglob('*') if path.is_file()}
  with pytest.raises(lcode.InputError, match=f'holds a training with ({field})='):
    run(store, **changes)
  assert {path: path.read_bytes() for path in store.rglob('*') if path.is_file()} == before


def test_the_same_training_is_resumed_and_ends_as_if_never_stopped(store, tmp_path):
  (tmp_path / 'copy').symlink_to(store)
  resumed = run(str(tmp_path / 'copy'))
  whole = run(None)
  assert int(resumed.result.state.step) == int(whole.result.state.step) == 15
  for a, b in zip(*(np.concatenate([np.ravel(leaf) for leaf in [f.params['encoder']['hidden']['kernel']]])
                    for f in (resumed, whole))):
    assert a == b


def test_encoders_without_parameters_are_told_apart(tmp_path):
  def parts(encoder):
    return {'scheme': lambda: lcode.make_scheme(lcode.Code(3, 1), apply, encoder, 'mlp')}
  run(tmp_path, **parts('addition'), max_steps=1)
  with pytest.raises(lcode.InputError, match='holds a training with parities='):
    run(tmp_path, **parts('berrut'), max_steps=1)


def test_a_store_of_before_is_adopted(tmp_path):
  run(tmp_path, max_steps=1)
  (tmp_path / 'fingerprint.json').unlink()
  assert int(run(tmp_path).result.state.step) == 15
  assert json.loads((tmp_path / 'fingerprint.json').read_text())['seed'] == 0
  (tmp_path / 'fingerprint.json').write_text('{')
  with pytest.raises(lcode.InputError, match='fingerprint.json cannot be read'):
    run(tmp_path)


def test_a_recipe_of_ones_own_resumes_too(tmp_path):
  recipe = lcode.Recipe(lambda steps: optax.sgd(0.1), lambda k: 8, {'': 2})
  for _ in range(2):
    fitted = run(tmp_path, recipe=recipe)
  assert int(fitted.result.state.step) == 15


def test_a_recipe_of_ones_own_is_known_by_what_it_does(tmp_path):
  def own(rate):
    return lcode.Recipe(lambda steps: optax.adam(optax.linear_schedule(rate, 0, steps)), lambda k: 8, {'': 3})

  run(tmp_path / 'a', recipe=own(1e-3), max_steps=5)
  run(tmp_path / 'a', recipe=own(1e-3))  # another function that does the same
  with pytest.raises(lcode.InputError, match='holds a training with optimizer='):
    run(tmp_path / 'a', recipe=own(2e-3))
  run(tmp_path / 'b', recipe='onecycle', max_steps=5)
  run(tmp_path / 'b', recipe=None)  # the same training: it is this scheme's own recipe


def test_an_f_that_differs_off_the_first_group_is_another(tmp_path):
  def other(variables, x):
    return jnp.where(jnp.abs(x.sum() - X[:2].sum()) < 1e-3, 1.0, 3.0) * apply(variables, x)

  run(tmp_path, max_steps=5)
  with pytest.raises(lcode.InputError, match='holds a training with .*_answers='):
    run(tmp_path, scheme=lambda: lcode.make_scheme(lcode.Code(2, 1), other))


@pytest.mark.parametrize('content', ['[1]', 'null', '3', 'no json'])
def test_a_damaged_fingerprint_is_a_sentence(tmp_path, content):
  run(tmp_path, max_steps=5)
  (tmp_path / 'fingerprint.json').write_text(content)
  with pytest.raises(lcode.InputError, match='fingerprint.json cannot be read'):
    run(tmp_path)
