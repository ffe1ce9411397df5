"""The service on Ray: real processes that are killed and stopped, and who can reach it."""

import asyncio
import collections
import importlib.util
import os
import random
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

import lcode
from lcode.serving import cluster
from lcode.serving.cluster import Cluster
from lcode.serving.observer import Observer
from lcode.serving.served import of_workdir, Served
from lcode.serving.service import Service
from tests.serving.local import SlowNetwork
from tests.serving.processes import descendants

pytestmark = [pytest.mark.filterwarnings('ignore:os.fork:RuntimeWarning', 'ignore::FutureWarning'),
              pytest.mark.skipif(importlib.util.find_spec('ray') is None, reason='Ray is not installed')]
SHIPPED = Path(__file__).parents[2] / 'checkpoints' / 'digits-mlp-k2-r1'


class Counter(Observer):
  def __init__(self):
    self.told = collections.Counter()

  def answered(self, how, ms):
    self.told[how] += 1

  def died(self):
    self.told['died'] += 1


def listening(processes):
  """(address, port) of the sockets that these processes listen on, by /proc alone."""
  inodes = set()
  for process in processes:
    for file in Path(f'/proc/{process}/fd').glob('*'):
      try:
        inodes.add(os.readlink(file))
      except OSError:
        continue
  for table, family in (('tcp', socket.AF_INET), ('tcp6', socket.AF_INET6)):
    for line in Path(f'/proc/net/{table}').read_text().splitlines()[1:]:
      fields = line.split()
      if fields[3] == '0A' and f'socket:[{fields[9]}]' in inodes:
        address, port = fields[1].split(':')
        words = [bytes.fromhex(address[i:i + 8])[::-1] for i in range(0, len(address), 8)]
        yield socket.inet_ntop(family, b''.join(words)), int(port, 16)


def test_a_service_on_ray():
  """One cluster for all of it: it takes seconds to start."""
  trained, counter = lcode.load(SHIPPED), Counter()
  queries = np.random.default_rng(0).normal(size=(40, *trained.base.query_shape)).astype('f4')
  expected = np.asarray(trained.base.apply(trained.base.variables, queries))
  service = Service(of_workdir(SHIPPED), of_workdir(SHIPPED).options(call_timeout=500.0, deadline=20_000.0, retries=5),
                    num_workers=3, num_parity_workers=1, observer=counter)

  async def answers():
    answered = await asyncio.gather(*(service.predict(x) for x in queries))
    exact = [i for i, one in enumerate(answered) if one.how == 'exact']
    for i in exact:
      np.testing.assert_allclose(answered[i].answer, expected[i], 1e-4, 1e-4)
    assert all(np.isfinite(one.answer).all() for one in answered) and len(answered) == len(queries)

  async def process_of(worker):
    return await service.cluster.process_of(service.workers[worker][1])

  async def life():
    async with service:
      assert service.ready
      addresses = set(listening(descendants(os.getpid()) | {os.getpid()}))
      assert addresses and all(a.endswith('127.0.0.1') or a == '::1' for a, _ in addresses), addresses
      await answers()

      killed, stopped = await process_of(0), await process_of(1)
      asking = asyncio.ensure_future(answers())
      await asyncio.sleep(0)
      os.kill(killed, signal.SIGKILL)
      os.kill(stopped, signal.SIGSTOP)
      await asking  # from the worker that is left, and the parity's
      os.kill(stopped, signal.SIGCONT)
      await answers()
      while 0 in service.workers or len(service.workers) < 4:
        await asyncio.sleep(0.1)
      assert counter.told['died'] == 1 and service.workers.keys() == {1, 2, 3, 4}
      await answers()

  asyncio.run(asyncio.wait_for(life(), 200))
  assert sum(counter.told[how] for how in ('exact', 'reconstructed')) == 4 * len(queries)
  assert not counter.told['late'] and not counter.told['failed'] and not service.futures


