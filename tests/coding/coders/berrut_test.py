"""Berrut's interpolant against a loop over its formula in float64, its order, and where wrong answers are."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest

from lcode.coding.code import Code
from lcode.coding.coders.berrut import (ApproxIFERDecoder, ApproxIFEREncoder, BerrutDecoder, BerrutEncoder,
                                        interpolation_weights, locate_byzantine)
from lcode.coding.scheme import make_scheme, PARTS
from lcode.errors import InputError

NOTHING = {part: {} for part in PARTS}
PARTS_OF = {'approxifer': (ApproxIFEREncoder, ApproxIFERDecoder), 'berrut': (BerrutEncoder, BerrutDecoder)}
CODES = [(1, 2), (2, 3), (4, 4)]


def chebyshev(form, k, n):
  """Data and worker nodes, written from the papers."""
  if form == 'approxifer':
    return [np.cos((2 * j + 1) * np.pi / (2 * k)) for j in range(k)], [np.cos(i * np.pi / (n - 1)) for i in range(n)]
  nodes = [np.cos((2 * i + 1) * np.pi / (2 * n)) for i in range(n)]
  return nodes[:k], nodes


def interpolant(target, nodes, values):
  """Berrut's formula, one term after the other; the nodes descend."""
  above, below = np.zeros(np.shape(values)[1:]), 0.0
  for rank, (node, value) in enumerate(zip(nodes, values)):
    if abs(target - node) < 1e-12:
      return np.asarray(value, 'f8')
    above, below = above + (-1) ** rank / (target - node) * value, below + (-1) ** rank / (target - node)
  return above / below


def coded_in_numpy(form, code, x):
  """What all n workers get."""
  data, workers = chebyshev(form, code.k, code.n)
  return np.stack([interpolant(z, data, np.asarray(x, 'f8')) for z in workers])


@pytest.mark.parametrize('form', PARTS_OF)
@pytest.mark.parametrize('k, r', CODES)
class TestAgainstTheFormula:

  def test_encoder(self, form, k, r, rng):
    code = Code(k, r)
    encode = jax.jit(lambda x: make_scheme(code, np.tanh, form, form).encode(NOTHING, x))
    x = rng.normal(size=(k, 2, 3)).astype('f4')
    expected = coded_in_numpy(form, code, x)
    if form == 'berrut':
      np.testing.assert_allclose(expected[:k], x, rtol=1e-12)
      expected = expected[k:]
    np.testing.assert_allclose(encode(x), expected, rtol=1e-5, atol=1e-5)
    equal = x[:1].repeat(k, 0)
    np.testing.assert_allclose(encode(equal), x[:1].repeat(len(expected), 0), rtol=1e-6, atol=1e-6)

  def test_decoder_of_every_pattern(self, form, k, r, rng):
    code = Code(k, r)
    scheme = make_scheme(code, np.tanh, form, form)
    decode = jax.jit(jax.vmap(lambda outputs, available: scheme.decode(NOTHING, outputs, available), (None, 0)))
    outputs = rng.normal(size=(code.n, 3)).astype('f4')
    patterns = np.array([p for p in itertools.product([True, False], repeat=code.n) if any(p)])
    data, workers = chebyshev(form, k, code.n)
    for available, got in zip(patterns, np.asarray(decode(outputs, patterns))):
      nodes, values = np.array(workers)[available], outputs[available].astype('f8')
      expected = np.stack([interpolant(z, nodes, values) for z in data])
      np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
    equal = outputs[:1].repeat(code.n, 0)
    expected = np.broadcast_to(outputs[:1], (len(patterns), k, 3))
    np.testing.assert_allclose(decode(equal, patterns), expected, rtol=5e-6, atol=5e-6)


