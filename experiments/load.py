"""Puts load on a coded service on this machine: latencies, accuracies, and whether every query got its one answer.

  python -m experiments.load                                              # half a minute; digits, which ship trained
  python -m experiments.load --mode=none --service=parm --rate=60         # without redundancy, on workers that sleep
  python -m experiments.load --slow_share=0.25 --slow_ms=50 --kill_every=5 --seconds=60
  python -m experiments.load --suite=parm --workdir=runs/load             # every policy, 12 + 6 workers, three seeds
  python -m experiments.load --overhead --code_dir=checkpoints/mnist-mlp-k2-r1    # what a service adds to a bare call

Starts Ray and the workers on the loopback, sends test queries at random times (Poisson, whether or not the service
keeps up), and stops by itself. Latency is counted from when a query should have been sent. The last line is the record;
with --workdir it is kept. With --service, workers sleep for a random time instead of running the model, so many of them
fit on one machine. Policy, queues and Ray are then real, and the model's time is simulated; the record says so.
"""

import asyncio
from pathlib import Path

import jax
import numpy as np
from absl import flags

import lcode
from experiments import common
from experiments.studies import load, load_suite, overhead
from lcode import data
from lcode.errors import InputError, one_of
from lcode.runs import records
from lcode.runs.progress import console, print_table
from lcode.serving.cluster import Cluster
from lcode.serving.disturbed import Disturbance, disturbed
from lcode.serving.options import named, POLICIES
from lcode.serving.served import of_workdir
from lcode.serving.service import Service
from lcode.serving.service_times import SERVICES

FLAGS = flags.FLAGS
GAP_MS = 10.0  # between queries that are asked one at a time
SHIPPED = Path(__file__).parents[1] / 'checkpoints' / 'digits-mlp-k2-r1'


def define_flags():
  flags.DEFINE_string('mode', 'coded', ', '.join(POLICIES))
  flags.DEFINE_string('code_dir', None, 'a workdir of train_code; default: a mosaic with k = 2 on digits')
  flags.DEFINE_float('seconds', 10, 'how long, after a second that is not counted')
  flags.DEFINE_float('rate', 100, 'queries a second')
  flags.DEFINE_float('kill_every', 0, 'seconds after which a worker is killed, again and again; 0 for never')
  flags.DEFINE_string('workdir', None, 'where the record goes; default: nowhere')
  flags.DEFINE_integer('seed', 0, 'of arrivals, service times and who is killed')
  flags.DEFINE_string('suite', None, 'parm: every policy at ParM\'s service times on 12 + 6 workers; needs --workdir')
  flags.DEFINE_bool('overhead', False, 'instead: one query at a time, by turns a bare call of a worker, the service '
                    'without a policy and with --mode, for --seconds')
  flags.DEFINE_list('rates', ['270'], 'of the suite: queries a second')
  flags.DEFINE_list('seeds', ['0', '1', '2'], 'of the suite')
  with common.group('The workers'):
    flags.DEFINE_integer('num_workers', 4, 'that run F')
    flags.DEFINE_integer('num_parity_workers', 2, 'that answer parities; with --mode=equal they run F')
    flags.DEFINE_string('service', '', f'how long a call takes at least: {", ".join(SERVICES)}, or a .npy file of ms; '
                        'default: as long as the model takes')
    flags.DEFINE_float('service_ms', None, 'mean of the service time; default: its own, or 20')
    flags.DEFINE_float('slow_share', 0, 'share of the workers that are slow')
    flags.DEFINE_float('slow_factor', 1, 'how many times as long they take')
    flags.DEFINE_float('slow_ms', 0, 'and how many milliseconds longer')
    flags.DEFINE_float('wrong_share', 0, 'share of answers that are NaN')
  with common.group('The policy'):
    flags.DEFINE_float('deadline_ms', 1000, 'after which a query has no answer')
    flags.DEFINE_float('group_wait_ms', 100, 'after which a group is closed short')
    flags.DEFINE_integer('max_queued', 1000, 'units that wait; a query beyond that is refused')
    flags.DEFINE_integer('max_outstanding', 1, 'calls at a worker')
  common.define_run_flags()


