"""Progress as plain lines, for a person at a terminal."""

import sys
from typing import TextIO

from lcode.training.loop import Reporter


class LineReporter(Reporter):
  """Prints a line for some twenty epochs of a training."""

  def __init__(self, title: str = 'training', stream: TextIO | None = None, lines: int = 20):
    self.title = title
    self.stream = sys.stderr if stream is None else stream
    self.lines = lines

  def start(self, total_steps, done):
    self.total, self.next_line = total_steps, done
    if 0 < done < total_steps:
      print(f'{self.title}: resumed at step {done} of {total_steps}', file=self.stream)

  def epoch(self, figures):
    step = figures['step']
    if step < self.next_line and step < self.total:
      return
    self.next_line = step + self.total / self.lines
    text = f'{self.title}: step {step} of {self.total}, loss {figures["train_loss"]:.4f}'
    if 'validation_degraded_accuracy' in figures:
      text += f', degraded accuracy {100 * figures["validation_degraded_accuracy"]:.1f} %'
    print(text, file=self.stream, flush=True)


def default_reporter(title: str) -> Reporter:
  """Lines where a person watches, that is where standard error is a terminal; else silence."""
  return LineReporter(title) if sys.stderr.isatty() else Reporter()
