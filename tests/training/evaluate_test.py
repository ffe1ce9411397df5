"""Figures of schemes on a split against loops over groups, scenarios and units; costs against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode.coding import costs
from lcode.coding.code import Code, every_pattern
from lcode.coding.coders.berrut import ApproxIFERDecoder
from lcode.coding.parity_model import default_answer, from_module, students
from lcode.coding.scheme import make_scheme
from lcode.data import Arrays
from lcode.errors import InputError
from lcode.models.mlp import MLP
from lcode.training.batched import apply_in_batches, in_batches
from lcode.training.evaluate import evaluate, evaluate_byzantine, scenarios_of
from lcode.training.metrics import wilson_interval

D, C = 6, 4


def apply(variables, x):
  return jnp.tanh(x @ variables) * 3


@pytest.fixture
def problem(rng):
  variables = rng.normal(size=(D, C)).astype('f4')
  images = rng.normal(size=(121, D)).astype('f4')  # one is left over at k = 2 and 3
  labels = np.where(rng.random(121) < 0.2, 0, np.asarray(apply(variables, images)).argmax(-1))
  return variables, Arrays(images, labels.astype('i4'))


def run(scheme, problem, params=None, devices=1, **more):
  variables, test = problem
  if params is None:
    params, _ = scheme.init(jax.random.key(0), jnp.asarray(test.images[:scheme.code.k]), C, {'params': variables})
  return params, evaluate(scheme, params, {}, variables, test, preprocess=jnp.asarray, loss='mse_base',
                          devices=jax.devices()[:devices], **more)


def by_loops(scheme, params, problem, scenarios):
  """By number missing: rows of reconstruction right, degraded right, squared error, squared norm."""
  variables, test = problem
  k, actual = scheme.code.k, {}
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
          actual.setdefault(int((~available).sum()), []).append(
              (answer.argmax() == truth.argmax(), answer.argmax() == label, ((answer - truth)**2).sum(),
               (truth**2).sum()))
  return {m: np.array(rows, float) for m, rows in actual.items()}


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
  actual = {}
  for wrong in (0, 1):
    scheme = make_scheme(code, linear, 'approxifer', ApproxIFERDecoder(code, wrong))
    assert not scheme.passthrough
    params, _ = scheme.init(jax.random.key(0), jnp.asarray(images[:2]), C)
    actual[wrong] = evaluate_byzantine(scheme, params, {}, variables, test, preprocess=jnp.asarray, num_byzantine=1)
  assert actual[1]['byzantine_accuracy'] > 0.8 > 0.6 > actual[0]['byzantine_accuracy']
  assert actual[1]['num_byzantine'] == 1
  assert min(actual[1]['byzantine_accuracy_by_kind'].values()) > 0.8  # whatever is answered, it is not believed


def identity(code):
  """Addition, passing on what arrives and answering nothing else: figures follow from which data units are wrong."""
  return make_scheme(code, apply, 'addition', 'mlp')


def test_each_kind_of_wrong_answer_by_hand(problem, monkeypatch):
  """Of a code that passes on what arrives, a wrong unit's answer is the wrong one, whatever it is."""
  monkeypatch.setattr('lcode.training.evaluate.BYZANTINE_GROUPS', 7)  # of 60, so that one is cut short
  variables, test = problem
  scheme, seed = identity(Code(2, 1)), 5
  params, _ = scheme.init(jax.random.key(0), jnp.zeros((2, D)), C)
  actual = evaluate_byzantine(scheme, params, {}, variables, test, preprocess=jnp.asarray, num_byzantine=2, seed=seed)
  own = np.asarray(apply(variables, test.images[:120])).reshape(60, 2, C)
  labels = test.labels[:120].reshape(60, 2)
  outputs = np.concatenate([own, np.asarray(apply(variables, jax.vmap(scheme.encode, (None, 0))(
      params, test.images[:120].reshape(60, 2, D))[:, 0]))[:, None]], 1)
  rng = np.random.default_rng(seed)
  chosen = np.argsort(rng.random((60, 3)), 1)[:, :2]
  noise = 10 * outputs.std() * rng.normal(size=(60, 2, C))
  right = {kind: own.argmax(-1) == labels for kind in ('noise', 'huge', 'largest', 'zeros', 'swapped', 'constant')}
  right = {kind: hits.copy() for kind, hits in right.items()}
  for group in range(60):
    for number, unit in enumerate(chosen[group]):
      if unit < 2:
        label, wrong = labels[group, unit], noise[group, number]
        right['noise'][group, unit] = (own[group, unit] + wrong).argmax() == label
        right['huge'][group, unit] = (wrong > 0).argmax() == label
        right['largest'][group, unit] = right['huge'][group, unit]
        right['zeros'][group, unit] = right['constant'][group, unit] = label == 0
        right['swapped'][group, unit] = own[group - 1, unit].argmax() == label
  by_kind = actual['byzantine_accuracy_by_kind']
  assert list(by_kind) == ['noise', 'nan', 'inf', 'huge', 'largest', 'zeros', 'swapped', 'constant']
  for kind, hits in right.items():
    assert by_kind[kind] == pytest.approx(hits.mean(), abs=1e-6), kind
  assert actual['byzantine_accuracy'] == by_kind['noise']
  # What is not finite has not arrived: the decoder's answer to the same erasures.
  available = np.ones((60, 3), bool)
  np.put_along_axis(available, chosen, False, axis=1)
  answers = jax.vmap(scheme.decode, (None, 0, 0))(params, outputs, available)
  for kind in ('nan', 'inf'):
    assert by_kind[kind] == pytest.approx((np.asarray(answers).argmax(-1) == labels).mean(), abs=1e-6), kind


