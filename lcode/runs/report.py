"""What a comparison is shown as: means over seeds, overall accuracy, a table and pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lcode.coding.code import Code
from lcode.runs import tables
from lcode.runs.progress import console, print_table
from lcode.training.metrics import overall_accuracy

FIGURES = ('degraded_accuracy', 'reconstruction_accuracy', 'intact_accuracy', 'available_accuracy', 'default_accuracy',
           'relative_error', 'frontend_work', 'worker_work')
COSTS = ('frontend_time', 'worker_time', 'parity_time', 'frontend_time_1', 'worker_time_1', 'parity_time_1',
         'wire_out', 'wire_back')  # not in all
# Of each kind of cost a picture, of two panels: their axes, and the figures there.
PANELS = {
    'work': (('frontend work, relative to k inferences by F', 'worker work, relative to k inferences by F'),
             ('frontend_work', 'worker_work')),
    'time': (('frontend time, 64 groups, relative to k inferences by F',
              'worker time, 64 groups, relative to k inferences by F'), ('frontend_time', 'worker_time')),
    'bytes': (('bytes to the workers, in k queries', 'bytes back, in k answers'), ('wire_out', 'wire_back'))}


def training_of(record: dict) -> tuple:
  """How long a row was trained: epochs (0 for nothing to train), and what cut it short."""
  return record['config']['epochs'] if record.get('steps') else 0, record.get('max_steps')


def _at_frontend(record) -> bool:
  """Whether its parities are answered at the frontend; records did not always say."""
  return record.get('at_frontend', record['config']['parity_model'] in ('backup', 'default'))


def mean_over_seeds(rows: Sequence[dict]) -> list[dict]:
  """Means over the seeds, with their spread: one dictionary for each (scheme, k, r), in the order of the rows."""
  groups: dict[tuple, list[dict]] = {}
  for row in rows:
    groups.setdefault((row['scheme'], row['k'], row['r']), []).append(row)
  means = []
  for (scheme, k, r), members in groups.items():
    named = *FIGURES, *(name for name in COSTS if all(name in row for row in members))
    first, by = members[0], members[0].get('judged_by', 'degraded_accuracy')
    figures = {name: _mean([row[name] for row in members]) for name in named}
    values = [row[by] for row in members]
    epochs, max_steps = training_of(first)
    means.append({'scheme': scheme, 'k': k, 'r': r, **figures, 'seeds': len(members), 'judged_by': by,
                  'intervals': _intervals(members, by), 'spread': max(values) - min(values),
                  'seconds': sum(row['seconds'] for row in members),
                  'passthrough': first['passthrough'], 'at_frontend': _at_frontend(first),
                  'parts': [first['config'][name] for name in ('encoder', 'parity_model')],
                  'code': [first['config'][name] for name in 'kr'], 'epochs': epochs, 'max_steps': max_steps,
                  'seconds_a_row': first.get('seconds_a_row'), 'planned_seconds': first.get('planned_seconds'),
                  'split': first.get('split') or 'test',
                  'by_missing': [float(np.mean([row['missing'][m][by] for row in members]))
                                 for m in range(len(first['missing']))]})
  return means


def _intervals(members, by: str) -> list[list[float]] | None:
  """Of an accuracy, (low, high) for each number of missing units; not all records have them.

  Ends are means over the seeds: all are judged on the same test split, so that more seeds make no interval narrower.
  """
  name = f'{by}_interval'
  if not all(name in missing for row in members for missing in row['missing']):
    return None
  return np.mean([[missing[name] for missing in row['missing']] for row in members], axis=0).tolist()


def _mean(values) -> float | None:
  """None where one is not known."""
  return None if any(value is None for value in values) else float(np.mean(values))


def overall(row: dict, unavailable: float) -> float:
  """Overall accuracy of a row of `mean_over_seeds` when a fraction of the units is unavailable."""
  return overall_accuracy(unavailable, Code(*row['code']), row['by_missing'], row['available_accuracy'],
                          row['default_accuracy'], None if row['passthrough'] else row['intact_accuracy'],
                          row['at_frontend'])


def report(rows: Sequence[dict], path: Path | None, title: str, note: str = '') -> list[Path]:
  """Shows rows of `mean_over_seeds` as a table on standard error; with a path writes table.md and pictures there.

  Returns:
    the pictures; none where matplotlib is not installed.
  """
  measure = tables.MEASURES[rows[0]['judged_by']]
  print_table(title, ['', 'k, r', measure.short, 'intact', 'work', 'time', 'wire', 'epochs'], [
      [row['scheme'], f'{row["k"]}, {row["r"]}', measure.shown(row[row['judged_by']]),
       '' if measure.scale == 1 else f'{100 * row["intact_accuracy"]:.2f}', tables.added(row, 'work'),
       tables.added(row, 'time'), tables.wire(row), tables.epochs_of(row)] for row in rows])
  if path is None:
    return []
  (path / 'table.md').write_text((f'{note}\n\n' if note else '') + tables.tables(rows))
  return save_pictures(rows, path, title)


def save_pictures(rows: Sequence[dict], workdir: Path, title: str) -> list[Path]:
  """What was lost against k, work, time and bytes, and overall accuracy against f, from rows of `mean_over_seeds`.

  Drawn are the rows of the smallest r, the last picture at the smallest k: more would hide each other. Costs that are
  not known are not drawn, nor is overall accuracy where there are no classes.
  """
  try:
    from lcode.runs import plots  # matplotlib is for pictures alone
  except ImportError:
    console.print('No pictures will be written: pip install "lcode[experiments]" brings matplotlib.', highlight=False,
                  markup=False)
    return []
  r = min(row['r'] for row in rows)
  rows = [row for row in rows if row['r'] == r]
  k, by = min(row['k'] for row in rows), rows[0]['judged_by']
  measure = tables.MEASURES[by]
  by_k = {}
  for row in rows:
    by_k.setdefault(row['scheme'], []).append((row['k'], measure.scale * row[by]))
  pictures = [plots.save_lines(workdir / 'accuracy-against-k.png', f'{title}, r = {r}: {measure.name} against k',
                               {name: sorted(points) for name, points in by_k.items()}, 'k', measure.axis)]
  for cost, (axes, names) in PANELS.items():
    known = [row for row in rows if all(row.get(name) is not None for name in names)]
    if known:
      pictures.append(plots.save_points(
          workdir / f'accuracy-against-{cost}.png', f'{title}, r = {r}: {measure.name} against {cost}',
          [row['scheme'] for row in known], [f'k={row["k"]}' for row in known],
          {axis: [row[name] for row in known] for axis, name in zip(axes, names)},
          [measure.scale * row[by] for row in known], measure.axis))
  if by == 'degraded_accuracy':
    curves = {row['scheme']: [(f, 100 * overall(row, f)) for f in np.linspace(0, 0.3, 31)]
              for row in rows if row['k'] == k}
    pictures.append(plots.save_lines(
        workdir / 'overall-accuracy.png', f'{title}, k = {k}, r = {r}: overall accuracy', curves,
        'probability that a unit is unavailable', 'overall accuracy, %'))
  return pictures
