"""A linear F, a code that is exact over it, and workers that are objects of this process and do as they are told."""

import asyncio

import numpy as np

from lcode.coding.code import Code
from lcode.serving.cluster import WorkerDied
from lcode.serving.served import Answerers, Served
from lcode.serving.worker import Worker

D, C = 6, 3
W = np.random.default_rng(0).normal(size=(D, C)).astype('f4')


def linear(x):
  return np.asarray(x, np.float32) @ W


def encode(x):
  """Over a linear F a sum is a code without error."""
  return x.sum(1, keepdims=True)


def decode(units, available):
  (missing,) = np.flatnonzero(~available) if not available.all() else (len(available) - 1,)
  answers = units[:, :-1].copy()
  if missing < len(available) - 1:
    answers[:, missing] = units[:, -1] - np.delete(units[:, :-1], missing, axis=1).sum(1)
  return answers


def served(k=2, load=lambda worker: Answerers(linear, lambda x, j: linear(x)), **others):
  return Served(load, (D,), Code(k, 1), **dict(encode=encode, decode=decode) | others)


class LocalCluster:
  """Workers as objects. `does` is called with (worker, number of the call) and says what becomes of it: seconds until
  the answer, 'fail', 'die', 'nan', 'shape', 'off' (a wrong number), or None for an answer that never comes."""

  def __init__(self, does=lambda worker, call: 0.0):
    self.does, self.started, self.made, self.calls, self.cancelled = does, 0, [], 0, 0

  async def start(self, load, examples, batch_sizes):
    worker = Worker(load, examples, batch_sizes)
    worker.name, worker.gone = self.started, asyncio.get_running_loop().create_future()
    self.started += 1
    return worker

  def call(self, handle, x, numbers):
    self.calls += 1
    return asyncio.ensure_future(self._answered(handle, x, numbers, self.does(handle.name, self.calls)))

  async def _answered(self, handle, x, numbers, what):
    if what == 'die':
      self.release(handle)
    waits = asyncio.sleep(1e9 if what is None else what if isinstance(what, float) else 0.001)
    done, waiting = await asyncio.wait([asyncio.ensure_future(waits), handle.gone],
                                       return_when=asyncio.FIRST_COMPLETED)
    for task in waiting - {handle.gone}:
      task.cancel()
    if handle.gone.done():
      raise WorkerDied('killed')
    if what == 'fail':
      raise ValueError('the model is broken')
    answers = [np.array(answer) for answer in handle.answer(x, numbers)]
    if what == 'nan':
      answers[0][0] = np.nan
    if what == 'off':
      answers = [answer + 100 for answer in answers]
    return [answer[:-1] for answer in answers] if what == 'shape' else answers

  async def result(self, reference):
    return await reference

  def cancel(self, reference):
    self.cancelled += 1
    reference.cancel()

  async def death(self, handle):
    await asyncio.wait([handle.gone])
    return 'killed'

  def release(self, handle):
    if not handle.gone.done():
      handle.gone.set_result(True)


class SlowNetwork:
  """A cluster whose calls, answers, cancellations and news of deaths are on their way for `delay()` seconds each, so
  that they overtake each other."""

  def __init__(self, cluster, delay):
    self.cluster, self.delay = cluster, delay

  def __getattr__(self, name):
    return getattr(self.cluster, name)

  def call(self, handle, x, numbers):
    return asyncio.ensure_future(self._there_and_back(handle, x.copy(), list(numbers)))

  async def _there_and_back(self, handle, x, numbers):
    await asyncio.sleep(self.delay())
    answers = await self.cluster.result(self.cluster.call(handle, x, numbers))
    await asyncio.sleep(self.delay())
    return answers

  async def result(self, reference):
    return await reference

  def cancel(self, reference):
    asyncio.get_running_loop().call_later(self.delay(), reference.cancel)

  async def death(self, handle):
    why = await self.cluster.death(handle)
    await asyncio.sleep(self.delay())
    return why
