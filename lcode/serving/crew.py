"""The workers of a service: started, watched, and replaced when they die."""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from lcode.serving import events
from lcode.serving.cluster import Cluster
from lcode.serving.logs import event, reason
from lcode.serving.observer import Observer
from lcode.serving.served import Served

REPLACE_AFTER_S = 0, 1, 2, 4, 8  # before each try to replace a worker
_log = logging.getLogger('lcode')


class Crew:
  """Workers by their numbers, and the tasks that wait for something of theirs.

  Args:
    served: the model, and its code.
    batch_sizes: what workers are compiled for.
    cluster: where workers are started; None for a cluster of its own, which ends with them.
    replace: whether dead workers are replaced while `open`.
    observer: is told what happens.
    tell: is given the events of workers.
  """

  def __init__(self, served: Served, batch_sizes: Sequence[int], cluster: Cluster | None, replace: bool,
               observer: Observer, tell: Callable):
    self.served, self.batch_sizes, self.replace, self.observer, self.tell = served, batch_sizes, replace, observer, tell
    self.cluster, self.own_cluster = cluster, cluster is None
    self.workers: dict[int, tuple[str, Any]] = {}  # role, and Ray's handle
    self.kinds: dict[str, tuple[str, dict]] = {}  # of each role: its pool, and examples of what it is asked
    self.tasks: set[asyncio.Task] = set()
    self.open, self.last_worker = False, -1

  async def _start_worker(self, role: str) -> None:
    pool, examples = self.kinds[role]
    self.last_worker = worker = self.last_worker + 1
    load = functools.partial(self.served.load, worker)
    handle = await self.cluster.start(load, examples, self.batch_sizes)
    self.workers[worker] = role, handle
    self._keep(self._watched(worker, handle))
    self.observer.joined()
    self.tell(events.Joined(worker, pool))

  def _keep(self, coroutine) -> None:
    task = asyncio.ensure_future(coroutine)
    self.tasks.add(task)
    task.add_done_callback(self.tasks.discard)

  def _bury(self, worker: int, why: str) -> None:
    """A worker is dead: the policy is told, and another one is started."""
    role, _ = self.workers.pop(worker, (None, None))
    if role is None:
      return
    self.observer.died()
    _log.warning('worker %d died: %s', worker, why, extra=event('worker_died', worker=worker, role=role, why=why))
    self.tell(events.Died(worker))
    if self.replace and self.open:
      self._keep(self._replaced(role))

  async def _replaced(self, role: str) -> None:
    for wait in REPLACE_AFTER_S:
      await asyncio.sleep(wait)
      try:
        return await self._start_worker(role)
      except Exception as error:
        why = reason(error)
        _log.warning('a worker cannot be replaced (%s)', why, extra=event('worker_not_replaced', role=role, why=why))

  async def _watched(self, worker: int, handle) -> None:
    """A worker that nobody calls dies, too."""
    self._bury(worker, await self.cluster.death(handle))

  def _release(self) -> None:
    for _, handle in self.workers.values():
      self.cluster.release(handle)
    self.workers.clear()
    if self.own_cluster:
      self.cluster.close()

  async def busy_s(self) -> list[float]:
    """Seconds that each worker has computed."""
    return await self.cluster.busy_s([handle for _, handle in self.workers.values()])
