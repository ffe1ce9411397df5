"""Reproduces the published figures, or lcode's best, row by row within a time budget.

  python -m experiments.reproduce --suite=best --budget_minutes=60 --data_dir=DIR --workdir=runs/reproduce

goes through the suite's rows, those that have waited longest first, and stops within the budget. Run again, it resumes,
on whatever devices there are. Base models that are missing under <workdir>/bases are trained first. Writes
<workdir>/<data set>-<base model>/records.jsonl. To --results_dir it writes <suite>.md, with published figures and ours,
cost, seeds and hardware, and for each base model a picture of the drop against the frontend's work. --beside adds to
the picture records of experiments.compare with the same base model. DIR holds TFDS directories, or arrays exported by
experiments.prepare_data.

The Base-MLP rows of `best` take three quarters of an hour on two cores. ResNet-18 needs an accelerator.
"""

import dataclasses
import json
from pathlib import Path

from absl import flags

from experiments import common
from experiments.studies import reproduce, suites
from lcode.errors import InputError, one_of

FLAGS = flags.FLAGS


def define_flags():
  flags.DEFINE_string('suite', 'best', ', '.join(suites.SUITES))
  flags.DEFINE_float('budget_minutes', 60.0, 'stop within so many minutes')
  flags.DEFINE_list('only', [], 'only the rows with these base models, such as mnist-mlp,cifar10-resnet20')
  flags.DEFINE_string('workdir', 'runs/reproduce', 'where base models, codes and records go')
  flags.DEFINE_string('results_dir', None, 'where the table goes; default: the workdir')
  flags.DEFINE_list('beside', [], 'files of records to draw in the pictures too')
  flags.DEFINE_float('save_every_s', 60.0, 'seconds between two checkpoints')
  common.define_run_flags()
  common.define_cost_flags()


def read_beside(name: str) -> list[dict]:
  """The records of comparisons in a file; raises InputError if it cannot be read."""
  try:
    stored = [json.loads(line) for line in Path(name).read_text().splitlines()]
    return [record for record in stored if record.get('kind') == 'comparison']
  except (OSError, ValueError, AttributeError) as error:
    raise InputError(f'--beside={name} cannot be read ({error}): name files of records, one JSON object a line.'
                     ) from error


def main():
  rows = suites.SUITES[one_of('suite', FLAGS.suite, suites.SUITES)]()
  known = sorted({row.base for row in rows})
  for name in FLAGS.only:
    if name not in known:
      raise InputError(f'--only={name} names no base model of this suite: choose from {", ".join(known)}.')
  rows = [row for row in rows if row.base in (FLAGS.only or known)]
  options = dataclasses.replace(common.run_options(), save_every_s=FLAGS.save_every_s)
  others = [record for name in FLAGS.beside for record in read_beside(name)]
  made = reproduce.reproduce(rows, FLAGS.workdir, options, 60 * FLAGS.budget_minutes)
  results = Path(FLAGS.results_dir or FLAGS.workdir)
  results.mkdir(parents=True, exist_ok=True)
  (results / f'{FLAGS.suite}.md').write_text(
      f'# {suites.TITLES[FLAGS.suite]}\n\n{reproduce.table(rows, Path(FLAGS.workdir))}')
  for name, sha256 in sorted({(f'{row["dataset"]}-{row["base_model"]}', row['base_sha256']) for row in made}):
    drawn = [record for record in others + made if record['base_sha256'] == sha256]
    reproduce.save_picture(drawn, results / f'{FLAGS.suite}-{name}.png', name)
  return {'kind': 'suite', 'suite': FLAGS.suite, 'done': len(made), 'rows': len(rows),
          'table': str(results / f'{FLAGS.suite}.md')}


if __name__ == '__main__':
  common.run(main, define_flags)