def test_a_node_that_is_hit_gives_its_value():
  nodes = np.array([0.9, 0.5, 0.1, -0.7])
  targets = np.array([0.5, -0.7, 0.2])
  read = jax.jit(partial(interpolation_weights, targets, nodes))
  weights = read(np.ones(4, bool))
  np.testing.assert_array_equal(weights[:2], np.eye(4)[[1, 3]])
  assert (np.asarray(weights)[2] != 0).all()
  without = np.array([True, False, True, True])  # a node that is missing cannot be hit
  weights = np.asarray(read(without))
  for target, row in zip(targets, weights):
    np.testing.assert_allclose(row[without], interpolant(target, nodes[without], np.eye(3)), rtol=1e-6, atol=1e-7)
    assert row[1] == 0
  np.testing.assert_array_equal(weights[1], np.eye(4)[3])
  # In the plain form, too: the node of worker 1 of 5 is the first of 2 data nodes, cos(pi / 4).
  outputs = np.arange(5, dtype='f4')[:, None] ** 2
  decode = jax.jit(partial(make_scheme(Code(2, 3), np.tanh, 'approxifer', 'approxifer').decode, NOTHING))
  got = decode(outputs, np.ones(5, bool))
  np.testing.assert_array_equal(got, [[1], [9]])


def order(sizes, errors):
  """p of error ~ size^-p, fitted."""
  return -np.polyfit(np.log(sizes), np.log(errors), 1)[0]


def test_the_interpolant_converges():
  """The fitted order is 1.14 here; Berrut's is at least 1."""
  targets, sizes, errors = np.linspace(-0.97, 0.97, 41), [8, 16, 32, 64, 128], []
  for size in sizes:
    nodes = np.cos(np.arange(size) * np.pi / (size - 1))
    weights = np.asarray(jax.jit(partial(interpolation_weights, targets, nodes))(np.ones(size, bool)))
    errors.append(np.abs(weights @ np.exp(np.sin(3 * nodes)) - np.exp(np.sin(3 * targets))).max())
  assert (np.diff(errors) < 0).all()
  assert order(sizes, errors) >= 1 and errors[-1] < 0.02


