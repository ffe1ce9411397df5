"""What a simulated service is, and what becomes of its queries."""

import dataclasses
import math

import numpy as np

from lcode.errors import InputError, instance, whole
from lcode.serving import events
from lcode.serving.options import number
from lcode.serving.service_times import make_service

HOW = events.EXACT, events.RECONSTRUCTED, events.FAILED, events.LATE, 'refused'


@dataclasses.dataclass(frozen=True)
class Setup:
  """Workers, load and what disturbs them. Times are in milliseconds.

  Attributes:
    workers: that run F.
    parity_workers: that answer parities, or run the backup.
    rate: queries a second, Poisson.
    queries: how many, in all.
    warmup: how many of the first are not counted; default a tenth.
    service, service_ms: of a unit, as `make_service` takes them.
    parity_scale, parity_extra_ms: a parity worker takes so many times as long, and so much longer.
    own_deadline_share, own_deadline_ms: a share of the queries has such a deadline of its own.
    encode_ms, decode_ms: at the frontend, for a group.
    batch_cost: a call of b units takes 1 + (b - 1) batch_cost times as long as one of one.
    slow_share, slow_factor: a share of all workers takes so many times as long.
    pause_every_ms, pause_ms, pause_machine: pauses of machines with so many workers, see `Pauses`; 0 for none.
    shuffles: see `Shuffles`.
    failure_every_ms, repair_ms: mean times to a worker's failure and to its return, exponential; 0 for no failures.
    stops_when_cancelled: a worker drops a call that it runs when told so; else it ends it all the same.
    seed: of all random numbers.

  Raises:
    InputError: for a value out of range.
  """

  workers: int = 12
  parity_workers: int = 6
  rate: float = 270.0
  queries: int = 100_000
  warmup: int | None = None
  service: str = 'parm'
  service_ms: float | None = None
  parity_scale: float = 1.0
  parity_extra_ms: float = 0.0
  encode_ms: float = 0.1
  decode_ms: float = 0.01
  batch_cost: float = 1.0
  slow_share: float = 0.0
  slow_factor: float = 2.0
  pause_every_ms: float = 0.0
  pause_ms: float = 50.0
  pause_machine: int = 1
  shuffles: int = 0
  failure_every_ms: float = 0.0
  repair_ms: float = 10_000.0
  stops_when_cancelled: bool = False
  seed: int = 0
  own_deadline_share: float = 0.0
  own_deadline_ms: float = 100.0

  def __post_init__(self):
    for name, least in [('workers', 1), ('parity_workers', 0), ('queries', 1), ('pause_machine', 1), ('shuffles', 0),
                        ('seed', 0)]:
      whole(name, getattr(self, name), least)
    for name in ('parity_extra_ms', 'encode_ms', 'decode_ms', 'batch_cost', 'pause_every_ms', 'failure_every_ms'):
      number(name, getattr(self, name))
    for name in ('rate', 'own_deadline_ms', 'parity_scale', 'slow_factor', 'pause_ms', 'repair_ms'):
      if not 0 < number(name, getattr(self, name)) < math.inf:
        raise InputError(f'{name}={getattr(self, name)!r} is not allowed: give a number above 0.')
    for name in ('slow_share', 'own_deadline_share'):
      if not 0 <= number(name, getattr(self, name)) <= 1:
        raise InputError(f'{name}={getattr(self, name)!r} is not allowed: give a share from 0 to 1.')
    if self.shuffles and self.workers + self.parity_workers < 2:
      raise InputError(f'shuffles={self.shuffles} is not allowed: a shuffle needs two workers.')
    if self.warmup is not None and whole('warmup', self.warmup, 0) >= self.queries:
      raise InputError(f'warmup={self.warmup} is not allowed: it must leave some of the {self.queries} queries.')
    instance('stops_when_cancelled', self.stops_when_cancelled, bool)
    make_service(self.service, self.service_ms)

  @property
  def uncounted(self) -> int:
    return self.queries // 10 if self.warmup is None else self.warmup

  @property
  def disturbed(self) -> bool:
    return bool(self.slow_share or self.pause_every_ms or self.shuffles or self.failure_every_ms)


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of the queries.

  Attributes:
    latency_ms: f64[queries], from arrival to answer, nan for refused ones.
    how: i8[queries], index into HOW.
    base_busy, parity_busy: mean share of the workers of a pool that work, nan for an empty pool.
    uncounted: how many of the first queries belong to the warm-up.
  """

  latency_ms: np.ndarray
  how: np.ndarray
  base_busy: float
  parity_busy: float
  uncounted: int

  def figures(self) -> dict[str, float]:
    """Percentiles in ms over the queries that were accepted, and counts and shares after the warm-up."""
    latency, how = self.latency_ms[self.uncounted:], self.how[self.uncounted:]
    latency = latency[~np.isnan(latency)]
    marks = {'p50_ms': 50, 'p90_ms': 90, 'p99_ms': 99, 'p995_ms': 99.5, 'p999_ms': 99.9}
    values = np.percentile(latency, list(marks.values())) if latency.size else [math.nan] * len(marks)
    counts = {name: int((how == index).sum()) for index, name in enumerate(HOW)}
    return {**{name: float(value) for name, value in zip(marks, values)},
            'max_ms': float(latency.max(initial=-math.inf)) if latency.size else math.nan,
            'mean_ms': float(latency.mean()) if latency.size else math.nan, 'utilisation': self.base_busy,
            'parity_utilisation': self.parity_busy, **counts, 'counted': int(how.size)}


def streams_of(setup: Setup) -> list[np.random.Generator]:
  """Generators for arrivals, service times and all else: so policies meet the same arrivals."""
  return [np.random.default_rng(seed) for seed in np.random.SeedSequence(setup.seed).spawn(3)]
