"""The arrays of a service's open groups: queries, coded queries, replies, and what is made of them."""

import logging
import time
from collections.abc import Callable

import numpy as np

from lcode.serving.events import FAILED, LATE, PARITY, Unit
from lcode.serving.observer import Observer
from lcode.serving.options import PolicyOptions
from lcode.serving.served import Served

_log = logging.getLogger('lcode')


class Group:
  """What is known of a group until the policy forgets it."""

  __slots__ = 'queries', 'coded', 'replies', 'decoded'

  def __init__(self):
    self.queries: dict[int, np.ndarray] = {}  # by their ids
    self.coded: np.ndarray | None = None
    self.replies: dict[int, np.ndarray] = {}
    self.decoded: dict[int, np.ndarray] | None = None  # by their queries' ids


class Groups:
  """Does with arrays what a policy says of numbers.

  Args:
    served: the model and its code.
    options: of the policy.
    observer: is told how long coding took, and of answers that are none.
  """

  def __init__(self, served: Served, options: PolicyOptions, observer: Observer):
    self.served, self.options, self.observer = served, options, observer
    self.padding = np.zeros(served.query_shape, np.float32), np.zeros(0, np.float32)  # a query, and F's answer to it
    self.waiting: dict[int, np.ndarray] = {}  # queries that are in no group that is known here yet
    self.open: dict[int, Group] = {}

  def examples(self) -> tuple[dict, dict]:
    """One of each kind of what workers of F, and those of parities, are asked: number j (None for F) -> array."""
    query, options = self.padding[0], self.options
    if not options.encoded:
      return {None: query}, {0: query} if options.r else {}
    coded = self.served.encode(np.stack([query] * options.k)[None])[0]
    return {None: query}, dict(enumerate(coded))

  def warm_up(self, answer: np.ndarray) -> None:
    """Compiles the code's own functions; `answer` is F's to what pads short groups."""
    self.padding = self.padding[0], answer
    if self.options.encoded:
      code, group = self.served.code, Group()
      reply = np.stack([answer] * code.k) if self.served.bundled else answer
      group.replies = {i: reply if i >= code.k else answer for i in range(code.n)}
      self._decoded(group, range(code.r, code.n), code.k)

  def batch(self, units: tuple[Unit, ...], pool: str) -> tuple[np.ndarray, list[int | None]]:
    """What a call sends: x [b, ...], and for each the number of the coded query, None for F on it."""
    options, x, numbers = self.options, [], []
    for unit in units:
      group = self._group_of(unit.group)
      if unit.query >= 0:
        x.append(self._query(group, unit.query))
        j = 0 if unit.index >= options.k else None
      else:
        j = unit.index - (options.k if options.passthrough else 0)
        x.append(group.coded[j])
      numbers.append(j if pool == PARITY else None)
    return np.stack(x), numbers

  def take(self, unit: Unit, answer) -> bool:
    """Keeps a unit's answer; False if it is none: of another shape, or not finite."""
    own = self.padding[1].shape
    of_parity = self.options.encoded and self.served.bundled and unit.index >= self.options.k
    wanted = (self.options.k, *own) if of_parity else own
    if getattr(answer, 'shape', None) != wanted or not np.isfinite(answer).all():
      self.observer.wrong()
      return False
    if unit.group in self.open:
      self.open[unit.group].replies[unit.index] = answer
    return True

  def encode(self, number: int, queries: tuple[int, ...]) -> bool:
    """Makes the coded queries of a group; False where it cannot."""
    group = self._group_of(number)
    x = [self._query(group, query) for query in queries]
    x += [self.padding[0]] * (self.options.k - len(x))
    group.coded = self._tried('encode', lambda: self.served.encode(np.stack(x)[None])[0])
    return group.coded is not None

  def decode(self, number: int, indices: tuple[int, ...], queries: tuple[int, ...]) -> bool:
    """Makes the answers to a group's queries of its units of these indices; False where it cannot."""
    group = self.open[number]
    decoded = self._tried('decode', lambda: self._decoded(group, indices, len(queries)))
    group.decoded = None if decoded is None else dict(zip(queries, decoded))
    return decoded is not None

  def answer(self, number: int, query: int, how: str, unit: int) -> np.ndarray | None:
    """The answer to a query, None where there is none."""
    group = self._group_of(number)
    self._query(group, query)  # is this group's, and leaves with it
    if how in (FAILED, LATE):
      return None
    return group.replies[unit] if unit >= 0 else group.decoded[query]

  def forget(self, number: int) -> None:
    self.open.pop(number, None)

  def _group_of(self, number: int) -> Group:
    return self.open.setdefault(number, Group())

  def _query(self, group: Group, query: int) -> np.ndarray:
    if query not in group.queries:
      group.queries[query] = self.waiting.pop(query)
    return group.queries[query]

  def _decoded(self, group: Group, indices, count: int) -> np.ndarray:
    """[count, *O] of the replies of these units, and of what pads the group to k; raises ValueError if one of them is
    not finite."""
    code, answer, bundled = self.served.code, self.padding[1], self.served.bundled
    units = np.zeros((1, code.n, *((code.k,) if bundled else ()), *answer.shape), answer.dtype)
    known = {index: group.replies[index] for index in indices}
    if self.options.passthrough:
      known |= {index: answer for index in range(count, code.k)}
    if bundled and len(known) < code.k:
      # A reply says all answers. Those that a code would still ask for are taken from it.
      reply = group.replies[max(indices)]
      known |= {index: reply[index] for index in range(code.k) if index not in known}
    for index, value in known.items():
      units[0, index, 0 if bundled and index < code.k else slice(None)] = value
    available = np.array([index in known for index in range(code.n)])
    decoded = self.served.decode(units, available)[0, :count]
    if not np.isfinite(decoded).all():
      raise ValueError('the decoder answered with numbers that are not finite')
    return decoded

  def _tried(self, what: str, function: Callable) -> np.ndarray | None:
    began = time.perf_counter()
    try:
      return function()
    except Exception as error:  # a service does not end because a group cannot be coded
      _log.warning('cannot %s a group (%s: %s)', what, type(error).__name__, str(error).split('\n')[0][:200])
      return None
    finally:
      self.observer.coded(what, time.perf_counter() - began)
