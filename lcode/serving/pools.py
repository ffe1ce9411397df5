"""Workers and the queues before them. A line is a queue with the workers that take from it: all of a pool, or one."""

import collections
import random

from lcode.serving.events import Unit
from lcode.serving.options import PolicyOptions

NEW, QUEUED, SENT, ARRIVED, LOST, DROPPED = range(6)
SLACK = 32  # dropped units that a queue may hold beside as many as wait in it


class Call:
  """Units at a worker. `needed` counts those that are still of use; `given_up` calls may yet answer."""

  __slots__ = 'id', 'worker', 'units', 'needed', 'given_up'

  def __init__(self, id: int, worker: 'Worker', units: tuple[Unit, ...]):
    self.id, self.worker, self.units = id, worker, units
    self.needed, self.given_up = len(units), False


class Worker:
  """Where calls go; it takes from `line`."""

  __slots__ = 'id', 'pool', 'line', 'calls', 'place'

  def __init__(self, id: int, pool: 'Pool'):
    self.id, self.pool = id, pool
    self.calls: set[int] = set()
    self.line = pool.shared if pool.single else Line(pool, self)
    self.place = len(pool.order)  # its index there


class Line:
  """A first-in-first-out queue of units. Units that are dropped stay in it until they are met, or are too many."""

  __slots__ = 'pool', 'owner', 'queue', 'waiting', 'touched'

  def __init__(self, pool: 'Pool', owner: Worker | None = None):
    self.pool, self.owner = pool, owner
    self.queue: collections.deque[Unit] = collections.deque()
    self.waiting, self.touched = 0, False

  def add(self, unit: Unit, first: bool = False) -> None:
    unit.state, unit.line = QUEUED, self
    if first:
      self.queue.appendleft(unit)
    else:
      self.queue.append(unit)
    self.waiting += 1
    self.pool.queued += 1

  def drop(self, unit: Unit) -> None:
    """Takes a waiting unit out."""
    unit.state, unit.line = DROPPED, None
    self.waiting -= 1
    self.pool.queued -= 1
    if len(self.queue) > 2 * self.waiting + SLACK:
      self.queue = collections.deque(unit for unit in self.queue if unit.line is self)
    if not self.waiting:
      self.queue.clear()

  def take(self, most: int) -> tuple[Unit, ...]:
    """The first units that wait, up to `most`; they are sent now."""
    taken = []
    while self.waiting and len(taken) < most:
      unit = self.queue.popleft()
      if unit.line is self:
        unit.state, unit.line = SENT, None
        self.waiting -= 1
        self.pool.queued -= 1
        taken.append(unit)
    return tuple(taken)


class Pool:
  """Workers that do the same work."""

  def __init__(self, options: PolicyOptions, rng: random.Random):
    self.max_outstanding, self.choices, self.rng = options.max_outstanding, options.choices, rng
    self.single, self.in_turn = options.queues == 'single', options.queues == 'round_robin'
    self.queued = 0
    self.turn = 0
    self.order: list[Worker] = []
    self.shared = Line(self)  # where no worker has a queue of its own, or none is there
    # Workers with a free place, by their outstanding calls, the longest-waiting first; for the shared line.
    self.free: list[collections.OrderedDict[Worker, None]] = [
        collections.OrderedDict() for _ in range(options.max_outstanding)]

  def join(self, id: int) -> Worker:
    worker = Worker(id, self)
    self.order.append(worker)
    if self.single:
      self.free[0][worker] = None
    return worker

  def leave(self, worker: Worker) -> list[Unit]:
    """Removes a worker; returns the units of its own queue, which wait no more."""
    last = self.order.pop()
    if last is not worker:
      self.order[worker.place], last.place = last, worker.place
    if not self.single:
      return list(worker.line.take(worker.line.waiting))
    if len(worker.calls) < self.max_outstanding:
      del self.free[len(worker.calls)][worker]
    return []

  def occupy(self, worker: Worker, call: int) -> None:
    busy = len(worker.calls)
    worker.calls.add(call)
    if self.single:
      del self.free[busy][worker]
      if busy + 1 < self.max_outstanding:
        self.free[busy + 1][worker] = None

  def release(self, worker: Worker, call: int) -> None:
    busy = len(worker.calls)
    worker.calls.remove(call)
    if self.single:
      if busy < self.max_outstanding:
        del self.free[busy][worker]
      self.free[busy - 1][worker] = None

  def pick(self, line: Line, avoid: set[int] | None) -> Worker | None:
    """The worker that takes next from a line, if one has a place; another than those of `avoid`, if there is one."""
    if line.owner is not None:
      return line.owner if len(line.owner.calls) < self.max_outstanding else None
    second_best = None
    for level in self.free:
      for worker in level:
        if not avoid or worker.id not in avoid:
          return worker
        second_best = second_best or worker
    return second_best

  def line_for(self, avoid: set[int] | None) -> Line:
    """The queue that a unit joins; not of a worker in `avoid`, if there is another."""
    order = self.order
    if self.single or not order:
      return self.shared
    if self.in_turn:
      for _ in range(len(order)):
        worker = order[self.turn % len(order)]
        self.turn += 1
        if not avoid or worker.id not in avoid:
          break
      return worker.line
    choices, rest = min(self.choices, len(order)), order
    if avoid:
      rest = [worker for worker in self.rng.sample(order, min(choices + len(avoid), len(order)))
              if worker.id not in avoid][:choices] or order[:1]
    elif choices > 1:
      rest = self.rng.sample(order, choices)
    else:
      return order[int(self.rng.random() * len(order))].line
    return min(rest, key=lambda worker: worker.line.waiting + len(worker.calls)).line
