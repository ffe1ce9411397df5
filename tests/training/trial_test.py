"""A training time as epochs: by a clock of the test's own."""

import math

import pytest

from lcode.errors import InputError
from lcode.training import trial


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(trial.time, 'monotonic', clock)
  return clock


def training(clock, steps, step_s, validation_s, compile_s):
  """A training as the loop tells of it; how many epochs it was asked for and took are on the clock."""

  def train(epochs, reporter):
    reporter.start(epochs * steps, 0)
    for epoch in range(epochs):
      for step in range(steps):
        clock.now += step_s + (compile_s if epoch == step == 0 else 0)
        reporter.steps(epoch * steps + step + 1, [0.0])
      clock.now += validation_s + (compile_s if epoch == 0 else 0)
      reporter.epoch({})

  return train


@pytest.mark.parametrize('steps, step_s, validation_s, least_s, most_s', [
    (30, 0.01, 0.05, 10, 11),    # short epochs: with their validation, for a tenth of the time
    (1000, 0.1, 3.0, 10, 11),    # within a long first epoch: the steps
    (2, 1e-4, 1e-4, 0, 0.1)])    # tiny ones: as many as a trial has
def test_an_epoch_is_timed_without_compilation(clock, steps, step_s, validation_s, least_s, most_s):
  took = trial.seconds_an_epoch(training(clock, steps, step_s, validation_s, 20.0), 100.0)
  whole = steps * step_s + (0 if steps == 1000 else validation_s)
  assert took == pytest.approx(whole, rel=1e-6)
  compiling = 20.0 if steps == 1000 else 40.0
  assert compiling + least_s <= clock.now <= compiling + most_s + steps * step_s * (steps < 1000)


def test_epochs_in_a_time():
  assert (trial.epochs_in(10, 3), trial.epochs_in(10, 11), trial.epochs_in(10, 5)) == (3, 1, 2)
  for seconds in (0, -1.0, math.inf, math.nan, '3', True):
    with pytest.raises(InputError, match='seconds_a_row=.* is not allowed'):
      trial.epochs_in(seconds, 1)
