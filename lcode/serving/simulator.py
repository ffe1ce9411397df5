"""A service on a virtual clock: arrivals, workers and what slows them, around the policy that a service runs by."""

import heapq
import itertools
import math
import random
from collections import deque

import numpy as np

from lcode.errors import instance
from lcode.serving import events as ev
from lcode.serving.options import PolicyOptions
from lcode.serving.policy import Policy
from lcode.serving.service_times import Pauses, Shuffles, Slow, make_service, stream
from lcode.serving.setup import HOW, Outcome, Setup, streams_of


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


def _slowing(setup: Setup, workers: int, rng: random.Random) -> list:
  slowing = []
  if setup.slow_share:
    slowing.append(Slow(setup.slow_share, setup.slow_factor, workers, rng))
  if setup.shuffles:
    slowing.append(Shuffles(setup.shuffles, workers, rng))
  if setup.pause_every_ms:
    slowing.append(Pauses(setup.pause_every_ms, setup.pause_ms, setup.pause_machine, rng))
  return slowing
