"""The simulator, through the policy, against what queueing theory says.

A margin is what chance leaves: the t quantile at 1 in 10,000 times the standard error of the means of 30 batches, which
follow each other, so that what neighbours have in common counts.
"""

import math

import numpy as np
import pytest
from scipy import stats

from lcode.errors import InputError
from lcode.serving import closed_forms as cf
from lcode.serving.events import BASE
from lcode.serving.fast import simulate_fast, without_queues
from lcode.serving.options import PolicyOptions
from lcode.serving.simulator import Setup, simulate

MU = 0.05  # 1 / 20 ms
BATCHES = 30


def plain(**fields):
  """Options without limits: what the theory knows of."""
  return PolicyOptions(**dict(deadline=math.inf, max_queued=10**9, max_outstanding=1) | fields)


def run(options, workers, load, queries=30_000, of=simulate, **fields):
  """Outcome at `load`, the rate relative to workers times MU."""
  return of(options, Setup(workers, rate=1e3 * load * workers * MU, queries=queries, **dict(
      parity_workers=0, service='exponential', encode_ms=0.0, decode_ms=0.0) | fields))


def check(values, expected, slack=0.0):
  batches = np.array([part.mean() for part in np.array_split(values, BATCHES)])
  margin = stats.t.ppf(1 - 0.5e-4, BATCHES - 1) * batches.std(ddof=1) / math.sqrt(BATCHES)
  assert margin < 0.2 * abs(expected), 'too few queries to tell'
  assert abs(batches.mean() - expected) <= margin + slack


def latencies(outcome):
  return outcome.latency_ms[outcome.uncounted:]


@pytest.mark.parametrize('of', [simulate, simulate_fast])
def test_one_queue(of):
  """M/M/c; the share of busy workers is the load."""
  outcome = run(plain(), 5, 0.7, of=of, queries=60_000)
  lam = 0.7 * 5 * MU
  check(latencies(outcome), cf.mmc_mean(lam, MU, 5))
  for t in (20.0, 60.0):
    check(latencies(outcome) > t, cf.mmc_tail(t, lam, MU, 5))
  assert outcome.base_busy == pytest.approx(0.7, abs=5 * 0.7 * math.sqrt(2 / 60_000))  # the work, over the time


@pytest.mark.parametrize('of', [simulate, simulate_fast])
@pytest.mark.parametrize('service, second', [('deterministic', 400.0), ('shifted_exponential', 500.0)])
def test_any_service_time_at_one_worker(of, service, second):
  check(latencies(run(plain(), 1, 0.6, of=of, service=service, service_ms=20.0)), cf.mg1_mean(0.6 * MU, 20.0, second))


@pytest.mark.parametrize('of', [simulate, simulate_fast])
def test_a_random_queue_for_each_worker_is_as_many_services(of):
  check(latencies(run(plain(queues='shortest', choices=1), 10, 0.6, of=of, queries=100_000 if of is simulate_fast else
                      50_000)), 1 / (MU - 0.6 * MU))


def test_the_shorter_of_two_queues():
  outcome = run(plain(queues='shortest'), 400, 0.7, queries=45_000, warmup=15_000)
  expected = cf.shorter_of_two_mean(0.7, MU)
  check(latencies(outcome), expected, slack=expected / 400)  # the limit is off by the order of one over the servers


def test_tied_requests_in_all_queues_are_one_queue():
  outcome = run(plain(r=3, spare_pool=BASE, tied=True, queues='shortest', choices=1), 4, 0.7)
  check(latencies(outcome), cf.mmc_mean(0.7 * 4 * MU, MU, 4))


def test_copies_in_the_queues_of_two_random_workers():
  outcome = run(plain(r=1, spare_pool=BASE, queues='shortest', choices=1), 4, 0.6, stops_when_cancelled=True)
  check(latencies(outcome), cf.redundancy_mean(0.6 * 4 * MU, MU, 4, 2))


