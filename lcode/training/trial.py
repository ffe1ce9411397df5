"""How many epochs a training time holds, by a short trial of the training that keeps nothing."""

import math
import numbers
import time
from collections.abc import Callable

from lcode.errors import InputError
from lcode.training.loop import Reporter

EPOCHS = 40  # of a trial, at most
SHARE, LEAST_S, MOST_S = 0.1, 0.5, 10.0  # a trial measures for a tenth of the time, within these seconds


class _Enough(Exception):
  """Ends a trial."""


class _Clock(Reporter):
  """Times epochs with their validation after the first, which compiles; within a long first one the steps."""

  def __init__(self, wanted_s: float):
    self.wanted_s = wanted_s
    self.calls, self.epochs = [], []  # (steps done, when), and when each epoch was over

  def start(self, total_steps, done):
    self.steps_an_epoch = total_steps / EPOCHS

  def steps(self, done, losses):
    self.calls.append((done, time.monotonic()))
    if not self.epochs and self.calls[-1][1] - self.calls[0][1] >= self.wanted_s:
      raise _Enough

  def epoch(self, figures):
    self.epochs.append(time.monotonic())
    if len(self.epochs) > 1 and self.epochs[-1] - self.epochs[0] >= self.wanted_s:
      raise _Enough

  def seconds_an_epoch(self) -> float:
    if len(self.epochs) > 1:
      return (self.epochs[-1] - self.epochs[0]) / (len(self.epochs) - 1)
    (first, began), (last, ended) = self.calls[0], self.calls[-1]
    return self.steps_an_epoch * (ended - began) / (last - first)


def checked_seconds(seconds: float) -> float:
  """Returns `seconds` if it is a time to train for, else raises `InputError`."""
  if not isinstance(seconds, numbers.Real) or isinstance(seconds, bool) or not 0 < seconds < math.inf:
    raise InputError(f'seconds_a_row={seconds!r} is not allowed: give seconds, more than 0.')
  return float(seconds)


def seconds_an_epoch(train: Callable, seconds: float) -> float:
  """What an epoch takes, its validation too, once it is compiled.

  Args:
    train: (epochs, reporter) -> anything, the training; `reporter` ends it by an exception.
    seconds: for which it is to be trained.
  """
  clock = _Clock(min(max(SHARE * checked_seconds(seconds), LEAST_S), MOST_S))
  try:
    train(EPOCHS, clock)
  except _Enough:
    pass
  return clock.seconds_an_epoch()


def epochs_in(seconds: float, an_epoch: float) -> int:
  """The whole epochs that `seconds` hold, at least one."""
  return max(int(checked_seconds(seconds) / max(an_epoch, 1e-9)), 1)
