"""The code of shared features against loops in NumPy, closed forms, and the paper's encoder's work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode.coding.code import Code
from lcode.coding.coders.features import (FeaturesDecoder, FeaturesEncoder, feature_weights, multiply_adds, widths,
                                          windows)
from lcode.coding.coders.linear import parity_weights
from lcode.coding.coders.mlp import MLPEncoder
from lcode.coding.costs import cost
from lcode.coding.scheme import make_scheme
from lcode.errors import InputError
from lcode.training.fit import fit


def linear(variables, x):
  return x.reshape(len(x), -1) @ variables


def random_params(module, rng, *args):
  shapes = jax.eval_shape(module.init, jax.random.key(0), *args)['params']
  return jax.tree.map(lambda w: rng.normal(size=w.shape).astype('f4') / np.sqrt(w.shape[0]), shapes)


def dense(params, name, x):
  return x @ params[name]['kernel'] + params[name]['bias']


def windows_by_loops(x):
  b, height, width, channels = x.shape
  padded = np.zeros((b, height + 4, width + 4, channels))
  padded[:, :height, :width] = x
  rows = []
  for i in range(0, height, 2):
    # By 2x2 blocks, these row by row, then the pixels of a block row by row.
    rows.append([np.concatenate([padded[:, i + a:i + a + 2, j + c:j + c + 2].reshape(b, -1) for a in (0, 2)
                                 for c in (0, 2)], -1) for j in range(0, width, 2)])
  return np.moveaxis(np.array(rows), 2, 0)


@pytest.mark.parametrize('shape', [(28, 28, 1), (7, 5, 3), (1, 2, 1)])
def test_windows_are_those_of_a_loop(shape, rng):
  x = rng.normal(size=(2, *shape)).astype('f4')
  np.testing.assert_array_equal(windows(jnp.asarray(x)), windows_by_loops(x).astype('f4'))


@pytest.mark.parametrize('shape, k, r', [((28, 28, 1), 2, 1), ((9, 6, 2), 3, 2), ((8, 8, 1), 1, 1), ((30,), 2, 3),
                                         ((5, 4), 5, 1), ((3, 2, 2, 2), 2, 1)])
def test_without_painting_a_parity_is_the_weighted_sum(shape, k, r, rng):
  encoder, x = FeaturesEncoder(Code(k, r)), rng.normal(size=(k, *shape)).astype('f4')
  params = random_params(encoder, rng, x)
  params['paint'] = jax.tree.map(jnp.zeros_like, params['paint'])
  parities = jax.jit(encoder.apply)({'params': params}, x)
  assert parities.shape == (r, *shape)
  np.testing.assert_allclose(parities, np.tensordot(parity_weights(Code(k, r)), x, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('shape, k, r', [((9, 6, 2), 3, 2), ((5, 4), 2, 2)])
def test_what_is_painted_is_that_of_a_loop(shape, k, r, rng):
  code, x = Code(k, r), rng.normal(size=(k, *shape)).astype('f4')
  encoder = FeaturesEncoder(code)
  params = random_params(encoder, rng, x)
  expected = np.tensordot(parity_weights(code), x, 1)
  for c in range(shape[2] if len(shape) == 3 else 1):  # each colour for itself, by the same weights
    features = []
    for query in x:
      if len(shape) == 3:
        h = query[None, ..., c:c + 1]
        for name in ('windows_0', 'windows_1'):
          h = np.maximum(dense(params, name, windows_by_loops(h)), 0)
      else:
        h = np.maximum(dense(params, 'wide', query.reshape(1, -1)), 0)
      features.append(np.maximum(dense(params, 'features', h.reshape(-1)), 0))
    h = np.concatenate([sum(w * f for w, f in zip(row, features)) for row in feature_weights(code)])
    painted = dense(params, 'paint', np.maximum(dense(params, 'hidden', h), 0)).reshape(r, -1)
    if len(shape) == 3:
      expected[..., c] += painted.reshape(r, *shape[:2])
    else:
      expected += painted.reshape(r, *shape)
  np.testing.assert_allclose(jax.jit(encoder.apply)({'params': params}, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('k, r', [(1, 1), (2, 1), (4, 2), (5, 3), (8, 3), (2, 4)])
def test_features_follow_from_the_first_parities(k, r):
  weights = feature_weights(Code(k, r))
  np.testing.assert_allclose(weights[0], 1 / np.sqrt(k))
  np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1)
  missing = min(k, r)
  for first in range(k - missing + 1):
    assert np.linalg.matrix_rank(weights[:missing, first:first + missing]) == missing


def test_the_decoder_solves_for_what_is_missing(rng):
  """Where parities' features are the sums of the queries' features, the answer is that to the features missing."""
  code = Code(4, 2)
  decoder, outputs = FeaturesDecoder(code), rng.normal(size=(6, 3)).astype('f4')
  available = np.array([False, True, False, True, True, True])
  params = random_params(decoder, rng, outputs, available)
  weights = feature_weights(code)
  erased = np.where(available[:, None], outputs, 0)
  shares = np.exp(erased) / np.exp(erased).sum(-1, keepdims=True) * available[:, None]
  seen = np.concatenate([erased / 8, shares], -1)
  own, told = (dense(params, f'{name}_1', np.maximum(dense(params, f'{name}_0', seen), 0))
               for name in ('own', 'parity'))
  # Two equations, two unknowns: by Cramer's rule.
  rest = told[4:] - weights[:, [1, 3]] @ own[[1, 3]]
  (a, b), (c, d) = weights[:, [0, 2]]
  solved = np.zeros((4, own.shape[1]))
  solved[0], solved[2] = (d * rest[0] - b * rest[1]) / (a * d - b * c), (a * rest[1] - c * rest[0]) / (a * d - b * c)
  answers = jax.jit(decoder.apply)({'params': params}, erased, available)
  for i in (0, 2):
    h = np.concatenate([solved[i], seen[4:].reshape(-1), np.eye(4)[i], available])
    h = np.maximum(dense(params, 'hidden_1', np.maximum(dense(params, 'hidden_0', h), 0)), 0)
    np.testing.assert_allclose(answers[i], dense(params, 'out', h), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('shape, k, r', [((28, 28, 1), 2, 1), ((28, 28, 1), 1, 1), ((28, 28, 1), 4, 2),
                                         ((32, 32, 3), 2, 1), ((8, 8, 1), 2, 1), ((8, 8, 1), 10, 1), ((64,), 2, 1)])
def test_a_parity_takes_no_more_work_than_the_papers(shape, k, r):
  code, x = Code(k, r), jnp.zeros((k, *shape))

  def counted(encoder):
    params = jax.eval_shape(encoder.init, jax.random.key(0), x)
    return cost(encoder.apply, params, x)['flops'] / 2

  ours = counted(FeaturesEncoder(code))
  assert ours <= counted(MLPEncoder(code))
  sides, channels = (shape[:2], shape[2]) if len(shape) == 3 else (shape, 1)
  assert ours == pytest.approx(channels * multiply_adds(sides, code, widths(sides, code)), rel=0.15)


def test_what_it_does_not_take_is_a_sentence():
  scheme = make_scheme(Code(2, 1), linear, 'features', 'features')
  params = jax.eval_shape(lambda key: scheme.init(key, np.zeros((2, 8, 8, 1), 'f4'), 3), jax.random.key(0))[0]
  with pytest.raises(InputError, match=r'FeaturesEncoder cannot be run on float32\[2, 9, 9, 1\]'):
    jax.eval_shape(scheme.encode, params, np.zeros((2, 9, 9, 1), 'f4'))
  with pytest.raises(InputError, match='FeaturesEncoder mixes queries.*uint8.*float32'):
    jax.eval_shape(scheme.encode, params, np.zeros((2, 8, 8, 1), 'u1'))
  with pytest.raises(InputError, match='FeaturesDecoder takes answers to the queries themselves'):
    make_scheme(Code(2, 1), linear, 'approxifer', 'features')


def test_it_learns_through_f(rng):
  """Four kinds of noisy images, of which F says how near they are: what is missing of three follows."""
  kinds = rng.random((4, 8, 8, 1), np.float32)
  x = kinds[rng.integers(4, size=1200)] + 0.1 * rng.normal(size=(1200, 8, 8, 1)).astype('f4')
  nearest = jnp.asarray(kinds.reshape(4, -1).T)

  def base_apply(centres, x):
    return -jnp.square(x.reshape(len(x), -1, 1) - centres[None]).sum(1)

  scheme = make_scheme(Code(3, 1), base_apply, 'features', 'features')
  fitted = fit(scheme, nearest, x, recipe='features', epochs=12, devices=jax.devices()[:1])
  assert fitted.result.best.value > 0.9
