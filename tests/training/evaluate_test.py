"""Figures of schemes on a split against loops over groups, scenarios and units; costs against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode.coding import costs
from lcode.coding.code import Code, every_pattern
from lcode.coding.coders.berrut import ApproxIFERDecoder
from lcode.coding.parity_model import default_answer, from_module
from lcode.coding.scheme import make_scheme
from lcode.data import Arrays
from lcode.models.mlp import MLP
from lcode.training.evaluate import evaluate, evaluate_byzantine, scenarios_of

D, C = 6, 4


def apply(variables, x):
  return jnp.tanh(x @ variables) * 3


@pytest.fixture
def problem(rng):
  variables = rng.normal(size=(D, C)).astype('f4')
  images = rng.normal(size=(121, D)).astype('f4')  # one is left over at k = 2 and 3
  labels = np.where(rng.random(121) < 0.2, 0, np.asarray(apply(variables, images)).argmax(-1))
  return variables, Arrays(images, labels.astype('i4'))


def run(scheme, problem, params=None, **more):
  variables, test = problem
  if params is None:
    params, _ = scheme.init(jax.random.key(0), jnp.asarray(test.images[:scheme.code.k]), C, {'params': variables})
  return params, evaluate(scheme, params, {}, variables, test, preprocess=jnp.asarray, loss='mse_base',
                          devices=jax.devices()[:1], **more)


def by_loops(scheme, params, problem, scenarios):
  """By number missing: rows of reconstruction right, degraded right, squared error, squared norm."""
  variables, test = problem
  k, found = scheme.code.k, {}
  own = np.asarray(apply(variables, test.images))
  encode, decode = jax.jit(scheme.encode), jax.jit(scheme.decode)
  for group in range(len(test.images) // k):
    units = slice(group * k, group * k + k)
    outputs = np.asarray(apply(variables, encode(params, test.images[units])))
    if scheme.systematic:
      outputs = np.concatenate([own[units], outputs])
    for available in scenarios:
      answers = np.asarray(decode(params, outputs, available))
      for unit in range(k):
        if not available[unit] or not scheme.passthrough:
          truth, answer, label = own[units][unit], answers[unit], test.labels[units][unit]
          found.setdefault(int((~available).sum()), []).append(
              (answer.argmax() == truth.argmax(), answer.argmax() == label, ((answer - truth)**2).sum(),
               (truth**2).sum()))
  return {m: np.array(rows, float) for m, rows in found.items()}


@pytest.mark.parametrize('encoder, decoder, k, r', [('addition', 'mlp', 3, 2), ('approxifer', 'approxifer', 2, 2)])
def test_figures_by_brute_force(encoder, decoder, k, r, problem):
  scheme = make_scheme(Code(k, r), apply, encoder, decoder)
  params, figures = run(scheme, problem)
  scenarios = every_pattern(Code(k, r), passthrough=scheme.passthrough)
  rows = by_loops(scheme, params, problem, scenarios)
  everything = np.concatenate(list(rows.values()))
  assert figures['reconstruction_accuracy'] == pytest.approx(everything[:, 0].mean(), abs=1e-6)
  assert figures['degraded_accuracy'] == pytest.approx(everything[:, 1].mean(), abs=1e-6)
  assert figures['relative_error'] == pytest.approx(np.sqrt(everything[:, 2].sum() / everything[:, 3].sum()), rel=1e-3)
  assert figures['erased'] == len(everything) and figures['scenarios'] == len(scenarios)
  assert [row['missing'] for row in figures['missing']] == list(range(1, r + 1))
  for row in figures['missing']:
    assert row['degraded_accuracy'] == pytest.approx(rows[row['missing']][:, 1].mean(), abs=1e-6)
    assert row['erased'] == len(rows[row['missing']])
  guesses = np.asarray(apply(problem[0], problem[1].images)).argmax(-1)
  right = (guesses == problem[1].labels).mean()
  assert figures['available_accuracy'] == pytest.approx(right)
  if scheme.passthrough:
    assert figures['intact_accuracy'] == figures['available_accuracy']
  else:
    intact = by_loops(scheme, params, problem, np.ones((1, k + r), bool))[0]
    assert figures['intact_accuracy'] == pytest.approx(intact[:, 1].mean(), abs=1e-6)


def test_without_labels_and_the_default_of_a_regression(problem):
  variables, test = problem
  scheme = make_scheme(Code(2, 1), apply, 'addition', 'mlp')
  _, figures = run(scheme, (variables, Arrays(test.images, None)))
  assert figures['available_accuracy'] == 1 and figures['degraded_accuracy'] == figures['reconstruction_accuracy']
  outputs = np.asarray(apply(variables, test.images), 'f8')
  mean = np.sqrt(((outputs - outputs.mean(0))**2).sum() / (outputs**2).sum())
  assert figures['default_relative_error'] == pytest.approx(mean, rel=1e-4)


def test_only_units_that_can_fail_do(problem):
  scheme = make_scheme(Code(2, 2), apply, 'replication', 'replication', default_answer())
  np.testing.assert_array_equal(scenarios_of(scheme)[:, 2:], True)
  assert len(scenarios_of(scheme)) == 3
  large = make_scheme(Code(40, 3), apply, 'addition', 'mlp')  # 13,244 patterns
  sampled = scenarios_of(large)
  assert sampled.shape == (512, 43) and (~sampled[:, :40]).any(1).all()
  np.testing.assert_array_equal(sampled, scenarios_of(large))


def test_a_wrong_answer_spoils_a_code_that_does_not_look_for_it(rng):
  """Over a linear F the code is exact where it leaves out what is wrong: k + E interpolated points of a polynomial."""
  code, variables = Code(2, 4), rng.normal(size=(D, C)).astype('f4')
  images = rng.normal(size=(400, D)).astype('f4')

  def linear(variables, x):
    return x @ variables
  test = Arrays(images, np.asarray(linear(variables, images)).argmax(-1))
  found = {}
  for wrong in (0, 1):
    scheme = make_scheme(code, linear, 'approxifer', ApproxIFERDecoder(code, wrong))
    assert not scheme.passthrough
    params, _ = scheme.init(jax.random.key(0), jnp.asarray(images[:2]), C)
    found[wrong] = evaluate_byzantine(scheme, params, {}, variables, test, preprocess=jnp.asarray, num_byzantine=1)
  assert found[1]['byzantine_accuracy'] > 0.8 > 0.6 > found[0]['byzantine_accuracy']
  assert found[1]['num_byzantine'] == 1


def test_costs_are_those_of_the_dense_layers_by_hand():
  """2 FLOPs a multiply-add; biases and ReLU make the rest, under a tenth here."""
  model = MLP(C, (64, 64))
  x = jnp.zeros((1, 100))
  base = model.init(jax.random.key(0), x)
  multiply_adds = 100 * 64 + 64 * 64 + 64 * C
  scheme = make_scheme(Code(2, 1), lambda v, x: model.apply(v, x))
  params, _ = scheme.init(jax.random.key(0), jnp.zeros((2, 100)), C)
  parts = costs.group_costs(scheme, params, {}, base, (100,), C)
  expected = {'base_k_inferences': 2 * multiply_adds, 'parity_inference': multiply_adds,
              'encode': 200 * 200 + 200 * 100, 'decode': 12 * 12 + 12 * 8 + 8 * 8}
  for name, count in expected.items():
    assert 2 * count <= parts[name]['flops'] <= 2.3 * count, name
  work = costs.extra_work(scheme, parts)
  assert work['worker_work'] == pytest.approx(0.5, rel=0.01)
  frontend = (expected['encode'] + expected['decode']) / expected['base_k_inferences']
  assert work['frontend_work'] == pytest.approx(frontend, rel=0.05)


def test_costs_at_the_frontend_and_of_codes_without_data_units():
  base = jnp.ones((D, C))
  backup = make_scheme(Code(1, 1), apply, 'replication', 'replication',
                       from_module(MLP(C, (5,)), shared=True, at_frontend=True, per_query=True))
  plain = make_scheme(Code(2, 1), apply, 'approxifer', 'approxifer')
  for scheme, worker in ((backup, 0.0), (plain, 0.5)):
    params, _ = scheme.init(jax.random.key(0), jnp.zeros((scheme.code.k, D)), C)
    work = costs.extra_work(scheme, costs.group_costs(scheme, params, {}, base, (D,), C))
    assert work['worker_work'] == pytest.approx(worker, abs=1e-6) and work['frontend_work'] > 0.1
