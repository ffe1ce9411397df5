import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode.coding.code import Code
from lcode.coding.codec import make_codec
from lcode.coding.parity_model import from_module
from lcode.coding.scheme import make_scheme
from lcode.coding.units import stack_units
from lcode.data import Arrays
from lcode.errors import InputError
from lcode.training import metrics
from lcode.training.evaluate import evaluate


@pytest.fixture
def batch(rng):
  g, s, k, num_outputs = 12, 4, 3, 5
  return {'loss': rng.random((g, s, k)).astype('f4'), 'reconstructed': rng.normal(size=(g, s, k, num_outputs)),
          'base_outputs': rng.normal(size=(g, k, num_outputs)), 'labels': rng.integers(num_outputs, size=(g, k)),
          'mask': rng.random((g, s, k)) < 0.5}


def test_counts_by_brute_force(batch):
  counts = jax.device_get(metrics.count(**batch))
  g, s, k = batch['mask'].shape
  for scenario in range(s):
    for unit in range(k):
      loss = erased = reconstructed = degraded = available = 0
      for group in range(g):
        if batch['mask'][group, scenario, unit]:
          guess = max(range(5), key=lambda c: batch['reconstructed'][group, scenario, unit, c])
          base = max(range(5), key=lambda c: batch['base_outputs'][group, unit, c])
          label = batch['labels'][group, unit]
          loss += batch['loss'][group, scenario, unit]
          erased += 1
          reconstructed += guess == base
          degraded += guess == label
          available += base == label
      actual = [getattr(counts, name)[scenario, unit] for name in
                ('loss', 'erased', 'reconstructed', 'degraded', 'available')]
      np.testing.assert_allclose(actual, [loss, erased, reconstructed, degraded, available], rtol=1e-6)


def test_counts_of_parts_merge_to_those_of_the_whole(batch):
  whole = metrics.count(**batch)
  parts = [metrics.count(**{name: value[part] for name, value in batch.items()})
           for part in (slice(0, 5), slice(5, 6), slice(6, 12))]
  merged = metrics.merge(metrics.merge(*parts[:2]), parts[2])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, merged)


def test_an_answer_with_a_nan_is_never_right(batch):
  """argmax answers the first NaN, here class 0, which is the label of a fifth of the units."""
  batch['reconstructed'] = np.full_like(batch['reconstructed'], np.nan)
  counts = metrics.count(**batch)
  assert counts.degraded.sum() == counts.reconstructed.sum() == 0 < counts.erased.sum()


def test_shapes_that_do_not_go_together_are_sentences(batch):
  for name, words in (('labels', r'labels \[11, 3\].*must be \[12, 3\]'), ('mask', r'mask \[11, 4, 3\]')):
    with pytest.raises(InputError, match=words):
      metrics.count(**{**batch, name: batch[name][1:]})


def test_summaries_divide_by_the_erased_units(batch):
  counts = metrics.count(**batch)
  figures = metrics.summarise(counts)
  guess, base = batch['reconstructed'].argmax(-1), batch['base_outputs'].argmax(-1)[:, None]
  mask = batch['mask']
  assert figures['erased'] == mask.sum()
  assert figures['reconstruction_accuracy'] == pytest.approx((guess == base)[mask].mean())
  assert figures['degraded_accuracy'] == pytest.approx((guess == batch['labels'][:, None])[mask].mean())
  assert figures['loss'] == pytest.approx(batch['loss'][mask].mean())
  second = metrics.summarise(counts, by_position=True)['degraded_accuracy'][1]
  assert second == pytest.approx((guess == batch['labels'][:, None])[..., 1][mask[..., 1]].mean())


@pytest.mark.parametrize('f', [0.0, 0.1, 0.4, 1.0])
@pytest.mark.parametrize('parts, k, r', [
    (('berrut', 'berrut'), 3, 2), (('approxifer', 'approxifer'), 3, 2), (('addition', 'subtraction'), 4, 1),
    (('replication', 'replication'), 2, 2), (('replication', 'replication', 'backup'), 1, 1)])
