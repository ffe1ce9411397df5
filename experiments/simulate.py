"""Simulates a service: its latency with and without codes, under load, with slow workers and failures.

  python -m experiments.simulate --policy=coded --workers=12 --parity_workers=6 --rate=270 --k=2 --r=1
  python -m experiments.simulate --suite=sweep --budget_minutes=15 --workdir=runs/serving

The first command takes about 3 s of one core and has a p99.9 of 32 ms, where --policy=equal has 52. With policies that
send no parity units, the parity workers run F (`none` leaves them out). The second goes through loads, codes, slow
workers and cluster sizes with three seeds, within the budget; run again, it resumes. It writes tables and pictures.
--suite=checks compares the simulator with closed forms, in a minute.
"""

import jax
from absl import flags

from experiments import common
from experiments.studies import serving, serving_checks
from lcode.errors import InputError, whole
from lcode.runs import records
from lcode.runs.progress import console, print_table
from lcode.serving.options import POLICIES, QUEUES, make_options
from lcode.serving.service_times import SERVICES
from lcode.serving.simulator import Setup

FLAGS = flags.FLAGS
SHOWN = 'p50_ms', 'p90_ms', 'p99_ms', 'p995_ms', 'p999_ms', 'max_ms'


def define_flags():
  flags.DEFINE_string('policy', 'coded', ', '.join(POLICIES))
  flags.DEFINE_integer('workers', 12, 'that run F')
  flags.DEFINE_integer('parity_workers', 6, 'that answer parities or run a backup')
  flags.DEFINE_float('rate', 270.0, 'queries a second, Poisson')
  flags.DEFINE_integer('k', 2, 'queries per group, of --policy=coded')
  flags.DEFINE_integer('r', 1, 'parities per group; copies or backups of a query')
  flags.DEFINE_integer('queries', 200_000, 'in all; the first tenth is not counted')
  flags.DEFINE_string('workdir', 'runs/serving', 'where records, tables and pictures go')
  flags.DEFINE_integer('seed', 0, 'of all random numbers')
  flags.DEFINE_enum('suite', None, ['sweep', 'checks'], 'many simulations; of the flags, --queries alone '
                    'counts')
  flags.DEFINE_float('budget_minutes', 15.0, 'a suite stops within so many minutes')
  with common.group('Service times, ms'):
    flags.DEFINE_string('service', 'parm', ', '.join(SERVICES) + ', or a .npy file of recorded ones')
    flags.DEFINE_float('service_ms', None, 'their mean; default: their own, or 20')
    flags.DEFINE_float('parity_scale', 1.0, 'a parity worker (or backup) takes so many times as long')
    flags.DEFINE_float('parity_extra_ms', None, 'and so much longer; default: 2 for a code with parm, else 0')
    flags.DEFINE_float('encode_ms', 0.1, 'at the frontend, for a group')
    flags.DEFINE_float('decode_ms', 0.01, 'at the frontend, for a group')
    flags.DEFINE_float('batch_cost', 1.0, 'what each unit of a call but the first adds, relative to one alone')
  with common.group('What slows workers down'):
    flags.DEFINE_integer('shuffles', 0, 'pairs of workers that send each other data; with --service=deterministic')
    flags.DEFINE_float('slow_share', 0.0, 'share of all workers that take --slow_factor times as long')
    flags.DEFINE_float('slow_factor', 1.5, 'see --slow_share')
    flags.DEFINE_float('pause_every_ms', 0.0, 'mean time between pauses of a machine; 0 for none')
    flags.DEFINE_float('pause_ms', 50.0, 'mean length of a pause')
    flags.DEFINE_integer('pause_machine', 1, 'workers on a machine')
    flags.DEFINE_float('failure_every_ms', 0.0, 'mean time to a failure of a worker; 0 for none')
    flags.DEFINE_float('repair_ms', 10_000.0, 'mean time until it is back')
  with common.group('The policy'):
    flags.DEFINE_boolean('alone', False, 'a parity\'s reply answers all k by itself, as a bundle\'s does')
    flags.DEFINE_integer('need', None, 'how many of the n units decode a group; default: k')
    flags.DEFINE_float('spare_after_ms', None, 'delay of copies and parities; default: none, p95 if hedged')
    flags.DEFINE_float('spare_quantile', None, 'the same as a quantile of the latencies')
    flags.DEFINE_float('hold_ms', None, 'no backup\'s answer before; default: the median')
    flags.DEFINE_string('queues', None, ', '.join(QUEUES) + ', or none: as many workers as it takes; default: single, '
                        'shortest if tied')
    flags.DEFINE_integer('choices', 2, 'of --queues=shortest: the shortest of so many')
    flags.DEFINE_integer('max_outstanding', 1, 'calls at a worker; a service has 2, to hide the network')
    flags.DEFINE_integer('max_queued', 1000, 'units that wait, before queries are refused')
    flags.DEFINE_integer('batch_size', 1, 'units in a call, at most')
    flags.DEFINE_float('batch_wait_ms', 0.0, 'how long a free worker waits for them')
    flags.DEFINE_float('group_wait_ms', 100.0, 'how long a group waits to fill')
    flags.DEFINE_float('deadline_ms', 1000.0, 'when a default is answered')
    flags.DEFINE_float('own_deadline_share', 0.0, 'share of the queries that have a deadline of their own')
    flags.DEFINE_float('own_deadline_ms', 100.0, 'see --own_deadline_share')
    flags.DEFINE_float('call_timeout_ms', float('inf'), 'when a call is given up and sent again')
    flags.DEFINE_integer('retries', 1, 'how often a unit is sent again')


