import jax
import numpy as np
import pytest

from lcode.training import metrics


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
      found = [getattr(counts, name)[scenario, unit] for name in
               ('loss', 'erased', 'reconstructed', 'degraded', 'available')]
      np.testing.assert_allclose(found, [loss, erased, reconstructed, degraded, available], rtol=1e-6)


def test_counts_of_parts_merge_to_those_of_the_whole(batch):
  whole = metrics.count(**batch)
  parts = [metrics.count(**{name: value[part] for name, value in batch.items()})
           for part in (slice(0, 5), slice(5, 6), slice(6, 12))]
  merged = metrics.merge(metrics.merge(*parts[:2]), parts[2])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), whole, merged)


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


def test_overall_accuracy():
  assert metrics.overall_accuracy(0.9, 0.5, 0.25) == pytest.approx(0.8)


@pytest.mark.parametrize('successes, trials', [(0, 10), (7, 10), (10, 10), (950, 1000)])
def test_wilson_interval_solves_its_equation(successes, trials):
  z, p = 1.959964, successes / trials
  for bound in metrics.wilson_interval(successes, trials):
    assert (p - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / trials, abs=1e-12)
  assert metrics.wilson_interval(0, 0) == (0, 1)
