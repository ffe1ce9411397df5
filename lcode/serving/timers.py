"""What a policy waits for, without a clock: queues of entries that fall due in order, and a quantile that follows."""

import collections
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


class RunningQuantile:
  """The q-quantile of the last 1,000 values, taken anew every 100."""

  __slots__ = 'q', 'value', 'recent', 'new'

  def __init__(self, q: float, first: float):
    self.q, self.value, self.new = q, first, 0
    self.recent: collections.deque[float] = collections.deque(maxlen=1000)

  def add(self, x: float) -> bool:
    """Whether the quantile was taken anew."""
    self.recent.append(x)
    self.new += 1
    if self.new < 100:
      return False
    self.new = 0
    self.value = sorted(self.recent)[int(self.q * len(self.recent))]
    return True