def options_from_flags():
  named = ('choices', 'max_outstanding', 'max_queued', 'batch_size', 'retries')
  fields = {name: FLAGS[name].value for name in named}
  fields |= {name: FLAGS[f'{name}_ms'].value for name in ('batch_wait', 'group_wait', 'deadline', 'call_timeout')}
  if FLAGS.policy == 'coded':
    fields |= {'k': FLAGS.k, 'r': FLAGS.r, 'alone': FLAGS.alone, 'need': FLAGS.need}
  elif POLICIES.get(FLAGS.policy, {}).get('r'):
    fields |= {'r': FLAGS.r}
  if FLAGS.spare_after_ms is not None:
    fields |= {'spare_after': FLAGS.spare_after_ms, 'spare_quantile': None}
  if FLAGS.spare_quantile is not None:
    fields |= {'spare_quantile': FLAGS.spare_quantile}
  if FLAGS.hold_ms is not None:
    fields |= {'hold': FLAGS.hold_ms, 'hold_quantile': None}
  if FLAGS.queues not in (None, 'none'):
    fields |= {'queues': FLAGS.queues}
  return make_options(FLAGS.policy, **fields)


def setup_from_flags():
  same = ('rate', 'queries', 'seed', 'service', 'service_ms', 'parity_scale', 'encode_ms', 'decode_ms', 'batch_cost',
          'shuffles', 'slow_share', 'slow_factor', 'pause_every_ms', 'pause_ms', 'pause_machine', 'failure_every_ms',
          'repair_ms', 'own_deadline_share', 'own_deadline_ms')
  extra = FLAGS.parity_extra_ms
  if extra is None:
    extra = 2.0 if FLAGS.policy == 'coded' and FLAGS.service == 'parm' else 0.0
  return Setup(parity_extra_ms=extra, **serving.instances(FLAGS.policy, FLAGS.workers, FLAGS.parity_workers),
               **{name: FLAGS[name].value for name in same})


def run_sweep():
  if not FLAGS.budget_minutes > 0:
    raise InputError(f'--budget_minutes={FLAGS.budget_minutes:g} is not allowed: give minutes above 0.')
  made = serving.sweep(FLAGS.workdir, 60 * FLAGS.budget_minutes, FLAGS.queries)
  saved = serving.save(made, FLAGS.workdir)
  return {'kind': 'sweep', 'done': len(made), 'points': len(serving.points(FLAGS.queries)),
          'files': [str(path) for path in saved]}


def run_checks():
  path, rows = records.open_workdir(FLAGS.workdir), []
  environment = records.environment(jax.devices()[:1])
  for check in serving_checks.checks(whole('queries', FLAGS.queries, 1000)):
    rows.append(serving_checks.measure(check))
    records.append(path, rows[-1] | environment)
  console.print(serving_checks.table(rows), highlight=False, soft_wrap=True)
  return {'kind': 'simulation_checks', 'rows': rows}


def main():
  if FLAGS.suite:
    return run_sweep() if FLAGS.suite == 'sweep' else run_checks()
  options, setup = options_from_flags(), setup_from_flags()
  path = records.open_workdir(FLAGS.workdir)
  record = serving.measure(FLAGS.policy, options, setup, FLAGS.queues != 'none')
  record |= records.environment(jax.devices()[:1])
  records.append(path, record)
  print_table(f'{FLAGS.policy}, {setup.workers} + {setup.parity_workers} workers, {setup.rate:g} queries a second: ms',
              [name.removesuffix('_ms') for name in SHOWN], [[f'{record[name]:.1f}' for name in SHOWN]])
  shares = ', '.join(f'{record[how] / record["counted"]:.2%} {how}' for how in (
      'exact', 'reconstructed', 'failed', 'late', 'refused'))
  busy = [f'{name} busy {record[field]:.0%}' for name, field in (
      ('workers', 'utilisation'), ('parity workers', 'parity_utilisation')) if record[field] is not None]
  console.print('; '.join([shares, *busy]), highlight=False, soft_wrap=True)
  return record


if __name__ == '__main__':
  common.run(main, define_flags)
