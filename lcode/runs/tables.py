"""Tables in Markdown: of anything, and of the rows of a comparison."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lcode.errors import InputError

WIDE = 0.02  # of an interval, from end to end


class Measure(NamedTuple):
  """A figure by which rows are judged: its names, and how it is shown."""

  name: str
  short: str
  axis: str
  scale: float
  digits: int

  def shown(self, value: float, digits: int | None = None) -> str:
    return f'{self.scale * value:.{self.digits if digits is None else digits}f}'


LONGER = 1.25  # of the seconds asked for: beyond that a row, of one epoch, says what it takes
MEASURES = {
    'degraded_accuracy': Measure('degraded accuracy', 'degraded', 'degraded accuracy, %', 100, 2),
    'reconstruction_accuracy': Measure('agreement with F', 'agreement', 'agreement with F, %', 100, 2),
    'relative_error': Measure('relative error', 'error', 'relative error', 1, 4),
}


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table; raises InputError if a row has another number of cells than the header."""
  lines = [f'| {" | ".join(header)} |', '|---' * len(header) + '|']
  for row in rows:
    if len(row) != len(header):
      raise InputError(f'a row of {len(row)} cells does not fit a header of {len(header)}: give as many.')
    lines.append(f'| {" | ".join(row)} |')
  return '\n'.join(lines)


def tables(rows: Sequence[dict]) -> str:
  """Tables of `mean_over_seeds` rows: for each r the figures, the extra work and the epochs, a column for each k.

  Intervals of the accuracies have a table where one is wider than `WIDE`, as on a test split of a few hundred queries.
  A cost that is not known, as over an F of which only answers are recorded, is '-'.
  """
  parts = []
  for r in sorted({row['r'] for row in rows}):
    here = {(row['scheme'], row['k']): row for row in rows if row['r'] == r}
    ks = sorted({k for _, k in here})
    names = list(dict.fromkeys(name for name, _ in here))
    measure = MEASURES[rows[0]['judged_by']]
    intact = [name for name in names if not next(row for (n, _), row in here.items() if n == name)['passthrough']]
    intact = intact if measure is MEASURES['degraded_accuracy'] else []
    trained = [name for name in names if any(row['epochs'] for (n, _), row in here.items() if n == name)]
    counts = ' / '.join(str(m) for m in range(1, r + 1))
    heading = measure.axis[0].upper() + measure.axis[1:]
    split = f', on {rows[0]["split"]} data' if rows[0]['split'] != 'test' else ''
    parts.append(f'{heading}, at r = {r} with {counts} missing{split}:')
    parts.append(_table(ks, {name: [_lost(here.get((name, k))) for k in ks] for name in names} | {
        f'{name}, nothing missing': [_percent(here.get((name, k)), 'intact_accuracy') for k in ks] for name in intact}))
    if any(high - low > WIDE for row in here.values() for low, high in row['intervals'] or ()):
      parts.append(f'95 % interval of the {measure.name}, %, at r = {r} with {counts} missing:')
      parts.append(_table(ks, {name: [intervals(here.get((name, k))) for k in ks] for name in names}))
    parts.append(f'Extra work at r = {r}, frontend + workers, relative to k inferences by F:')
    parts.append(_table(ks, {name: [added(here.get((name, k)), 'work') for k in ks] for name in names}))
    if any('frontend_time' in row for row in here.values()):
      parts.append(f'Extra time at r = {r}, frontend + workers, 64 groups at once, relative to k inferences by F:')
      parts.append(_table(ks, {name: [added(here.get((name, k)), 'time') for k in ks] for name in names}))
    if any('wire_out' in row for row in here.values()):
      parts.append(f'Extra bytes at r = {r}, to the workers in k queries / back in k answers:')
      parts.append(_table(ks, {name: [wire(here.get((name, k))) for k in ks] for name in names}))
    if trained:
      parts.append(f'{_training(rows)} (r = {r}):')
      parts.append(_table(ks, {name: [epochs_of(here.get((name, k))) for k in ks] for name in trained}))
  return '\n\n'.join(parts) + '\n'


def _training(rows) -> str:
  """What the table of epochs says on how rows compare."""
  asked = {row['seconds_a_row'] for row in rows if row['epochs']}
  if len(asked) == 1 and None not in asked:
    return (f'Epochs of training: as many as {asked.pop():g} s hold, at least one, after compilation; a row that took '
            'longer says so, and is not to be ranked with the others')
  return 'Epochs of training; rows of different epochs are not to be ranked by small differences'


def _table(ks, cells):
  return markdown(['scheme', *(f'k = {k}' for k in ks)], ([name, *row] for name, row in cells.items()))


def epochs_of(row: dict | None) -> str:
  """How long a row of `mean_over_seeds` was trained, '' for not at all."""
  if row is None or not row['epochs']:
    return ''
  cut = f', cut at {row["max_steps"]} steps' if row['max_steps'] else ''
  if row['seconds_a_row'] and row['planned_seconds'] > LONGER * row['seconds_a_row']:
    cut += f', of {row["planned_seconds"]:.0f} s'
  return str(row['epochs']) + cut


def intervals(row: dict | None) -> str:
  """`low to high` for each number of missing units, '' where records do not tell."""
  if row is None or not row['intervals']:
    return ''
  return ' / '.join(f'{100 * low:.1f} to {100 * high:.1f}' for low, high in row['intervals'])


def _lost(row):
  if row is None:
    return ''
  measure = MEASURES[row['judged_by']]
  digits = 1 if measure.scale > 1 else 4
  spread = f' ± {measure.shown(row["spread"] / 2, digits)}' if row['seeds'] > 1 else ''
  return ' / '.join(measure.shown(value, digits) for value in row['by_missing']) + spread


def _percent(row, name):
  return '' if row is None else f'{100 * row[name]:.1f}'


def added(row: dict | None, what: str) -> str:
  """`frontend + worker` of 'work' or 'time', '' where it was not measured."""
  if row is None or f'frontend_{what}' not in row:
    return ''
  frontend, worker = row[f'frontend_{what}'], row[f'worker_{what}']
  return ' + '.join(['-' if frontend is None else f'{frontend:.3f}', '-' if worker is None else f'{worker:.2f}'])


def wire(row: dict | None) -> str:
  """`out / back` in queries and answers."""
  return '' if row is None or 'wire_out' not in row else f'{row["wire_out"]:.2f} / {row["wire_back"]:.2f}'