def test_overall_accuracy_is_that_of_a_simulation(parts, k, r, f):
  """Erasures are drawn and decoded, group by group; where more than r units are missing the default answer is given."""
  rng = np.random.default_rng(0)
  weights, images = rng.normal(size=(6, 4)).astype('f4'), rng.normal(size=(240, 6)).astype('f4')

  def linear(variables, x):
    return x @ variables + 0.3 * jnp.sin(4 * x[:, :4])

  backup = from_module(nn.Dense(4), shared=True, at_frontend=True, takes=('copies',))
  scheme = make_scheme(Code(k, r), linear, *parts[:2], *([backup] if len(parts) > 2 else []))
  params, state = scheme.init(jax.random.key(0), jnp.ones((k, 6)), 4, weights)
  if len(parts) > 2:
    params['parity_model'] = {'0': {'kernel': jnp.asarray(weights), 'bias': jnp.zeros(4)}}
  own = np.asarray(linear(weights, images))
  labels = np.where(rng.random(240) < 0.8, own.argmax(-1), rng.integers(4, size=240))
  figures = evaluate(scheme, params, state, weights, Arrays(images, labels), preprocess=jnp.asarray, loss='mse_base',
                     devices=jax.devices()[:1])
  formula = metrics.overall_accuracy(
      f, Code(k, r), [row['degraded_accuracy'] for row in figures['missing']], figures['available_accuracy'],
      figures['default_accuracy'], None if scheme.passthrough else figures['intact_accuracy'], scheme.at_frontend)
  codec = make_codec(scheme, params, state)
  units = codec.infer(weights, codec.encode(images.reshape(-1, k, 6)))
  if scheme.systematic:
    units = stack_units(jnp.asarray(own.reshape(-1, k, 4)), units)
  default, right, total = np.bincount(own.argmax(-1)).argmax(), 0, 0
  for _ in range(60):
    available = rng.random((240 // k, k + r)) >= f
    available[:, k:] |= scheme.at_frontend
    answers = np.asarray(codec.decode(units, jnp.asarray(available)))
    guesses = np.where(np.isnan(answers).any(-1), default, answers.argmax(-1))
    right, total = right + (guesses.ravel() == labels).sum(), total + 240
  assert formula == pytest.approx(right / total, abs=0.015)


@pytest.mark.parametrize('successes, trials', [(0, 10), (7, 10), (10, 10), (950, 1000)])
def test_wilson_interval_solves_its_equation(successes, trials):
  z, p = 1.959964, successes / trials
  for bound in metrics.wilson_interval(successes, trials):
    assert (p - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / trials, abs=1e-12)
  assert metrics.wilson_interval(0, 0) == (0, 1)


@jax.jit
def products(right, sets=None):
  """Of right[g, s, k], whether the answer to a unit that is erased in each of s patterns is right; via `tally`."""
  base, reconstructed = jnp.eye(2)[jnp.zeros_like(right[:, 0], int)], jnp.eye(2)[(~right).astype(int)]
  sets = jnp.ones((1, right.shape[1]), bool) if sets is None else sets
  mask = jnp.ones(right.shape, bool)
  return metrics.cluster(metrics.tally(reconstructed, base, jnp.zeros_like(right[:, 0], int), mask, sets))


def test_products_are_those_of_each_groups_sums(rng):
  right = rng.random((20, 5, 3)) < 0.7
  sets = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 0]], bool)
  actual = np.asarray(products(right, sets))
  assert actual.shape == (2, 4, 5, 5)
  for q, chosen in enumerate(sets):
    for position in range(4):
      of_group = right[:, chosen] if position == 3 else right[:, chosen, position:position + 1]
      y, m = of_group.sum((1, 2)), np.full(20, of_group[0].size)
      rows = np.stack([np.ones(20), m, y, y, m])  # F itself is always right
      np.testing.assert_array_equal(actual[q, position], rows @ rows.T)


def test_intervals_cover_the_truth_however_alike_the_answers_of_a_group_are(rng):
  """2,000 test sets of 60 groups: of a unit in 6 patterns nine in ten answers are one and the same, as in half of the
  groups are the two units'. What takes erasures as independent covers clearly less."""
  truth, groups, sets = 0.8, 60, 2000
  shape = (sets, groups, 6, 2)
  unit = rng.random((sets, groups, 1, 2)) < truth
  unit = np.where(rng.random((sets, groups, 1, 1)) < 0.5, unit[..., :1], unit)
  right = np.where(rng.random(shape) < 0.9, unit, rng.random(shape) < truth)
  clustered = old = 0
  for one, share in zip(np.asarray(jax.vmap(products)(right))[:, 0, -1], right.mean((1, 2, 3))):
    low, high = metrics.cluster_interval(one, 'degraded_accuracy')
    clustered += low <= truth <= high
    low, high = metrics.wilson_interval(share * right[0].size, right[0].size)
    old += low <= truth <= high
  assert 0.935 < clustered / sets < 0.965 and old / sets < 0.7


def test_the_interval_of_independent_answers_is_wilsons(rng):
  right = rng.random((4000, 1, 2)) < 0.9
  for position, trials in ((0, right[..., 0]), (1, right[..., 1]), (2, right)):
    actual = metrics.cluster_interval(products(right)[0, position], 'reconstruction_accuracy')
    np.testing.assert_allclose(actual, metrics.wilson_interval(trials.sum(), trials.size), atol=5e-4)


def test_the_interval_where_the_variance_is_unknown():
  """All right, all wrong or a single group: a group counts as one unit."""
  for right, expected in ((np.ones((9, 4, 2)), (9, 9)), (np.zeros((9, 4, 2)), (0, 9)),
                          (np.eye(2)[None], (0.5, 1)), (np.ones((0, 1, 2)), (0, 0))):
    actual = metrics.cluster_interval(products(right.astype(bool))[0, -1], 'degraded_accuracy')
    np.testing.assert_allclose(actual, metrics.wilson_interval(*expected), atol=1e-6)
  halves = np.broadcast_to(np.array([True, False]), (9, 1, 2))  # each group half right: no less than every unit counts
  np.testing.assert_allclose(metrics.cluster_interval(products(halves)[0, -1], 'degraded_accuracy'),
                             metrics.wilson_interval(9, 18), atol=1e-6)


def test_useless_proportions_are_sentences():
  for call, words in ((lambda: metrics.wilson_interval(3, 2), 'successes=3'),
                      (lambda: metrics.overall_accuracy(1.5, Code(2, 1), [0.5], 1, 0), 'unavailable=1.5'),
                      (lambda: metrics.overall_accuracy(0.5, Code(2, 2), [0.5], 1, 0), 'by_missing has 1'),
                      (lambda: metrics.cluster_interval(np.eye(5), 'loss'), "unknown accuracy 'loss'")):
    with pytest.raises(InputError, match=words):
      call()
