"""Addition and subtraction over linear F by brute force and NumPy's least squares; tiles; copies."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode.coding.code import Code, every_pattern
from lcode.coding.coders.linear import parity_weights
from lcode.coding.scheme import make_scheme, PARTS
from lcode.errors import InputError

NOTHING = {part: {} for part in PARTS}  # the parameters of codes that have none
EPSILON = np.finfo('f4').eps
KERNEL = np.random.default_rng(7).normal(size=(12, 4)).astype('f4')
BIAS = np.arange(4, dtype='f4') - 2


def linear(x):
  return np.asarray(x).reshape(len(x), -1) @ KERNEL


def affine(x):
  return linear(x) + BIAS


def every_decoding(scheme):
  """(outputs f32[n, C], available bool[s, n]) -> f32[s, k, C]."""
  return jax.jit(jax.vmap(lambda outputs, available: scheme.decode(NOTHING, outputs, available), (None, 0)))


def solved_by_numpy(weights, outputs, available):
  """(answers f64[k, C], how much an error is amplified) by least squares, what arrived held fixed."""
  r, k = weights.shape
  outputs, data, there = np.asarray(outputs, 'f8'), available[:k], available[k:]
  answers = np.where(data[:, None], outputs[:k], 0)
  system = weights[there][:, ~data]
  if not system.size:
    return answers, 1.0
  answers[~data] = np.linalg.lstsq(system, outputs[k:][there] - weights[there] @ answers, rcond=1e-12)[0]
  return answers, 1 + np.linalg.cond(system) * np.linalg.norm(np.linalg.pinv(system), np.inf)


@pytest.mark.parametrize('k', [1, 2, 3, 5, 8])
@pytest.mark.parametrize('r', [1, 2, 3])
def test_every_scenario_of_a_linear_and_an_affine_f_is_reconstructed(k, r, rng):
  code = Code(k, r)
  scheme = make_scheme(code, linear, 'addition', 'subtraction')
  x = rng.normal(size=(k, 3, 4)).astype('f4')
  parities = scheme.encode(NOTHING, x)
  outputs = np.concatenate([np.hstack([linear(units), affine(units)]) for units in (x, parities)])
  flat = x.reshape(k, -1).astype('f8')
  expected = np.hstack([flat @ KERNEL, flat @ KERNEL + BIAS])
  scenarios = every_pattern(code)
  error = np.abs(np.asarray(every_decoding(scheme)(outputs, scenarios)) - expected).max((1, 2))
  scale = 1 + np.abs(expected).max()
  for available, largest in zip(scenarios, error):
    _, amplified = solved_by_numpy(parity_weights(code), np.zeros((code.n, 1)), available)
    assert largest < 4 * EPSILON * amplified * scale
  if r == 1:
    assert error.max() < 2e-6 * k * scale


def test_one_parity_is_the_mean_and_the_answer_the_parity_minus_the_rest(rng):
  code = Code(4, 1)
  scheme = make_scheme(code, linear, 'addition', 'subtraction')
  x, outputs = rng.normal(size=(4, 3, 5, 2)).astype('f4'), rng.normal(size=(5, 3)).astype('f4')
  np.testing.assert_allclose(scheme.encode(NOTHING, x)[0], x.mean(0), rtol=1e-5, atol=1e-6)
  for i in range(4):
    got = scheme.decode(NOTHING, outputs, np.arange(5) != i)
    np.testing.assert_allclose(got[i], 4 * outputs[4] - np.delete(outputs[:4], i, 0).sum(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('k', range(1, 11))
def test_every_square_minor_is_invertible(k):
  weights = parity_weights(Code(k, 4))
  np.testing.assert_allclose(weights[0], np.full(k, 1 / k), rtol=1e-14)
  np.testing.assert_allclose(weights.sum(1), np.ones(4), rtol=1e-14)
  for size in range(1, min(k, 4) + 1):
    for rows, columns in itertools.product(*(itertools.combinations(range(m), size) for m in (4, k))):
      assert np.linalg.cond(weights[np.ix_(rows, columns)]) < 1e5
  for r in (1, 2, 3):  # a parity does not depend on how many there are
    np.testing.assert_array_equal(parity_weights(Code(k, r)), weights[:r])


def test_the_nodes_are_better_conditioned_than_1_to_k():
  def worst(weights):
    return max(np.linalg.norm(np.linalg.inv(weights[:, c]), np.inf) for c in itertools.combinations(range(10), 3))
  plain = np.arange(1, 11) ** np.arange(3.)[:, None]
  assert worst(parity_weights(Code(10, 3))) == pytest.approx(713, abs=1)
  assert worst(plain / plain.sum(1, keepdims=True)) == pytest.approx(2175, abs=1)


@pytest.mark.parametrize('k, r', [(1, 3), (3, 3), (5, 2)])
def test_parities_that_disagree_are_solved_by_least_squares(k, r, rng):
  """Every pattern, also more queries missing than parities there: then the smallest answer that fits, and finite."""
  code = Code(k, r)
  outputs = rng.normal(size=(code.n, 3)).astype('f4')
  patterns = np.array(list(itertools.product([True, False], repeat=code.n)))
  decoded = np.asarray(every_decoding(make_scheme(code, linear, 'addition', 'subtraction'))(outputs, patterns))
  assert np.isfinite(decoded).all()
  for available, got in zip(patterns, decoded):
    expected, amplified = solved_by_numpy(parity_weights(code), outputs, available)
    assert np.abs(got - expected).max() < 16 * EPSILON * amplified * (1 + np.abs(expected).max())
    np.testing.assert_array_equal(got[available[:k]], outputs[:k][available[:k]])


def shrunk(image, axis, size):
  """Resized along an axis by a triangle as wide as two pixels of the result: antialiased linear resizing."""
  step = image.shape[axis] / size
  centre = (np.arange(size) + 0.5) * step - 0.5
  weights = np.maximum(1 - np.abs(centre[:, None] - np.arange(image.shape[axis])) / step, 0)
  return np.moveaxis(np.tensordot(weights / weights.sum(1, keepdims=True), image, (1, axis)), 0, axis)


GRIDS = {2: [[1, 2]], 3: [[1, 2], [3, 0]], 4: [[1, 2], [3, 4]], 5: [[1, 2, 3], [4, 5, 0]]}


@pytest.mark.parametrize('k, height, width', [(2, 12, 18), (3, 7, 11), (4, 12, 18), (5, 12, 18)])
def test_tiles_of_the_concatenation(k, height, width, rng):
  grid = GRIDS[k]
  scheme = make_scheme(Code(k, 2), linear, 'concatenation', 'subtraction')
  encode = jax.jit(lambda x: scheme.encode(NOTHING, x))
  rows, columns = np.shape(grid)
  tops, lefts = np.rint(np.linspace(0, height, rows + 1)), np.rint(np.linspace(0, width, columns + 1))
  owner = np.repeat(np.repeat(grid, np.diff(tops).astype(int), 0), np.diff(lefts).astype(int), 1)
  plain = np.ones((k, height, width, 2), 'f4') * np.arange(1, k + 1)[:, None, None, None].astype('f4')
  parities = np.asarray(encode(plain))
  assert parities.shape == (2, height, width, 2)
  np.testing.assert_array_equal(parities[0], parities[1])
  np.testing.assert_allclose(parities[0], np.stack([owner, owner], -1), rtol=1e-6)
  x = rng.normal(size=plain.shape).astype('f4')
  parity = np.asarray(encode(x))[0]
  for i in range(k):
    inside = owner == i + 1
    shape = inside.any(1).sum(), inside.any(0).sum()
    tile = shrunk(shrunk(x[i].astype('f8'), 0, shape[0]), 1, shape[1])
    np.testing.assert_allclose(parity[inside].reshape(*shape, 2), tile, rtol=1e-4, atol=1e-5)
    changed = x.copy()
    changed[i] += 1
    moved = np.asarray(encode(changed))[0] - parity
    np.testing.assert_array_equal(moved[~inside], 0)
    np.testing.assert_allclose(moved[inside], np.ones((inside.sum(), 2)), rtol=1e-4)


def test_a_tile_of_an_image_of_blocks_shows_the_means_of_the_blocks(rng):
  blocks = rng.normal(size=(4, 2, 3, 1)).astype('f4')
  images = blocks.repeat(6, 1).repeat(6, 2)  # 6 x 6 pixels are 3 x 3 of a quadrant; that in the middle sees no other
  parity = make_scheme(Code(4, 1), linear, 'concatenation', 'subtraction').encode(NOTHING, images)[0]
  middle = np.asarray(parity).reshape(2, 2, 3, 2, 3, 3, 1)[:, :, 1, :, :, 1]  # [row, block, column, block, 1]
  np.testing.assert_allclose(middle.transpose(0, 2, 1, 3, 4).reshape(4, 2, 3, 1), blocks, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('shape', [(36,), (6, 6), (2, 6, 6, 1), (1, 6, 1), (6, 1, 1)])
def test_concatenation_wants_images_with_room_for_all(shape):
  scheme = make_scheme(Code(4, 1), linear, 'concatenation', 'subtraction')
  with pytest.raises(InputError, match='at least 2 x 2 pixels'):
    scheme.encode(NOTHING, np.zeros((4, *shape), 'f4'))


@pytest.mark.parametrize('k, r', [(1, 2), (2, 4)])
def test_copies_answer_for_queries(k, r, rng):
  code = Code(k, r)
  scheme = make_scheme(code, jnp.tanh, 'replication', 'replication')
  x = rng.normal(size=(k, 5)).astype('f4')
  copies = scheme.encode(NOTHING, x)
  np.testing.assert_array_equal(copies, [x[i % k] for i in range(r)])
  outputs = np.tanh(np.concatenate([x, copies]))
  scenarios = every_pattern(code)
  for available, got in zip(scenarios, every_decoding(scheme)(outputs, scenarios)):
    answered = available.reshape(-1, k).any(0)[:, None]
    np.testing.assert_array_equal(got, np.where(answered, outputs[:k], 0))


def test_copies_that_disagree_are_averaged():
  scheme = make_scheme(Code(1, 3), jnp.tanh, 'replication', 'replication')
  got = scheme.decode(NOTHING, np.array([[9.], [1.], [2.], [6.]], 'f4'), np.array([False, True, False, True]))
  np.testing.assert_allclose(got, [[3.5]])


@pytest.mark.parametrize('k, r', [(2, 1), (2, 3), (3, 4)])
@pytest.mark.parametrize('encoder, decoder', [('replication', 'replication'), ('replication', 'mlp'),
                                              ('mlp', 'replication')])
def test_copies_come_in_whole_rounds(k, r, encoder, decoder):
  with pytest.raises(InputError, match=f'r={r} .*k={k} '):
    make_scheme(Code(k, r), linear, encoder, decoder)
