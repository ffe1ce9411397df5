"""The groups of a policy: how queries make them, when their spare units are made, and what their queries are told."""

import math

from lcode.serving.dispatch import Dispatcher
from lcode.serving.events import BASE, FAILED, LATE, RECONSTRUCTED, Answer, Closed, Decode, Encode, Forget, Unit
from lcode.serving.groups import (ASKED, CLOSED, COMING, LAUNCHED, NO_DECODER, NOT_ASKED, OPEN, OVER, Group, enough,
                                  hopeless)
from lcode.serving.options import PolicyOptions
from lcode.serving.pools import ARRIVED, LOST, NEW, QUEUED, SENT
from lcode.serving.timers import OwnTimer, RunningQuantile, Timer

FILL_SHARE = 0.5  # of a query's own deadline: so long its group may fill, the rest is for what makes up for its answer


class Grouping:
  """What becomes of groups, for a policy that tells what happens.

  Args:
    options: which policy.
  """

  def __init__(self, options: PolicyOptions):
    self.options = options
    self.copies = bool(options.r) and not options.encoded
    self.groups: dict[int, Group] = {}
    self.out = Dispatcher(options, self.groups, self._lost)
    self.base, self.spare = self.out.pools[BASE], self.out.pools[options.spare_pool]
    self.filling: Group | None = None
    self.last_group = -1
    self.encoding = 0  # queries of groups whose units are all encoded, and are not there yet
    self._make_timers()

  def _make_timers(self):
    options = self.options
    self.quantiles = []
    self.deadlines, self.own_deadlines = Timer(options.deadline, _is_answered, self._expire), OwnTimer(
        _is_answered, self._expire)
    self.closings, self.own_closings = Timer(options.group_wait, _is_closed, self._close), OwnTimer(
        lambda entry: _is_answered(entry) or _is_closed(entry[0]), lambda entry: self._close(entry[0]))
    self.spares = Timer(options.spare_after, lambda group: not group.unanswered or group.stage != CLOSED, self._launch)
    self.holds = Timer(options.hold, lambda group: not group.unanswered, self._release_held)
    for timer, q in [(self.spares, options.spare_quantile), (self.holds, options.hold_quantile)]:
      if q is not None:
        timer.delay = math.inf
        self.quantiles.append((timer, RunningQuantile(q)))
    self.late_spares = options.spare_after > 0 or options.spare_quantile is not None
    self.holding = options.hold > 0 or options.hold_quantile is not None
    self.timers = [*self.out.timers, self.deadlines, self.own_deadlines, self.closings, self.own_closings, self.spares,
                   self.holds]

  def _add_query(self, query: int, deadline: float) -> Group:
    """The group that fills, with one query more."""
    options, out, group = self.options, self.out, self.filling
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
    if deadline < options.deadline:
      due = self.own_deadlines.add(out.now + deadline, (group, position))
      if options.k > 1:
        due = min(due, self.own_closings.add(out.now + FILL_SHARE * deadline, (group, position)))
    else:
      due = self.deadlines.add(out.now, (group, position))
    if due < out.due:
      out.due = due
    return group

  def _close(self, group):
    """The group is complete, or has waited long enough: its spare units are made, if they can still be of use."""
    options, out = self.options, self.out
    group.stage, self.filling = CLOSED, None
    if options.k > 1:
      out.actions.append(Closed(group.id, tuple(out.now - t for t in group.times)))
    if not group.unanswered:
      self._finish(group)
      return
    if options.passthrough:
      query = group.queries[0] if self.copies else -1
      group.units += [Unit(group.id, options.k + j, query) for j in range(options.r)]
    else:
      group.units = [Unit(group.id, index, -1) for index in range(options.n)]
      self._count_encoding(group, len(group.queries))
    if self.holding:
      out.due = min(out.due, self.holds.add(out.now, group))
    if self.late_spares:
      out.due = min(out.due, self.spares.add(out.now, group))
    else:
      self._launch(group)
    self._settle(group)
    self._decode_if_enough(group)

  def _count_encoding(self, group, count: int):
    self.encoding += count - group.encoding
    group.encoding = count

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

  def _lost(self, unit: Unit):
    """A call with this unit came to nothing: the unit is sent again, or is lost."""
    unit.state = LOST
    group = self.groups.get(unit.group)
    if group is None:
      return
    own = unit.index < self.options.k
    too_late = own and self.options.passthrough and group.answered[unit.index]
    if too_late or unit.tries > self.options.retries or not self.out.place(
        unit, self.base if own else self.spare, first=True):
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
    self._count_encoding(group, 0)
    del self.groups[group.id]
    self.out.actions.append(Forget(group.id))


def _is_answered(entry) -> bool:
  group, index = entry
  return group.answered[index]


def _is_closed(group) -> bool:
  return group.stage != OPEN
