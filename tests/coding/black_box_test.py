"""An F that JAX cannot look into: the same answers and costs as the JAX function that it hides, as far as known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode.coding import timing
from lcode.coding.black_box import black_box_of, queries_asked, recorded_answers
from lcode.coding.costs import extra_work, group_costs
from lcode.coding.timing import extra_time, group_times
from lcode.errors import InputError
from lcode.models.mlp import MLP

SHAPE, C, K = (4, 3), 5, 3
WEIGHTS = np.random.default_rng(0).normal(size=(12, C)).astype('f4')
BUNDLE = ('bundle', 'bundle', lcode.students(MLP(C, (4,))))


def function(variables, x):
  return x.reshape(len(x), -1) @ variables


def host(x):
  assert isinstance(x, np.ndarray)
  return x.reshape(len(x), -1).astype('f8') @ WEIGHTS


def made(apply, r, *parts):
  scheme = lcode.make_scheme(lcode.Code(K, r), apply, *parts)
  return scheme, *scheme.init(jax.random.key(0), jnp.ones((K, *SHAPE)), C, WEIGHTS)


@pytest.mark.parametrize('parts', [('approxifer', 'approxifer'), ('spline', 'spline'), ('berrut', 'berrut'), BUNDLE])
def test_a_black_box_codes_as_the_function_that_it_hides(parts, rng):
  x = rng.normal(size=(4, K, *SHAPE)).astype('f4')
  replies = []
  for apply in (function, lcode.BlackBox(host)):
    scheme, params, state = made(apply, 2, *parts)
    codec = lcode.make_codec(scheme, params, state)
    replies.append(codec.infer(WEIGHTS, codec.encode(x)))
  np.testing.assert_allclose(*replies, rtol=1e-4, atol=1e-4)
  assert black_box_of(scheme.base_apply).answer is host and black_box_of(function) is None


@pytest.mark.parametrize('parts, r, asked', [
    (('approxifer', 'approxifer'), 2, K + 2), (('berrut', 'berrut'), 2, 2),
    (('replication', 'replication'), 2 * K, 2 * K), (BUNDLE, 2, 0)])
def test_work_beside_a_black_box(parts, r, asked):
  """With its multiply-adds that beside the function; without, what is asked of it alone."""
  counts = []
  box = lcode.BlackBox(lambda x: (counts.append(len(x)), host(x))[1])
  scheme, params, state = made(box, r, *parts)

  def infer(coded):
    return scheme.infer(params, state, None, coded)[0]

  coded = jax.vmap(scheme.encode, (None, 0))(params, jnp.ones((1, K, *SHAPE)))
  jax.eval_shape(infer, coded)  # F is asked what its answers look like
  counts.clear()
  jax.block_until_ready(infer(coded))
  assert queries_asked(infer, coded) == queries_asked(jax.jit(infer), coded) == sum(counts) == asked
  known = made(lcode.BlackBox(host, multiply_adds=12 * C), r, *parts)
  plain = extra_work(*_costs(made(function, r, *parts)))
  assert extra_work(*_costs(known)) == pytest.approx(plain, rel=1e-5)
  unknown = extra_work(*_costs((scheme, params, state)))
  assert unknown['worker_work'] == (pytest.approx(plain['worker_work']) if asked else None)
  assert unknown['frontend_work'] is None or plain['frontend_work'] == 0


def _costs(made):
  return made[0], group_costs(*made, WEIGHTS, SHAPE, C)


def test_recorded_answers_are_those_to_the_queries_that_were_recorded(rng):
  queries = rng.normal(size=(20, *SHAPE)).astype('f4')
  box = recorded_answers(queries, host(queries))
  chosen = jnp.asarray(queries)[jnp.asarray([3, 0, 19])]
  np.testing.assert_array_equal(jax.jit(box)({}, chosen), host(queries[[3, 0, 19]]).astype('f4'))
  assert np.isnan(box({}, 2 * chosen)).all()


@pytest.mark.parametrize('seconds', [None, 1e-3])
def test_recorded_answers_take_the_time_that_they_are_said_to(seconds, monkeypatch, rng):
  """Every call takes 6 ms; so F on 3 queries, a millisecond each, takes half of that for one group."""
  monkeypatch.setattr(timing, '_timed', lambda call, count: 6e-3)
  queries = rng.normal(size=(20, *SHAPE)).astype('f4')
  box = recorded_answers(queries, host(queries), seconds=seconds)
  copies = made(box, 2 * K, 'replication', 'replication')
  figures = extra_time(copies[0], group_times(*copies, None, SHAPE, (1,)))
  assert (figures['worker_time'], figures['parity_time']) == (2, 2 * K)
  assert figures['frontend_time'] == (seconds and pytest.approx(4))
  bundle = made(box, 2, *BUNDLE)
  figures = extra_time(bundle[0], group_times(*bundle, None, SHAPE, (1,)))
  assert figures['worker_time'] == (seconds and pytest.approx(2))
  assert figures['parity_time'] == (seconds and pytest.approx(6))


def test_a_black_box_is_timed_where_it_answers():
  asked = []
  box = lcode.BlackBox(lambda x: (asked.append(len(x)), host(x))[1])
  figures = extra_time(*_times(made(box, 1, *BUNDLE)))
  assert figures['worker_time'] > 0 and asked.count(4 * K) > 3 and asked.count(4) > 3


def _times(made):
  return made[0], group_times(*made, None, SHAPE, (1, 4), 3)


def test_several_devices_do_not_ask_a_black_box():
  scheme, params, state = made(lcode.BlackBox(host), 1, *BUNDLE)
  arrays, devices = lcode.data.Arrays(np.ones((80, *SHAPE), 'f4'), None), jax.devices()[:2]
  with pytest.raises(InputError, match='one device at a time can ask, not 2'):
    lcode.fit(scheme, {}, arrays.images, devices=devices)
  with pytest.raises(InputError, match='one device at a time can ask, not 2'):
    lcode.evaluate(scheme, params, state, {}, arrays, preprocess=jnp.asarray, loss='kl_base', devices=devices)


@pytest.mark.parametrize('make, words', [
    (lambda: lcode.BlackBox(3), 'answer=3 is no function'),
    (lambda: lcode.BlackBox(host, multiply_adds=0), 'multiply_adds=0 is not allowed'),
    (lambda: lcode.BlackBox(lambda x: x.sum()).answers(np.ones((3, 2))), r'black box returned an array of shape \[\]'),
    (lambda: lcode.BlackBox(lambda x: x.argmax(-1)).answers(np.ones((3, 2))), 'returned int64 numbers'),
    (lambda: recorded_answers(np.ones((3, 2)), np.ones((2, 2))), 'for 3 queries')])
def test_what_is_no_black_box_is_a_sentence(make, words):
  with pytest.raises(InputError, match=words):
    make()
