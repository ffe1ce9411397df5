"""The simulator: its fast path, a second simulator (SimPy) and ParM's figures agree with it; disturbances disturb."""

import dataclasses
import math
import random

import numpy as np
import pytest
from scipy import stats

from lcode.errors import InputError
from lcode.serving.events import BASE
from lcode.serving.fast import simulate_fast, without_queues
from lcode.serving.options import make_options
from lcode.serving.service_times import Pauses, Shuffles, Slow, make_service, stream
from lcode.serving.simulator import HOW, Setup, simulate, streams_of

ONE = {'max_outstanding': 1}


@pytest.mark.parametrize('service', ['exponential', 'parm'])
@pytest.mark.parametrize('rate', [40.0, 95.0])
def test_the_fast_path_is_the_event_loop(service, rate):
  options, setup = make_options('none', **ONE, max_queued=10**6), Setup(2, 0, rate, 3000, 0, service)
  slow, fast = simulate(options, setup), simulate_fast(options, setup)
  np.testing.assert_array_equal(slow.latency_ms, fast.latency_ms)
  np.testing.assert_array_equal(slow.how, fast.how)
  assert slow.base_busy == pytest.approx(fast.base_busy)


def test_the_fast_path_with_a_queue_for_each_worker_is_the_event_loop():
  options = make_options('none', queues='round_robin', max_queued=10**6)
  setup = Setup(3, 0, 140.0, 3000, 0, 'deterministic')
  np.testing.assert_allclose(simulate(options, setup).latency_ms, simulate_fast(options, setup).latency_ms)


def test_the_fast_path_leaves_what_it_cannot_do():
  setup = Setup(2, 0, 140.0, 3000, 0, 'exponential')
  for options, other in [(make_options('coded'), setup), (make_options('none'), setup),
                         (make_options('none', **ONE, deadline=100.0), setup),
                         (make_options('none', **ONE, max_queued=5), setup),
                         (make_options('none', **ONE), dataclasses.replace(setup, slow_share=0.5)),
                         (make_options('none', queues='shortest'), setup)]:
    assert simulate_fast(options, other) is None


@pytest.mark.parametrize('name, fields', [
    ('none', {}), ('replication', {}), ('hedged', dict(spare_quantile=None, spare_after=25.0)), ('tied', {}),
    ('backup', dict(hold_quantile=None, hold=20.0)), ('coded', {}), ('coded', dict(k=3, r=2)),
    ('coded', dict(alone=True)), ('coded', dict(k=2, passthrough=False, spare_pool=BASE))])
def test_without_queues_is_the_event_loop_with_many_workers(name, fields):
  """Both are drawn alike, not the same: Kolmogorov and Smirnov's distance, at 1 in 10,000 (ties only shorten it)."""
  options = make_options(name, **fields, **ONE)
  setup = Setup(200, 100, 300.0, 8000, 1000, 'shifted_exponential', parity_scale=0.7, encode_ms=1.0)
  loop, fast = simulate(options, setup), without_queues(options, dataclasses.replace(setup, seed=1))
  # In a group latencies go together: as if there were one query for each.
  a, b = (outcome.latency_ms[outcome.uncounted:] for outcome in (loop, fast))
  assert stats.ks_2samp(a, b).statistic < math.sqrt(-math.log(0.5e-4) * options.k / len(a))
  exact = [(outcome.how[outcome.uncounted:] == HOW.index('exact')).mean() for outcome in (loop, fast)]
  assert abs(exact[0] - exact[1]) < 4 * math.sqrt(0.5 * options.k / len(a))


