"""Every code over one frozen model: the same test groups, the same erasures, and what each costs.

  python -m experiments.compare --workdir=runs/compare                    # all families, over digits
  python -m experiments.compare --dataset=fashion_mnist --k=2,3,5 --r=1,2 --schemes=parm-addition,nercc,backup \\
      --data_dir=DIR --workdir=runs/compare-fashion

Trains what needs training, under <workdir>/codes, and evaluates all. Writes one record a row to
<workdir>/records.jsonl, and from all of these the table <workdir>/table.md and three pictures. What is done is not done
again; what was stopped is resumed.
A scheme is one of the families, an encoder (with F on its parities and the MLP decoder), or
encoder:parity_model:decoder. Rows that cannot be are left out, with the reason.
"""

from pathlib import Path

from absl import flags

from experiments import common
from experiments.studies import comparison, tables
from lcode.errors import InputError
from lcode.models.forms import FORMS
from lcode.runs.presets import PRESETS
from lcode.runs.progress import print_table

FLAGS = flags.FLAGS


def define_flags():
  common.define_base_flags()
  flags.DEFINE_string('base_dir', None, 'a workdir of train_base or train_code, for its base model; default: '
                      '<workdir>/base, trained where there is none')
  flags.DEFINE_list('k', ['2', '3'], 'queries per group')
  flags.DEFINE_list('r', ['1', '2'], 'parities per group: of replication, copies of each query')
  flags.DEFINE_list('schemes', ['all'], 'all, or some of: ' + ', '.join(
      f'{name} ({preset.source})' if preset.source else name for name, preset in PRESETS.items()))
  flags.DEFINE_list('seeds', ['0'], 'of the codes; the base model is the same')
  flags.DEFINE_integer('epochs', None, 'of every code that is trained; default: its recipe\'s')
  flags.DEFINE_list('backup_work', ['0.05', '0.2'], 'multiply-adds of the backups, relative to an inference by F')
  flags.DEFINE_string('form', '', f'of the small networks: {", ".join(FORMS)}; default: of F\'s kind')
  flags.DEFINE_string('workdir', 'runs/compare', 'where codes, records, table and pictures go')
  common.define_training_flags()
  common.define_cost_flags()


def main():
  if not FLAGS.schemes:
    raise InputError('--schemes= names no scheme: give some, or leave the flag out for all.')
  schemes = tuple(PRESETS) if FLAGS.schemes == ['all'] else tuple(FLAGS.schemes)
  what = comparison.Comparison(
      FLAGS.dataset, FLAGS.base_model, schemes, common.numbers('k', int), common.numbers('r', int),
      common.numbers('seeds', int), FLAGS.epochs, common.numbers('backup_work', float), form=FLAGS.form)
  made = comparison.compare(what, FLAGS.workdir, FLAGS.base_dir, common.training_run_options())
  if not made:
    raise InputError(f'--schemes={",".join(FLAGS.schemes)} at --k={",".join(FLAGS.k)} and --r={",".join(FLAGS.r)} '
                     'leaves no row: see the reasons above.')
  path = Path(FLAGS.workdir)
  rows = comparison.mean_over_seeds(comparison.latest(path, made[0]))
  (path / 'table.md').write_text(tables.tables(rows))
  title = f'{FLAGS.dataset}, {FLAGS.base_model} ({100 * rows[0]["available_accuracy"]:.1f} % deployed)'
  pictures = comparison.save_pictures(rows, path, title)
  print_table(title, ['', 'k, r', 'degraded', 'intact', 'work', 'time', 'wire', 'epochs'], [
      [row['scheme'], f'{row["k"]}, {row["r"]}', f'{100 * row["degraded_accuracy"]:.2f}',
       f'{100 * row["intact_accuracy"]:.2f}', tables.added(row, 'work'), tables.added(row, 'time'), tables.wire(row),
       tables.epochs_of(row)] for row in rows])
  return {'kind': 'comparison_summary', 'workdir': FLAGS.workdir, 'rows': rows, 'pictures': [str(p) for p in pictures]}


if __name__ == '__main__':
  common.run(main, define_flags)