@pytest.mark.parametrize('parts', [('approxifer', 'approxifer', None), ('bundle', 'bundle', students(MLP(C, (3,))))])
def test_one_chunk_or_many_have_the_same_figures_with_wrong_answers(parts, problem, monkeypatch):
  variables, test = problem
  scheme = make_scheme(Code(2, 2), apply, *parts)
  params, _ = scheme.init(jax.random.key(0), jnp.zeros((2, D)), C)
  figures = []
  for groups in (1000, 13):
    monkeypatch.setattr('lcode.training.evaluate.BYZANTINE_GROUPS', groups)
    figures.append(evaluate_byzantine(scheme, params, {}, variables, Arrays(test.images, None), preprocess=jnp.asarray,
                                      num_byzantine=1))
  assert figures[0] == figures[1]


def test_intervals_are_those_of_groups_by_hand(problem):
  """From each group's own sums, in NumPy: all patterns, one position, one number missing."""
  scheme = identity(Code(3, 2))
  params, figures = run(scheme, problem)
  available = every_pattern(Code(3, 2))
  variables, test = problem
  own = np.asarray(apply(variables, test.images[:120])).reshape(40, 3, C)
  x = test.images[:120].reshape(40, 3, D)
  parities = apply(variables, jax.vmap(scheme.encode, (None, 0))(params, x))
  outputs = np.concatenate([own, parities], 1)
  answers = np.asarray(jax.vmap(jax.vmap(scheme.decode, (None, None, 0)), (None, 0, None))(params, outputs, available))
  right = answers.argmax(-1) == test.labels[:120].reshape(40, 1, 3)
  erased = ~available[None, :, :3] & np.ones((40, 1, 1), bool)

  def expected(patterns, positions):
    y = (right & erased)[:, patterns][..., positions].reshape(40, -1).sum(1)
    m = erased[:, patterns][..., positions].reshape(40, -1).sum(1)
    p = y.sum() / m.sum()
    variance = np.var(y - p * m, ddof=1) / 40 / m.mean()**2
    units = min(p * (1 - p) / variance, m.sum())  # never more than there are
    return wilson_interval(p * units, units)

  everything, missing = np.ones(len(available), bool), (~available).sum(1)
  np.testing.assert_allclose(figures['degraded_accuracy_interval'], expected(everything, [0, 1, 2]), atol=1e-6)
  second = figures['positions'][1]['degraded_accuracy_interval']
  np.testing.assert_allclose(second, expected(everything, [1]), atol=1e-6)
  for row in figures['missing']:
    np.testing.assert_allclose(row['degraded_accuracy_interval'], expected(missing == row['missing'], [0, 1, 2]),
                               atol=1e-6)
  _, of_four = run(scheme, problem, params, 4)  # 40 groups, ten on each
  for name in ('degraded_accuracy_interval', 'reconstruction_accuracy_interval'):
    np.testing.assert_allclose(of_four[name], figures[name], atol=1e-6)


