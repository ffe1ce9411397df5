"""A service on a virtual clock: arrivals, workers and what slows them, around the policy that a service runs by."""

import dataclasses
import heapq
import itertools
import math
import random
from collections import deque

import numpy as np

from lcode.errors import InputError, instance, whole
from lcode.serving import events as ev
from lcode.serving.options import PolicyOptions, number
from lcode.serving.policy import Policy
from lcode.serving.service_times import Pauses, Shuffles, Slow, make_service, stream

HOW = ev.EXACT, ev.RECONSTRUCTED, ev.FAILED, ev.LATE, 'refused'


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


def simulate(options: PolicyOptions, setup: Setup) -> Outcome:
  """Runs the policy of `options` in `setup`; the same seeds give the same outcome. Raises InputError for others."""
  instance('options', options, PolicyOptions)
  return _Simulation(options, instance('setup', setup, Setup)).run()


class _Simulation:
  """Workers serve one call at a time, in the order sent."""

  def __init__(self, options: PolicyOptions, setup: Setup):
    self.setup, self.policy = setup, Policy(options)
    arrivals, services, others = streams_of(setup)
    self.rng = random.Random(int(others.integers(1 << 62)))
    self.gaps = stream(lambda rng, size: rng.exponential(1e3 / setup.rate, size), arrivals)
    self.services = stream(make_service(setup.service, setup.service_ms), services)
    self.count = setup.workers + setup.parity_workers
    self.slowing = _slowing(setup, self.count, self.rng)
    self.heap: list[tuple] = []
    self.order = itertools.count()
    self.waiting: list[deque] = [deque() for _ in range(self.count)]  # calls at each worker, behind the one that runs
    self.running: list[int] = [-1] * self.count
    self.ends: list[float] = [0.0] * self.count
    self.where: dict[int, tuple[int, int]] = {}  # of calls that have not ended: worker, units
    self.busy = [0.0] * self.count
    self.arrived: list[float] = []
    self.latency = [math.nan] * setup.queries
    self.how = bytearray(b'\xff' * setup.queries)
    self.open = setup.queries
    self.do = {ev.Send: self._send, ev.Answer: self._answer, ev.Encode: self._encode, ev.Decode: self._decode,
               ev.Cancel: self._cancel, ev.Refuse: self._refuse, ev.Wake: self._wake, ev.Forget: None,
               ev.Closed: None}

  def run(self) -> Outcome:
    setup, heap, handle, do = self.setup, self.heap, self.policy.handle, self.do
    arrived, gaps, pop = self.arrived, self.gaps, heapq.heappop
    for worker in range(self.count):
      handle(ev.Joined(worker, ev.BASE if worker < setup.workers else ev.PARITY), 0.0)
      if setup.failure_every_ms:
        self._push(self.rng.expovariate(1 / setup.failure_every_ms), ev.Died(worker))
    coming, query = next(gaps), 0
    self.now = 0.0
    while self.open:
      if heap and heap[0][0] <= coming:
        self.now, _, event = pop(heap)
        if event.__class__ is ev.Replied and not self._ended(event.call):
          continue
        if event.__class__ in (ev.Died, ev.Joined):
          self._change(event)
      elif coming < math.inf:
        self.now, event = coming, ev.Arrived(query, self._deadline())
        arrived.append(coming)
        query += 1
        coming = coming + next(gaps) if query < setup.queries else math.inf
      else:
        break
      for action in handle(event, self.now):
        act = do[action.__class__]
        if act is not None:
          act(action)
    return self._outcome()

  def _outcome(self) -> Outcome:
    setup, until = self.setup, max(self.now, 1e-9)
    for worker, call in enumerate(self.running):
      if call >= 0:  # only what was done by the end
        self.busy[worker] -= max(self.ends[worker] - until, 0.0)
    base, parity = self.busy[:setup.workers], self.busy[setup.workers:]
    return Outcome(np.array(self.latency), np.frombuffer(self.how, np.int8).copy(),
                   sum(base) / len(base) / until, sum(parity) / len(parity) / until if parity else math.nan,
                   setup.uncounted)

  def _deadline(self) -> float:
    share = self.setup.own_deadline_share
    return self.setup.own_deadline_ms if share and self.rng.random() < share else math.inf

  def _push(self, t, event):
    heapq.heappush(self.heap, (t, next(self.order), event))

  def _start(self, worker, call, units):
    work = next(self.services)
    setup = self.setup
    if units > 1:
      work *= 1 + (units - 1) * setup.batch_cost
    if worker >= setup.workers:
      work = work * setup.parity_scale + setup.parity_extra_ms
    end = self.now + work
    for slow in self.slowing:
      end = slow.end(worker, self.now, end - self.now)
    self.running[worker], self.ends[worker] = call, end
    self.busy[worker] += end - self.now
    heapq.heappush(self.heap, (end, next(self.order), ev.Replied(call)))

  def _next_call(self, worker):
    self.running[worker] = -1
    if self.waiting[worker]:
      call = self.waiting[worker].popleft()
      self._start(worker, call, self.where[call][1])

  def _ended(self, call) -> bool:
    """Whether a call's reply stands: it was not stopped, and its worker has not died."""
    worker, _ = self.where.get(call, (-1, 0))
    if worker < 0 or self.running[worker] != call:
      return False
    del self.where[call]
    self._next_call(worker)
    return True

  def _send(self, action):
    worker = action.worker
    self.where[action.call] = worker, len(action.units)
    if self.running[worker] < 0:
      self._start(worker, action.call, len(action.units))
    else:
      self.waiting[worker].append(action.call)

  def _cancel(self, action):
    call = action.call
    worker, _ = self.where.get(call, (-1, 0))
    if worker < 0 or self.running[worker] == call and not self.setup.stops_when_cancelled:
      return
    del self.where[call]
    if self.running[worker] == call:
      self.busy[worker] -= self.ends[worker] - self.now
      self._next_call(worker)
    else:
      self.waiting[worker].remove(call)
    self._push(self.now, ev.Failed(call))

  def _change(self, event):
    """A worker fails with all that it has, or returns."""
    worker, setup = event.worker, self.setup
    if event.__class__ is ev.Joined:
      self._push(self.now + self.rng.expovariate(1 / setup.failure_every_ms), ev.Died(worker))
      return
    if self.running[worker] >= 0:
      self.busy[worker] -= self.ends[worker] - self.now
      del self.where[self.running[worker]]
    for call in self.waiting[worker]:
      del self.where[call]
    self.waiting[worker].clear()
    self.running[worker] = -1
    pool = ev.BASE if worker < setup.workers else ev.PARITY
    self._push(self.now + self.rng.expovariate(1 / setup.repair_ms), ev.Joined(worker, pool))

  def _answer(self, action):
    query = action.query
    self.latency[query] = self.now - self.arrived[query]
    self.how[query] = HOW.index(action.how)
    self.open -= 1

  def _refuse(self, action):
    self.how[action.query] = HOW.index('refused')
    self.open -= 1

  def _encode(self, action):
    self._push(self.now + self.setup.encode_ms, ev.Encoded(action.group))

  def _decode(self, action):
    self._push(self.now + self.setup.decode_ms, ev.Decoded(action.group))

  def _wake(self, action):
    self._push(action.t, ev.Tick())


def streams_of(setup: Setup) -> list[np.random.Generator]:
  """Generators for arrivals, service times and all else: so policies meet the same arrivals."""
  return [np.random.default_rng(seed) for seed in np.random.SeedSequence(setup.seed).spawn(3)]


def _slowing(setup: Setup, workers: int, rng: random.Random) -> list:
  slowing = []
  if setup.slow_share:
    slowing.append(Slow(setup.slow_share, setup.slow_factor, workers, rng))
  if setup.shuffles:
    slowing.append(Shuffles(setup.shuffles, workers, rng))
  if setup.pause_every_ms:
    slowing.append(Pauses(setup.pause_every_ms, setup.pause_ms, setup.pause_machine, rng))
  return slowing