def test_workers_that_are_kept_serve_one_service_after_the_other(monkeypatch):
  """More services than an actor holds calls at once: none of them leaves one behind."""
  monkeypatch.setattr(cluster, 'CONCURRENCY', 4)

  def load(worker):
    from lcode.serving.served import Answerers
    return Answerers(lambda x: 2 * x)

  async def life():
    kept, processes = Cluster(keep=True), set()
    for _ in range(6):
      async with Service(Served(load, (3,)), cluster=kept, num_workers=1, num_parity_workers=0) as service:
        answered = await service.predict(np.arange(3, dtype='f4'))
        np.testing.assert_array_equal(answered.answer, [0, 2, 4])
        processes.add(await kept.process_of(service.workers[0][1]))
    kept.close()
    return processes

  assert len(asyncio.run(asyncio.wait_for(life(), 100))) == 1


def test_a_cluster_that_is_not_there_is_a_sentence(monkeypatch):
  import ray
  monkeypatch.setattr(ray, 'init', lambda **_: (_ for _ in ()).throw(ConnectionError('no such cluster')))
  monkeypatch.setattr(ray, 'is_initialized', lambda: False)
  with pytest.raises(lcode.InputError, match='no such cluster'):
    Cluster('192.0.2.1:6379')


@pytest.mark.long
def test_a_slow_network_loses_and_doubles_nothing():
  """Up to 300 ms between the frontend and workers on Ray, calls given up after 100: repeated, overtaking, killed."""
  rng, counter, served = random.Random(3), Counter(), of_workdir(SHIPPED)
  queries = np.random.default_rng(0).normal(size=(100, *served.query_shape)).astype('f4')
  trained = lcode.load(SHIPPED)
  expected = np.asarray(trained.base.apply(trained.base.variables, queries))
  network = SlowNetwork(Cluster(), lambda: rng.choice([0.0, 0.01, 0.05, 0.3]))
  service = Service(served, served.options(call_timeout=100.0, deadline=60_000.0, retries=20, max_outstanding=4),
                    num_workers=2, num_parity_workers=1, cluster=network, observer=counter)

  async def life():
    async with service:
      asking = []
      for i, x in enumerate(queries):
        asking.append(asyncio.ensure_future(service.predict(x)))
        await asyncio.sleep(0.02)
        if i == 50:
          os.kill(await network.process_of(service.workers[0][1]), signal.SIGKILL)
      return await asyncio.gather(*asking)
  answered = asyncio.run(asyncio.wait_for(life(), 200))
  network.close()
  assert len(answered) == counter.told['exact'] + counter.told['reconstructed'] == 100
  assert not counter.told['late'] and not counter.told['failed'] and counter.told['died'] >= 1
  assert not service.futures and not service.arrays.open and not service.calls
  for one, own in zip(answered, expected):
    if one.how == 'exact':
      np.testing.assert_allclose(one.answer, own, 1e-4, 1e-4)


@pytest.mark.long
def test_two_nodes_of_a_cluster_one_of_which_goes():
  """Four workers of a CPU each on two nodes of two: both are needed; then the queries are answered by what is left."""
  from ray.cluster_utils import Cluster as Nodes
  nodes = Nodes(initialize_head=True, head_node_args={'num_cpus': 2})
  other, counter = nodes.add_node(num_cpus=2), Counter()
  served = of_workdir(SHIPPED)
  queries = np.random.default_rng(0).normal(size=(20, *served.query_shape)).astype('f4')

  async def life():
    own = Cluster(nodes.address, cpus=1)
    service = Service(served, served.options(deadline=20_000.0, retries=5), num_workers=2, num_parity_workers=2,
                      cluster=own, observer=counter, replace=False)
    async with service:
      await asyncio.gather(*(service.predict(x) for x in queries))
      nodes.remove_node(other)
      await asyncio.gather(*(service.predict(x) for x in queries))
      assert counter.told['died'] == 2
    own.close()

  try:
    asyncio.run(asyncio.wait_for(life(), 200))
  finally:
    nodes.shutdown()
