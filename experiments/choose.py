"""Names the code to deploy with an F, if any, within what it may cost and lose.

  python -m experiments.choose --max_drop=2 --workdir=runs/choose         # on digits, some minutes
  python -m experiments.choose --import=my_module --model=my_name --lost=1 --k=2,4,8 --max_wire_out=0.5 \\
      --max_frontend_time=1 --max_worker_time=0.5 --seconds_a_row=60      # with your own F

Trains every candidate for the same time, measures what it costs and, on validation data, what it loses. Of the
candidates within the budgets, it names the one that loses least. Or it says that none fits, or that a small network
should be deployed instead of F. Costs are what a code adds per query, relative to one inference by F (bytes: to one
query). The test split is read for the chosen row alone. Finished work is not repeated, so other budgets take seconds.
The best epoch of each training is chosen on the validation data too, so figures there flatter trained codes a little.
"""

import dataclasses
from pathlib import Path

from absl import flags

from experiments import common
from lcode.errors import InputError
from lcode.runs import choice, comparison, records, report, tables
from lcode.runs.compare import claim
from lcode.runs.configs import CodeConfig
from lcode.runs.own import load_own
from lcode.runs.own_rows import over_own
from lcode.runs.progress import console, print_table

FLAGS = flags.FLAGS
MOST = ('max_frontend_time', 'max_worker_time', 'max_frontend_work', 'max_worker_work', 'max_wire_out',
        'max_wire_back')  # of `choice.COSTS`


def define_flags():
  common.define_comparison_flags()
  flags.DEFINE_integer('lost', 1, 'how many units of a group may be missing at once: r, and copies of replication')
  flags.DEFINE_list('k', ['2', '4'], 'queries per group, to choose from')
  flags.DEFINE_float('max_drop', None, 'points of accuracy that a rebuilt answer may lose; default: any')
  for name, text in zip(MOST, choice.COSTS.values()):
    flags.DEFINE_float(name, None, f'extra {text}; default: any')
  flags.DEFINE_float('seconds_a_row', 30.0, 'how long to train each candidate, by as many epochs as that holds')
  flags.DEFINE_integer('seed', 0, 'of the codes')
  flags.DEFINE_string('workdir', 'runs/choose', 'where codes and records go')
  common.define_training_flags()
  common.define_cost_flags()


def main():
  budgets = choice.Budgets(FLAGS.lost, FLAGS.max_drop, *(FLAGS[name].value for name in MOST))
  what = comparison.Comparison(*common.compared_names(), common.numbers('k', int), (FLAGS.lost,), (FLAGS.seed,), None,
                               common.numbers('backup_work', float), seconds_a_row=FLAGS.seconds_a_row,
                               form=FLAGS.form, student_work=FLAGS.student_work)
  options, path = common.training_run_options(), Path(FLAGS.workdir)
  if FLAGS.model:
    over = over_own(claim(path, load_own(FLAGS.model, FLAGS.data_dir)))
  else:
    over = comparison.over_named(comparison.obtain_base(what, path, FLAGS.base_dir, options))
  made = comparison.compare_over(over, what, FLAGS.workdir, dataclasses.replace(options, split='validation'))
  if not made:
    raise InputError('no candidate is left: see the reasons above, and name others by --schemes or --k.')
  chosen = choice.choose(report.mean_over_seeds(made), budgets)
  show(chosen, what)
  code_dir = chosen.row and record_of(made, chosen.row)['code_dir']
  if code_dir:
    console.print(f'It is loaded by lcode.load({code_dir!r}{", apply, variables" if FLAGS.model else ""}).',
                  highlight=False, markup=False, soft_wrap=True)
  record = {'kind': 'choice', 'dataset': what.dataset, 'base_model': what.base_model, 'choice': chosen.kind,
            'why': chosen.why, 'row': chosen.row, 'code_dir': code_dir,
            'test': tested(over, made, chosen.row, path, options),
            'budgets': dataclasses.asdict(budgets), 'base_sha256': over.sha256,
            'verdicts': [verdict._asdict() for verdict in chosen.verdicts]}
  records.append(path, record)
  return record


def record_of(made: list[dict], row: dict) -> dict:
  return next(record for record in made if all(record[name] == row[name] for name in ('scheme', 'k', 'r')))


def tested(over: comparison.Over, made: list[dict], row: dict | None, path: Path, options) -> dict | None:
  """The test figures of the chosen row, None for none: its training is over, so that it is only evaluated."""
  if row is None:
    return None
  record = record_of(made, row)
  config = CodeConfig(**record['config'])
  options = dataclasses.replace(options, split='test', time_costs=False)
  figures = over.train(config, path / 'codes' / comparison.folder_of(config, over.sha256), options)
  mean, = report.mean_over_seeds([record | figures | {'split': 'test'}])
  measure = tables.MEASURES[mean['judged_by']]
  console.print(f'on test data: {measure.name} {measure.shown(mean[mean["judged_by"]])}', highlight=False)
  return mean


def show(chosen: choice.Choice, what: comparison.Comparison) -> None:
  """The candidates with why each will do or not, and the choice, on standard error."""
  print_table(f'{what.dataset}, {what.base_model}: candidates on validation data', [
      '', 'k, r', 'loses', 'time', 'wire', 'verdict'], [
          [row['scheme'], f'{row["k"]}, {row["r"]}', f'{loses:.2f}', tables.added(row, 'time'), tables.wire(row),
           '; '.join(reasons) or 'within the budgets'] for row, loses, reasons in chosen.verdicts])
  console.print(f'{chosen.kind}: {chosen.why}', highlight=False, markup=False, soft_wrap=True)


if __name__ == '__main__':
  common.run(main, define_flags)
