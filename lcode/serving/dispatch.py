"""Which unit goes to which worker, and what becomes of the calls."""

import math
import random
from collections.abc import Callable
from typing import Any

from lcode.serving.events import BASE, PARITY, Cancel, Send, Unit
from lcode.serving.groups import Group
from lcode.serving.options import PolicyOptions
from lcode.serving.pools import LOST, QUEUED, SENT, Call, Line, Pool, Worker
from lcode.serving.timers import Timer


class Dispatcher:
  """Queues, workers and calls. `actions` is the list that it adds to, `now` the time; both are set from outside.

  Args:
    options: of the policy.
    groups: of the units.
    lost: of a unit: its call came to nothing.
  """

  def __init__(self, options: PolicyOptions, groups: dict[int, Group], lost: Callable[[Unit], None]):
    self.options, self.groups, self.lost = options, groups, lost
    self.copies = bool(options.r) and not options.encoded
    rng = random.Random(options.seed)
    self.pools = {BASE: Pool(options, rng), PARITY: Pool(options, rng)}
    self.workers: dict[int, Worker] = {}
    self.calls: dict[int, Call] = {}
    self.touched: list[Line] = []
    self.actions: list[Any] = []
    self.now = self.due = 0.0
    self.last_call = -1
    self.timeouts = Timer(options.call_timeout, lambda call: call.id not in self.calls, self._give_up)
    self.silences = Timer(options.call_timeout, lambda call: call.id not in self.calls, self._end)
    self.batches = Timer(options.batch_wait, lambda unit: unit.state != QUEUED, lambda unit: self._touch(unit.line))
    self.timers = [self.timeouts, self.silences, self.batches]

  def place(self, unit: Unit, pool: Pool, first: bool = False) -> bool:
    """Puts a unit in a queue; False where too many wait there."""
    if pool.queued >= self.options.max_queued:
      unit.state = LOST
      return False
    line = pool.line_for(None if pool.single else self._avoided(unit))
    if line.owner is not None:
      unit.worker = line.owner.id
    unit.since = -math.inf if first else self.now
    line.add(unit, first)
    if self.options.batch_wait and not first:
      self.due = min(self.due, self.batches.add(self.now, unit))
    self._touch(line)
    return True

  def drop(self, unit: Unit) -> None:
    """A unit is of no use any more: it is taken out of its queue, or its call is told if that has no other use."""
    if unit.state == QUEUED:
      unit.line.drop(unit)
    elif unit.state == SENT:
      call = self.calls.get(unit.call)
      if call is not None:
        call.needed -= 1
        if not call.needed and self.options.cancel and not call.given_up:
          self.actions.append(Cancel(call.id))

  def take(self, call_id: int) -> Call | None:
    """A call that came back; None if it is not one of those that are awaited."""
    call = self.calls.get(call_id)
    if call is not None:
      self._end(call)
    return call

  def join(self, id: int, name: str) -> None:
    if id not in self.workers:
      pool = self.pools[name]
      worker = self.workers[id] = pool.join(id)
      self._touch(worker.line)
      if not pool.single:
        for unit in pool.shared.take(pool.shared.waiting):
          self._put_back(unit, pool)

  def die(self, id: int) -> None:
    worker = self.workers.pop(id, None)
    if worker is None:
      return
    pool = worker.pool
    waiting = pool.leave(worker)
    for unit in waiting:
      self._put_back(unit, pool)
    for call in [self.calls.pop(number) for number in sorted(worker.calls)]:
      self.lose(call)

  def pump(self) -> None:
    """Sends what can be sent."""
    while self.touched:
      line = self.touched.pop()
      line.touched = False
      while line.waiting and self._send_from(line):
        pass

  def _send_from(self, line: Line) -> bool:
    options, pool = self.options, line.pool
    first = line.queue[0]
    while first.line is not line:
      line.queue.popleft()
      first = line.queue[0]
    worker = pool.pick(line, self._avoided(first) if self.copies or first.tries else None)
    if worker is None:
      return False
    if options.batch_wait and line.waiting < options.batch_size and first.since + options.batch_wait > self.now:
      return False
    units = line.take(options.batch_size)
    self.last_call = id = self.last_call + 1
    call = self.calls[id] = Call(id, worker, units)
    pool.occupy(worker, id)
    for unit in units:
      unit.call, unit.worker = id, worker.id
      unit.tries += 1
    self.actions.append(Send(id, worker.id, units))
    if options.call_timeout < math.inf:
      self.due = min(self.due, self.timeouts.add(self.now, call))
    if options.tied:
      for unit in units:
        for other in self.groups[unit.group].units:
          if other.state == QUEUED:
            self.drop(other)
    return True

  def _avoided(self, unit: Unit) -> set[int] | None:
    """Workers that have, or had, this unit or a copy of it: others get it, if there are any."""
    if self.copies:
      return {other.worker for other in self.groups[unit.group].units if other.worker >= 0}
    return {unit.worker} if unit.tries else None

  def _put_back(self, unit: Unit, pool: Pool) -> None:
    line = pool.line_for(self._avoided(unit))
    unit.worker = line.owner.id if line.owner else -1
    line.add(unit)
    self._touch(line)

  def _touch(self, line: Line) -> None:
    if not line.touched:
      line.touched = True
      self.touched.append(line)

  def _end(self, call: Call) -> None:
    """A call is over; its place is free."""
    del self.calls[call.id]
    worker = call.worker
    worker.pool.release(worker, call.id)
    self._touch(worker.line)

  def _give_up(self, call: Call) -> None:
    call.given_up = True
    self.silences.add(self.now, call)
    self.lose(call)

  def lose(self, call: Call) -> None:
    for unit in call.units:
      if unit.call == call.id and unit.state == SENT:
        self.lost(unit)
