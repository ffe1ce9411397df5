"""Codes over one's own function and arrays, as README shows it."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode import fitting, splits
from lcode.data import make_normalise, SPECS


def apply(variables, x):
  return jnp.tanh(x @ variables['w1']) @ variables['w2']


@pytest.fixture
def problem(rng):
  variables = {'w1': rng.normal(size=(5, 16)).astype('f4') / 2, 'w2': rng.normal(size=(16, 3)).astype('f4')}
  return variables, rng.normal(size=(600, 5)).astype('f4')


def test_readmes_example_runs_as_it_stands(problem):
  blocks = re.findall(r'```python\n(.*?)```', (Path(__file__).parent.parent / 'README.md').read_text(), re.DOTALL)
  variables, x_train = problem
  names = {'apply': apply, 'variables': variables, 'x_train': x_train, 'x': x_train[:8].reshape(4, 2, 5)}
  exec(blocks[0], names)
  assert names['answers'].shape == (4, 2, 3)
  direct = apply(variables, names['x'])
  np.testing.assert_allclose(names['answers'][:, 0], direct[:, 0], rtol=1e-4, atol=1e-5)  # arrived: passed on
  assert np.isfinite(names['answers']).all()


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
  counted = scheme._replace(decode=lambda *args: (traces.append(1), scheme.decode(*args))[1])
  params, _ = scheme.init(jax.random.key(0), jnp.asarray(x[:3]), 3)
  codec = lcode.make_codec(counted, params)
  groups = x[:24].reshape(8, 3, 5)
  for group, parities in zip(groups, codec.encode(groups)):
    np.testing.assert_allclose(parities, scheme.encode(params, group), rtol=1e-5, atol=1e-7)
  outputs = rng.normal(size=(8, 5, 3)).astype('f4')
  scenarios = lcode.every_scenario(lcode.Code(3, 2))
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
  found = splits.apply_in_batches(flat, weights, images, preprocess, batch_size=5)
  np.testing.assert_allclose(found, images.reshape(23, 4) / 255 @ weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('count, held_out', [(20, 2), (101, 11), (100_000, 5_000)])
def test_without_a_validation_split_the_last_tenth_is_held_out(count, held_out):
  images = np.arange(count)
  training, validation = fitting.split_arrays(images, images % 7, None)
  assert len(validation) == held_out
  np.testing.assert_array_equal(np.concatenate([training.images, validation.images]), images)
  np.testing.assert_array_equal(validation.labels, validation.images % 7)


def test_bad_requests_are_sentences(problem):
  variables, x = problem
  scheme = lcode.make_scheme(lcode.Code(2, 1), apply)
  with pytest.raises(lcode.InputError, match='k=70 is larger than the split of 60'):
    lcode.fit(lcode.make_scheme(lcode.Code(70, 1), apply), variables, x)
  with pytest.raises(lcode.InputError, match='distil, onecycle'):
    lcode.fit(scheme, variables, x, recipe='slow')
  with pytest.raises(lcode.InputError, match='599 labels for 600 queries'):
    lcode.fit(scheme, variables, x, np.zeros(599, int))
  with pytest.raises(lcode.InputError, match='validation: 3 labels for 4 queries'):
    lcode.fit(scheme, variables, x, validation=(x[:4], np.zeros(3, int)))
  with pytest.raises(lcode.InputError, match='too few'):
    lcode.fit(scheme, variables, x[:1])
  with pytest.raises(lcode.DivergedError, match='not finite at step 1: training stopped, nothing was saved'):
    lcode.fit(scheme, variables, np.where(np.arange(5) == 2, np.nan, x), epochs=1)
