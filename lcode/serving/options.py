"""What a policy is told once: the redundancy, the queues, the limits; and the policies by name."""

import dataclasses
import math
import numbers
from typing import Any

from lcode.errors import InputError, instance, one_of, whole
from lcode.serving.events import BASE, PARITY

QUEUES = 'single', 'round_robin', 'shortest'
TIMES = 'spare_after', 'hold', 'group_wait', 'deadline', 'batch_wait', 'call_timeout'


@dataclasses.dataclass(frozen=True)
class PolicyOptions:
  """Every policy is a group of k queries with r spare units. Times are in milliseconds.

  Attributes:
    k: queries per group. Groups are made in the order of arrival.
    r: spare units per group: parities, or (k = 1) copies.
    encoded: spare units are made by an encoder, and k queries answered by a decoder; else they are copies.
    passthrough: a data unit is the query itself, and its reply the answer. Else all n units are encoded, once the group
      is closed, and every answer is decoded.
    need: of the n units, how many suffice to decode; default k.
    alone: one spare unit's reply suffices to decode, without any other (bundles, mosaics).
    spare_pool: whose workers answer spare units, BASE or PARITY.
    spare_exact: a spare unit's reply, where it is a copy, is F's own answer.
    spare_after: how long after its group was closed a spare unit is made, if a query is still unanswered then.
    spare_quantile: the same, as a quantile of the latencies so far (The Tail at Scale, CACM 56(2), 2013).
    hold: of copies that are not exact: no answer by one before a query is so old.
    hold_quantile: the same, as a quantile of the latencies so far.
    tied: of the copies in the queues, the first that is sent to a worker removes the others.
    group_wait: a group that did not fill in this time is closed short.
    deadline: a query that is so old is answered by a default or an error.
    queues: 'single', a queue for each pool, from which the worker with the least outstanding calls takes;
      'round_robin', a queue for each worker, in turn; 'shortest', the least outstanding of `choices` random workers'.
    choices: see `queues`; 1 is any worker.
    max_outstanding: calls at a worker.
    max_queued: units that wait in a pool. A query beyond that is refused, a spare unit or a unit that a worker gave
      back is dropped.
    batch_size: units in a call, at most.
    batch_wait: a free worker waits so long for a batch to fill.
    call_timeout: a call that takes longer is given up and its units are sent to another worker. Its place at the silent
      worker is given again after as long once more.
    retries: how often a unit is sent again.
    cancel: tell workers about calls whose answers are of no use any more.
    seed: of the random choices.

  Raises:
    InputError: for a value out of range, or values that do not go together.

  >>> from lcode.serving.options import PolicyOptions
  >>> PolicyOptions(k=4, r=1, encoded=True, deadline=200.0).n
  5
  """

  k: int = 1
  r: int = 0
  encoded: bool = False
  passthrough: bool = True
  need: int | None = None
  alone: bool = False
  spare_pool: str = PARITY
  spare_exact: bool = True
  spare_after: float = 0.0
  spare_quantile: float | None = None
  hold: float = 0.0
  hold_quantile: float | None = None
  tied: bool = False
  group_wait: float = 100.0
  deadline: float = 1000.0
  queues: str = 'single'
  choices: int = 2
  max_outstanding: int = 2
  max_queued: int = 1000
  batch_size: int = 1
  batch_wait: float = 0.0
  call_timeout: float = math.inf
  retries: int = 1
  cancel: bool = True
  seed: int = 0

  def __post_init__(self):
    for name, least in [('k', 1), ('r', 0), ('choices', 1), ('max_outstanding', 1), ('max_queued', 1),
                        ('batch_size', 1), ('retries', 0), ('seed', 0)]:
      object.__setattr__(self, name, whole(name, getattr(self, name), least))
    for name in ('encoded', 'passthrough', 'alone', 'spare_exact', 'tied', 'cancel'):
      instance(name, getattr(self, name), bool)
    for name in TIMES:
      object.__setattr__(self, name, number(name, getattr(self, name)))
    for name in ('spare_quantile', 'hold_quantile'):
      if getattr(self, name) is not None and not 0 < number(name, getattr(self, name)) < 1:
        raise InputError(f'{name}={getattr(self, name)} is not allowed: give a number between 0 and 1, such as 0.95.')
    one_of('queue', self.queues, QUEUES)
    one_of('pool', self.spare_pool, (BASE, PARITY))
    object.__setattr__(self, 'need', whole('need', self.k if self.need is None else self.need))
    self._check_together()

  def _check_together(self):
    if self.need > self.n:
      raise InputError(f'need={self.need} is not allowed: a group of k={self.k} and r={self.r} has {self.n} units.')
    if self.k > 1 and not self.encoded:
      raise InputError(f'k={self.k} is not allowed without an encoder: copies are of one query, so give k=1.')
    if not self.passthrough and (not self.encoded or self.spare_after or self.spare_quantile):
      raise InputError('passthrough=False is not allowed here: all units of such a code are encoded and sent at once, '
                       'so give encoded=True and no spare_after.')
    if self.tied and self.queues == 'single':
      raise InputError('queues=\'single\' is not allowed with tied=True: from one queue the copies would be taken one '
                       'after the other, which is no redundancy; give round_robin or shortest.')
    if self.call_timeout == 0 or self.deadline == 0:
      raise InputError('call_timeout and deadline must be above 0: give milliseconds, or inf for none.')

  @property
  def n(self) -> int:
    return self.k + self.r


def number(name: str, value: Any, least: float = 0.0) -> float:
  """Returns `value` as a float if it is a number of at least `least`, else raises `InputError`; inf is one."""
  if not isinstance(value, numbers.Real) or isinstance(value, bool) or not value >= least:
    raise InputError(f'{name}={value!r} is not allowed: it must be a number of at least {least:g}.')
  return float(value)


class Named(dict):
  """A policy by name: the fields of its options, and `spare_workers`, the pool that parity workers join, or None."""

  def __init__(self, spare_workers: str | None, **fields):
    super().__init__(fields)
    self.spare_workers = spare_workers


POLICIES: dict[str, Named] = {
    'none': Named(None),
    'equal': Named(BASE),  # the same instances, all of them running F
    'replication': Named(BASE, r=1, spare_pool=BASE),
    'hedged': Named(BASE, r=1, spare_pool=BASE, spare_quantile=0.95),
    'tied': Named(BASE, r=1, spare_pool=BASE, tied=True, queues='shortest'),
    'backup': Named(PARITY, r=1, spare_exact=False, hold_quantile=0.5),
    'coded': Named(PARITY, k=2, r=1, encoded=True),
}


def named(name: str) -> Named:
  """The policy of this name; raises UnknownNameError."""
  return POLICIES[one_of('policy', name, POLICIES)]


def make_options(name: str, **fields) -> PolicyOptions:
  """The options of a policy by name.

  Args:
    name: `none`, `equal`, `replication`, `hedged`, `tied`, `backup` or `coded`.
    **fields: of `PolicyOptions`, instead of the policy's own.

  Raises:
    InputError: if a name is unknown, and as `PolicyOptions`.

  >>> from lcode.serving.options import make_options
  >>> make_options('hedged', spare_quantile=0.9).r
  1
  """
  known = {field.name for field in dataclasses.fields(PolicyOptions)}
  for field in fields:
    one_of('option of a policy', field, known)
  return PolicyOptions(**named(name) | fields)
