"""Tables in Markdown: of anything, and of the rows of a comparison."""

from collections.abc import Iterable, Sequence

from lcode.errors import InputError

WIDE = 0.02  # of an interval, from end to end


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A table; raises InputError if a row has another number of cells than the header."""
  lines = [f'| {" | ".join(header)} |', '|---' * len(header) + '|']
  for row in rows:
    if len(row) != len(header):
      raise InputError(f'a row of {len(row)} cells does not fit a header of {len(header)}: give as many.')
    lines.append(f'| {" | ".join(row)} |')
  return '\n'.join(lines)


def tables(rows: Sequence[dict]) -> str:
  """Tables of `mean_over_seeds` rows: for each r the accuracies, the extra work and the epochs, a column for each k.

  Intervals of the accuracies have a table where one is wider than `WIDE`, as on a test split of a few hundred queries.
  """
  parts = []
  for r in sorted({row['r'] for row in rows}):
    here = {(row['scheme'], row['k']): row for row in rows if row['r'] == r}
    ks = sorted({k for _, k in here})
    names = list(dict.fromkeys(name for name, _ in here))
    intact = [name for name in names if not next(row for (n, _), row in here.items() if n == name)['passthrough']]
    trained = [name for name in names if any(row['epochs'] for (n, _), row in here.items() if n == name)]
    counts = ' / '.join(str(m) for m in range(1, r + 1))
    parts.append(f'r = {r}. Degraded accuracy, %, with {counts} missing')
    parts.append(_table(ks, {name: [_degraded(here.get((name, k))) for k in ks] for name in names} | {
        f'{name}, nothing missing': [_percent(here.get((name, k)), 'intact_accuracy') for k in ks] for name in intact}))
    if any(high - low > WIDE for row in here.values() for low, high in row['intervals'] or ()):
      parts.append(f'r = {r}. 95 % interval of the degraded accuracy, %, with {counts} missing')
      parts.append(_table(ks, {name: [intervals(here.get((name, k))) for k in ks] for name in names}))
    parts.append(f'r = {r}. Extra work at the frontend + at the workers, relative to k inferences by F')
    parts.append(_table(ks, {name: [added(here.get((name, k)), 'work') for k in ks] for name in names}))
    if any('frontend_time' in row for row in here.values()):
      parts.append(f'r = {r}. Extra time at the frontend + at the workers, 64 groups at once, relative to k inferences '
                   'by F')
      parts.append(_table(ks, {name: [added(here.get((name, k)), 'time') for k in ks] for name in names}))
    if any('wire_out' in row for row in here.values()):
      parts.append(f'r = {r}. Extra bytes to the workers, in k queries / back, in k answers')
      parts.append(_table(ks, {name: [wire(here.get((name, k))) for k in ks] for name in names}))
    if trained:
      parts.append(f'r = {r}. Epochs of training; rows of different epochs are not to be ranked by small differences')
      parts.append(_table(ks, {name: [epochs_of(here.get((name, k))) for k in ks] for name in trained}))
  return '\n\n'.join(parts) + '\n'


def _table(ks, cells):
  return markdown(['scheme', *(f'k = {k}' for k in ks)], ([name, *row] for name, row in cells.items()))


def epochs_of(row: dict | None) -> str:
  """How long a row of `mean_over_seeds` was trained, '' for not at all."""
  if row is None or not row['epochs']:
    return ''
  return str(row['epochs']) + (f', cut at {row["max_steps"]} steps' if row['max_steps'] else '')


def intervals(row: dict | None) -> str:
  """`low to high` for each number of missing units, '' where records do not tell."""
  if row is None or not row['intervals']:
    return ''
  return ' / '.join(f'{100 * low:.1f} to {100 * high:.1f}' for low, high in row['intervals'])


def _degraded(row):
  if row is None:
    return ''
  spread = f' ± {50 * row["spread"]:.1f}' if row['seeds'] > 1 else ''
  return ' / '.join(f'{100 * value:.1f}' for value in row['by_missing']) + spread


def _percent(row, name):
  return '' if row is None else f'{100 * row[name]:.1f}'


def added(row: dict | None, what: str) -> str:
  """`frontend + worker` of 'work' or 'time', '' where it was not measured."""
  if row is None or f'frontend_{what}' not in row:
    return ''
  return f'{row[f"frontend_{what}"]:.3f} + {row[f"worker_{what}"]:.2f}'


def wire(row: dict | None) -> str:
  """`out / back` in queries and answers."""
  return '' if row is None or 'wire_out' not in row else f'{row["wire_out"]:.2f} / {row["wire_back"]:.2f}'
