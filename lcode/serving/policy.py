"""The policy of coded inference serving, as a state machine: events in, actions out. No clock, network or thread.

Every policy is the same machine: k queries make a group, which has r spare units besides. What answers first, a query's
own unit or what the spare units make up for, is the answer (ParM, arXiv:1905.00863); what is then of no use is dropped.
"""

import math
from typing import Any

from lcode.errors import InputError, instance, one_of
from lcode.serving.events import (BASE, EXACT, PARITY, RECONSTRUCTED, Arrived, Decoded, Died, Encoded, Event, Failed,
                                  Joined, Refuse, Replied, Tick, Unit, Wake)
from lcode.serving.grouping import Grouping
from lcode.serving.groups import ASKED, LAUNCHED, NO_DECODER, NONE, OVER, Group
from lcode.serving.options import PolicyOptions, number
from lcode.serving.pools import ARRIVED, LOST, NEW, QUEUED, SENT, Call
from lcode.serving.timers import run_all


class Policy(Grouping):
  """Tells what to do: `handle` takes an event and the time, and returns actions.

  Every query that is not refused is answered exactly once, whatever is lost, late, repeated or out of order: by what
  arrives, at once by FAILED when nothing can arrive any more, and by LATE after the deadline at the latest.

  Events of calls, groups and workers that are not known (any more) change nothing. A time before the last one counts as
  that one.

  Args:
    options: which policy.
  """

  def __init__(self, options: PolicyOptions):
    super().__init__(instance('options', options, PolicyOptions))
    self.last_query, self.asked = -1, math.inf
    self.out.due = math.inf
    self.handlers = {Arrived: self._arrive, Replied: self._reply, Failed: self._fail, Encoded: self._encoded,
                     Decoded: self._decoded, Joined: self._join, Died: self._die, Tick: lambda event: None}

  def handle(self, event: Event, t: float) -> list[Any]:
    """What follows from an event at time t, in this order; raises InputError for what is no event."""
    handler = self.handlers.get(type(event))
    if handler is None:
      raise InputError(f'event is a {type(event).__name__}, which is not allowed: give one of '
                       'lcode.serving.events, such as Arrived(query=0).')
    out = self.out
    out.actions = actions = []
    out.now = t = max(out.now, t)
    if t >= self.asked:
      self.asked = math.inf
    if t >= out.due and event.__class__ is Arrived:  # what has waited too long leaves its place to the query
      out.due = run_all(self.timers, t)
      out.pump()
    handler(event)
    if t >= out.due:  # not before a reply is taken that comes just in time
      out.due = run_all(self.timers, t)
    out.pump()
    if out.due < self.asked:
      self.asked = out.due
      actions.append(Wake(out.due))
    return actions

  @property
  def waiting(self) -> int:
    """Units in the queues of both pools."""
    return self.out.pools[BASE].queued + self.out.pools[PARITY].queued

  def _arrive(self, event):
    query, options, out = event.query, self.options, self.out
    if query <= self.last_query:
      return
    if event.deadline != math.inf:
      number('deadline', event.deadline)
    self.last_query = query
    if self.base.queued + self.encoding >= options.max_queued:
      out.actions.append(Refuse(query))
      return
    group = self._add_query(query, event.deadline)
    if options.passthrough:
      unit = Unit(group.id, len(group.units), query)
      group.units.append(unit)
      out.place(unit, self.base)
    if len(group.queries) == options.k:
      self._close(group)

  def _encoded(self, event):
    group = self.groups.get(event.group)
    if group is None or group.stage != LAUNCHED:
      return
    self._count_encoding(group, 0)
    if event.ok:
      self._place_spares(group)
    else:
      for unit in group.units:
        if unit.state == NEW:
          unit.state = LOST
    self._settle(group)

  def _reply(self, event):
    call = self.out.take(event.call)
    for position, unit in enumerate(call.units if call else ()):
      if self.quantiles:
        self._learn(unit, self.out.now - unit.since)
      group = self.groups.get(unit.group)
      if group is None or unit.state == ARRIVED:
        continue
      if position not in event.lost:
        self._take_answer(group, unit, call)
      elif unit.call == call.id and unit.state == SENT:
        self._lost(unit)

  def _take_answer(self, group: Group, unit: Unit, call: Call):
    if unit.state == QUEUED or unit.call != call.id:  # it was sent again, and now the first call answered after all
      self.out.drop(unit)
    unit.state = ARRIVED
    group.arrived += 1
    options, index = self.options, unit.index
    if index < options.k:
      if options.passthrough and not group.answered[index]:
        self._answer(group, index, EXACT, index)
    elif self.copies:
      if options.spare_exact or not self.holding or group.held == OVER:
        self._answer(group, 0, EXACT if options.spare_exact else RECONSTRUCTED, index)
      elif group.held == NONE:
        group.held = index
        self._settle(group)
    self._decode_if_enough(group)

  def _fail(self, event):
    call = self.out.take(event.call)
    if call is not None:
      for unit in call.units:
        if self.quantiles and unit.group not in self.groups:  # cancelled: it would have taken longer
          self._learn(unit, math.inf)
      self.out.lose(call)

  def _learn(self, unit, latency):
    """A query's own unit took so long."""
    if unit.index < self.options.k and unit.tries == 1:
      for timer, quantile in self.quantiles:
        if quantile.add(latency):
          timer.delay = quantile.value * (1 + 1e-9)  # what takes just as long comes first
          self.out.due = min(self.out.due, timer.run(-math.inf))

  def _join(self, event):
    self.out.join(event.worker, one_of('pool', event.pool, self.out.pools))

  def _die(self, event):
    self.out.die(event.worker)

  def _decoded(self, event):
    group = self.groups.get(event.group)
    if group is None or group.decoding != ASKED:
      return
    if not event.ok:
      group.decoding = NO_DECODER
      self._settle(group)
      return
    for index in group.open():
      self._answer(group, index, RECONSTRUCTED, -1)
