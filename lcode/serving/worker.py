"""A worker: a model that answers batches of calls, compiled before it says that it is ready. It knows no Ray."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from lcode.errors import InputError
from lcode.serving.served import Answerers


class Worker:
  """Answers batches, padded to one of a few sizes, each of which is compiled and run once at the start.

  Args:
    load: () -> `Answerers`.
    examples: for each number j of what it will be asked, one query [*S] or coded query [*P]; None stands for F.
    batch_sizes: ascending; larger batches are answered in parts.
  """

  def __init__(self, load: Callable[[], Answerers], examples: dict[int | None, np.ndarray], batch_sizes: Sequence[int]):
    answerers = load()
    if not isinstance(answerers, Answerers):
      raise InputError(f'load() returned a {type(answerers).__name__}: return Answerers(base, reply).')
    if answerers.reply is None and any(j is not None for j in examples):
      raise InputError('load() returned no reply: give what answers the parities, Answerers(base, reply).')
    self.answerers, self.batch_sizes, self.busy_s = answerers, tuple(batch_sizes), 0.0
    for j, example in examples.items():
      for size in self.batch_sizes:
        self._answers(np.broadcast_to(example, (size, *example.shape)), j)
    self.busy_s = 0.0

  def answer(self, x: np.ndarray, numbers: Sequence[int | None]) -> list[np.ndarray]:
    """The answers to x [b, ...]; each number tells what of: j for coded queries, None for F on queries."""
    answers: list = [None] * len(numbers)
    for j in dict.fromkeys(numbers):
      at = [i for i, number in enumerate(numbers) if number == j]
      for first in range(0, len(at), self.batch_sizes[-1]):
        part = at[first:first + self.batch_sizes[-1]]
        for i, answer in zip(part, self._padded(x[part] if len(part) < len(x) else x, j)):
          answers[i] = answer
    return answers

  def _padded(self, x, j):
    size = next(size for size in self.batch_sizes if size >= len(x))
    if size > len(x):
      x = np.concatenate([x, np.broadcast_to(x[:1], (size - len(x), *x.shape[1:]))])
    return self._answers(x, j)

  def _answers(self, x, j):
    began = time.perf_counter()
    answers = np.asarray(self.answerers.base(x) if j is None else self.answerers.reply(x, j))
    self.busy_s += time.perf_counter() - began
    return answers
