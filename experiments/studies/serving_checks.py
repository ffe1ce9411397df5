"""The simulator beside closed forms: services that queueing theory can solve, through the same policy."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lcode.runs.tables import markdown
from lcode.serving import closed_forms as cf
from lcode.serving.events import BASE
from lcode.serving.options import PolicyOptions
from lcode.serving.simulator import Setup, simulate

MU = 0.05  # 1 / 20 ms
BATCHES = 50


@dataclasses.dataclass(frozen=True)
class Check:
  """A figure that theory knows; where it knows bounds alone, `expected` has two."""

  name: str
  expected: tuple[float, ...]
  options: PolicyOptions
  setup: Setup
  statistic: Callable[[np.ndarray], np.ndarray]


def checks(queries: int) -> list[Check]:
  """Service times are exponential of mean 20 ms but where said otherwise."""
  made = []

  def add(name, expected, workers, load, longer=None, setup=(), **options):
    options = PolicyOptions(**{'deadline': math.inf, 'max_queued': 10**9, 'max_outstanding': 1} | options)
    setup = Setup(**{'workers': workers, 'parity_workers': 0, 'rate': 1e3 * load * workers * MU, 'queries': queries,
                     'service': 'exponential', 'encode_ms': 0.0, 'decode_ms': 0.0} | dict(setup))
    made.append(Check(name, expected if isinstance(expected, tuple) else (expected,), options, setup,
                      (lambda x: x) if longer is None else lambda x: x > longer))

  def without_waiting(name, expected, longer, count, **options):
    r = options['r']
    add(name, expected, count * (1 + r), 1e6, longer, {'queries': count, 'parity_workers': count * r, 'warmup': 0},
        **options)

  own = {'queues': 'shortest', 'choices': 1}
  stops = {'stops_when_cancelled': True}
  fork = {'encoded': True, 'passthrough': False, 'spare_pool': BASE, 'queues': 'round_robin'}
  add('one queue, 5 workers, load 0.7 (M/M/5): mean', cf.mmc_mean(3.5 * MU, MU, 5), 5, 0.7)
  add('the same: P(> 60 ms)', cf.mmc_tail(60.0, 3.5 * MU, MU, 5), 5, 0.7, 60.0)
  add('one worker, 20 ms each, load 0.6 (M/D/1): mean', cf.mg1_mean(0.6 * MU, 20.0, 400.0), 1, 0.6, None,
      {'service': 'deterministic'})
  add('the shorter of two queues, 400 workers, load 0.7: mean', cf.shorter_of_two_mean(0.7, MU), 400, 0.7,
      queues='shortest')
  add('tied in all of 4 queues, load 0.7 (M/M/4): mean', cf.mmc_mean(2.8 * MU, MU, 4), 4, 0.7, r=3, spare_pool=BASE,
      tied=True, **own)
  add('copies at 2 random of 4 workers, load 0.6: mean', cf.redundancy_mean(2.4 * MU, MU, 4, 2), 4, 0.6, None, stops,
      r=1, spare_pool=BASE, **own)
  add('fork-join, 2 of 2, load 0.5: mean', cf.fork_join_two_mean(0.5 * MU, MU), 2, 0.25, None, stops, r=1, need=2,
      **fork)
  add('fork-join, 2 of 3, load 0.5: mean, between', cf.fork_join_bounds(0.5 * MU, MU, 3, 2), 3, 0.5 / 3, None, stops,
      r=2, need=2, **fork)
  count = min(queries, 30_000)
  for k, r in [(2, 1), (4, 1), (3, 2)]:
    without_waiting(f'coded ({k}, {r}), nobody waits: P(> 30 ms)', cf.coded_tail(_survival, 30.0, k, r), 30.0,
                    count - count % k, k=k, r=r, encoded=True)
  without_waiting('hedged after 30 ms, nobody waits: P(> 45 ms)', cf.hedged_tail(_survival, 45.0, 30.0), 45.0, count,
                  r=1, spare_pool=BASE, spare_after=30.0)
  return made


def _survival(t: float) -> float:
  return math.exp(-MU * t)


def measure(check: Check) -> dict[str, Any]:
  """The record of a check: the figure, and its standard error over batches that follow each other."""
  outcome = simulate(check.options, check.setup)
  values = check.statistic(outcome.latency_ms[outcome.uncounted:])
  means = [part.mean() for part in np.array_split(values, BATCHES)]
  return {'kind': 'simulation_check', 'name': check.name, 'expected': list(check.expected),
          'simulated': float(values.mean()), 'standard_error': float(np.std(means, ddof=1) / math.sqrt(BATCHES)),
          'queries': check.setup.queries, 'workers': check.setup.workers}


def table(made: list[dict]) -> str:
  return markdown(['latency, ms, or the share above', 'theory', 'simulated'], [
      [row['name'], ' to '.join(f'{value:.4g}' for value in row['expected']),
       f'{row["simulated"]:.4g} ± {row["standard_error"]:.1g}'] for row in made])
