"""Objectives: modules with statistics and dropout of their own, and evaluation within its memory."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lcode import data
from lcode.coding.code import Code, every_pattern
from lcode.coding.parity_model import from_module
from lcode.coding.scheme import make_scheme
from lcode.errors import InputError
from lcode.training.batched import make_evaluator
from lcode.training.devices import replicate, run_on, split_plan
from lcode.training.losses import LOSSES
from lcode.training.step import (Batch, DECODED_AT_ONCE, init_state, make_base_objective, make_code_objective,
                                 make_fetch, make_planned_step, make_train_step, Outcome)

SHAPE, C = (4, 4, 1), 5


def base_apply(variables, x):
  return jnp.tanh(x.reshape(len(x), -1) @ variables) * 3


def normalise(x):
  return x.astype(jnp.float32) / 255


@pytest.fixture
def arrays(rng):
  images = rng.integers(0, 256, size=(50, *SHAPE), dtype=np.uint8)
  variables = rng.normal(size=(16, C)).astype('f4')
  outputs = np.asarray(base_apply(variables, jnp.asarray(normalise(images))))
  return {'images': images, 'labels': rng.integers(C, size=50).astype('i4'), 'base_outputs': outputs}, variables


class Normed(nn.Module):
  """Batch statistics that know nothing of devices, and dropout where it is asked for."""

  rate: float = 0.0
  normed: bool = True

  @nn.compact
  def __call__(self, x, train: bool = False):
    x = x.reshape(len(x), -1)
    if self.normed:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    return nn.Dense(C)(nn.Dropout(self.rate, deterministic=not train)(x))


def parity_steps(module, arrays, count, steps):
  """SGD steps of a parity model on `count` devices: the states after each, the losses, and the validation counts."""
  code, devices = Code(2, 1), jax.devices()[:count]
  split, variables = arrays
  scheme = make_scheme(code, base_apply, 'addition', 'subtraction', from_module(module))
  params, model_state = jax.jit(scheme.init, static_argnums=2)(jax.random.key(0), jnp.zeros((2, *SHAPE)), C)
  state = init_state(params, model_state, optax.sgd(0.01), seed=3)

  def objective(axis):
    return make_code_objective(scheme, LOSSES['mse_base'], every_pattern(code), axis)

  fetch = make_fetch(normalise, False)
  fn = run_on(devices, lambda axis: make_planned_step(make_train_step(objective(axis), optax.sgd(0.01), axis), fetch),
              4, split=3)
  state, variables, split = (replicate(tree, devices) for tree in (state, variables, split))
  plan = split_plan(data.plan_batches(np.arange(48), 2, 8), devices)
  states, actual = [], []
  for _ in range(steps):
    state, metrics = fn(state, variables, split, plan)
    states.append(jax.device_get((state.params, state.model_state)))
    actual.append(float(metrics['loss']))
  judge = make_evaluator(objective, fetch, split, variables, 2, devices)
  return states, actual, [judge(state.params, state.model_state) for _ in range(2)]


def test_devices_average_the_statistics_of_a_module_that_does_not_know_them(arrays):
  """The mean is then that of the whole batch; the variance the mean of the halves', each about its own mean."""
  parities = (arrays[0]['images'][:16].reshape(8, 2, 16) / 255).mean(1)  # the encoder's sum has weights of a half
  expected = {1: parities.var(0), 2: parities.reshape(2, 4, 16).var(1).mean(0)}
  for count in (1, 2):
    states, _, _ = parity_steps(Normed(), arrays, count, 1)
    actual = states[0][1]['0']['batch_stats']['BatchNorm_0']
    np.testing.assert_allclose(actual['mean'], 0.1 * parities.mean(0), rtol=1e-4)
    np.testing.assert_allclose(actual['var'], 0.9 + 0.1 * expected[count], rtol=1e-4)
  assert np.abs(expected[1] - expected[2]).max() > 0.01


def test_dropout_draws_anew_in_each_step_and_on_each_device_and_never_in_evaluation(arrays):
  actual = {count: parity_steps(Normed(0.5, False), arrays, count, 12) for count in (1, 2)}
  for states, losses, (counts, again) in actual.values():
    assert np.mean(losses[6:]) < np.mean(losses[:6])
    jax.tree.map(np.testing.assert_array_equal, counts, again)
  again = parity_steps(Normed(0.5, False), arrays, 1, 2)[0][1]
  jax.tree.map(np.testing.assert_array_equal, again, actual[1][0][1])  # it follows from the seed
  assert actual[1][1][0] != actual[2][1][0]


def test_a_steps_dropout_key_follows_from_run_step_and_device(arrays):
  """And is nobody's of augmentation."""
  seen = {}

  def objective(params, model_state, base_variables, batch, train, key):
    def note(data, step):
      seen.setdefault(tuple(data.tolist()), set()).add(int(step))
    jax.debug.callback(note, jax.random.key_data(key), base_variables)
    zero = jnp.float32(0) * sum(map(jnp.sum, jax.tree.leaves(params)))
    return Outcome(zero, jnp.float32(1), model_state, None)

  augmenting = set()
  for count in (1, 4):
    step = run_on(jax.devices()[:count], lambda axis: lambda state, number, batch: make_train_step(
        objective, optax.sgd(1.0), axis)(state, number, batch), 3, split=2)
    state = replicate(init_state({'w': jnp.zeros(1)}, {}, optax.sgd(1.0), seed=3), jax.devices()[:count])
    for number in range(3):
      state, _ = step(state, np.int32(number), np.zeros((count, 1), 'f4'))
  jax.effects_barrier()
  key = jax.random.key(3)
  for number in range(3):
    of_step = jax.random.fold_in(key, number)
    augmenting |= {tuple(np.asarray(jax.random.key_data(jax.random.fold_in(of_step, i))).tolist()) for i in range(8)}
  assert len(seen) == 3 * (1 + 4) and all(len(steps) == 1 for steps in seen.values())
  assert not augmenting & set(seen)


