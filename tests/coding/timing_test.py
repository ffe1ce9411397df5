"""What a group costs in time and bytes: bytes by counting, ratios of times from calls of known length."""

import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode.coding import timing
from lcode.coding.costs import wire_costs
from lcode.coding.parity_model import default_answer, narrow_students, students, tile_students
from lcode.coding.timing import extra_time, group_times
from lcode.errors import InputError
from lcode.models.mlp import MLP

SHAPE, C = (6, 6, 1), 3


def base_apply(variables, x):
  return jnp.tanh(x.reshape(len(x), -1) @ variables)


def made(k, r, *parts):
  import jax
  scheme = lcode.make_scheme(lcode.Code(k, r), base_apply, *parts)
  variables = jnp.ones((36, C))
  params, state = scheme.init(jax.random.key(0), jnp.ones((k, *SHAPE)), C, variables)
  return scheme, params, state, variables


@pytest.mark.parametrize('parts, k, r, out, back', [
    (('addition', 'subtraction'), 4, 2, 2 / 4, 2 / 4), (('approxifer', 'approxifer'), 4, 2, 2 / 4, 2 / 4),
    (('replication', 'replication'), 2, 4, 2, 2), (('bundle', 'bundle', students(MLP(C, (4,)))), 4, 2, 2, 2),
    (('mosaic', 'bundle', tile_students(MLP(C, (4,)), 4)), 4, 2, 2 / 4, 2),
    (('narrow', 'bundle', narrow_students(MLP(C, (4,)), 4)), 4, 2, 2 / 4, 2),
    (('replication', 'replication', default_answer()), 2, 2, 0, 0)])
def test_bytes_on_the_wire_are_those_of_what_is_sent(parts, k, r, out, back):
  costs = wire_costs(*made(k, r, *parts), SHAPE, C)
  assert (costs['wire_out'], costs['wire_back']) == (pytest.approx(out), pytest.approx(back))


@pytest.mark.parametrize('parts', [('addition', 'subtraction'), ('approxifer', 'approxifer'),
                                   ('bundle', 'bundle', students(MLP(C, (4,))))])
def test_times_follow_from_the_calls(parts, monkeypatch):
  """With a clock that advances by what each call is said to take."""
  scheme, params, state, variables = made(2, 1, *parts)
  lengths = {'base_k_inferences': 4.0, 'encode': 1.0, 'parity_inference': 6.0, 'decode': 0.5, 'base_inference': 3.0}
  calls = timing._calls

  def of_known_length(*arguments):
    real = calls(*arguments)
    for call in real.values():
      call()  # what they are made of fits together
    return {name: lambda name=name: clock.append(clock[-1] + lengths[name]) for name in real}

  clock = [0.0]
  monkeypatch.setattr(timing, '_calls', of_known_length)
  monkeypatch.setattr(timing.time, 'perf_counter', lambda: clock[-1])
  times = group_times(scheme, params, state, variables, SHAPE, (1, 3), rounds=2)
  assert set(times['groups']) == {'1', '3'} and times['platform'] == 'cpu'
  for name, part in times['groups']['3'].items():
    assert part['relative'] == pytest.approx(lengths[name] / 4) and part['microseconds'] == 1e6 * lengths[name]
    np.testing.assert_allclose(part['spread'], lengths[name] / 4)
  worker = 1.5 if scheme.systematic else 0.5
  assert extra_time(scheme, times) == pytest.approx({
      'frontend_time': 0.375, 'worker_time': worker, 'frontend_time_1': 0.375, 'worker_time_1': worker,
      'parity_time': 2.0, 'parity_time_1': 2.0})
  backup = scheme._replace(at_frontend=True, systematic=True)
  assert extra_time(backup, times)['frontend_time'] == pytest.approx(1.875)


def test_a_group_at_the_frontend_takes_no_dispatch():
  scheme, params, state, _ = made(2, 1, 'mosaic', 'bundle', tile_students(MLP(C, (4,)), 2))
  times = timing.host_times(scheme, params, state, SHAPE, C, 5)
  assert set(times) == {'encode', 'decode'}
  for part in times.values():
    assert 0 < part['microseconds'] < part['jitted_microseconds'] and part['relative'] < 1


def test_what_cannot_be_timed_is_a_sentence():
  scheme, params, state, variables = made(2, 1, 'addition', 'subtraction')
  for changes, words in (({'scheme': 3}, 'scheme=3 is no Scheme'), ({'query_shape': (0,)}, 'query_shape'),
                         ({'groups': (0,)}, 'groups=0'), ({'rounds': 0}, 'rounds=0')):
    arguments = {'scheme': scheme, 'params': params, 'model_state': state, 'base_variables': variables,
                 'query_shape': SHAPE} | changes
    with pytest.raises(InputError, match=words):
      group_times(**arguments)
