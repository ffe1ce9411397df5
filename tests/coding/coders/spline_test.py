"""Smoothing splines against SciPy's, NumPy's line, and themselves with fewer knots."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest
from scipy.interpolate import CubicSpline, make_smoothing_spline

from lcode.coding.code import Code
from lcode.coding.coders.spline import CANDIDATES, smoothing_weights
from lcode.coding.scheme import make_scheme
from lcode.errors import InputError

ACCURACY = 5e-6  # of a weight in float32, up to 20 knots and any lambda; weights here are at most about 2
TARGETS = np.cos((2 * np.arange(5) + 1) * np.pi / 10)


def workers(n):
  return np.cos(np.arange(n) * np.pi / (n - 1))  # descending


def compiled(targets, knots):
  """(available bool[n], log_lambda) -> f32[t, n]."""
  run = jax.jit(partial(smoothing_weights, targets, knots))
  return lambda available, log_lambda: np.asarray(run(available, np.float32(log_lambda)))


def straight_beyond(spline, targets, knots):
  """A spline read at the targets, continued by its tangent outside the knots (SciPy continues the cubic)."""
  inside = np.clip(targets, knots.min(), knots.max())
  return spline(inside) + spline(inside, 1) * (targets - inside)


def scipys(targets, knots, log_lambda):
  """The weights, one knot's unit vector after the other: f64[t, n]."""
  ascending = np.argsort(knots)
  return np.stack([straight_beyond(make_smoothing_spline(knots[ascending], unit[ascending], lam=10.0**log_lambda),
                                   targets, knots) for unit in np.eye(len(knots))], 1)


@pytest.mark.parametrize('n', [5, 8, 20])
def test_weights_are_those_of_scipys_smoothing_spline(n):
  targets = np.concatenate([TARGETS, workers(n)[:2]] + ([[-1.3, 1.2]] if n < 20 else []))  # further out they are large
  run = compiled(targets, workers(n))
  for log_lambda in (-8, -6, -4, -2.5, -1, 0, 1, 3):
    expected = scipys(targets, workers(n), log_lambda)
    scale = np.maximum(np.abs(expected).max(1, keepdims=True), 1)
    assert (np.abs(run(np.ones(n, bool), log_lambda) - expected) / scale).max() < ACCURACY


def test_a_knot_that_is_missing_is_as_if_it_were_not_there(rng):
  knots = workers(8)
  y = rng.normal(size=8)
  run = compiled(TARGETS, knots)
  for available in map(np.array, itertools.product([True, False], repeat=8)):
    log_lambda = rng.uniform(-6, 1)
    weights = run(available, log_lambda)
    assert (weights[:, ~available] == 0).all()
    if available.sum() >= 5:
      spline = make_smoothing_spline(knots[available][::-1], y[available][::-1], lam=10.0**log_lambda)
      expected = straight_beyond(spline, TARGETS, knots[available])
      largest = np.abs(weights).sum(1).max()  # where the outer knots are missing the spline is read outside
      np.testing.assert_allclose(weights @ y, expected, atol=ACCURACY * (1 + largest), rtol=0)


@pytest.mark.parametrize('there', [(0, 5), (1, 2, 4)])
def test_fewer_knots_of_the_same_function(there):
  knots, there = workers(6), list(there)
  for log_lambda in (-6, -1, 1):
    weights = compiled(TARGETS, knots)(np.isin(np.arange(6), there), log_lambda)
    alone = compiled(TARGETS, knots[there])(np.ones(len(there), bool), log_lambda)
    np.testing.assert_allclose(weights[:, there], alone, atol=ACCURACY * max(1, np.abs(alone).max()), rtol=0)


@pytest.mark.parametrize('n', [3, 8, 20])
def test_from_interpolation_to_the_line_of_least_squares(n):
  knots = workers(n)
  run = compiled(TARGETS, knots)
  natural = CubicSpline(knots[::-1], np.eye(n)[::-1], bc_type='natural')(TARGETS)
  for log_lambda in (-12, -30, -np.inf):
    np.testing.assert_allclose(run(np.ones(n, bool), log_lambda), natural, atol=ACCURACY, rtol=0)
  line = np.stack([np.polyval(np.polyfit(knots, unit, 1), TARGETS) for unit in np.eye(n)], 1)
  for log_lambda in (8, 20, 30):
    np.testing.assert_allclose(run(np.ones(n, bool), log_lambda), line, atol=ACCURACY, rtol=0)