@pytest.mark.parametrize('change, words', [
    ({'loss': 'l1'}, 'kl_base, mse_base'), ({'scenarios': np.ones((2, 4), bool)}, r'\[2, 4\] are no erasure patterns'),
    ({'scenarios': np.ones((2, 3))}, 'bool'), ({'scenarios': np.ones((0, 3), bool)}, 'no erasure patterns'),
    ({'base_outputs': np.ones((120, C), 'f4')}, r'base_outputs \[120, 4\] for 121 queries'),
    ({'labels': np.zeros(120, int)}, '120 labels for 121 queries'),
    ({'labels': np.full(121, C)}, 'test labels lie in 4..4'), ({'labels': np.zeros(121)}, r'float64\[121\]'),
    ({'base_outputs': np.full((121, C), np.nan, 'f4')}, '121 of 121 test queries are not finite'),
    ({'preprocess': None}, 'preprocess=None is no function'), ({'test': np.ones(3)}, 'test is a ndarray'),
    ({'scenarios': [[True], [True, False]]}, 'is no array'), ({'scheme': None}, 'scheme=None is no Scheme'),
    ({'num_byzantine': 1, 'seed': -1}, 'seed=-1'), ({'num_byzantine': 1, 'scale': 'a'}, 'scale=a'),
    ({'images': np.ones((1, D))}, 'no group of k=2'), ({'devices': []}, r'devices=\[\]'),
    ({'num_byzantine': 4}, 'more than the n=3'), ({'num_byzantine': -1}, 'num_byzantine=-1'),
    ({'num_byzantine': 1, 'scale': np.inf}, 'scale=inf'), ({'num_byzantine': 1, 'labels': np.zeros(3)}, 'labels')])
def test_what_does_not_go_with_the_split_is_a_sentence(change, words, problem):
  variables, test = problem
  test = Arrays(change.pop('images', test.images), change.pop('labels', None))
  scheme, test = change.pop('scheme', identity(Code(2, 1))), change.pop('test', test)
  more = {'preprocess': jnp.asarray, **change}
  with pytest.raises(InputError, match=words):
    if 'num_byzantine' in change:
      evaluate_byzantine(scheme, {}, {}, variables, test, **more)
    else:
      evaluate(scheme, {}, {}, variables, test, **{'loss': 'mse_base', 'devices': jax.devices()[:1], **more})


def test_what_is_applied_in_batches_is_checked(problem):
  variables, test = problem
  for fn, images, size, words in ((apply, test.images[:0], 5, 'no queries'), (apply, test.images, 0, 'batch_size=0'),
                                  (lambda v, x: x[:, 0], test.images, 50, r'\[50, ...\]')):
    with pytest.raises(InputError, match=words):
      apply_in_batches(fn, variables, images, jnp.asarray, size)
  with pytest.raises(InputError, match=r'\[3, 2\] rows'):
    in_batches(np.add, 2, np.ones(3), np.ones(2))


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
                       from_module(MLP(C, (5,)), shared=True, at_frontend=True, takes=('copies',)))
  plain = make_scheme(Code(2, 1), apply, 'approxifer', 'approxifer')
  for scheme, worker in ((backup, 0.0), (plain, 0.5)):
    params, _ = scheme.init(jax.random.key(0), jnp.zeros((scheme.code.k, D)), C)
    work = costs.extra_work(scheme, costs.group_costs(scheme, params, {}, base, (D,), C))
    assert work['worker_work'] == pytest.approx(worker, abs=1e-6) and work['frontend_work'] > 0.1
