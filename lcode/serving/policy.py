"""The policy of coded inference serving, as a state machine: events in, actions out. No clock, network or thread.

Every policy is the same machine: k queries make a group, which has r spare units besides. What answers first, a query's
own unit or what the spare units make up for, is the answer (ParM, arXiv:1905.00863); what is then of no use is dropped.
"""

import math
from typing import Any

from lcode.errors import InputError, instance, one_of
from lcode.serving.dispatch import Dispatcher
from lcode.serving.events import (BASE, EXACT, FAILED, LATE, PARITY, RECONSTRUCTED, Answer, Arrived, Decode, Decoded,
                                  Died, Encode, Encoded, Event, Failed, Forget, Joined, Refuse, Replied, Tick, Unit,
                                  Wake)
from lcode.serving.groups import (ASKED, CLOSED, COMING, LAUNCHED, NO_DECODER, NONE, NOT_ASKED, OPEN, OVER, Group,
                                  enough, hopeless)
from lcode.serving.options import PolicyOptions
from lcode.serving.pools import ARRIVED, LOST, NEW, QUEUED, SENT, Call
from lcode.serving.timers import RunningQuantile, Timer, run_all


class Policy:
  """Tells what to do: `handle` takes an event and the time, and returns actions.

  Every query that is not refused is answered exactly once, whatever is lost, late, repeated or out of order: by what
  arrives, at once by FAILED when nothing can arrive any more, and by LATE after the deadline at the latest.

  Events of calls, groups and workers that are not known (any more) change nothing. A time before the last one counts as
  that one.

  Args:
    options: which policy.
  """

  def __init__(self, options: PolicyOptions):
    self.options = instance('options', options, PolicyOptions)
    self.copies = bool(options.r) and not options.encoded
    self.groups: dict[int, Group] = {}
    self.out = Dispatcher(options, self.groups, self._lost)
    self.base, self.spare = self.out.pools[BASE], self.out.pools[options.spare_pool]
    self.filling: Group | None = None
    self.last_query, self.last_group, self.asked = -1, -1, math.inf
    self.out.due = math.inf
    self._make_timers()
    self.handlers = {Arrived: self._arrive, Replied: self._reply, Failed: self._fail, Encoded: self._encoded,
                     Decoded: self._decoded, Joined: self._join, Died: self._die, Tick: lambda event: None}

  def _make_timers(self):
    options = self.options
    self.quantiles = []
    self.deadlines = Timer(options.deadline, _is_answered, self._expire)
    self.closings = Timer(options.group_wait, lambda group: group.stage != OPEN, self._close)
    self.spares = Timer(options.spare_after, lambda group: not group.unanswered or group.stage != CLOSED, self._launch)
    self.holds = Timer(options.hold, lambda group: not group.unanswered, self._release_held)
    for timer, q in [(self.spares, options.spare_quantile), (self.holds, options.hold_quantile)]:
      if q is not None:
        timer.delay = math.inf
        self.quantiles.append((timer, RunningQuantile(q)))
    self.late_spares = options.spare_after > 0 or options.spare_quantile is not None
    self.holding = options.hold > 0 or options.hold_quantile is not None
    self.timers = [*self.out.timers, self.deadlines, self.closings, self.spares, self.holds]

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
    self.last_query = query
    if self.base.queued >= options.max_queued:
      out.actions.append(Refuse(query))
      return
    group = self.filling
    if group is None:
      self.last_group += 1
      group = self.filling = self.groups[self.last_group] = Group(self.last_group)
      if options.k > 1:
        out.due = min(out.due, self.closings.add(out.now, group))
    position = len(group.queries)
    group.queries.append(query)
    group.times.append(out.now)
    group.answered.append(False)
    group.unanswered += 1
    if (due := self.deadlines.add(out.now, (group, position))) < out.due:
      out.due = due
    if options.passthrough:
      unit = Unit(group.id, position, query)
      group.units.append(unit)
      out.place(unit, self.base)
    if position + 1 == options.k:
      self._close(group)

  def _close(self, group):
    """The group is complete, or has waited long enough: its spare units are made, if they can still be of use."""
    options, out = self.options, self.out
    group.stage, self.filling = CLOSED, None
    if not group.unanswered:
      self._finish(group)
      return
    if options.passthrough:
      query = group.queries[0] if self.copies else -1
      group.units += [Unit(group.id, options.k + j, query) for j in range(options.r)]
    else:
      group.units = [Unit(group.id, index, -1) for index in range(options.n)]
    if self.holding:
      out.due = min(out.due, self.holds.add(out.now, group))
    if self.late_spares:
      out.due = min(out.due, self.spares.add(out.now, group))
    else:
      self._launch(group)
    self._settle(group)
    self._decode_if_enough(group)

  def _launch(self, group):
    group.stage = LAUNCHED
    if self.options.encoded:
      self.out.actions.append(Encode(group.id, tuple(group.queries)))
    else:
      self._place_spares(group)

  def _place_spares(self, group):
    for unit in group.units:
      if unit.state == NEW:
        self.out.place(unit, self.base if unit.index < self.options.k else self.spare)

  def _encoded(self, event):
    group = self.groups.get(event.group)
    if group is None or group.stage != LAUNCHED:
      return
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

  def _lost(self, unit: Unit):
    """A call with this unit came to nothing: the unit is sent again, or is lost."""
    unit.state = LOST
    group = self.groups.get(unit.group)
    if group is None:
      return
    pool = self.base if unit.index < self.options.k else self.spare
    if unit.tries > self.options.retries or not self.out.place(unit, pool, first=True):
      self._settle(group)

  def _settle(self, group: Group):
    """What follows from units that are lost: the others are sent, or held answers used; no query waits for nothing."""
    if group.stage == OPEN or not group.unanswered or (
        group.decoding != NO_DECODER and all(unit.state != LOST for unit in group.units)):
      return
    if group.stage == CLOSED:
      self._launch(group)
    if group.held >= 0 and group.units[0].state not in COMING:
      self._answer(group, 0, RECONSTRUCTED, group.held)
      return
    for index in hopeless(group, self.options):
      self._answer(group, index, FAILED, -1)

  def _decode_if_enough(self, group):
    if not (self.options.encoded and group.unanswered) or group.stage == OPEN:
      return
    arrived = [unit.state == ARRIVED for unit in group.units]
    if group.decoding == NOT_ASKED and enough(group, arrived, self.options):
      group.decoding = ASKED
      units = tuple(unit.index for unit in group.units if unit.state == ARRIVED)
      self.out.actions.append(Decode(group.id, units, tuple(group.queries)))

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

  def _release_held(self, group):
    if group.held >= 0:
      self._answer(group, 0, RECONSTRUCTED, group.held)
    group.held = OVER

  def _answer(self, group: Group, index: int, how: str, unit: int):
    out = self.out
    group.answered[index] = True
    group.unanswered -= 1
    out.actions.append(Answer(group.queries[index], how, group.id, unit))
    if not group.unanswered and group.stage != OPEN:
      self._finish(group)

  def _expire(self, entry):
    group, index = entry
    if group.held >= 0:
      self._answer(group, index, RECONSTRUCTED, group.held)
      return
    self._answer(group, index, LATE, -1)
    if self.options.passthrough and group.units[index].state == QUEUED:  # its answer would come too late
      self.out.drop(group.units[index])
      group.units[index].state = LOST
      self._settle(group)

  def _finish(self, group):
    for unit in group.units:
      if unit.state == QUEUED or unit.state == SENT:
        self.out.drop(unit)
    del self.groups[group.id]
    self.out.actions.append(Forget(group.id))


def _is_answered(entry) -> bool:
  group, index = entry
  return group.answered[index]
