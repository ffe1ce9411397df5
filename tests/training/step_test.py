"""The training step: against NumPy, on one device and on many, a step at a time and several a call."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lcode import data
from lcode.coding.code import Code, every_pattern
from lcode.coding.scheme import make_scheme
from lcode.models.resnet import ResNet
from lcode.training.batched import make_evaluator
from lcode.training.devices import many_steps, replicate, run_on, split_plan
from lcode.training.losses import LOSSES
from lcode.training.metrics import summarise
from lcode.training.recipes import get_recipe
from lcode.training.step import (init_state, make_base_objective, make_code_objective, make_fetch, make_planned_step,
                                 make_train_step)

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


def make(code, loss='kl_base', tx=None):
  scheme = make_scheme(code, base_apply)
  shapes, _ = jax.eval_shape(lambda key: scheme.init(key, jnp.zeros((code.k, *SHAPE)), C), jax.random.key(0))
  rng = np.random.default_rng(5)
  params = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape) / np.sqrt(w.shape[0]), jnp.float32), shapes)
  tx = tx or get_recipe('paper').make_optimizer(10)
  objective = make_code_objective(scheme, LOSSES[loss], every_pattern(code))
  return objective, tx, init_state(params, {}, tx, seed=3)


def train_on(count, code, arrays, steps, tx, steps_per_call=1):
  """`steps` steps on `count` devices; returns the final state and all losses."""
  devices = jax.devices()[:count]
  split, variables = arrays
  objective, tx, state = make(code, tx=tx)
  fetch = make_fetch(normalise, augment=True)

  def make_fn(axis):
    step = make_planned_step(make_train_step(objective, tx, axis), fetch)
    return many_steps(step, steps_per_call)

  fn = run_on(devices, make_fn, 4, split=3, donate=(0,))
  state, variables, split = (replicate(tree, devices) for tree in (state, variables, split))
  plan = split_plan(data.plan_batches(data.epoch_order(50, 0, 0), code.k, 8), devices)
  actual = []
  for _ in range(steps // steps_per_call):
    state, metrics = fn(state, variables, split, plan)
    actual.append(np.atleast_1d(metrics['loss']))
  return state, np.concatenate(actual)


def numpy_loss(loss, state, split, variables, code, rows, available):
  """One step's loss, a group, a scenario and a unit at a time, in float64."""
  def dense(layer, x):
    return x @ np.asarray(layer['kernel'], 'f8') + np.asarray(layer['bias'], 'f8')

  def log_softmax(z):
    return z - np.log(np.exp(z - z.max()).sum()) - z.max()

  encoder, decoder = state.params['encoder'], state.params['decoder']
  total, erasures = 0.0, 0
  for group in rows:
    x = split['images'][group].reshape(code.k, -1) / 255
    parity = dense(encoder['parity'], np.maximum(dense(encoder['hidden'], x.ravel()), 0)).reshape(code.r, 16)
    outputs = np.concatenate([split['base_outputs'][group], np.tanh(parity @ variables) * 3])
    for pattern in available:
      h = np.concatenate([o if a else 0 * o for o, a in zip(outputs, pattern)])
      for name in ('hidden_0', 'hidden_1'):
        h = np.maximum(dense(decoder[name], h), 0)
      answers = dense(decoder['out'], h).reshape(code.k, C)
      for unit in range(code.k):
        if not pattern[unit]:
          target = split['base_outputs'][group][unit].astype('f8')
          log_p, log_q = log_softmax(target), log_softmax(answers[unit])
          total += {'kl_base': (np.exp(log_p) * (log_p - log_q)).sum(), 'mse_base': ((answers[unit] - target)**2).sum(),
                    'xent_label': -log_q[split['labels'][group][unit]]}[loss]
          erasures += 1
  return total / erasures


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('k, r', [(2, 1), (3, 2)])
def test_a_steps_loss_in_numpy(loss, k, r, arrays):
  code = Code(k, r)
  split, variables = arrays
  objective, tx, state = make(code, loss)
  groups = np.random.default_rng(1).permutation(50)[:4 * k].reshape(4, k)
  fetch = make_fetch(normalise, augment=False)
  batch = fetch(jax.tree.map(jnp.asarray, split), groups, np.array([True, True, False, True]))
  _, metrics = jax.jit(make_train_step(objective, tx))(state, variables, batch)
  expected = numpy_loss(loss, state, split, variables, code, groups[[0, 1, 3]], every_pattern(code))
  assert float(metrics['loss']) == pytest.approx(expected, rel=1e-4)


