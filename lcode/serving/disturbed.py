"""Workers that take a drawn time, or answer wrongly: policy, queues and Ray are real, the model's time is not."""

import dataclasses
import functools
import time

import numpy as np

from lcode.errors import InputError, instance, whole
from lcode.serving.options import number
from lcode.serving.served import Answerers, Served
from lcode.serving.service_times import make_service, stream


@dataclasses.dataclass(frozen=True)
class Disturbance:
  """What is done to workers. Times are in milliseconds.

  Attributes:
    service, service_ms: how long a call takes at least, as `make_service` takes them; '' for as long as it takes.
    slow_share, slow_factor: of workers, how many take how many times as long; workers are slow in turn, by number.
    slow_ms: and how much longer besides.
    wrong_share: of answers, how many are NaN.
    seed: of all that is drawn; each worker has its own numbers.
  """

  service: str = ''
  service_ms: float | None = None
  slow_share: float = 0.0
  slow_factor: float = 1.0
  slow_ms: float = 0.0
  wrong_share: float = 0.0
  seed: int = 0

  def __post_init__(self):
    if self.service:
      make_service(self.service, self.service_ms)
    elif self.service_ms is not None:
      raise InputError(f'service_ms={self.service_ms} needs a service: name one, such as exponential.')
    for name in ('slow_share', 'wrong_share'):
      if not 0 <= number(name, getattr(self, name)) <= 1:
        raise InputError(f'{name}={getattr(self, name)} is not allowed: give a share from 0 to 1.')
    number('slow_factor', self.slow_factor, 1.0)
    number('slow_ms', self.slow_ms)
    whole('seed', self.seed, 0)

  def is_slow(self, worker: int) -> bool:
    return int((worker + 1) * self.slow_share) > int(worker * self.slow_share)


def disturbed(served: Served, disturbance: Disturbance) -> Served:
  """The same model and code, on workers that are disturbed."""
  instance('served', served, Served)
  instance('disturbance', disturbance, Disturbance)
  return dataclasses.replace(served, load=functools.partial(_load, served.load, disturbance))


def _load(load, disturbance: Disturbance, worker: int) -> Answerers:
  answerers, rng = load(worker), np.random.default_rng((disturbance.seed, worker))
  drawn = stream(make_service(disturbance.service, disturbance.service_ms), rng) if disturbance.service else None

  def slowed(function):
    def answer(x, *j):
      began = time.perf_counter()
      answers = np.array(function(x, *j))
      took = 1000 * (time.perf_counter() - began)
      wanted = max(next(drawn), took) if drawn else took
      if disturbance.is_slow(worker):
        wanted = wanted * disturbance.slow_factor + disturbance.slow_ms
      time.sleep(max(wanted - took, 0) / 1000)
      answers[rng.random(len(answers)) < disturbance.wrong_share] = np.nan
      return answers
    return answer

  return Answerers(slowed(answerers.base), answerers.reply and slowed(answerers.reply))