def main():
  if FLAGS.suite:
    return _suite()
  if FLAGS.overhead:
    return _overhead()
  code_dir = FLAGS.code_dir or SHIPPED
  wanted = load.Load(FLAGS.rate, FLAGS.seconds, kill_every_s=FLAGS.kill_every, seed=FLAGS.seed)
  disturbance = Disturbance(FLAGS.service, FLAGS.service_ms, FLAGS.slow_share, FLAGS.slow_factor, FLAGS.slow_ms,
                            FLAGS.wrong_share, FLAGS.seed)
  served = disturbed(of_workdir(code_dir), disturbance)
  options = served.options(FLAGS.mode, deadline=FLAGS.deadline_ms, group_wait=FLAGS.group_wait_ms,
                           max_queued=FLAGS.max_queued, max_outstanding=FLAGS.max_outstanding, seed=FLAGS.seed)
  trained = lcode.load(code_dir)
  test = data.load(trained.config.dataset, FLAGS.data_dir).test
  parity_workers = FLAGS.num_parity_workers if named(FLAGS.mode).spare_workers else 0
  counter = load.Counter()
  service = Service(served, options, num_workers=FLAGS.num_workers, num_parity_workers=parity_workers,
                    observer=counter)
  figures = asyncio.run(_measured(service, counter, np.asarray(trained.base.preprocess(test.images)), test.labels,
                                  wanted))
  record = {'kind': 'load', 'mode': FLAGS.mode, 'code': trained.config.encoder, 'dataset': trained.config.dataset,
            'model_time': f'drawn: {FLAGS.service}' if FLAGS.service else 'measured', **figures,
            'flags': {name: FLAGS[name].value for name in (
                'rate', 'seconds', 'num_workers', 'num_parity_workers', 'service', 'service_ms', 'slow_share',
                'slow_factor', 'slow_ms', 'wrong_share', 'kill_every', 'deadline_ms', 'group_wait_ms', 'max_queued',
                'max_outstanding', 'seed')}} | records.environment(jax.devices())
  if FLAGS.workdir:
    records.append(records.open_workdir(FLAGS.workdir), record)
  print_table(f'{FLAGS.mode}, {FLAGS.rate:g} queries a second', ['', ''], [
      [name, _shown(value)] for name, value in figures.items()])
  return record


def _shown(value) -> str:
  if isinstance(value, list):
    return ', '.join(map(_shown, value))
  return 'none' if value is None else f'{value:.4g}'


def _suite():
  one_of('suite', FLAGS.suite, ['parm'])
  if not FLAGS.workdir:
    raise InputError('--suite needs --workdir: name a directory for its codes and records.')
  path = records.open_workdir(FLAGS.workdir)
  machines = load_suite.Machines(12, 6, Disturbance('parm', FLAGS.service_ms))
  rows = load_suite.run(path, SHIPPED, machines, common.numbers('rates', float), load.Load(seconds=FLAGS.seconds),
                        common.numbers('seeds', int))
  text = load_suite.table(load_suite.summary(rows))
  (path / 'table.md').write_text(text + '\n')
  load_suite.save_pictures(rows, path)
  console.print(text, highlight=False, soft_wrap=True)
  return {'kind': 'load_suite_summary', 'rows': load_suite.summary(rows)} | records.environment(jax.devices())


def _overhead():
  served = of_workdir(FLAGS.code_dir or SHIPPED)
  query = np.random.default_rng(FLAGS.seed).normal(size=served.query_shape).astype(np.float32)
  cluster = Cluster()

  def service(mode):
    workers = FLAGS.num_parity_workers if named(mode).spare_workers else 0
    return Service(served, served.options(mode, deadline=FLAGS.deadline_ms), num_workers=FLAGS.num_workers,
                   num_parity_workers=workers, cluster=cluster)

  async def measured():
    async with service('none') as plain, service(FLAGS.mode) as asked:
      return await overhead.measure({'none': plain, FLAGS.mode: asked}, query,
                                    max(int(FLAGS.seconds / (3 * (GAP_MS + 3) / 1000)), 1), GAP_MS)

  figures = asyncio.run(measured())
  cluster.close()
  print_table(f'one query {list(query.shape)} at a time', ['', 'p50, ms', 'p99, ms', 'more at p50', 'more at p99'],
              [[name, *(f'{found[figure]:.2f}' if figure in found else '' for figure in (
                  'p50_ms', 'p99_ms', 'added_p50_ms', 'added_p99_ms'))] for name, found in figures.items()])
  record = {'kind': 'overhead', 'mode': FLAGS.mode, 'query_shape': list(query.shape), **figures, 'flags': {
      name: FLAGS[name].value for name in ('seconds', 'num_workers', 'num_parity_workers', 'deadline_ms', 'seed')}}
  record |= records.environment(jax.devices())
  if FLAGS.workdir:
    records.append(records.open_workdir(FLAGS.workdir), record)
  return record


async def _measured(service, counter, queries, labels, wanted):
  async with service:
    return await load.run(service, counter, queries, labels, wanted)


if __name__ == '__main__':
  common.run(main, define_flags)
