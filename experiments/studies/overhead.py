"""What a service adds to a call of a worker: the same query, by turns as a bare call and through services."""

import asyncio
import time

import numpy as np

from lcode.errors import InputError, whole
from lcode.serving.events import BASE
from lcode.serving.options import number
from lcode.serving.service import Service

BARE = 'bare call'


async def measure(services: dict[str, Service], query: np.ndarray, rounds: int, gap_ms: float = 10.0,
                  warmup: int = 50) -> dict[str, dict[str, float]]:
  """Latencies of one query at a time, in turn, the first of a round another each time.

  Args:
    services: by name, started, over the same model; the bare calls are of a worker of F of the first.
    query: f32[*S].
    rounds: how often each is asked.
    gap_ms: between two queries.
    warmup: rounds before, not counted.

  Returns:
    For 'bare call' and each service `p50_ms`, `p99_ms`, `mean_ms`, and for services what that is more than the bare
    call's, `added_p50_ms`, `added_p99_ms`; `added_median_ms` is the median of the differences within a round.

  Raises:
    InputError: if there is no service, or a number is out of range.
  """
  if not services:
    raise InputError('services={} is not allowed: give one at least, by name.')
  whole('rounds', rounds), number('gap_ms', gap_ms), whole('warmup', warmup, 0)
  first = next(iter(services.values()))
  handle = next(handle for role, handle in first.workers.values() if role == BASE)

  async def bare():
    await first.cluster.result(first.cluster.call(handle, query[None], [None]))

  calls = [bare, *(lambda service=service: service.predict(query) for service in services.values())]
  ms = np.zeros((warmup + rounds, len(calls)))
  for turn in range(len(ms)):
    for way in np.roll(range(len(calls)), turn).tolist():
      await asyncio.sleep(gap_ms / 1000)
      began = time.perf_counter()
      await calls[way]()
      ms[turn, way] = 1000 * (time.perf_counter() - began)
  return _figures([BARE, *services], ms[warmup:])


def _figures(names: list[str], ms: np.ndarray) -> dict[str, dict[str, float]]:
  """Of latencies [rounds, names], the first the bare calls'."""
  p50, p99 = np.quantile(ms, (0.5, 0.99), axis=0)
  figures = {}
  for i, name in enumerate(names):
    figures[name] = {'p50_ms': float(p50[i]), 'p99_ms': float(p99[i]), 'mean_ms': float(ms[:, i].mean())}
    if i:
      figures[name] |= {'added_p50_ms': float(p50[i] - p50[0]), 'added_p99_ms': float(p99[i] - p99[0]),
                        'added_median_ms': float(np.median(ms[:, i] - ms[:, 0]))}
  return figures