def test_a_step_decodes_the_scenarios_of_its_plan(arrays):
  split, variables = arrays
  code = Code(3, 2)
  objective, tx, state = make(code)
  fetch = make_fetch(normalise, False)
  step = jax.jit(make_planned_step(make_train_step(objective, tx), fetch))
  plan = data.plan_batches(np.arange(12), 3, 2)
  own = every_pattern(code)[[[4, 9], [0, 2]]]  # two steps of two scenarios
  plan = split_plan(dataclasses.replace(plan, available=own), jax.devices()[:1])
  for row, scenarios in enumerate(own):
    expected = numpy_loss('kl_base', state, split, variables, code, np.arange(12).reshape(2, 2, 3)[row], scenarios)
    state, metrics = step(state, variables, split, plan)
    assert float(metrics['loss']) == pytest.approx(expected, rel=1e-4)


def test_groups_that_fill_the_batch_change_nothing(arrays):
  split, variables = arrays
  objective, tx, state = make(Code(2, 1))
  step = jax.jit(make_train_step(objective, tx))
  fetch = make_fetch(normalise, augment=False)
  split = jax.tree.map(jnp.asarray, split)
  rows = np.arange(12).reshape(6, 2)
  whole, _ = step(state, variables, fetch(split, rows, np.ones(6, bool)))
  padded, _ = step(state, variables, fetch(split, np.concatenate([rows, rows[:3]]), np.arange(9) < 6))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), whole.params, padded.params)


def test_the_papers_optimiser_is_adam_with_l2_in_the_gradient(rng):
  w = rng.normal(size=20).astype('f4')
  tx = get_recipe('paper').make_optimizer(10)
  opt_state, params = tx.init(jnp.asarray(w)), jnp.asarray(w)
  w, m, v = w.astype('f8'), np.zeros(20), np.zeros(20)
  for t in range(1, 6):
    grad = rng.normal(size=20) * 1e-4  # small, so that the L2 term counts
    updates, opt_state = tx.update(jnp.asarray(grad, jnp.float32), opt_state, params)
    params = optax.apply_updates(params, updates)
    g = grad + 1e-5 * w
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    w = w - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
  np.testing.assert_allclose(params, w, rtol=1e-5)


@pytest.mark.parametrize('steps_per_call', [1, 4])
@pytest.mark.parametrize('count', [1, 2, 8])
def test_any_number_of_devices_and_steps_a_call_take_the_same_steps(count, steps_per_call, arrays):
  if count == steps_per_call == 1:
    pytest.skip('compared with itself')
  # SGD: Adam would hide a gradient that is a constant factor too large.
  code, sgd = Code(3, 2), optax.sgd(0.05)
  expected, losses_expected = train_on(1, code, arrays, 8, sgd)
  actual, losses_found = train_on(count, code, arrays, 8, sgd, steps_per_call)
  assert losses_expected[-1] < 0.95 * losses_expected[0]
  np.testing.assert_allclose(losses_found, losses_expected, rtol=2e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), expected.params, actual.params)
  assert int(actual.step) == 8


@pytest.mark.parametrize('count', [1, 4])
def test_no_second_compilation_and_the_state_is_donated(count, arrays):
  devices = jax.devices()[:count]
  split, variables = arrays
  objective, tx, state = make(Code(2, 1))
  traces = []

  def make_fn(axis):
    step = make_planned_step(make_train_step(objective, tx, axis), make_fetch(normalise, False))

    def counted(*args):
      traces.append(1)
      return step(*args)
    return counted

  fn = run_on(devices, make_fn, 4, split=3, donate=(0,))
  state, variables, split = (replicate(tree, devices) for tree in (state, variables, split))
  plan = split_plan(data.plan_batches(np.arange(50), 2, 8), devices)
  for _ in range(4):
    before, (state, _) = state, fn(state, variables, split, plan)
  assert len(traces) == 1
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.params))