def test_fork_join():
  """A group of one query is coded into n units, one to each worker, and the first k that come suffice."""
  for n, k, exact in [(2, 2, True), (3, 2, False)]:
    options = plain(r=n - 1, need=k, encoded=True, passthrough=False, spare_pool=BASE, queues='round_robin')
    outcome = run(options, n, 0.5 / n, queries=20_000, stops_when_cancelled=True)
    if exact:
      check(latencies(outcome), cf.fork_join_two_mean(0.5 * MU, MU))
    else:
      lower, upper = cf.fork_join_bounds(0.5 * MU, MU, n, k)
      assert lower < latencies(outcome).mean() < upper < 1.25 * lower


def at_once(options, of=simulate, queries=15_000, **fields):
  """As many workers as queries and spare units, which all come within a millionth of a service time."""
  copies = options.r if options.spare_pool == BASE else 0
  return of(options, Setup((1 + copies) * queries, queries * options.r, rate=1e12, queries=queries, warmup=0, **dict(
      service='exponential', encode_ms=0.0, decode_ms=0.0) | fields))


@pytest.mark.parametrize('of', [simulate, without_queues])
@pytest.mark.parametrize('k, r', [(2, 1), (4, 1), (3, 2)])
def test_a_coded_query_of_many_that_wait_for_nobody(of, k, r):
  outcome = at_once(plain(k=k, r=r, encoded=True), of, 18_000)
  if r == 1:
    check(outcome.latency_ms, cf.coded_mean(k, MU))
  for t in (10.0, 20.0):
    check(outcome.latency_ms > t, cf.coded_tail(lambda x: math.exp(-MU * x), t, k, r))


@pytest.mark.parametrize('of', [simulate, without_queues])
def test_any_k_of_n_units(of):
  options = plain(k=3, r=2, encoded=True, passthrough=False, spare_pool=BASE)
  check(at_once(options, of, 15_000).latency_ms, cf.kth_of_n(3, 5, MU))


@pytest.mark.parametrize('of', [simulate, without_queues])
def test_hedging(of):
  outcome = at_once(plain(r=1, spare_pool=BASE, spare_after=30.0), of)
  for t in (20.0, 45.0):
    check(outcome.latency_ms > t, cf.hedged_tail(lambda x: math.exp(-MU * x), t, 30.0))


def test_theory_agrees_with_itself():
  assert cf.mmc_mean(0.5, 1.0, 1) == pytest.approx(cf.mg1_mean(0.5, 1.0, 2.0)) == pytest.approx(2.0)
  assert cf.redundancy_mean(0.5 * 3, 1.0, 3, 3) == pytest.approx(1 / (3 - 1.5))  # all servers as one
  t = np.linspace(0, 400, 40_001)
  for tail, mean in [(lambda x: cf.mmc_tail(x, 0.2, MU, 5), cf.mmc_mean(0.2, MU, 5)),
                     (lambda x: cf.coded_tail(lambda y: math.exp(-MU * y), x, 3, 1), cf.coded_mean(3, MU))]:
    assert np.trapezoid([tail(x) for x in t], t) == pytest.approx(mean, rel=1e-3)
  assert cf.shorter_of_two_mean(0.7, 1.0) < cf.mmc_mean(0.7, 1.0, 1)


@pytest.mark.parametrize('call', [
    lambda: cf.mmc_mean(1.0, 0.5, 2), lambda: cf.mg1_mean(0.1, 20.0, 400.0), lambda: cf.redundancy_mean(4.0, 1.0, 4, 2),
    lambda: cf.fork_join_two_mean(1.0, 1.0), lambda: cf.shorter_of_two_mean(1.5, 1.0),
    lambda: cf.fork_join_bounds(2.0, 1.0, 3, 2)])
def test_loads_that_cannot_be_served_are_a_sentence(call):
  with pytest.raises(InputError, match='smaller arrival rate'):
    call()