def test_a_base_model_with_dropout_trains(arrays):
  split = {**arrays[0], 'base_outputs': None}
  devices = jax.devices()[:2]
  module, tx = Normed(0.5), optax.sgd(0.1)
  variables = module.init(jax.random.key(0), jnp.zeros((1, *SHAPE)))
  state = init_state(variables['params'], {'batch_stats': variables['batch_stats']}, tx, 0)
  fn = run_on(devices, lambda axis: make_planned_step(make_train_step(make_base_objective(module), tx, axis),
                                                      make_fetch(normalise, False)), 4, split=3)
  state, split = replicate(state, devices), replicate(split, devices)
  plan = split_plan(data.plan_batches(np.arange(8), 1, 8), devices)
  actual = []
  for _ in range(10):
    state, metrics = fn(state, {}, split, plan)
    actual.append(float(metrics['loss']))
  assert np.mean(actual[5:]) < np.mean(actual[:5]) and len(set(actual)) == 10


def judged(code, arrays, at_once, monkeypatch, sets=None):
  """Counts of 16 groups where `at_once` numbers are decoded at once."""
  monkeypatch.setattr('lcode.training.step.DECODED_AT_ONCE', at_once)
  split, variables = arrays
  scheme = make_scheme(code, base_apply, 'addition', 'mlp')
  params, _ = jax.jit(scheme.init, static_argnums=2)(jax.random.key(0), jnp.zeros((code.k, *SHAPE)), C)
  objective = make_code_objective(scheme, LOSSES['kl_base'], every_pattern(code), sets=sets)
  batch = make_fetch(normalise, False)(jax.tree.map(jnp.asarray, split), np.arange(48).reshape(16, 3),
                                       np.arange(16) != 5)
  return jax.device_get(jax.jit(lambda *args: objective(*args, False))(params, {}, variables, batch))


def test_patterns_decoded_in_parts_count_as_all_at_once(arrays, monkeypatch):
  code = Code(3, 2)  # 12 patterns, of 16 * 5 * 5 numbers each
  sets = np.arange(24).reshape(2, 12) % 5 < 2
  whole = judged(code, arrays, 10**9, monkeypatch, sets)
  for at_once in (1, 5 * 400):  # one by one; and three times 4 of 5 that would go
    actual = judged(code, arrays, at_once, monkeypatch, sets)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, actual)
    for name in ('erased', 'reconstructed', 'degraded', 'available', 'clusters'):
      np.testing.assert_array_equal(getattr(whole.counts, name), getattr(actual.counts, name))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
               whole._replace(counts=None), judged(code, arrays, 7 * 400, monkeypatch)._replace(counts=None))


def test_what_is_decoded_at_once_keeps_evaluation_within_memory():
  """A (10, 4) code over 100 classes: 1,455 patterns of 256 groups, 1.5 GB of reconstructions alone."""
  code, classes, groups = Code(10, 4), 100, 256
  scheme = make_scheme(code, lambda variables, x: x @ variables, 'addition', 'mlp')
  f32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
  params, _ = jax.eval_shape(lambda: scheme.init(jax.random.key(0), jnp.zeros((10, 4)), classes))
  batch = Batch(f32((groups, 10, 4)), f32((groups, 10, classes)), jax.ShapeDtypeStruct((groups, 10), jnp.int32),
                jax.ShapeDtypeStruct((groups,), jnp.bool_))
  objective = make_code_objective(scheme, LOSSES['kl_base'], every_pattern(code), sets=np.ones((1, 1455), bool))
  compiled = jax.jit(lambda *args: objective(*args, False).counts).lower(params, {}, f32((4, classes)), batch).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 8 * 4 * DECODED_AT_ONCE < 4 * 256 * 1455 * 10 * 100


def test_patterns_and_sets_are_those_of_the_code():
  scheme = make_scheme(Code(2, 1), base_apply)
  fine = np.array([[True, False, True], [False, True, True]])
  for available, sets, words in ((np.ones((3, 4), bool), None, r'bool\[3, 4\] are no erasure patterns of a \(2, 1\)'),
                                 (np.ones((0, 3), bool), None, r'give bool\[s, 3\]'),
                                 (np.array([[2, 1, 3]]), None, r'int64\[1, 3\] are no erasure patterns'),  # indices
                                 ([['a', 'b', 'c']], None, 'are no erasure patterns'),
                                 (np.zeros((1, 3), bool), None, '3 of 3 units missing'),
                                 (np.array([[True, True, False]]), None, 'nothing to rebuild'),
                                 (fine, np.ones((1, 3)), 'not of the 2 patterns')):
    with pytest.raises(InputError, match=words):
      make_code_objective(scheme, LOSSES['kl_base'], available, sets=sets)
  objective = make_code_objective(scheme, LOSSES['kl_base'], fine)
  params, _ = scheme.init(jax.random.key(0), jnp.ones((2, *SHAPE)), C)
  batch = Batch(jnp.ones((1, 2, *SHAPE)), jnp.ones((1, 2, C)), jnp.zeros((1, 2), int), jnp.ones(1, bool),
                available=jnp.array([[2, 1, 3]]))
  with pytest.raises(InputError, match=r'int32\[1, 3\] of a batch are no patterns'):
    objective(params, {}, jnp.ones((16, C)), batch, True)