def parm_in_simpy(simpy, setup):
  """ParM's service written anew, as processes, over the same draws: two queues, and a parity for every two queries."""
  env = simpy.Environment()
  base, parity = simpy.Resource(env, setup.workers), simpy.Resource(env, setup.parity_workers)
  arrivals, services, _ = streams_of(setup)
  gaps = stream(lambda rng, size: rng.exponential(1e3 / setup.rate, size), arrivals)
  service, latency = stream(make_service(setup.service), services), {}

  def work(pool, factor, done, unwanted):
    with pool.request() as place:
      yield place | unwanted
      if unwanted.triggered:
        return
      yield env.timeout(next(service) * factor)
    done.succeed()

  def answer(query, began, own, decoded, over):
    yield own | decoded
    latency[query] = env.now - began
    over.succeed()

  def encode(own, unwanted, decoded):
    yield env.timeout(setup.encode_ms)
    spare, here = env.event(), 0
    env.process(work(parity, setup.parity_scale, spare, unwanted))
    while here < 2:
      yield env.any_of([event for event in (*own, spare) if not event.processed])
      here = sum(event.processed for event in (*own, spare))
    yield env.timeout(setup.decode_ms)
    decoded.succeed()

  def whole(overs, unwanted):
    yield env.all_of(overs)
    unwanted.succeed()

  def arrive():
    for query in range(0, setup.queries, 2):
      own, overs = [env.event(), env.event()], [env.event(), env.event()]
      decoded, unwanted = env.event(), env.event()
      env.process(whole(overs, unwanted))
      for position in (0, 1):
        yield env.timeout(next(gaps))
        env.process(work(base, 1.0, own[position], unwanted))
        env.process(answer(query + position, env.now, own[position], decoded, overs[position]))
      env.process(encode(own, unwanted, decoded))

  env.process(arrive())
  env.run()
  return np.array([latency[query] for query in range(setup.queries)])


@pytest.mark.parametrize('rate, factor', [(120.0, 0.8), (180.0, 1.1)])
def test_a_coded_service_under_load_is_to_the_query_what_another_simulator_makes_of_it(rate, factor):
  simpy = pytest.importorskip('simpy')
  setup = Setup(4, 2, rate, 5000, 0, 'exponential', parity_scale=factor, encode_ms=0.07, decode_ms=0.03)
  ours = simulate(make_options('coded', **ONE, deadline=math.inf, max_queued=10**6, group_wait=math.inf), setup)
  np.testing.assert_allclose(ours.latency_ms, parm_in_simpy(simpy, setup), atol=1e-6)
  figures = ours.figures()
  assert figures['reconstructed'] > 500 and figures['p99_ms'] > 3 * 20


PUBLISHED = {'equal': (20.3, 33.3, 38.3, 52.8), 'coded': (20.5, 25.5, 26.8, 30.8)}  # arXiv:1905.00863, by eye


@pytest.mark.parametrize('name', PUBLISHED)
def test_parms_percentiles_within_a_tenth(name):
  """At 270 queries a second. A p99.9 of so many has a standard error below 1 ms."""
  workers = {'workers': 12, 'parity_workers': 6} if name == 'coded' else {'workers': 18, 'parity_workers': 0}
  options, setup = make_options(name, **ONE), Setup(**workers, queries=60_000, parity_extra_ms=2.0)
  figures = (simulate_fast(options, setup) or simulate(options, setup)).figures()
  made = [figures[mark] for mark in ('p50_ms', 'p99_ms', 'p995_ms', 'p999_ms')]
  np.testing.assert_allclose(made, PUBLISHED[name], rtol=0.1)


def test_the_same_seed_gives_the_same_outcome_and_another_does_not():
  options, setup = make_options('coded', queues='shortest'), Setup(queries=2000, shuffles=2, slow_share=0.2)
  one, two, other = (simulate(options, s) for s in (setup, setup, dataclasses.replace(setup, seed=1)))
  np.testing.assert_array_equal(one.latency_ms, two.latency_ms)
  assert (one.latency_ms != other.latency_ms).mean() > 0.1


def test_policies_meet_the_same_arrivals():
  setup = Setup(40, 20, 270.0, 4000, 0, 'deterministic', 20.0, encode_ms=0.0, decode_ms=0.0)
  for name in ('none', 'coded', 'replication', 'hedged', 'backup'):
    np.testing.assert_allclose(simulate(make_options(name, **ONE), setup).latency_ms, 20.0)


