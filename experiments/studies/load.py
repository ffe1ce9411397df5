"""Load on a service: queries at random times whether or not it keeps up, workers killed, and the outcome."""

import asyncio
import collections
import dataclasses
import os
import random
import signal
import time
from pathlib import Path

import numpy as np

from lcode.errors import InputError, whole
from lcode.serving.answered import NoAnswer, Refused
from lcode.serving.events import BASE, EXACT, PARITY, RECONSTRUCTED
from lcode.serving.observer import Observer
from lcode.serving.options import number
from lcode.serving.service import Service

PARTS = 4  # of a run, at whose ends memory is read
QUANTILES = {'p50_ms': 0.5, 'p90_ms': 0.9, 'p99_ms': 0.99, 'p995_ms': 0.995, 'p999_ms': 0.999}


@dataclasses.dataclass(frozen=True)
class Load:
  """How a service is used.

  Attributes:
    rate: queries a second, Poisson.
    seconds: how long.
    warmup_s: at the beginning, not counted.
    kill_every_s: a worker's process is killed so often, 0 for never.
    kill_parity: parity workers too.
    seed: of arrivals and of who is killed.
  """

  rate: float = 100.0
  seconds: float = 10.0
  warmup_s: float = 1.0
  kill_every_s: float = 0.0
  kill_parity: bool = True
  seed: int = 0

  def __post_init__(self):
    for name, least in (('rate', 1e-6), ('seconds', 1e-6), ('warmup_s', 0.0), ('kill_every_s', 0.0)):
      if number(name, getattr(self, name), least) == float('inf'):
        raise InputError(f'{name}=inf is not allowed: a load ends by itself.')
    whole('seed', self.seed, 0)


class Counter(Observer):
  """How often a service answered, to be held against how often it was asked."""

  def __init__(self):
    self.answers = self.deaths = self.wrongs = 0
    self.coding_s = collections.defaultdict(list)

  def answered(self, how, ms):
    self.answers += 1

  def died(self):
    self.deaths += 1

  def wrong(self):
    self.wrongs += 1

  def coded(self, what, seconds):
    self.coding_s[what].append(seconds)


async def run(service: Service, counter: Counter, queries: np.ndarray, labels: np.ndarray | None, load: Load,
              grid: np.ndarray | None = None) -> dict:
  """Sends queries f32[N, *S], again and again, to a service that is started; returns the figures.

  Open loop: a query's latency counts from when it should have been sent, so that a service that stands still is seen.
  With a grid of quantiles, `latencies_ms` has the latencies there. `memory_mb` is the frontend's, after each quarter.
  `utilisation` is None where workers died, with whom the time that they had been busy is lost.
  """
  rng = np.random.default_rng(load.seed)
  count = max(rng.poisson(load.rate * (load.warmup_s + load.seconds)), 1)
  times = np.sort(rng.uniform(0, load.warmup_s + load.seconds, count))
  which = rng.integers(len(queries), size=count)
  outcomes: list[tuple | None] = [None] * count
  answers_before, began = counter.answers, time.perf_counter()

  async def ask(i):
    try:
      answered = await service.predict(queries[which[i]])
      how, right = answered.how, labels is not None and answered.answer.argmax() == labels[which[i]]
    except (Refused, NoAnswer) as error:
      how, right = getattr(error, 'how', 'refused'), False
    outcomes[i] = how, 1000 * (time.perf_counter() - began - times[i]), bool(right)

  killer = asyncio.create_task(_kill(service, load)) if load.kill_every_s else None
  asking: set[asyncio.Task] = set()
  memory = []
  for i, at in enumerate(times):
    wait = at - (time.perf_counter() - began)
    if wait > 0:
      await asyncio.sleep(wait)
    if i * PARTS >= count * len(memory):
      memory.append(resident_mb())
    task = asyncio.create_task(ask(i))
    asking.add(task)
    task.add_done_callback(asking.discard)
  if killer:
    killer.cancel()
  if asking:
    await asyncio.wait(asking, timeout=30 + service.options.deadline / 1000)
  took = time.perf_counter() - began
  busy = await service.busy_s()
  refused = sum(outcome is not None and outcome[0] == 'refused' for outcome in outcomes)
  totals = {'sent': count, 'answered': sum(outcome is not None for outcome in outcomes) - refused,
            'lost': sum(outcome is None for outcome in outcomes), 'refused': refused,
            'doubled': counter.answers - answers_before - sum(o is not None for o in outcomes) + refused,
            'utilisation': None if counter.deaths else sum(busy) / (took * len(busy)), 'worker_deaths': counter.deaths,
            'wrong_answers': counter.wrongs, 'memory_mb': [*memory, resident_mb()]}
  counted = [outcome for outcome, at in zip(outcomes, times) if outcome is not None and at >= load.warmup_s]
  return totals | _figures(counted, labels is not None, grid) | {
      f'{what}_us': 1e6 * float(np.median(seconds)) for what, seconds in counter.coding_s.items()}


def resident_mb() -> float | None:
  """The memory that this process, the frontend with what asks it, holds; None where the system does not say."""
  try:
    pages = int(Path('/proc/self/statm').read_text().split()[1])
  except OSError:
    return None
  return pages * os.sysconf('SC_PAGE_SIZE') / 2**20


def _figures(outcomes, labelled: bool, grid: np.ndarray | None) -> dict:
  """Of what was answered after the warm-up: latencies, shares, accuracies (None where nothing was reconstructed)."""
  hows = collections.Counter(how for how, _, _ in outcomes)
  latencies = [ms for how, ms, _ in outcomes if how in (EXACT, RECONSTRUCTED)]
  figures = {how: hows[how] for how in (EXACT, RECONSTRUCTED, 'late', 'failed')}
  for name, quantile in QUANTILES.items():
    figures[name] = float(np.quantile(latencies, quantile)) if latencies else None
  figures['max_ms'] = max(latencies, default=None)
  if grid is not None and latencies:
    figures['latencies_ms'] = np.quantile(latencies, grid).tolist()
  rebuilt = [right for how, _, right in outcomes if how == RECONSTRUCTED]
  figures['degraded_accuracy'] = float(np.mean(rebuilt)) if labelled and rebuilt else None
  figures['overall_accuracy'] = float(np.mean([right for _, _, right in outcomes])) if labelled and outcomes else None
  return figures


async def _kill(service: Service, load: Load) -> None:
  """Kills the process of a worker every so often, on this machine."""
  rng = random.Random(load.seed)
  while True:
    await asyncio.sleep(load.kill_every_s)
    roles = (BASE, PARITY) if load.kill_parity else (BASE,)
    workers = [handle for role, handle in service.workers.values() if role in roles]
    if workers:
      process = await service.cluster.process_of(rng.choice(workers))
      try:
        os.kill(process, signal.SIGKILL)
      except ProcessLookupError:
        pass  # it has just died
