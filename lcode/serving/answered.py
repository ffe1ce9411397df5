"""What becomes of a query."""

import dataclasses

import numpy as np

from lcode.coding.code import Code


class Refused(Exception):
  """The query was not accepted: too many wait, or the service is not open."""


class NoAnswer(Exception):
  """The query was accepted, and neither answered in time nor made up for; `how` is 'failed' or 'late'."""

  def __init__(self, how: str):
    super().__init__({'late': 'no answer within the deadline', 'failed': 'nothing that could answer is left'}[how])
    self.how = how


@dataclasses.dataclass(frozen=True)
class Answered:
  """What a query was answered.

  Attributes:
    answer: floats [*O].
    how: 'exact' (F's own), 'reconstructed', or 'failed' or 'late' (the default answer).
    ms: milliseconds that it took.
    code: the (k, r) code of the service; None without one.
  """

  answer: np.ndarray
  how: str
  ms: float
  code: Code | None = None