def test_codes_and_copies_answer_for_slow_workers():
  setup = Setup(18, 0, 200.0, 6000, 1000, 'deterministic', 20.0, slow_share=1 / 6, slow_factor=4.0)
  plain = simulate(make_options('none', **ONE), setup).latency_ms
  slow = (plain[1000:] > 79.0).mean()
  assert 0.05 < slow < 0.2
  coded = simulate(make_options('coded', **ONE), dataclasses.replace(setup, workers=12, parity_workers=6))
  hedged = simulate(make_options('hedged', spare_quantile=None, spare_after=25.0, **ONE), setup)
  assert (coded.latency_ms[1000:] > 79.0).mean() < slow / 3
  assert (hedged.latency_ms[1000:] > 79.0).mean() < slow / 3


def test_more_than_the_workers_can_is_refused_and_late():
  setup = Setup(2, 0, 200.0, 4000, 400, 'deterministic', 20.0)  # twice what they can
  figures = simulate(make_options('none', **ONE, max_queued=10, deadline=math.inf), setup).figures()
  assert figures['refused'] / figures['counted'] == pytest.approx(0.5, abs=0.03)
  assert figures['max_ms'] <= 20.0 * (1 + math.ceil(11 / 2)) + 1e-6 and figures['utilisation'] > 0.99
  figures = simulate(make_options('none', **ONE, max_queued=10**6, deadline=100.0), setup).figures()
  assert figures['max_ms'] == pytest.approx(100.0) and figures['late'] > 0.3 * figures['counted']


def test_batches_carry_more_than_single_calls():
  setup = Setup(2, 0, 200.0, 4000, 400, 'deterministic', 20.0, batch_cost=0.1)
  alone, batched = (simulate(make_options('none', **ONE, batch_size=size, max_queued=10), setup).figures()
                    for size in (1, 4))
  assert alone['refused'] > 1000 and batched['refused'] < 10


@pytest.mark.parametrize('name, retries', [('none', 0), ('none', 2), ('coded', 0), ('coded', 2)])
def test_workers_that_fail_cost_what_nothing_makes_up_for(name, retries):
  """A call of 20 ms meets a failure at a rate of 1 in 400 ms: that share of units is lost."""
  setup = Setup(20, 10, 200.0, 8000, 0, 'deterministic', 20.0, failure_every_ms=400.0, repair_ms=50.0)
  figures = simulate(make_options(name, **ONE, retries=retries), setup).figures()
  lost = 1 - math.exp(-20 / 400)
  two = lost * (1 - (1 - lost) ** 2)  # its own unit, and one of the other two
  expected = {('none', 0): lost, ('coded', 0): two}.get((name, retries), 0.0)
  margin = 4 * math.sqrt(max(expected, 1e-4) * 2 / 8000)
  assert figures['failed'] / 8000 == pytest.approx(expected, abs=margin) and figures['late'] == 0
  assert figures['exact'] + figures['reconstructed'] + figures['failed'] == 8000


def test_stopping_what_is_cancelled_saves_work():
  setup = Setup(20, 0, 200.0, 4000, 0, 'exponential', stops_when_cancelled=True)
  saved, whole = (simulate(make_options('replication', **ONE), dataclasses.replace(setup, stops_when_cancelled=stops))
                  for stops in (True, False))
  assert saved.base_busy == pytest.approx(0.2, rel=0.1) and whole.base_busy == pytest.approx(0.4, rel=0.1)


def test_service_times(tmp_path):
  rng = np.random.default_rng(0)
  np.save(tmp_path / 'trace.npy', [1.0, 2.0, 6.0])
  for name, own in [('exponential', 20.0), ('deterministic', 20.0), ('shifted_exponential', 20.0), ('parm', 20.762),
                    (str(tmp_path / 'trace.npy'), 3.0)]:
    for mean in (None, 7.0):
      drawn = make_service(name, mean)(rng, 200_000)
      assert drawn.min() > 0 and drawn.mean() == pytest.approx(mean or own, rel=0.015)
  np.save(tmp_path / 'bad.npy', [1.0, -2.0])
  for name, mean, words in [('gamma', None, "'gamma'"), ('exponential', 0.0, 'service_ms=0'), (3, None, 'unknown'),
                            (str(tmp_path / 'no.npy'), None, 'cannot be read'),
                            (str(tmp_path / 'bad.npy'), None, 'no list of service times')]:
    with pytest.raises(InputError, match=words):
      make_service(name, mean)


