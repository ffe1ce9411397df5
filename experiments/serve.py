"""Serves a trained code over HTTP: workers on Ray, an answer in time for every query.

  python -m experiments.serve --code_dir=checkpoints/mnist-mlp-k2-r1      # ready after some 20 seconds
  curl -d '{"query": [...]}' localhost:8000/predict

Listens on the loopback unless --host says otherwise; so does Ray, unless --address names a cluster. On Ctrl-C it takes
no more queries, answers those that wait, and stops the workers. --export serves what experiments.export wrote, which
needs no Flax; --policy=none, hedged, ... serves without the code. GET /readyz, /healthz and /metrics (Prometheus).
"""

import asyncio
import contextlib
import logging
import signal

import uvicorn
from absl import flags

from experiments import common
from lcode.errors import InputError
from lcode.runs.progress import console
from lcode.serving.cluster import Cluster
from lcode.serving.http import make_app
from lcode.serving.logs import as_json, event
from lcode.serving.metrics import Metrics
from lcode.serving.options import POLICIES
from lcode.serving.served import of_export, of_workdir
from lcode.serving.service import Service

FLAGS = flags.FLAGS
_log = logging.getLogger('lcode')


def define_flags():
  flags.DEFINE_string('code_dir', None, 'a workdir of train_code')
  flags.DEFINE_string('export', None, 'instead: a directory that experiments.export wrote')
  flags.DEFINE_string('sha256', None, 'of the export\'s manifest, as it was printed')
  flags.DEFINE_string('host', '127.0.0.1', 'where to listen')
  flags.DEFINE_integer('port', 8000, 'where to listen; 0 for any that is free')
  flags.DEFINE_bool('log_json', False, 'log JSON lines on standard error, for those who collect logs')
  with common.group('The workers'):
    flags.DEFINE_integer('num_workers', 2, 'that run F')
    flags.DEFINE_integer('num_parity_workers', 1, 'that answer parities')
    flags.DEFINE_string('address', None, 'of a Ray cluster, auto for the one of this machine; default: one of its own')
    flags.DEFINE_float('cpus', 0, 'of a worker, for Ray\'s scheduler; 0 for as many workers as one likes')
  with common.group('The policy'):
    flags.DEFINE_string('policy', 'coded', ', '.join(POLICIES))
    flags.DEFINE_float('deadline_ms', 1000, 'after which a query is answered by an error')
    flags.DEFINE_float('group_wait_ms', 100, 'after which a group is closed short')
    flags.DEFINE_integer('max_queued', 1000, 'units that wait; a query beyond that is refused')
    flags.DEFINE_integer('batch_size', 1, 'units in a call to a worker, at most')


def main():
  if (FLAGS.code_dir is None) == (FLAGS.export is None):
    raise InputError('give one of --code_dir and --export.')
  served = of_workdir(FLAGS.code_dir) if FLAGS.code_dir else of_export(FLAGS.export, FLAGS.sha256)
  options = served.options(FLAGS.policy, deadline=FLAGS.deadline_ms, group_wait=FLAGS.group_wait_ms,
                           max_queued=FLAGS.max_queued, batch_size=FLAGS.batch_size)
  if FLAGS.log_json:
    as_json(_log)
  metrics = Metrics()
  sizes = tuple(size for size in (1, 2, 4, 8, 16, 32) if size < FLAGS.batch_size) + (FLAGS.batch_size,)
  service = Service(served, options, num_workers=FLAGS.num_workers, num_parity_workers=FLAGS.num_parity_workers,
                    batch_sizes=sizes, cluster=Cluster(FLAGS.address, FLAGS.cpus), observer=metrics)
  asyncio.run(_serve(service, metrics))


async def _serve(service: Service, metrics: Metrics) -> None:
  server = _Server(uvicorn.Config('', host=FLAGS.host, port=FLAGS.port, log_level='warning', access_log=False,
                                  lifespan='off', timeout_graceful_shutdown=30))
  loop = asyncio.get_running_loop()
  async with service:
    server.config.app = make_app(service, metrics)
    for sign in (signal.SIGINT, signal.SIGTERM):
      loop.add_signal_handler(sign, server.stop, service)
    await server.serve()


class _Server(uvicorn.Server):
  """Says where it listens; leaves signals to whoever started it."""

  @contextlib.contextmanager
  def capture_signals(self):
    yield

  async def startup(self, sockets=None):
    await super().startup(sockets)
    for server in self.servers:
      for socket in server.sockets:
        host, port = socket.getsockname()[:2]
        if FLAGS.log_json:
          _log.info('serving on http://%s:%d/predict', host, port, extra=event('serving', host=host, port=port))
        else:
          console.print(f'serving on http://{host}:{port}/predict', highlight=False, soft_wrap=True)

  def stop(self, service):
    """Answers what waits, and ends; at once when it is asked again."""
    _log.info('stopping', extra=event('stopping', at_once=self.should_exit))
    self.force_exit = self.should_exit
    self.should_exit = True
    service.open = False


if __name__ == '__main__':
  common.run(main, define_flags)