def test_knots_in_any_order(rng):
  mixed = rng.permutation(7)
  available = np.arange(7) != 3
  weights = compiled(TARGETS, workers(7))(available, -2)
  np.testing.assert_allclose(compiled(TARGETS, workers(7)[mixed])(available[mixed], -2), weights[:, mixed],
                             atol=ACCURACY, rtol=0)


def params_of(encoder=-6.0, decoder=-3.0):
  return {'encoder': {'log_lambda': np.float32(encoder)}, 'parity_model': {},
          'decoder': {'log_lambda': np.float32(decoder)}}


def test_lines_are_reproduced_whatever_is_missing():
  """With one answer, a constant; with none, zeros and not NaN."""
  k, code = 4, Code(4, 3)
  scheme = make_scheme(code, np.tanh, 'spline', 'spline')
  data = np.cos((2 * np.arange(k) + 1) * np.pi / (2 * k))[:, None]
  slope, height = np.array([[2.0, -1.0, 0.0]]), np.array([[0.5, 3.0, -2.0]])
  outputs = (slope * workers(code.n)[:, None] + height).astype('f4')
  patterns = np.array(list(itertools.product([True, False], repeat=code.n)))
  decode = jax.jit(jax.vmap(lambda params, available: scheme.decode(params, outputs, available), (None, 0)))
  for log_lambda in (-8, -3, 1):
    for available, got in zip(patterns, np.asarray(decode(params_of(decoder=log_lambda), patterns))):
      expected = slope * data + height
      if available.sum() < 2:
        expected = np.broadcast_to(outputs[available].sum(0), expected.shape)
      np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_two_points_give_the_line_one_a_constant(rng):
  knots, y = workers(6), rng.normal(size=6)
  run = compiled(TARGETS, knots)
  for pair in map(list, itertools.combinations(range(6), 2)):
    weights = run(np.isin(np.arange(6), pair), -3)
    expected = np.polyval(np.polyfit(knots[pair], y[pair], 1), TARGETS)
    np.testing.assert_allclose(weights @ y, expected, rtol=1e-5, atol=1e-5 * (1 + np.abs(weights).max()))
  for i in range(6):
    np.testing.assert_array_equal(run(np.arange(6) == i, -3), np.broadcast_to(np.eye(6)[i], (5, 6)))


def test_encoder_and_decoder_read_where_they_should(rng):
  """The encoder from data to workers' nodes, the decoder back, each with its own lambda."""
  k, n = 6, 9
  scheme = make_scheme(Code(k, n - k), np.tanh, 'spline', 'spline')
  assert not scheme.systematic
  data, params = np.cos((2 * np.arange(k) + 1) * np.pi / (2 * k)), params_of(-2.0, -1.0)
  x, outputs, available = rng.normal(size=(k, 2, 2)), rng.normal(size=(n, 3)), np.arange(n) != 4
  coded = jax.jit(scheme.encode)(params, x.astype('f4'))
  np.testing.assert_allclose(coded, np.tensordot(scipys(workers(n), data, -2), x, 1), rtol=1e-4, atol=2e-5)
  expected = scipys(data, workers(n)[available], -1) @ outputs[available]
  np.testing.assert_allclose(jax.jit(scheme.decode)(params, outputs.astype('f4'), available), expected, atol=2e-5)
  assert [choice['log_lambda'] for choice in scheme.candidates['decoder']] == [np.float32(c) for c in CANDIDATES]
  start, _ = jax.eval_shape(lambda key: scheme.init(key, x.astype('f4'), 3), jax.random.key(0))
  names = {part: list(start[part]) for part in start}
  assert names == {'encoder': ['log_lambda'], 'parity_model': [], 'decoder': ['log_lambda']}


@pytest.mark.parametrize('encoder, decoder', [('spline', 'spline'), ('spline', 'mlp'), ('mlp', 'spline')])
def test_one_query_makes_no_line(encoder, decoder):
  with pytest.raises(InputError, match='k=1 .*at least 2'):
    make_scheme(Code(1, 3), np.tanh, encoder, decoder)