def test_nothing_moves_between_host_and_device_inside_the_loop(arrays):
  split, variables = arrays
  objective, tx, state = make(Code(2, 1))
  fn = run_on(jax.devices()[:1], lambda axis: make_planned_step(
      make_train_step(objective, tx, axis), make_fetch(normalise, False)), 4, split=3)
  devices = jax.devices()[:1]
  state, variables, split = (replicate(tree, devices) for tree in (state, variables, split))
  plan = split_plan(data.plan_batches(np.arange(50), 2, 8), devices)
  state, _ = fn(state, variables, split, plan)
  with jax.transfer_guard('disallow'):
    fn(state, variables, split, plan)


def test_targets_are_of_the_plain_image_and_inputs_augmented(arrays):
  split = jax.tree.map(jnp.asarray, arrays[0])
  rows = np.arange(8).reshape(4, 2)
  keys = jax.random.split(jax.random.key(0), 4)
  batch = make_fetch(normalise, True)(split, rows, np.ones(4, bool), keys)
  plain = make_fetch(normalise, False)(split, rows, np.ones(4, bool), keys)
  np.testing.assert_array_equal(batch.base_outputs, split['base_outputs'][rows])
  np.testing.assert_allclose(plain.x, split['images'][rows] / 255, rtol=1e-6)
  assert (np.abs(batch.x - plain.x).max((2, 3, 4)) > 0).mean() > 0.9


def test_every_group_of_every_step_has_its_own_key(arrays):
  """The key of a group follows from run, step and position: augmentation never repeats, on any device."""
  seen = []

  def spy(split, indices, real, keys):
    seen.append(np.asarray(jax.random.key_data(keys)))
    return None

  step = make_planned_step(lambda state, *_: (state.replace(step=state.step + 1), {}), spy)
  _, _, state = make(Code(2, 1))
  plan = data.plan_batches(np.arange(50), 2, 4)
  plan = {'indices': plan.indices, 'real': plan.real, 'position': np.arange(4)}
  for _ in range(10):  # past the plan's 7 rows
    state, _ = step(state, {}, {}, plan)
  step(init_state({}, {}, optax.sgd(1.0), seed=4), {}, {}, plan)
  assert len(np.unique(np.concatenate(seen), axis=0)) == 44
  step(init_state({}, {}, optax.sgd(1.0), seed=3), {}, {}, {**plan, 'position': np.arange(2, 6)})
  np.testing.assert_array_equal(seen[-1][:2], seen[0][2:])


@pytest.mark.parametrize('count', [1, 8])
def test_evaluation_over_devices_and_batches_is_that_of_numpy(count, arrays, monkeypatch):
  monkeypatch.setattr('lcode.training.batched.EVALUATION_BATCH', 7)
  code = Code(3, 2)
  split, variables = arrays
  devices = jax.devices()[:count]
  objective, _, state = make(code)
  counts = make_evaluator(lambda _: objective, make_fetch(normalise, False), replicate(split, devices),
                          replicate(variables, devices), 3, devices)(state.params, {})
  rows = np.arange(48).reshape(16, 3)
  expected = numpy_loss('kl_base', state, split, variables, code, rows, every_pattern(code))
  figures = summarise(counts)
  assert figures['loss'] == pytest.approx(expected, rel=1e-4)
  assert figures['erased'] == 16 * (~every_pattern(code)[:, :3]).sum()


def test_a_batch_normalised_base_model_trains_alike_on_many_devices(rng):
  split = {'images': rng.integers(0, 256, size=(32, 8, 8, 1), dtype=np.uint8),
           'labels': rng.integers(3, size=32).astype('i4'), 'base_outputs': None}
  plan = data.plan_batches(np.arange(32), 1, 16)
  states = []
  for count in (1, 4):
    devices = jax.devices()[:count]
    tx = optax.sgd(0.1)

    def make_fn(axis):
      objective = make_base_objective(ResNet(3, stages=(1,), width=4, axis_name=axis))
      return make_planned_step(make_train_step(objective, tx, axis), make_fetch(normalise, False))

    variables = ResNet(3, stages=(1,), width=4).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    state = init_state(variables['params'], {'batch_stats': variables['batch_stats']}, tx, 0)
    fn = run_on(devices, make_fn, 4, split=3)
    state, split_on = replicate(state, devices), replicate(split, devices)
    for _ in range(3):
      state, _ = fn(state, {}, split_on, split_plan(plan, devices))
    states.append(jax.device_get((state.params, state.model_state)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *states)