def test_a_pause_stops_all_workers_of_a_machine():
  """Against the pauses themselves, walked through in steps of a hundredth."""
  pauses, rng = Pauses(30.0, 10.0, 2, random.Random(1)), random.Random(2)
  asked, start = [], 0.0
  for _ in range(40):
    start += rng.expovariate(1 / 5)
    work = rng.uniform(1, 40)
    known = list(pauses.coming[0])
    end = pauses.end(rng.choice([0, 1]), start, work)
    asked.append((start, work, end, known + list(pauses.coming[0])))
  for start, work, end, known in asked:
    t, left = start, work
    while left > 0:
      t += 0.01
      left -= 0.0 if any(begin <= t < over for begin, over in known) else 0.01
    assert t == pytest.approx(end, abs=0.1)
  worker, t, done = Pauses(30.0, 10.0, 1, random.Random(3)), 0.0, 0.0
  for _ in range(20_000):
    t, done = worker.end(0, t, 5.0), done + 5.0
  assert t / done == pytest.approx(40 / 30, rel=0.05)  # 2,500 pauses or so


def test_shuffles_and_slow_workers():
  shuffles = Shuffles(4, 18, random.Random(0))
  extra, seen = 0.0, []
  for step in range(60_000):
    extra += shuffles.end(step % 18, 2.0 * step, 20.0) - 2.0 * step - 20.0
    seen.append(sum(shuffles.shuffling))
  assert set(seen) == {8} and extra / 60_000 == pytest.approx(0.06 * 7.7, rel=0.1)
  slow = Slow(0.25, 3.0, 8, random.Random(0))
  assert sorted(slow.end(worker, 1.0, 2.0) for worker in range(8)) == [3.0] * 6 + [7.0] * 2


@pytest.mark.parametrize('fields', [
    dict(workers=0), dict(queries=0), dict(rate=0.0), dict(rate=math.nan), dict(slow_share=1.5), dict(warmup=200_000),
    dict(parity_workers=-1), dict(encode_ms=-1.0), dict(service='x'), dict(seed=-1), dict(repair_ms=math.inf),
    dict(workers=1, parity_workers=0, shuffles=1), dict(stops_when_cancelled=1)])
def test_what_is_not_allowed_is_a_sentence(fields):
  with pytest.raises(InputError, match=f'{list(fields)[-1]}|{list(fields.values())[-1]}'):
    Setup(**fields)


def test_other_input_is_a_sentence():
  for function in (simulate, simulate_fast, without_queues):
    with pytest.raises(InputError, match='options is a str'):
      function('coded', Setup())
    with pytest.raises(InputError, match='setup is a dict'):
      function(make_options('coded'), {})
  with pytest.raises(InputError, match='without queues'):
    without_queues(make_options('coded'), Setup(shuffles=1))
  assert len(streams_of(Setup())) == 3


def test_a_share_of_the_queries_has_a_deadline_of_its_own():
  """Nobody waits, exponential of 20 ms: of those with 30 ms of their own exp(-1.5) are late, of the others none."""
  options = make_options('none', deadline=math.inf, max_outstanding=1)
  setup = Setup(workers=1000, parity_workers=0, rate=100.0, queries=20_000, service='exponential', service_ms=20.0,
                own_deadline_share=0.4, own_deadline_ms=30.0, seed=1)
  figures = simulate(options, setup).figures()
  share, error = 0.4 * math.exp(-1.5), math.sqrt(0.09 * 0.91 / figures['counted'])
  assert figures['late'] / figures['counted'] == pytest.approx(share, abs=4 * error)
  assert simulate_fast(options, setup) is None
