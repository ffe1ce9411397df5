"""Writes the tables and pictures of docs/results from the records there: trains nothing, takes a few seconds.

  python -m experiments.summary

Writes to <results_dir> the tables of the suites, best.md and paper.md, and for each data set a picture of every code
with Base-MLP (the drop against time, bytes as the size of the markers). It also puts a table of their accuracies and
one of their costs between the lines <!-- summary --> of README.md and costs.md.
"""

from pathlib import Path

from absl import flags

from experiments import common
from experiments.studies import summary, suites

FLAGS = flags.FLAGS
RESULTS = Path(__file__).parents[1] / 'docs' / 'results'
MARK = '<!-- summary -->\n'


def define_flags():
  flags.DEFINE_string('records_dir', str(RESULTS), 'where the records are')
  flags.DEFINE_string('results_dir', str(RESULTS), 'where tables and pictures go')


def main():
  records, out = Path(FLAGS.records_dir), Path(FLAGS.results_dir)
  out.mkdir(parents=True, exist_ok=True)
  made = summary.points(records)
  for name, text in (('README.md', summary.table(made)), ('costs.md', summary.costs(records))):
    page = out / name
    parts = page.read_text().split(MARK) if page.exists() else []
    if len(parts) == 3:
      page.write_text(MARK.join([parts[0], f'\n{text}\n\n', parts[2]]))
  for name in suites.SUITES:
    (out / f'{name}.md').write_text(summary.suite(name, records))
  pictures = [summary.picture(made, out / f'summary-{dataset}.png', dataset) for dataset in summary.DATASETS]
  return {'kind': 'summary', 'points': len(made), 'pictures': [str(path) for path in pictures]}


if __name__ == '__main__':
  common.run(main, define_flags)
