"""What a policy waits for, without a clock: queues of entries that fall due in order, and a quantile that follows."""

import collections
import heapq
import math
from collections.abc import Callable
from typing import Any


class Timer:
  """Entries that fall due `delay` after they were added; times never fall, so the first is the next.

  Attributes:
    stale: of an entry: it need not fire any more.
    fire: of an entry: what happens then.
  """

  __slots__ = 'delay', 'entries', 'stale', 'fire'

  def __init__(self, delay: float, stale: Callable[[Any], bool], fire: Callable[[Any], None]):
    self.delay, self.stale, self.fire = delay, stale, fire
    self.entries: collections.deque[tuple[float, Any]] = collections.deque()

  def add(self, t: float, entry: Any) -> float:
    """Adds an entry; returns when it falls due."""
    entries, stale = self.entries, self.stale
    while entries and stale(entries[0][1]):
      entries.popleft()
    if self.delay < math.inf:
      entries.append((t, entry))
    return t + self.delay

  def run(self, t: float) -> float:
    """Fires what is due by t; returns when the next falls due."""
    entries = self.entries
    while entries:
      added, entry = entries[0]
      if self.stale(entry):
        entries.popleft()
      elif added + self.delay <= t:
        entries.popleft()
        self.fire(entry)
      else:
        return added + self.delay
    return math.inf


class OwnTimer:
  """As `Timer`, of entries that fall due each at a time of its own."""

  __slots__ = 'entries', 'stale', 'fire', 'added', 'most'

  def __init__(self, stale: Callable[[Any], bool], fire: Callable[[Any], None]):
    self.stale, self.fire, self.added, self.most = stale, fire, 0, 32
    self.entries: list[tuple[float, int, Any]] = []  # a heap

  def add(self, due: float, entry: Any) -> float:
    """Adds an entry, which falls due then; returns that."""
    if len(self.entries) >= self.most:  # the stale ones leave memory before they are due
      self.entries = [one for one in self.entries if not self.stale(one[2])]
      heapq.heapify(self.entries)
      self.most = 2 * len(self.entries) + 32
    self.added += 1
    heapq.heappush(self.entries, (due, self.added, entry))
    return due

  def run(self, t: float) -> float:
    """Fires what is due by t; returns when the next falls due."""
    while self.entries:
      due, _, entry = self.entries[0]
      if self.stale(entry):
        heapq.heappop(self.entries)
      elif due <= t:
        heapq.heappop(self.entries)
        self.fire(entry)
      else:
        return due
    return math.inf


def run_all(timers: list[Timer | OwnTimer], t: float) -> float:
  """Fires what is due by t in all of them; returns when the next falls due."""
  for timer in timers:
    timer.run(t)
  return min(timer.run(-math.inf) for timer in timers)  # one that ran later may have added to one that ran before


class RunningQuantile:
  """The q-quantile of the last 1,000 values, taken anew every 100; inf before. A value may be inf: longer than that."""

  __slots__ = 'q', 'value', 'recent', 'new'

  def __init__(self, q: float):
    self.q, self.value, self.new = q, math.inf, 0
    self.recent: collections.deque[float] = collections.deque(maxlen=1000)

  def add(self, x: float) -> bool:
    """Whether the quantile was taken anew."""
    self.recent.append(x)
    self.new += 1
    if self.new < 100:
      return False
    self.new = 0
    ordered = sorted(self.recent)
    index = int(self.q * len(ordered))
    while ordered[index] == math.inf and index:
      index -= 1
    self.value = ordered[index]
    return True
