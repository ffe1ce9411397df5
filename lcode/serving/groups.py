"""Groups: the queries that share spare units, how far they are, and when their units suffice."""

from lcode.serving.events import Unit
from lcode.serving.options import PolicyOptions
from lcode.serving.pools import ARRIVED, NEW, QUEUED, SENT

OPEN, CLOSED, LAUNCHED = range(3)  # it fills; it is complete; its spare units are wanted
NOT_ASKED, ASKED, NO_DECODER = range(3)
COMING = NEW, QUEUED, SENT
NONE, OVER = -1, -2  # no copy's reply is held; none is held any more


class Group:
  """Queries with their units. `held` is a copy whose reply may not be used yet, NONE or OVER."""

  __slots__ = ('id', 'queries', 'times', 'answered', 'unanswered', 'units', 'stage', 'arrived', 'held', 'decoding',
               'encoding')

  def __init__(self, id: int):
    self.id = id
    self.queries: list[int] = []
    self.times: list[float] = []
    self.answered: list[bool] = []
    self.units: list[Unit] = []
    self.unanswered = self.arrived = self.encoding = 0
    self.held, self.stage, self.decoding = NONE, OPEN, NOT_ASKED

  def open(self) -> list[int]:
    """Positions of the queries that are not answered."""
    return [index for index, answered in enumerate(self.answered) if not answered]


def enough(group: Group, units: list[bool], options: PolicyOptions) -> bool:
  """Whether these of a group's units suffice to decode it. Of a group closed short the padding's answers are known."""
  padding = options.k - len(group.queries) if options.passthrough else 0
  return (sum(units) >= max(options.need - padding, 1)
          or options.alone and any(here and unit.index >= options.k for here, unit in zip(units, group.units)))


def hopeless(group: Group, options: PolicyOptions) -> list[int]:
  """Positions of the unanswered queries of a closed group that nothing can answer any more."""
  coming = [unit.state in COMING for unit in group.units]
  if not options.encoded:
    return [] if any(coming) else group.open()
  hoped = [here or unit.state == ARRIVED for here, unit in zip(coming, group.units)]
  if group.decoding != NO_DECODER and enough(group, hoped, options):
    return []
  return [index for index in group.open() if not (options.passthrough and coming[index])]
