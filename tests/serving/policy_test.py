"""The policy: whatever is lost, late, repeated or out of order, every accepted query is answered once and in time."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcode.errors import InputError
from lcode.serving import events as ev
from lcode.serving.events import BASE, EXACT, FAILED, LATE, PARITY, RECONSTRUCTED
from lcode.serving.grouping import FILL_SHARE
from lcode.serving.options import POLICIES, PolicyOptions, make_options
from lcode.serving.policy import Policy

CODES = [
    dict(), dict(r=1, spare_pool=BASE), dict(r=2, spare_pool=BASE, spare_after=5.0),
    dict(r=1, spare_pool=BASE, spare_quantile=0.9), dict(r=1, spare_pool=BASE, tied=True, queues='shortest'),
    dict(r=1, spare_exact=False, hold=6.0), dict(r=1, spare_exact=False, hold_quantile=0.5),
    dict(k=2, r=1, encoded=True), dict(k=3, r=2, encoded=True), dict(k=3, r=2, encoded=True, spare_pool=BASE),
    dict(k=3, r=1, encoded=True, alone=True), dict(k=2, r=1, encoded=True, spare_after=4.0),
    dict(k=2, r=2, encoded=True, passthrough=False, spare_pool=BASE), dict(k=4, r=1, encoded=True, need=3)]


OWN_DEADLINES = math.inf, math.inf, 2.0, 5.0, 20.0


class World:
  """What lies around a policy, with what it may see checked at each step: workers, calls in flight, coders."""

  def __init__(self, options):
    self.options, self.policy, self.t = options, Policy(options), 0.0
    self.workers, self.sends, self.ended, self.sent_at = {}, [], set(), {}
    self.encodes, self.decodes, self.coding = [], [], set()
    self.deadlines: dict[int, float] = {}
    self.arrived, self.accepted, self.answers, self.refused = {}, set(), {}, set()
    self.replied, self.members, self.sizes, self.closed = set(), {}, {}, set()
    self.late = 0.0  # how long after it was asked for the policy was last told the time
    self.wake = math.inf

  def tell(self, event, dt=0.0):
    self.t += dt
    self.event, self.late = event, max(self.t - self.wake, 0.0) if self.wake < math.inf else 0.0
    if isinstance(event, ev.Arrived) and event.query > max(self.arrived, default=-1):
      self.arrived[event.query] = self.t
      self.deadlines[event.query] = min(event.deadline, self.options.deadline)
      self.accepted.add(event.query)
    if isinstance(event, (ev.Replied, ev.Failed)):
      units = {(unit.group, unit.index) for unit in self.sends[event.call].units}
      if event.call not in self.ended and isinstance(event, ev.Replied):
        self.replied |= units
      self.ended.add(event.call)
    if isinstance(event, ev.Joined):
      self.workers.setdefault(event.worker, event.pool)
    if isinstance(event, ev.Died):
      self.workers.pop(event.worker, None)
      self.ended |= {send.call for send in self.sends if send.worker == event.worker}
    if isinstance(event, (ev.Encoded, ev.Decoded)):
      self.coding.discard((type(event), event.group))
    if self.t >= self.wake:
      self.wake = math.inf
    for action in self.policy.handle(event, self.t):
      getattr(self, type(action).__name__)(action)
    self.check()

  def Send(self, action):
    assert action.call == len(self.sends) and action.worker in self.workers
    assert 1 <= len(action.units) <= self.options.batch_size
    self.sends.append(action)
    self.sent_at[action.call] = self.t
    for unit in action.units:
      pool = self.options.spare_pool if unit.index >= self.options.k else BASE
      assert self.workers[action.worker] == pool
      if unit.query >= 0:
        assert unit.query in self.accepted
        assert unit.query not in self.answers or self.options.k > 1  # or it is of no use any more
    silent = 2 * self.options.call_timeout
    open_calls = [call for call, t in self.sent_at.items() if call not in self.ended and self.t - t < silent - 1e-9
                  and self.sends[call].worker == action.worker]
    assert len(open_calls) <= self.options.max_outstanding

  def Encode(self, action):
    assert action.queries and set(action.queries) <= self.accepted and len(action.queries) <= self.options.k
    self.encodes.append(action.group)
    self.sizes[action.group] = len(action.queries)
    self.coding.add((ev.Encoded, action.group))
    self.members[action.group] = set(action.queries)

  def Decode(self, action):
    assert action.group not in self.decodes and all((action.group, unit) in self.replied for unit in action.units)
    known = self.options.k - self.sizes[action.group] if self.options.passthrough else 0
    assert len(action.units) + known >= self.options.need or (
        self.options.alone and max(action.units) >= self.options.k)
    assert set(action.queries) == self.members.get(action.group, set(action.queries))
    assert sorted(action.queries) == list(action.queries)
    self.decodes.append(action.group)
    self.coding.add((ev.Decoded, action.group))

  def Answer(self, action):
    assert action.query in self.accepted and action.query not in self.answers
    self.answers[action.query] = action.how
    age = self.t - self.arrived[action.query]
    if action.how == EXACT or action.unit >= 0:
      assert (action.group, action.unit) in self.replied
    if action.how == RECONSTRUCTED and action.unit < 0:
      assert action.group in self.decodes and self.event == ev.Decoded(action.group)
      assert action.query in self.members[action.group]
    if action.how == RECONSTRUCTED and not self.options.encoded and self.options.hold and not isinstance(
        self.event, (ev.Died, ev.Failed)):
      own = [send.call for send in self.sends if any(u.query == action.query and not u.index for u in send.units)]
      assert age >= min(self.options.hold, self.deadlines[action.query]) - 1e-9 or all(
          call in self.ended or self.t - self.sent_at[call] >= self.options.call_timeout - 1e-9 for call in own)
    if action.how == LATE:
      assert age >= self.deadlines[action.query] - 1e-9

  def Refuse(self, action):
    assert isinstance(self.event, ev.Arrived) and self.event.query == action.query
    self.accepted.discard(action.query)
    # Queries of closed groups that are not encoded yet will wait there too.
    to_come = 0 if self.options.passthrough else sum(
        len(self.members[group]) for event, group in self.coding if event is ev.Encoded and group in self.policy.groups)
    assert self.policy.out.pools[BASE].queued + to_come >= self.options.max_queued

  def Closed(self, action):
    waits = [self.t - self.arrived[query] for query in self.policy.groups[action.group].queries] if (
        action.group in self.policy.groups) else action.waits
    assert action.group not in self.closed and 1 <= len(action.waits) <= self.options.k > 1
    assert list(action.waits) == pytest.approx(list(waits)) == sorted(action.waits, reverse=True)
    assert max(action.waits) <= self.options.group_wait + self.late
    self.closed.add(action.group)

  def Cancel(self, action):
    assert action.call not in self.ended

  def Forget(self, action):
    pass

  def Wake(self, action):
    assert action.t < self.wake
    self.wake = action.t

  def check(self):
    policy = self.policy
    for pool in policy.out.pools.values():
      lines = {id(worker.line): worker.line for worker in pool.order} | {id(pool.shared): pool.shared}
      waiting = [sum(unit.line is line for unit in line.queue) for line in lines.values()]
      assert sum(waiting) == pool.queued <= self.options.max_queued
      assert all(len(set(map(id, line.queue))) == len(line.queue) for line in lines.values())  # none waits twice
      assert all(len(line.queue) <= 2 * line.waiting + 32 for line in lines.values())
    for query in self.accepted - set(self.answers):  # none is left behind
      assert self.t - self.arrived[query] < self.deadlines[query]
    if policy.filling is not None and self.options.k > 1:  # nor waits for a group to fill until it is too late
      for query in set(policy.filling.queries) - set(self.answers):
        assert (self.deadlines[query] == self.options.deadline
                or self.t - self.arrived[query] < FILL_SHARE * self.deadlines[query])
    for pool in policy.out.pools.values():  # no query waits that is answered already
      for line in [pool.shared, *(worker.line for worker in pool.order)]:
        assert not any(unit.query in self.answers for unit in line.queue if unit.line is line)
    # Whoever waits, waits for something: a unit of its group at a worker or in a queue, a coder, or more queries.
    coming = {unit.group for send in self.sends if send.call not in self.ended for unit in send.units}
    coming |= {unit.group for pool in policy.out.pools.values() for line in [pool.shared, *(w.line for w in pool.order)]
               for unit in line.queue if unit.line is line} | {group for _, group in self.coding}
    waiting = {query: group for group in policy.groups.values() for query in group.queries if query not in self.answers}
    assert set(waiting) == self.accepted - set(self.answers)
    assert all(group.id in coming or group is policy.filling for group in waiting.values())

  def let_time_pass(self):
    for _ in range(10_000):
      if self.wake == math.inf:
        return
      self.t = max(self.t, self.wake)
      self.tell(ev.Tick())
    raise AssertionError('it asks to be woken for ever')


options_strategy = st.builds(
    lambda code, **others: PolicyOptions(**others | {'queues': others['queues'] if not code.get('tied') or
                                                     others['queues'] != 'single' else 'round_robin'} | {
                                                         name: v for name, v in code.items() if name != 'queues'}),
    st.sampled_from(CODES), queues=st.sampled_from(['single', 'round_robin', 'shortest']), choices=st.integers(1, 3),
    max_outstanding=st.integers(1, 2), max_queued=st.integers(1, 6), batch_size=st.integers(1, 3),
    batch_wait=st.sampled_from([0.0, 2.0]), call_timeout=st.sampled_from([math.inf, 7.0]), retries=st.integers(0, 2),
    group_wait=st.sampled_from([0.0, 3.0, math.inf]), deadline=st.sampled_from([10.0, 30.0]), cancel=st.booleans())
steps_strategy = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 1000), st.sampled_from(
    [0.0, 0.0, 0.5, 3.0, 6.0])), min_size=5, max_size=80)


def step(world, kind, which, dt):
  """One thing that may happen: events about what is known, once, again, or late."""
  sends, coders = world.sends, {7: ev.Encoded, 8: ev.Decoded}
  if kind <= 2:
    deadline = OWN_DEADLINES[which // 8 % len(OWN_DEADLINES)]
    world.tell(ev.Arrived(max(world.arrived, default=-1) + 1 if which % 8 else which % 5, deadline), dt)
  elif kind in (3, 4, 5, 6) and sends:
    call = sends[which % len(sends)] if which % 3 else sends[-1 - which % min(len(sends), 3)]
    world.tell(ev.Failed(call.call) if kind == 6 else ev.Replied(call.call), dt)
  elif kind in coders and world.encodes:
    world.tell(coders[kind](world.encodes[-1 - which % len(world.encodes)], which % 5 > 0), dt)
  elif kind == 9:
    world.tell(ev.Died(which % 5), dt)
  elif kind == 10:
    world.tell(ev.Joined(which % 5, PARITY if which % 5 > 2 else BASE), dt)
  else:
    world.tell(ev.Tick(), dt)


def peopled(options):
  world = World(options)
  for worker in range(5):
    world.tell(ev.Joined(worker, PARITY if worker > 2 else BASE))
  return world


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(options_strategy, steps_strategy)
def test_every_accepted_query_is_answered_once_whatever_happens(options, steps):
  world = peopled(options)
  for one in steps:
    step(world, *one)
  world.let_time_pass()
  assert set(world.answers) == world.accepted and not world.policy.waiting
  assert list(world.policy.groups.values()) == [world.policy.filling] * (world.policy.filling is not None)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(options_strategy, st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 12))
def test_without_losses_everyone_is_answered_without_a_deadline(options, choices, queries):
  """In any order of replies; time passes only where the policy asks for it and nothing is left to happen."""
  world = peopled(dataclasses.replace(options, deadline=math.inf, call_timeout=math.inf, max_queued=100,
                                      group_wait=min(options.group_wait, 3.0)))
  for query in range(queries):
    world.tell(ev.Arrived(query), 0.1)
  for choice in range(1000):
    pending = [ev.Replied(send.call) for send in world.sends if send.call not in world.ended]
    pending += [event(group) for event, group in sorted(world.coding, key=str)]
    if pending:
      world.tell(pending[choices[choice % len(choices)] % len(pending)], 0.1)
    elif world.wake < math.inf:
      world.t = max(world.t, world.wake)
      world.tell(ev.Tick())
    else:
      break
  assert set(world.answers) == set(range(queries)) and not set(world.answers.values()) & {FAILED, LATE}
  assert not world.policy.groups and not world.policy.out.calls and not world.policy.waiting


def start(options, workers=4, parity_workers=2):
  policy = Policy(options)
  for worker in range(workers + parity_workers):
    policy.handle(ev.Joined(worker, BASE if worker < workers else PARITY), 0.0)
  return policy


def kinds(actions):
  return [action for action in actions if not isinstance(action, (ev.Wake, ev.Forget, ev.Closed))]


def test_a_coded_group_as_parm_serves_it():
  policy = start(make_options('coded'))
  (first,) = kinds(policy.handle(ev.Arrived(0), 0.0))
  second, encode = sorted(kinds(policy.handle(ev.Arrived(1), 3.0)), key=lambda action: isinstance(action, ev.Encode))
  assert {first.worker, second.worker} < {0, 1, 2, 3} and encode == ev.Encode(0, (0, 1))
  (parity,) = kinds(policy.handle(ev.Encoded(0), 3.1))
  assert parity.worker in (4, 5) and parity.units[0].index == 2
  assert kinds(policy.handle(ev.Replied(second.call), 20.0)) == [ev.Answer(1, EXACT, 0, 1)]
  assert kinds(policy.handle(ev.Replied(parity.call), 21.0)) == [ev.Decode(0, (1, 2), (0, 1))]
  assert policy.handle(ev.Decoded(0), 21.1) == [
      ev.Answer(0, RECONSTRUCTED, 0, -1), ev.Cancel(first.call), ev.Forget(0)]
  assert policy.handle(ev.Replied(first.call), 50.0) == policy.handle(ev.Decoded(0), 50.0) == []


def test_a_parity_that_is_of_no_use_any_more_is_not_sent():
  policy = start(make_options('coded', max_outstanding=1), workers=4, parity_workers=1)
  sends = [action for query in range(4) for action in kinds(policy.handle(ev.Arrived(query), 0.0))
           if isinstance(action, ev.Send)]
  (busy,) = kinds(policy.handle(ev.Encoded(0), 0.0))
  assert kinds(policy.handle(ev.Encoded(1), 0.0)) == [] and policy.waiting == 1
  for send in sends[2:]:
    policy.handle(ev.Replied(send.call), 1.0)
  assert policy.waiting == 0 and kinds(policy.handle(ev.Replied(busy.call), 2.0)) == []


def test_a_group_that_does_not_fill_is_closed_short_and_decoded():
  policy = start(make_options('coded', k=3, r=2, group_wait=10.0))
  (send,) = kinds(policy.handle(ev.Arrived(0), 0.0))
  assert kinds(policy.handle(ev.Tick(), 9.0)) == []
  assert kinds(policy.handle(ev.Tick(), 10.0)) == [ev.Encode(0, (0,))]
  parities = kinds(policy.handle(ev.Encoded(0), 10.0))
  assert [send.units[0].index for send in parities] == [3, 4]
  assert kinds(policy.handle(ev.Replied(parities[1].call), 12.0)) == [ev.Decode(0, (4,), (0,))]


def test_a_bundles_parity_answers_alone_and_a_sum_does_not():
  for alone, expected in [(True, [ev.Decode(0, (2,), (0, 1))]), (False, [])]:
    policy = start(make_options('coded', alone=alone))
    for query in (0, 1):
      policy.handle(ev.Arrived(query), 0.0)
    (parity,) = kinds(policy.handle(ev.Encoded(0), 0.0))
    assert kinds(policy.handle(ev.Replied(parity.call), 1.0)) == expected


def test_a_code_that_fewer_than_k_units_decode_does_so_when_its_group_is_closed():
  policy = start(make_options('coded', k=3, need=2))
  sends = [kinds(policy.handle(ev.Arrived(query), query))[0] for query in (0, 1)]
  for send in sends:
    policy.handle(ev.Replied(send.call), 5.0)
  actions = kinds(policy.handle(ev.Arrived(2), 6.0))
  assert ev.Decode(0, (0, 1), (0, 1, 2)) in actions and ev.Encode(0, (0, 1, 2)) in actions
  assert ev.Answer(2, RECONSTRUCTED, 0, -1) in policy.handle(ev.Decoded(0), 6.1)


@pytest.mark.parametrize('retries, expected', [(0, FAILED), (1, EXACT)])
def test_a_dead_workers_unit_is_sent_again_or_its_query_fails_at_once(retries, expected):
  policy = start(make_options('none', retries=retries, call_timeout=50.0))
  (send,) = kinds(policy.handle(ev.Arrived(0), 0.0))
  actions = kinds(policy.handle(ev.Died(send.worker), 1.0))
  if retries:
    (again,) = actions
    assert again.worker != send.worker and kinds(policy.handle(ev.Replied(send.call), 1.5)) == []
    actions = kinds(policy.handle(ev.Replied(again.call), 2.0))
  assert [action.how for action in actions] == [expected]


def test_a_call_given_up_may_yet_answer():
  policy = start(make_options('none', call_timeout=50.0))
  (send,) = kinds(policy.handle(ev.Arrived(0), 0.0))
  (again,) = kinds(policy.handle(ev.Tick(), 50.0))
  assert again.units == send.units and again.worker != send.worker
  assert kinds(policy.handle(ev.Replied(send.call), 60.0)) == [ev.Cancel(again.call), ev.Answer(0, EXACT, 0, 0)]


def test_a_reply_after_the_deadline_is_no_second_answer_but_helps_the_others():
  policy = start(make_options('coded', deadline=10.0))
  sends = [kinds(policy.handle(ev.Arrived(query), 5.0 * query))[-1] for query in (0, 1)]
  (parity,) = kinds(policy.handle(ev.Encoded(0), 5.0))
  assert kinds(policy.handle(ev.Tick(), 10.0)) == [ev.Answer(0, LATE, 0, -1)]
  assert kinds(policy.handle(ev.Replied(parity.call), 11.0)) == []
  assert kinds(policy.handle(ev.Replied(0), 12.0)) == [ev.Decode(0, (0, 2), (0, 1))] and len(sends) == 2
  assert kinds(policy.handle(ev.Decoded(0), 12.1))[0] == ev.Answer(1, RECONSTRUCTED, 0, -1)


def test_a_deadline_of_its_own_closes_the_group_in_time_for_its_parity():
  """Of 100 ms to wait for others a query of 40 has 20; then its parity has the rest."""
  policy = start(make_options('coded', group_wait=100.0))
  (send,) = kinds(policy.handle(ev.Arrived(0, deadline=40.0), 10.0))
  assert policy.asked == 30.0 and kinds(policy.handle(ev.Tick(), 29.9)) == []
  actions = policy.handle(ev.Tick(), 30.0)
  assert ev.Closed(0, (20.0,)) in actions and kinds(actions) == [ev.Encode(0, (0,))]
  (parity,) = kinds(policy.handle(ev.Encoded(0), 30.0))
  assert kinds(policy.handle(ev.Replied(parity.call), 45.0)) == [ev.Decode(0, (2,), (0,))]
  actions = kinds(policy.handle(ev.Decoded(0), 45.1))
  assert actions == [ev.Answer(0, RECONSTRUCTED, 0, -1), ev.Cancel(send.call)]


def test_a_query_that_is_answered_does_not_close_its_group_early():
  policy = start(make_options('coded', group_wait=100.0))
  (send,) = kinds(policy.handle(ev.Arrived(0, deadline=40.0), 0.0))
  policy.handle(ev.Replied(send.call), 5.0)
  assert kinds(policy.handle(ev.Tick(), 90.0)) == [] and policy.filling is not None


@pytest.mark.parametrize('deadline, late_at', [(7.0, 7.0), (500.0, 20.0), (math.inf, 20.0)])
def test_a_query_is_late_once_at_the_sooner_of_its_deadline_and_the_policy_s(deadline, late_at):
  policy = start(make_options('none', deadline=20.0))
  (send,) = kinds(policy.handle(ev.Arrived(0, deadline), 0.0))
  assert kinds(policy.handle(ev.Tick(), late_at - 0.1)) == []
  assert kinds(policy.handle(ev.Tick(), late_at)) == [ev.Answer(0, LATE, 0, -1), ev.Cancel(send.call)]
  assert kinds(policy.handle(ev.Replied(send.call), late_at + 1)) == []


def test_deadlines_of_their_own_fall_due_in_their_order_and_leave_memory():
  policy = start(make_options('none', deadline=1e6), workers=0, parity_workers=0)
  for query, deadline in enumerate([30.0, 10.0, 20.0]):
    policy.handle(ev.Arrived(query, deadline), 0.0)
  late = [(t, action.query) for t in range(40) for action in kinds(policy.handle(ev.Tick(), float(t)))]
  assert late == [(10, 1), (20, 2), (30, 0)]
  policy = start(make_options('none', deadline=1e6, max_queued=10_000))
  policy.handle(ev.Arrived(0, 10.0), 0.0)  # the first to fall due, and never answered
  for query in range(1, 5000):
    send = [action for action in policy.handle(ev.Arrived(query, 1e5), 1.0) if isinstance(action, ev.Send)][-1]
    policy.handle(ev.Replied(send.call), 1.0)
  assert len(policy.own_deadlines.entries) <= 2 * 1 + 32


def test_a_late_query_s_unit_is_not_sent_again():
  policy = start(make_options('coded', retries=3))
  (send,) = kinds(policy.handle(ev.Arrived(0, deadline=10.0), 0.0))
  policy.handle(ev.Arrived(1), 1.0)
  assert kinds(policy.handle(ev.Tick(), 10.0)) == [ev.Answer(0, LATE, 0, -1)]
  assert kinds(policy.handle(ev.Died(send.worker), 11.0)) == []


def test_queries_that_are_being_encoded_count_as_waiting():
  """Of a code that sends coded queries alone nothing waits before the encoder has answered: four places, taken."""
  policy = start(make_options('coded', passthrough=False, max_queued=4))
  actions = [action for query in range(10) for action in kinds(policy.handle(ev.Arrived(query), 0.0))]
  assert [action.queries for action in actions if isinstance(action, ev.Encode)] == [(0, 1), (2, 3)]
  assert [action.query for action in actions if isinstance(action, ev.Refuse)] == [4, 5, 6, 7, 8, 9]
  policy.handle(ev.Encoded(0), 1.0)  # is sent
  policy.handle(ev.Encoded(1, ok=False), 1.0)  # and this one fails
  assert policy.encoding == 0 and kinds(policy.handle(ev.Arrived(10), 2.0)) == []


def test_the_place_of_a_call_never_heard_of_again_is_given_again():
  policy = start(make_options('none', call_timeout=50.0, max_outstanding=1, retries=0), workers=1, parity_workers=0)
  (send,) = kinds(policy.handle(ev.Arrived(0), 0.0))
  (answer,) = kinds(policy.handle(ev.Tick(), 50.0))
  assert answer.how == FAILED and kinds(policy.handle(ev.Arrived(1), 60.0)) == []
  assert ev.Wake(100.0) in policy.handle(ev.Tick(), 99.0) or policy.asked == 100.0
  (again,) = kinds(policy.handle(ev.Tick(), 100.0))
  assert again.units[0].query == 1 and kinds(policy.handle(ev.Replied(send.call), 101.0)) == []


def test_what_is_dropped_from_a_queue_leaves_memory():
  policy = start(make_options('none', deadline=10.0), workers=0, parity_workers=0)
  for query in range(5000):
    policy.handle(ev.Arrived(query), float(query))
    assert len(policy.base.shared.queue) <= 2 * 11 + 32 and len(policy.groups) <= 11
    assert sum(len(timer.entries) for timer in policy.timers) <= 50
  policy = start(make_options('coded', deadline=math.inf), workers=2, parity_workers=0)
  for query in range(2000):  # the first group's parity waits for ever, before those of groups that are done
    sends = [action for action in policy.handle(ev.Arrived(query), 0.0) if isinstance(action, ev.Send)]
    policy.handle(ev.Encoded(query // 2), 0.0)
    for send in sends if query else []:
      policy.handle(ev.Replied(send.call), 0.0)
    assert len(policy.spare.shared.queue) <= 2 * 2 + 32 and policy.waiting <= 2


def test_hedging_sends_a_copy_elsewhere_after_the_delay():
  policy = start(make_options('hedged', spare_quantile=None, spare_after=30.0), workers=2, parity_workers=0)
  (send,) = kinds(policy.handle(ev.Arrived(0), 0.0))
  assert kinds(policy.handle(ev.Tick(), 29.9)) == []
  (copy,) = kinds(policy.handle(ev.Tick(), 30.0))
  assert copy.worker != send.worker and copy.units[0].query == 0
  assert kinds(policy.handle(ev.Replied(copy.call), 40.0)) == [ev.Answer(0, EXACT, 0, 1), ev.Cancel(send.call)]


def test_hedging_learns_its_delay():
  policy = start(make_options('hedged', spare_quantile=0.9, max_queued=10_000))
  for query in range(1000):
    (send,) = [action for action in policy.handle(ev.Arrived(query), 100.0 * query) if isinstance(action, ev.Send)]
    policy.handle(ev.Replied(send.call), 100.0 * query + query % 10)
  assert policy.spares.delay == pytest.approx(9.0)


def test_of_tied_requests_the_first_to_start_removes_the_other():
  policy = start(make_options('tied', max_outstanding=1, choices=1), workers=2, parity_workers=0)
  sends = kinds(policy.handle(ev.Arrived(0), 0.0)) + kinds(policy.handle(ev.Arrived(1), 0.0))
  assert sorted(send.worker for send in sends) == [0, 1] and policy.waiting == 0
  assert kinds(policy.handle(ev.Arrived(2), 0.0)) == [] and policy.waiting == 2
  (answer, send) = kinds(policy.handle(ev.Replied(sends[1].call), 5.0))
  assert answer.query == 1 and send.worker == sends[1].worker and policy.waiting == 0


def test_a_backups_answer_is_held_and_used_when_the_exact_is_late_or_lost():
  policy = start(make_options('backup', hold_quantile=None, hold=20.0, retries=0))
  exact, backup = kinds(policy.handle(ev.Arrived(0), 0.0))
  exact, backup = sorted([exact, backup], key=lambda send: send.worker)
  assert kinds(policy.handle(ev.Replied(backup.call), 2.0)) == []
  assert kinds(policy.handle(ev.Tick(), 20.0)) == [ev.Answer(0, RECONSTRUCTED, 0, 1), ev.Cancel(exact.call)]
  exact, backup = sorted(kinds(policy.handle(ev.Arrived(1), 30.0)), key=lambda send: send.worker)
  policy.handle(ev.Replied(backup.call), 31.0)
  assert kinds(policy.handle(ev.Failed(exact.call), 32.0)) == [ev.Answer(1, RECONSTRUCTED, 1, 1)]


def test_beyond_the_queue_a_query_is_refused_at_once():
  policy = start(make_options('none', max_outstanding=1, max_queued=3), workers=2)
  actions = [kinds(policy.handle(ev.Arrived(query), 0.0)) for query in range(7)]
  assert [len(a) for a in actions] == [1, 1, 0, 0, 0, 1, 1] and actions[5:] == [[ev.Refuse(5)], [ev.Refuse(6)]]


def test_a_free_worker_waits_for_a_batch_and_no_longer():
  policy = start(make_options('none', batch_size=3, batch_wait=5.0))
  assert kinds(policy.handle(ev.Arrived(0), 0.0)) == kinds(policy.handle(ev.Arrived(1), 1.0)) == []
  (send,) = kinds(policy.handle(ev.Arrived(2), 2.0))
  assert [unit.query for unit in send.units] == [0, 1, 2]
  assert kinds(policy.handle(ev.Arrived(3), 3.0)) == []
  (send,) = kinds(policy.handle(ev.Tick(), 8.0))
  assert [unit.query for unit in send.units] == [3]


def test_the_least_loaded_worker_is_taken_or_each_in_turn():
  policy = start(make_options('none', max_outstanding=2), workers=3, parity_workers=0)
  sends = [kinds(policy.handle(ev.Arrived(query), 0.0))[0] for query in range(4)]
  assert sorted(send.worker for send in sends[:3]) == [0, 1, 2]
  policy.handle(ev.Replied(sends[2].call), 1.0)
  assert kinds(policy.handle(ev.Arrived(4), 1.0))[0].worker == sends[2].worker
  policy = start(make_options('none', queues='round_robin', max_outstanding=9), workers=3, parity_workers=0)
  sends = [kinds(policy.handle(ev.Arrived(query), 0.0))[0] for query in range(6)]
  assert [send.worker for send in sends] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize('name', POLICIES)
def test_each_named_policy_is_one(name):
  assert make_options(name).n == make_options(name).k + make_options(name).r


@pytest.mark.parametrize('fields, words', [
    (dict(k=0), 'k=0'), (dict(r=1.5), 'r=1.5'), (dict(k=2), 'copies are of one query'), (dict(need=2), 'need=2'),
    (dict(deadline=0), 'above 0'), (dict(group_wait=math.nan), 'group_wait=nan'), (dict(queues='heap'), "'heap'"),
    (dict(tied=True), "queues='single'"), (dict(spare_quantile=1.0), 'spare_quantile=1.0'),
    (dict(passthrough=False), 'encoded=True'), (dict(cancel=1), 'cancel is a int'), (dict(spare_pool='x'), "'x'"),
    (dict(hold=-1.0), 'hold=-1.0'), (dict(max_queued=True), 'max_queued=True')])
def test_what_is_not_allowed_is_a_sentence(fields, words):
  with pytest.raises(InputError, match=words):
    PolicyOptions(**fields)


def test_other_input_is_a_sentence():
  with pytest.raises(InputError, match='known ones are backup, coded'):
    make_options('codde')
  with pytest.raises(InputError, match='retires'):
    make_options('coded', retires=2)
  with pytest.raises(InputError, match='options is a dict'):
    Policy({})
  policy = Policy(make_options('coded'))
  for event in [('Arrived', 0), None]:
    with pytest.raises(InputError, match='event is a'):
      policy.handle(event, 0.0)
  for deadline in (-1.0, math.nan, 'soon'):
    with pytest.raises(InputError, match='deadline'):
      policy.handle(ev.Arrived(7, deadline), 0.0)
  with pytest.raises(InputError, match='pool'):
    policy.handle(ev.Joined(0, 'gpu'), 0.0)
