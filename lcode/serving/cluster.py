"""Workers as Ray actors: started, called, told of, replaced. The only file that knows Ray."""

import asyncio
import concurrent.futures
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lcode.errors import InputError
from lcode.serving.worker import Worker

# Ray binds its ports to the loopback where a node's address is one, which on Linux it is under this variable alone.
LOOPBACK_ONLY = 'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'
CONCURRENCY = 64  # calls that an actor holds at once: more than any policy has outstanding at a worker
_log = logging.getLogger('lcode')


class WorkerDied(Exception):
  """The process that answered is gone."""


class Cluster:
  """A connection to Ray, and the actors that were started over it.

  Args:
    address: of a running cluster ('auto' for the one of this machine); None for a cluster of its own on this machine,
      that listens on the loopback alone and ends with it.
    cpus: of a worker, for Ray's scheduler. 0 lets any number of them share a machine.
    keep: workers that a service has done with stay, for the next one: their processes have started already.

  Raises:
    InputError: if Ray is not installed, or the cluster cannot be reached.
  """

  def __init__(self, address: str | None = None, cpus: float = 0, keep: bool = False):
    if address is None:
      if 'ray' in sys.modules and os.environ.get(LOOPBACK_ONLY) != '0':
        _log.warning('Ray was imported before: its ports may be open to the network (it asks for its token). Set '
                     '%s=0, or import lcode\'s cluster first.', LOOPBACK_ONLY)
      os.environ.setdefault(LOOPBACK_ONLY, '0')
      os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
      import ray
    except ImportError as error:
      raise InputError(f'a service needs Ray, which is not installed ({error}): pip install "lcode[serving]".'
                       ) from error
    self.ray, self.cpus, self.keep, self.idle = ray, cpus, keep, []
    self.own = not ray.is_initialized()
    if self.own:
      local = {} if address else {'include_dashboard': False, 'object_store_memory': 2**27}
      try:
        ray.init(address=address or 'local', log_to_driver=False, configure_logging=False, **local)
      except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f'address={address!r} cannot be reached ({error}): start Ray there, or give None for a '
                         'cluster of its own.') from error
    self.actor = ray.remote(_Actor)

  async def start(self, load: Callable, examples: dict, batch_sizes: Sequence[int]) -> Any:
    """A worker, ready to answer; the arguments are those of `Worker`. Raises what its model raises, or WorkerDied."""
    if self.idle:
      handle = self.idle.pop()
    else:
      handle = self.actor.options(num_cpus=self.cpus, max_concurrency=CONCURRENCY, max_restarts=0).remote()
    try:
      await handle.load.remote(load, examples, batch_sizes)
    except self.ray.exceptions.RayTaskError as error:
      raise error.as_instanceof_cause() from None
    except self.ray.exceptions.RayActorError as error:
      raise WorkerDied(str(error).split('\n')[0]) from error
    return handle

  def call(self, handle, x: np.ndarray, numbers: Sequence[int | None]) -> Any:
    """A reference to the answers; await it by `result`."""
    return handle.answer.remote(x, list(numbers))

  async def result(self, reference) -> list[np.ndarray]:
    """The answers; raises WorkerDied, CancelledError where the call was cancelled, or what the model raised."""
    try:
      return await reference
    except self.ray.exceptions.RayActorError as error:
      raise WorkerDied(str(error).split('\n')[0]) from error
    except self.ray.exceptions.TaskCancelledError as error:
      raise asyncio.CancelledError from error

  def cancel(self, reference) -> None:
    self.ray.cancel(reference)

  def release(self, handle) -> None:
    """A service has done with a worker."""
    if self.keep:
      self.idle.append(handle)
    else:
      self.ray.kill(handle)

  async def death(self, handle) -> str:
    """Waits until a worker is dead, and says why."""
    reference = handle.forever.remote()
    try:
      await reference
    except self.ray.exceptions.RayActorError as error:
      return str(error).split('\n')[0]
    except asyncio.CancelledError:
      self.ray.cancel(reference)  # a worker that is kept holds so many calls at once, and no more
      raise
    return 'it ended'

  async def process_of(self, handle) -> int:
    """The id of a worker's process."""
    return await handle.process.remote()

  async def busy_s(self, handles: Iterable) -> list[float]:
    """Seconds that each of these workers has computed, in calls that are over."""
    return list(await asyncio.gather(*(handle.busy_s.remote() for handle in handles)))

  def close(self) -> None:
    """Ends a cluster of its own; of others the workers alone, which end with their handles."""
    if self.own and self.ray.is_initialized():
      self.ray.shutdown()


class _Actor:
  """A `Worker` whose model runs in a thread, so that a cancelled call is answered at once."""

  def __init__(self):
    self.thread = concurrent.futures.ThreadPoolExecutor(1)  # one call after the other; one that waits can be cancelled

  async def load(self, load, examples, batch_sizes):
    self.worker = await asyncio.get_running_loop().run_in_executor(self.thread, Worker, load, examples, batch_sizes)

  async def forever(self):
    await asyncio.Event().wait()

  async def busy_s(self):
    return self.worker.busy_s

  async def process(self):
    return os.getpid()

  async def answer(self, x, numbers):
    return await asyncio.get_running_loop().run_in_executor(self.thread, self.worker.answer, x, numbers)
