"""What a policy is told, and what it answers with. Times are in milliseconds, ids are whole numbers.

Workers belong to a pool: `BASE` ones run F, `PARITY` ones what answers parities (or a cheap backup). A *unit* is what
a worker answers in one piece: a query itself, a copy of it, or a parity. A *call* carries one unit or a batch.
"""

import math
from typing import Any, NamedTuple

BASE, PARITY = 'base', 'parity'
EXACT, RECONSTRUCTED, FAILED, LATE = 'exact', 'reconstructed', 'failed', 'late'


class Unit:
  """One unit of a group: read `group`, `index` (data units first) and `query`; the rest is the policy's own.

  Attributes:
    query: id of the query that the unit is, or is a copy of; -1 for a unit that is encoded.
  """

  __slots__ = 'group', 'index', 'query', 'state', 'tries', 'call', 'worker', 'line', 'since'

  def __init__(self, group: int, index: int, query: int):
    self.group, self.index, self.query = group, index, query
    self.state, self.tries, self.call, self.worker, self.line = 0, 0, -1, -1, None
    self.since = 0.0

  def __repr__(self):
    return f'Unit(group={self.group}, index={self.index}, query={self.query})'


class Arrived(NamedTuple):
  """A query. Ids rise: one that is not above all before it is taken for a duplicate and ignored.

  Attributes:
    deadline: milliseconds from now after which no answer is of use, where that is sooner than the options' deadline.
  """

  query: int
  deadline: float = math.inf


class Replied(NamedTuple):
  """A call came back; `lost` are the positions in it of units whose answer is of no use (not finite)."""

  call: int
  lost: tuple[int, ...] = ()


class Failed(NamedTuple):
  """A call ended without an answer: an error, or it was cancelled."""

  call: int


class Encoded(NamedTuple):
  """The parities of a group are there to be sent, or cannot be made."""

  group: int
  ok: bool = True


class Decoded(NamedTuple):
  """The decoder has answered for a group, or could not."""

  group: int
  ok: bool = True


class Joined(NamedTuple):
  """A worker takes calls from now on."""

  worker: int
  pool: str = BASE


class Died(NamedTuple):
  """A worker is gone: none of its calls will be answered."""

  worker: int


class Tick(NamedTuple):
  """Nothing but the time: the answer to `Wake`."""


class Send(NamedTuple):
  call: int
  worker: int
  units: tuple[Unit, ...]


class Cancel(NamedTuple):
  """The call's answer is of no use any more. It holds its place until it ends all the same."""

  call: int


class Closed(NamedTuple):
  """A group of several takes no more queries; `waits` is how long each has waited for that, in milliseconds."""

  group: int
  waits: tuple[float, ...]


class Encode(NamedTuple):
  """Encode a group of these queries; fewer than k of them are padded with queries whose answers are known."""

  group: int
  queries: tuple[int, ...]


class Decode(NamedTuple):
  """Decode a group of these queries from the units of these indices; of a padded group's, the padding's answers are
  known besides."""

  group: int
  units: tuple[int, ...]
  queries: tuple[int, ...]


class Answer(NamedTuple):
  """The one answer to a query that was accepted.

  Attributes:
    how: EXACT, RECONSTRUCTED, FAILED (nothing that could answer it is left) or LATE (the deadline is over): the last
      two are answered by a default or an error.
    unit: index of the unit whose reply it is, -1 where it is the decoder's, or nobody's.
  """

  query: int
  how: str
  group: int
  unit: int


class Refuse(NamedTuple):
  """The query is not accepted: too many wait already."""

  query: int


class Forget(NamedTuple):
  """This group is done: its queries, parities and replies need not be kept any longer."""

  group: int


class Wake(NamedTuple):
  """Call `handle` at this time at the latest."""

  t: float


Event = Arrived | Replied | Failed | Encoded | Decoded | Joined | Died | Tick
Action: Any = Send | Cancel | Closed | Encode | Decode | Answer | Refuse | Forget | Wake
