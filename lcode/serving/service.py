"""A coded service: queries come in one by one, workers answer them, and what is late or lost is made up for.

The policy (`policy.py`) decides, `arrays.py` has the arrays; this carries it out with Ray actors and an asyncio clock.
"""

import asyncio
import collections
import gc
import logging
import math
import time
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from lcode.coding.checks import kind
from lcode.errors import InputError, instance, whole
from lcode.serving import events
from lcode.serving.answered import Answered, NoAnswer, Refused
from lcode.serving.arrays import Groups
from lcode.serving.cluster import Cluster, WorkerDied
from lcode.serving.crew import Crew
from lcode.serving.events import BASE, PARITY
from lcode.serving.logs import event as log_event, reason
from lcode.serving.observer import Observer
from lcode.serving.options import number, PolicyOptions
from lcode.serving.policy import Policy
from lcode.serving.served import Served

_log = logging.getLogger('lcode')
_serving = weakref.WeakSet()  # the open services of this process: the last to close thaws what they froze


class Service(Crew):
  """Workers that answer queries, with redundancy as a policy says. All of it runs in one event loop.

  Args:
    served: the model, and its code.
    options: the policy; default: that of the code of `served`, or none without one.
    num_workers: that run F.
    num_parity_workers: that answer parities; of policies without such they run F.
    batch_sizes: what workers are compiled for; the largest is at least the policy's batch_size.
    cluster: where workers are started; default: a `Cluster` of its own on this machine, which ends with the service.
    default: floats [*O], what answers a query that nothing else does; None for `NoAnswer`.
    replace: whether dead workers are replaced.
    observer: is told what happens.

  Raises:
    InputError: if what is given does not go together.

  >>> import asyncio
  >>> from lcode.serving.served import of_workdir
  >>> from lcode.serving.service import Service
  >>> async def main():
  ...   async with Service(of_workdir('checkpoints/digits-mlp-k2-r1'), num_workers=2, num_parity_workers=1) as service:
  ...     return await service.predict(np.zeros((8, 8, 1), np.float32))
  >>> asyncio.run(main()).answer.shape
  (10,)
  """

  def __init__(self, served: Served, options: PolicyOptions | None = None, *, num_workers: int = 2,
               num_parity_workers: int = 1, batch_sizes: Sequence[int] = (1,), cluster: Cluster | None = None,
               default: np.ndarray | None = None, replace: bool = True, observer: Observer | None = None):
    self.served = instance('served', served, Served)
    self.options = served.options('coded' if served.code else 'none') if options is None else options
    instance('options', self.options, PolicyOptions)
    self.counts = {BASE: whole('num_workers', num_workers), PARITY: whole('num_parity_workers', num_parity_workers, 0)}
    self.batch_sizes = tuple(sorted(whole('batch_sizes', size) for size in batch_sizes))
    self._check_together()
    super().__init__(served, self.batch_sizes, cluster, replace,
                     instance('observer', observer or Observer(), Observer), self._tell)
    self.code = served.code if self.options.encoded else None
    self.default, self.arrays = default, Groups(served, self.options, self.observer)
    self.futures: dict[int, tuple[asyncio.Future, float]] = {}  # of accepted queries, and since when
    self.calls: dict[int, Any] = {}  # Ray's references
    self.pending: collections.deque = collections.deque()
    self.handling = False
    self.last_query = -1
    self.wake: asyncio.TimerHandle | None = None

  def _check_together(self):
    options, code = self.options, self.served.code
    if not self.batch_sizes or self.batch_sizes[-1] < options.batch_size:
      raise InputError(f'batch_sizes={self.batch_sizes} is not allowed with batch_size={options.batch_size}: workers '
                       'are compiled for these sizes, so the largest must be at least that.')
    if options.encoded and (code is None or (code.k, code.r) != (options.k, options.r)):
      raise InputError(f'the policy codes with k={options.k} and r={options.r}, the model has {code}: take the options '
                       'that served.options() gives.')
    if options.r and options.spare_pool == PARITY and not self.counts[PARITY]:
      raise InputError('num_parity_workers=0 is not allowed with this policy: its spare units need workers of their '
                       'own, at least 1.')

  async def __aenter__(self):
    await self.start()
    return self

  async def __aexit__(self, *_):
    await self.close()

  async def start(self) -> None:
    """Starts the workers, and returns when all are compiled and ready; raises what their model raises.

    What this process holds by then is taken out of garbage collection until its last service closes (`gc.freeze`).
    """
    self.loop, self.began = asyncio.get_running_loop(), time.perf_counter()
    self.policy, self.cluster = Policy(self.options), self.cluster or Cluster()
    of_base, of_parity = self.arrays.examples()
    own = self.options.r and self.options.spare_pool == PARITY
    self.kinds = {BASE: (BASE, of_base), PARITY: (PARITY, of_parity) if own else (BASE, of_base)}
    try:
      await asyncio.gather(*(self._start_worker(role) for role, count in self.counts.items() for _ in range(count)))
      handle = next(handle for role, handle in self.workers.values() if role == BASE)
      query = self.arrays.padding[0][None]
      self.arrays.warm_up((await self.cluster.result(self.cluster.call(handle, query, [None])))[0])
    except BaseException:
      self._release()
      raise
    _serving.add(self)
    gc.freeze()  # with JAX loaded, a full collection stops all queries for more than 0.1 s
    self.open = True

  async def drain(self, seconds: float = 30.0) -> None:
    """Takes no more queries, and waits until those that were accepted are answered, or the time is over."""
    self.open, ends = False, self.loop.time() + seconds
    while self.futures and self.loop.time() < ends:
      await asyncio.sleep(0.01)

  async def close(self) -> None:
    """Drains, and ends the workers."""
    await self.drain()
    if self.wake is not None:
      self.wake.cancel()
    for task in list(self.tasks):
      task.cancel()
    await asyncio.gather(*self.tasks, return_exceptions=True)
    self._release()
    _serving.discard(self)
    if not _serving:
      gc.unfreeze()

  @property
  def ready(self) -> bool:
    """Whether queries are taken, and there is a worker of F."""
    return self.open and any(self.kinds[role][0] == BASE for role, _ in self.workers.values())

  async def predict(self, x: np.ndarray, deadline: float = math.inf) -> Answered:
    """Answers one query.

    Args:
      x: f32[*S].
      deadline: milliseconds from now after which its answer is of no use, where that is sooner than the policy's
        deadline. Its group is closed after half of them, so that what makes up for its own answer has the rest.

    Raises:
      InputError: if x is not a query (shape, dtype, or not finite), or deadline not above 0: it is refused alone, and
        harms no group.
      Refused: if too many queries wait, or the service is not open.
      NoAnswer: if it was accepted and neither answered in time nor made up for, and there is no default.
    """
    shape = self.served.query_shape
    if not isinstance(x, np.ndarray) or x.shape != shape or x.dtype != np.float32:
      raise InputError(f'a query is float32{list(shape)}, not {kind(x)}: give such an array.')
    if not np.isfinite(x).all():
      raise InputError('a query must be finite, this one holds NaN or inf: leave it out.')
    if not number('deadline', deadline):
      raise InputError('deadline=0 is not allowed: give milliseconds above 0, or inf for the policy\'s alone.')
    if not self.open:
      self.observer.refused()
      raise Refused('the service is not open')
    self.last_query = query = self.last_query + 1
    future = self.loop.create_future()
    self.futures[query], self.arrays.waiting[query] = (future, time.perf_counter()), x
    self._tell(events.Arrived(query, deadline))
    return await future

  def _tell(self, event) -> None:
    """The policy's word on an event, carried out. What that leads to comes after it; so does coding, which takes time:
    what can be sent or answered without it is not to wait."""
    self.pending.append(event)
    if self.handling:
      return
    self.handling = True
    try:
      while self.pending:
        event = self.pending.popleft()
        if event.__class__ in (events.Encode, events.Decode):
          if event.group not in self.policy.groups:  # done since
            continue
          event = self._coded(event)
        for action in self.policy.handle(event, 1000 * (time.perf_counter() - self.began)):
          self.CARRIED_OUT_BY[type(action)](self, action)
    finally:
      self.handling = False

  def _send(self, action):
    role, handle = self.workers[action.worker]
    self.calls[action.call] = self.cluster.call(handle, *self.arrays.batch(action.units, self.kinds[role][0]))
    self._keep(self._awaited(action, self.calls[action.call]))

  async def _awaited(self, action, reference) -> None:
    """A call, until it ends whatever way."""
    event = events.Failed(action.call)
    try:
      answers = await self.cluster.result(reference)
      if len(answers) == len(action.units):
        lost = [i for i, (unit, answer) in enumerate(zip(action.units, answers)) if not self.arrays.take(unit, answer)]
        event = events.Replied(action.call, tuple(lost))
    except WorkerDied as error:
      self._bury(action.worker, str(error))
      event = None
    except asyncio.CancelledError:
      if asyncio.current_task().cancelling():  # the service ends
        raise
    except Exception as error:  # whatever a model comes up with
      why = reason(error)
      _log.warning('worker %d: %s', action.worker, why, extra=log_event('call_failed', worker=action.worker, why=why))
    finally:
      self.calls.pop(action.call, None)
    if event is not None:
      self._tell(event)

  def _cancel(self, action):
    if action.call in self.calls:
      self.cluster.cancel(self.calls[action.call])

  def _coded(self, action) -> events.Encoded | events.Decoded:
    if action.__class__ is events.Encode:
      return events.Encoded(action.group, self.arrays.encode(action.group, action.queries))
    return events.Decoded(action.group, self.arrays.decode(action.group, action.units, action.queries))

  def _answer(self, action):
    future, since = self.futures.pop(action.query)
    answer = self.arrays.answer(action.group, action.query, action.how, action.unit)
    ms = 1000 * (time.perf_counter() - since)
    self.observer.answered(action.how, ms)
    if future.done():  # the client has gone
      return
    answer = self.default if answer is None else answer
    if answer is None:
      future.set_exception(NoAnswer(action.how))
    else:
      future.set_result(Answered(answer, action.how, ms, self.code))

  def _refuse(self, action):
    future, _ = self.futures.pop(action.query)
    self.arrays.waiting.pop(action.query)
    self.observer.refused()
    if not future.done():
      future.set_exception(Refused('too many queries wait'))

  def _closed(self, action):
    self.observer.filled(action.waits)

  def _forget(self, action):
    self.arrays.forget(action.group)

  def _wake(self, action):
    if self.wake is not None:
      self.wake.cancel()
    after = max(action.t / 1000 - (time.perf_counter() - self.began), 0)
    self.wake = self.loop.call_later(after, self._tell, events.Tick())

  def _code_later(self, action):
    self.pending.append(action)

  CARRIED_OUT_BY = {events.Send: _send, events.Cancel: _cancel, events.Encode: _code_later,
                    events.Decode: _code_later, events.Answer: _answer, events.Refuse: _refuse,
                    events.Closed: _closed, events.Forget: _forget, events.Wake: _wake}
