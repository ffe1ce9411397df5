"""Finds the small network that best replaces F within a share of its time, by timings and validation data.

  python -m experiments.forms --dataset=fashion_mnist --base_dir=checkpoints/fashion_mnist-mlp-k2-r1 --data_dir=DIR \\
      --workdir=runs/forms                                       # a bundle's students and backups: 15 minutes
  python -m experiments.forms --schemes=parm-addition,mosaic --k=2,4      # parity models, and a mosaic's students

Times every form (lcode.models.forms) in many sizes, in turn with F. Trains the largest within the time as train_code
would, for --epochs, and shows its accuracy on the validation split. The test split is not read. Appends a record for
each form to <workdir>/records.jsonl. Give the best one to train_code by --form and --multiply_adds. With few queries at
once, most of a call is dispatch, so a short time may be too short for any network.
"""

from absl import flags

from experiments import common
from experiments.studies import forms
from lcode.errors import one_of
from lcode.models.forms import FORMS
from lcode.runs import comparison, records
from lcode.runs.progress import print_table

FLAGS = flags.FLAGS


def define_flags():
  common.define_base_flags()
  flags.DEFINE_string('base_dir', None, 'a workdir of train_base or train_code, for its base model; default: '
                      '<workdir>/base, trained where there is none')
  flags.DEFINE_list('schemes', ['bundle', 'backup'], 'bundle, mosaic, backup, parm-addition, ...')
  flags.DEFINE_list('k', ['2', '4', '8'], 'queries per group')
  flags.DEFINE_list('backup_time', ['0.05', '0.2', '0.5', '1'], 'what backups may take, relative to an inference by F')
  flags.DEFINE_list('forms', list(FORMS), '; '.join(f'{name}: {form.text}' for name, form in FORMS.items()))
  flags.DEFINE_list('groups', ['64', '1'], 'how many are answered at once: sized by the first, timed for all')
  flags.DEFINE_integer('epochs', 6, 'of every training')
  flags.DEFINE_integer('seed', 0, 'of every training')
  flags.DEFINE_string('workdir', 'runs/forms', 'where the records go')
  common.define_run_flags()


def places() -> list[forms.Place]:
  """What the flags name: a backup for every time, all else for every k."""
  return [place for scheme in FLAGS.schemes for place in (
      [forms.Place(scheme, 1, time) for time in common.numbers('backup_time', float)] if scheme == 'backup' else
      [forms.Place(scheme, k) for k in common.numbers('k', int)])]


def main():
  named, groups = [one_of('form', form, FORMS) for form in FLAGS.forms], common.numbers('groups', int)
  options, what = common.run_options(), comparison.Comparison(FLAGS.dataset, FLAGS.base_model, ('bundle',), (2,), (1,))
  todo = places()
  base = comparison.obtain_base(what, records.open_workdir(FLAGS.workdir), FLAGS.base_dir, options)
  made = []
  for place in todo:
    for record in forms.study(place, base, named, groups, FLAGS.epochs, FLAGS.seed):
      made.append(record | records.environment(options.choose_devices(False, 1)))
      records.append(FLAGS.workdir, made[-1])
  print_table(f'{FLAGS.dataset}, {FLAGS.base_model}: the best first, % of validation answers', [
      'scheme, k, time', 'form', 'work', f'time, {" / ".join(map(str, groups))} at once', 'F\'s class', 'label'],
      [_cells(record) for record in made])
  return made[-1] if made else None


def _cells(record: dict) -> list[str]:
  where = f'{record["scheme"]}, {record["k"]}, {record["time_budget"]:g}'
  if 'multiply_adds' not in record:
    return [where, record['form'], '', f'{min(time for _, time in record["measured"]):.2f} at least', '', '']
  return [where, record['form'], f'{record["share"]:.3f}', ' / '.join(f'{t:.2f}' for t in record['times'].values()),
          *(f'{100 * record[f"validation_{name}_accuracy"]:.2f}' for name in ('reconstruction', 'degraded'))]


if __name__ == '__main__':
  common.run(main, define_flags)
