"""How long a worker takes for a unit: named distributions, and what slows workers down together. Milliseconds."""

import collections
import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from lcode.errors import InputError
from lcode.serving.options import number

MEAN_MS = 20.0  # of the distributions that have none of their own
CHUNK = 1 << 14


def parm(rng: np.random.Generator, size: int) -> np.ndarray:
  """A stand-in for ResNet-18 on ParM's GPUs beside background shuffles (arXiv:1905.00863): mean 20.762."""
  return 20.3 + np.where(rng.random(size) < 0.06, rng.exponential(7.7, size), 0.0)


# Each of mean 1, but for those with a mean of their own.
SERVICES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    'exponential': lambda rng, size: rng.exponential(1.0, size),
    'deterministic': lambda rng, size: np.ones(size),
    'shifted_exponential': lambda rng, size: 0.5 + rng.exponential(0.5, size),
    'parm': parm,
}
OWN_MEANS = {'parm': 20.3 + 0.06 * 7.7}


def make_service(name: str, mean_ms: float | None = None) -> Callable[[np.random.Generator, int], np.ndarray]:
  """A function of a generator and a size that draws service times.

  Args:
    name: one of SERVICES, or the path of a recorded trace: a .npy file of service times in ms, drawn with replacement.
    mean_ms: None for its own mean, or 20.

  Returns:
    (rng, size) -> f64[size], in ms.

  Raises:
    InputError: for an unknown name, a trace that is not a list of times, or a mean that is not above 0.

  >>> from lcode.serving.service_times import make_service
  >>> make_service('deterministic', mean_ms=70.0)(rng, 2)
  array([70., 70.])
  """
  if mean_ms is not None and not 0 < number('service_ms', mean_ms) < np.inf:
    raise InputError(f'service_ms={mean_ms!r} is not allowed: give milliseconds above 0.')
  if isinstance(name, str) and name in SERVICES:
    draw, mean = SERVICES[name], OWN_MEANS.get(name, 1.0)
  elif isinstance(name, str) and name.endswith('.npy'):
    trace = _read_trace(name)
    draw, mean = lambda rng, size: rng.choice(trace, size), trace.mean()
  else:
    raise InputError(f'unknown service {name!r}: the known ones are {", ".join(SERVICES)}, or the path of a .npy file.')
  scale = 1.0 if mean_ms is None and mean != 1.0 else (mean_ms or MEAN_MS) / mean
  return draw if scale == 1.0 else lambda rng, size: scale * draw(rng, size)


def _read_trace(name: str) -> np.ndarray:
  try:
    trace = np.load(Path(name), allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise InputError(f'the trace {name} cannot be read ({error}): give a .npy file of service times in ms.') from error
  if not isinstance(trace, np.ndarray) or trace.ndim != 1 or trace.dtype.kind not in 'fiu' or not trace.size or not (
      np.isfinite(trace).all() and (trace > 0).all()):
    raise InputError(f'the trace {name} is no list of service times: give a .npy file, one axis of numbers above 0.')
  return trace.astype(np.float64)


def stream(draw: Callable[[np.random.Generator, int], np.ndarray], rng: np.random.Generator) -> Iterator[float]:
  """What `draw` draws, one number after the other."""
  return itertools.chain.from_iterable(draw(rng, CHUNK).tolist() for _ in itertools.count())


class Slow:
  """A share of the workers takes `factor` times as long, always. Workers are drawn once."""

  def __init__(self, share: float, factor: float, workers: int, rng: random.Random):
    self.slow, self.factor = set(rng.sample(range(workers), round(share * workers))), factor

  def end(self, worker: int, start: float, work: float) -> float:
    return start + work * self.factor if worker in self.slow else start + work


class Pauses:
  """Stop-the-world pauses of whole machines: all workers of one stand still from time to time.

  Args:
    every_ms: mean time from the end of a pause to the next, exponential.
    pause_ms: mean length of a pause, exponential.
    machine: workers on one machine.
    rng: of the times.
  """

  def __init__(self, every_ms: float, pause_ms: float, machine: int, rng: random.Random):
    self.every, self.pause, self.machine, self.rng = 1 / every_ms, 1 / pause_ms, machine, rng
    self.coming = collections.defaultdict(collections.deque)  # of each machine: pauses that are not over

  def end(self, worker: int, start: float, work: float) -> float:
    """Starts never fall, over all workers."""
    pauses, rng = self.coming[worker // self.machine], self.rng
    if not pauses:
      begin = rng.expovariate(self.every)
      pauses.append((begin, begin + rng.expovariate(self.pause)))
    end = start + work
    index = 0
    while True:
      begin, over = pauses[index]
      if index + 1 == len(pauses):
        following = over + rng.expovariate(self.every)
        pauses.append((following, following + rng.expovariate(self.pause)))
      if over <= start and not index:
        pauses.popleft()
      elif begin < end:
        end += over - max(begin, start)
        index += 1
      else:
        return end


class Shuffles:
  """ParM's background load: pairs of random workers send each other data, there and back; then the next pair.

  While a worker is in a shuffle, a unit takes Exp(7.7 ms) longer with probability 0.135: so four shuffles among 18
  workers come to the 6 % of units that `parm` slows.

  Args:
    count: shuffles at any time.
    workers: of both pools.
    rng: of pairs, sizes and delays.
    megabytes_per_s: the speed of a shuffle, 128 to 256 MB each way.
  """

  def __init__(self, count: int, workers: int, rng: random.Random, megabytes_per_s: float = 125.0):
    self.workers, self.rng, self.speed = workers, rng, megabytes_per_s
    self.shuffling = [0] * workers
    self.until: list[tuple[float, int, int]] = []
    for _ in range(count):
      self._next(0.0)

  def _next(self, t):
    one, other = self.rng.sample(range(self.workers), 2)
    self.shuffling[one] += 1
    self.shuffling[other] += 1
    heapq.heappush(self.until, (t + 2e3 * self.rng.uniform(128, 256) / self.speed, one, other))

  def end(self, worker: int, start: float, work: float) -> float:
    """Starts never fall, over all workers."""
    while self.until and self.until[0][0] <= start:
      t, one, other = heapq.heappop(self.until)
      self.shuffling[one] -= 1
      self.shuffling[other] -= 1
      self._next(t)
    slowed = self.shuffling[worker] and self.rng.random() < 0.135 * self.shuffling[worker]
    return start + work + (self.rng.expovariate(1 / 7.7) if slowed else 0.0)