def test_more_workers_bring_answers_nearer(rng):
  """The fitted order is 1.22 here, one answer missing."""
  x, kernel, sizes, errors = rng.normal(size=(3, 4)), rng.normal(size=(4, 5)), [8, 16, 32, 64], []
  for n in sizes:
    code = Code(3, n - 3)
    outputs = np.tanh(coded_in_numpy('approxifer', code, x) @ kernel).astype('f4')
    decode = jax.jit(partial(make_scheme(code, np.tanh, 'approxifer', 'approxifer').decode, NOTHING))
    errors.append(np.abs(decode(outputs, np.arange(n) != n // 2) - np.tanh(x @ kernel)).max())
  assert order(sizes, errors) >= 1 and errors[-1] < errors[0] / 8


KERNEL = np.random.default_rng(3).normal(size=(12, 10)) / np.sqrt(12)
FUNCTIONS = {'linear': lambda x: x @ KERNEL, 'smooth': lambda x: np.tanh(0.5 * x @ KERNEL)}


def spoiled_answers(form, code, wrong, stragglers, f, groups, trials, rng):
  """Lists of outputs f64[n, 10], available bool[n], which are wrong bool[n]: all positions, or `trials` at random."""
  rows = []
  for _ in range(groups):
    answers = f(coded_in_numpy(form, code, rng.normal(size=(code.k, 12))))
    places = [(where, missing) for where in itertools.combinations(range(code.n), wrong)
              for missing in itertools.combinations(range(code.n), stragglers) if not {*where} & {*missing}]
    for i in rng.permutation(len(places))[:trials]:
      spoiled, available, bad = answers.copy(), np.ones(code.n, bool), np.zeros(code.n, bool)
      where, missing = map(list, places[i])
      spoiled[where] += 3 * answers.std() * rng.normal(size=(wrong, 10))
      available[missing], bad[where] = False, True
      rows.append((np.where(available[:, None], spoiled, 0), available, bad))
  return rows


def rates(form, k, wrong, stragglers, groups, trials=None):
  """Of each function, the fraction of trials in which exactly the wrong of 2(k + E) + S answers are found."""
  code, rng = Code(k, k + 2 * wrong + stragglers), np.random.default_rng([k, wrong, stragglers])
  rows = {name: spoiled_answers(form, code, wrong, stragglers, f, groups, trials, rng) for name, f in FUNCTIONS.items()}
  outputs, available, bad = map(np.array, zip(*sum(rows.values(), [])))
  nodes = np.array(chebyshev(form, k, code.n)[1])
  locate = jax.jit(jax.vmap(partial(locate_byzantine, nodes, k=k, num_byzantine=wrong)))
  got = np.asarray(locate(outputs.astype('f4'), available))
  assert (got.sum(1) == wrong).all() and not (got & ~available).any()
  return dict(zip(rows, (got == bad).all(1).reshape(len(rows), -1).mean(1)))


@pytest.mark.parametrize('form, k, stragglers, least_if_smooth', [
    ('approxifer', 2, 1, 1), ('approxifer', 4, 0, 1), ('approxifer', 4, 1, 0.95), ('approxifer', 8, 0, 0.9),
    ('berrut', 3, 0, 1), ('berrut', 4, 1, 0.85)])
def test_a_single_wrong_worker_is_found_wherever_it_is(form, k, stragglers, least_if_smooth):
  """Over a linear F the fit is exact and every one is found; over tanh all here, but 95 % at the systematic k = 4."""
  located = rates(form, k, 1, stragglers, 1)
  assert located['linear'] == 1 and located['smooth'] >= least_if_smooth


@pytest.mark.parametrize('form, k, stragglers, least_if_linear, least_if_smooth', [
    ('approxifer', 3, 1, 1, 0.95), ('approxifer', 4, 0, 1, 0.9), ('approxifer', 8, 0, 1, 0.8),
    ('berrut', 4, 0, 0.95, 0.8)])
def test_two_wrong_workers_are_located_nearly_always(form, k, stragglers, least_if_linear, least_if_smooth):
  """Found in 100 trials over a linear F: 100, 100, 100, 99; over tanh: 100, 99, 91, 87; asked for is a little less."""
  located = rates(form, k, 2, stragglers, 10, 10)
  assert located['linear'] >= least_if_linear and located['smooth'] >= least_if_smooth


@pytest.mark.parametrize('form', PARTS_OF)
def test_a_wrong_answer_is_left_out(form, rng):
  """Over a linear F: answers are those of the formula without the wrong one, even where that was a query's own."""
  code = Code(3, 5)
  encoder, decoder = PARTS_OF[form]
  scheme = make_scheme(code, np.tanh, encoder(code), decoder(code, num_byzantine=1))
  decode = jax.jit(jax.vmap(lambda outputs: scheme.decode(NOTHING, outputs, np.ones(code.n, bool))))
  right = FUNCTIONS['linear'](coded_in_numpy(form, code, rng.normal(size=(3, 12))))
  spoiled = right + 5 * np.eye(code.n)[:, :, None] * rng.choice([-1, 1], 10)  # [which is wrong, n, 10]
  data, workers = chebyshev(form, 3, code.n)
  for i, got in enumerate(np.asarray(decode(spoiled.astype('f4')))):
    expected = np.stack([interpolant(z, np.delete(workers, i), np.delete(right, i, 0)) for z in data])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_answers_that_are_all_the_same_are_located_without_nan():
  nodes = np.array(chebyshev('approxifer', 2, 6)[1])
  locate = jax.jit(partial(locate_byzantine, nodes, k=2, num_byzantine=1))
  got = np.asarray(locate(np.ones((6, 3), 'f4'), np.arange(6) != 1))
  assert got.sum() == 1 and not got[1]


@pytest.mark.parametrize('form', PARTS_OF)
@pytest.mark.parametrize('k, r, wrong', [(2, 3, 1), (3, 4, 1), (2, 5, 2), (2, 8, -1)])
def test_too_few_parities_to_locate_as_many(form, k, r, wrong):
  decoder = PARTS_OF[form][1]
  with pytest.raises(InputError, match=f'num_byzantine={wrong} .*n={k + r}.* r of at least'):
    decoder(Code(k, r), num_byzantine=wrong)
  decoder(Code(k, k + 2 * abs(wrong)), num_byzantine=abs(wrong))
