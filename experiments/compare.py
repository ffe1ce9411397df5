"""Every code with one frozen model: the same test groups, the same erasures, and what each costs.

  python -m experiments.compare --workdir=runs/compare                    # all schemes, on digits
  python -m experiments.compare --dataset=fashion_mnist --k=2,3,5 --r=1,2 --schemes=parm-addition,nercc,backup \\
      --data_dir=DIR --workdir=runs/compare-fashion
  python -m experiments.compare --import=my_module --model=my_name        # with your own F, already trained

Trains what needs training, under <workdir>/codes, and evaluates everything. Writes one record per row to
<workdir>/records.jsonl, and from these the table <workdir>/table.md and pictures against work, time, bytes and k.
Finished rows are not repeated; stopped ones resume.
With --seconds_a_row=10, every row is trained for ten seconds instead of its recipe's epochs.
A scheme is a preset's name, an encoder's (with F on its parities and the MLP decoder), or
encoder:parity_model:decoder. Rows that are impossible are left out, with the reason.
"""

from pathlib import Path

from absl import flags

from experiments import common
from lcode.errors import InputError
from lcode.runs import comparison, own, report
from lcode.runs.compare import compare_own, show

FLAGS = flags.FLAGS


def define_flags():
  common.define_comparison_flags()
  flags.DEFINE_list('k', ['2', '3'], 'queries per group')
  flags.DEFINE_list('r', ['1', '2'], 'parities per group: of replication, copies of each query')
  flags.DEFINE_list('seeds', ['0'], 'of the codes; the base model is the same')
  flags.DEFINE_integer('epochs', None, 'of every code that is trained; default: its recipe\'s')
  flags.DEFINE_float('seconds_a_row', None, 'instead of epochs: how long to train each row, by as many epochs as that '
                     'holds, at least one')
  flags.DEFINE_string('workdir', 'runs/compare', 'where codes, records, table and pictures go')
  common.define_training_flags()
  common.define_cost_flags()


def main():
  what = comparison.Comparison(
      *common.compared_names(), common.numbers('k', int), common.numbers('r', int), common.numbers('seeds', int),
      FLAGS.epochs, common.numbers('backup_work', float), seconds_a_row=FLAGS.seconds_a_row,
      form=FLAGS.form, student_work=FLAGS.student_work)
  options, path = common.training_run_options(), Path(FLAGS.workdir)
  if FLAGS.model:
    mine = own.load_own(FLAGS.model, FLAGS.data_dir)
    rows, pictures = show(mine, compare_own(mine, what, FLAGS.workdir, options), path)
  else:
    made = comparison.compare(what, FLAGS.workdir, FLAGS.base_dir, options)
    if not made:
      raise InputError(f'--schemes={",".join(FLAGS.schemes)} at --k={",".join(FLAGS.k)} and --r={",".join(FLAGS.r)} '
                       'leaves no row: see the reasons above.')
    rows = report.mean_over_seeds(comparison.latest(path, made[0]))
    title = f'{FLAGS.dataset}, {FLAGS.base_model} ({100 * rows[0]["available_accuracy"]:.1f} % deployed)'
    pictures = report.report(rows, path, title)
  return {'kind': 'comparison_summary', 'workdir': FLAGS.workdir, 'rows': rows, 'pictures': [str(p) for p in pictures]}


if __name__ == '__main__':
  common.run(main, define_flags)
