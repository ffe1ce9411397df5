"""Load on a service: that its figures are those of what happened, on workers of this process."""

import asyncio
import resource

import numpy as np
import pytest

from experiments.studies import load, load_suite, overhead
from lcode.errors import InputError
from lcode.serving.disturbed import Disturbance, disturbed
from lcode.serving.served import Answerers, Served
from lcode.serving.service import Service
from tests.serving.local import C, D, linear, LocalCluster, served


def measured(wanted, model=None, does=lambda worker, call: 0.0, grid=None, **fields):
  counter, model = load.Counter(), model or served()
  queries = np.random.default_rng(0).normal(size=(50, D)).astype('f4')
  cluster = LocalCluster(does)
  cluster.busy_s = lambda handles: asyncio.sleep(0, [handle.busy_s for handle in handles])
  service = Service(model, model.options(**fields), cluster=cluster, observer=counter)

  async def run():
    async with service:
      return await load.run(service, counter, queries, linear(queries).argmax(1), wanted, grid)
  return asyncio.run(run())


def test_figures_are_of_what_was_sent():
  grid = np.array([0.5, 0.9])
  figures = measured(load.Load(rate=300, seconds=0.5, warmup_s=0.1), grid=grid)
  assert figures['sent'] == figures['answered'] and figures['lost'] == figures['doubled'] == figures['refused'] == 0
  assert abs(figures['sent'] - 180) < 5 * 180**0.5  # Poisson
  assert 0 < figures['exact'] + figures['reconstructed'] < figures['sent']  # the warm-up is not counted
  assert figures['overall_accuracy'] == 1 and figures['degraded_accuracy'] in (1, None)
  peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  assert len(figures['memory_mb']) == 5 and all(20 < held <= 1.01 * peak_mb for held in figures['memory_mb'])
  assert figures['latencies_ms'] == [figures['p50_ms'], figures['p90_ms']]
  assert 0 < figures['p50_ms'] <= figures['p99_ms'] <= figures['max_ms'] and 0 <= figures['utilisation'] < 1


def test_what_a_service_adds_is_what_its_calls_take_longer():
  model = served()

  def service(seconds):
    return Service(model, model.options('none'), cluster=LocalCluster(lambda worker, call: seconds))

  async def run():
    async with service(0.004) as quick, service(0.024) as slow:
      return await overhead.measure({'quick': quick, 'slow': slow}, np.zeros(D, 'f4'), 15, gap_ms=0.0, warmup=2)
  figures = asyncio.run(run())
  assert 4 <= figures['bare call']['p50_ms'] <= figures['bare call']['p99_ms']
  assert figures['slow']['added_p50_ms'] == figures['slow']['p50_ms'] - figures['bare call']['p50_ms']
  assert figures['quick']['added_median_ms'] < 10 < figures['slow']['added_median_ms'] < 40
  with pytest.raises(InputError, match='services'):
    asyncio.run(overhead.measure({}, np.zeros(D, 'f4'), 1))


def test_a_service_that_stands_still_is_seen():
  """Each call of two workers takes 20 ms, at three times what they can do: latencies grow to the length of the load."""
  figures = measured(load.Load(rate=400, seconds=0.5, warmup_s=0), does=lambda worker, call: 0.02, max_outstanding=1,
                     group_wait=1000.0)
  assert figures['max_ms'] > 300 and figures['lost'] == 0


def test_refused_and_late_queries_are_counted():
  figures = measured(load.Load(rate=500, seconds=0.4, warmup_s=0), does=lambda worker, call: 0.02 if call > 1 else 0.0,
                     max_outstanding=1, max_queued=3)
  assert figures['refused'] > 50 and figures['sent'] == figures['answered'] + figures['refused']
  assert figures['overall_accuracy'] < 1  # a query without an answer is not answered rightly
  figures = measured(load.Load(rate=100, seconds=0.3, warmup_s=0), does=lambda worker, call: None if call > 1 else 0.0,
                     deadline=30.0)
  assert figures['late'] == figures['sent'] and figures['p50_ms'] is None and figures['overall_accuracy'] == 0


def test_disturbed_workers_take_their_time_and_answer_the_same():
  model = Served(lambda worker: Answerers(linear, lambda x, j: linear(x)), (D,))
  slow = disturbed(model, Disturbance('deterministic', 30.0, slow_share=0.5, slow_factor=2.0, slow_ms=5.0))
  x = np.ones((2, D), 'f4')
  for worker, took in ((0, 0.03), (1, 0.065)):
    answerers, loop = slow.load(worker), asyncio.new_event_loop()
    began = loop.time()
    np.testing.assert_array_equal(answerers.base(x), linear(x))
    np.testing.assert_array_equal(answerers.reply(x, 0), linear(x))
    assert loop.time() - began >= 2 * took
    loop.close()
  wrong = disturbed(model, Disturbance(wrong_share=1.0)).load(0)
  assert np.isnan(wrong.base(x)).all() and wrong.base(x).shape == (2, C)


def test_half_of_the_workers_are_slow():
  for share in (0.0, 0.25, 0.5, 1.0):
    slow = [Disturbance(slow_share=share).is_slow(worker) for worker in range(20)]
    assert sum(slow) == 20 * share


@pytest.mark.parametrize('fields', [dict(service='abacus'), dict(service_ms=3.0), dict(slow_share=1.5),
                                    dict(slow_factor=0.5), dict(slow_ms=-1.0), dict(seed=-1)])
def test_nonsense_disturbances_are_refused(fields):
  with pytest.raises(InputError):
    Disturbance(**fields)


@pytest.mark.parametrize('fields', [dict(rate=0), dict(seconds=-1), dict(seconds=float('inf')), dict(seed=-1)])
def test_nonsense_loads_are_refused(fields):
  with pytest.raises(InputError):
    load.Load(**fields)


def test_the_suite_s_summary_is_of_medians():
  rows = [{'rate': rate, 'name': name, 'seed': seed, 'p50_ms': 20.0, 'p99_ms': 30.0, 'p999_ms': 40.0 + 10 * seed,
           'utilisation': 0.5, 'degraded_accuracy': None if name == 'none' else 0.9, 'overall_accuracy': 0.95,
           'lost': 0, 'refused': 0, 'latencies_ms': [1.0] * len(load_suite.GRID)}
          for rate in (300.0, 270.0) for name in ('none', 'hedged') for seed in (0, 1, 2)]
  means = load_suite.summary(rows)
  assert [(row['rate'], row['name']) for row in means] == [(270.0, 'none'), (270.0, 'hedged'), (300.0, 'none'),
                                                           (300.0, 'hedged')]
  assert all(row['gap_ms'] == 30 and row['p999_ms'] == 50 and row['seeds'] == 3 for row in means)
  assert means[0]['degraded_accuracy'] is None and means[1]['degraded_accuracy'] == 0.9
  assert load_suite.table(means).count('\n') == 5


def test_the_suite_s_pictures(tmp_path):
  rows = [{'rate': 270.0, 'name': name, 'seed': 0, 'p50_ms': 20.0, 'p99_ms': 30.0, 'p999_ms': 40.0, 'utilisation': 0.5,
           'degraded_accuracy': 0.9, 'overall_accuracy': 0.95, 'lost': 0, 'refused': 0,
           'latencies_ms': np.linspace(10, 40, len(load_suite.GRID)).tolist()} for name in load_suite.MODES]
  assert all(path.stat().st_size > 1000 for path in load_suite.save_pictures(rows, tmp_path))
