"""Runs the rows of a suite within a time budget, and writes their table."""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path

from experiments.studies.suites import Row
from lcode.errors import InputError, OutOfTime
from lcode.runs import comparison, plots, records
from lcode.runs.configs import RunOptions
from lcode.runs.progress import console
from lcode.runs.tables import markdown

MARGIN = 0.03, 10.0  # of the budget, and seconds, whichever is more: for saving and evaluating what is in hand


def reproduce(rows: Iterable[Row], workdir: str, options: RunOptions, budget_s: float) -> list[dict]:
  """Goes through the rows, the longest-waiting first, until the budget is spent; returns the records that there are.

  No step of training is begun after the budget less a margin; the first of a row always is, so that each call
  gets on. One process at a time may work in a workdir.

  Base models lie under <workdir>/bases, trained where there are none; codes and records under
  <workdir>/<data set>-<base model>. What is done is not done again, what was stopped is resumed.
  """
  if budget_s <= 0:
    raise InputError(f'--budget_minutes={budget_s / 60:g} leaves no time: it must be more than 0.')
  path, began = records.open_workdir(workdir), time.monotonic()
  stop_at = began + budget_s - min(max(MARGIN[0] * budget_s, MARGIN[1]), budget_s / 2)
  options = dataclasses.replace(options, stop_at=stop_at)
  rows, loaded, failed = list(rows), {}, set()
  waiting = sorted((row for row in rows if record_of(row, path) is None), key=lambda row: _touched(row, path))
  for row in waiting:
    if time.monotonic() >= stop_at:
      break
    if row.base in failed:
      continue
    (path / row.base).mkdir(exist_ok=True)
    _touch(row, path)
    try:
      if row.base not in loaded:
        failed.add(row.base)
        loaded = {row.base: comparison.obtain_base(row.comparison, path / row.base, None, options,
                                                   path / 'bases' / row.base)}
        failed.discard(row.base)
      comparison.compare(row.comparison, str(path / row.base), None, options, loaded[row.base])
    except OutOfTime as stopped:
      console.print(f'{row}: {stopped}; the same command resumes it', highlight=False, soft_wrap=True)
      break  # the time is over, or somebody interrupts
    except InputError as error:  # data that are not there, say: the other rows need not wait for them
      console.print(f'{row}: {error}', highlight=False, soft_wrap=True)
  made = [record for row in rows if (record := record_of(row, path)) is not None]
  console.print(f'{len(made)} of {len(rows)} rows are done', highlight=False)
  return made


def record_of(row: Row, path: Path) -> dict | None:
  """The newest finished record of a row, with the base model under <path>/bases if one lies there."""
  finished = [record['base_sha256'] for record in records.read(path / 'bases' / row.base) if record.get('finished')]
  return newest(row, records.read(path / row.base), finished[-1] if finished else None)


def newest(row: Row, stored: Iterable[dict], base_sha256: str | None = None) -> dict | None:
  """The last of the records that is of this row, not cut short, and with this base model if one is named."""
  wanted = dataclasses.asdict(row.config) | {'multiply_adds': None}
  for record in reversed(list(stored)):
    if (record.get('kind'), record.get('max_steps')) != ('comparison', None):
      continue
    same = (record['scheme'], record['k'], record['r']) == (row.name, row.k, row.r)
    if same and record['config'] | {'multiply_adds': None} == wanted and (
        base_sha256 in (None, record['base_sha256'])):
      return record
  return None


def _touched(row: Row, path: Path) -> float:
  """When the row last had a turn; 0 for never."""
  turns = records.read(path / row.base)
  return max((turn['at'] for turn in turns if turn.get('kind') == 'turn' and turn['row'] == str(row)), default=0.0)


def _touch(row: Row, path: Path) -> None:
  records.append(path / row.base, {'kind': 'turn', 'row': str(row), 'at': time.time()})


def table(rows: Iterable[Row], path: Path) -> str:
  """`table_of` what was made in a workdir."""
  return table_of((row, record_of(row, path)) for row in rows)


def table_of(made: Iterable[tuple[Row, dict | None]]) -> str:
  """The table of a suite from rows and their records: published figures beside what was made, with cost and seeds."""
  groups: dict[Row, list[dict]] = {}
  for row, record in made:
    groups.setdefault(dataclasses.replace(row, seed=0), []).extend([] if record is None else [record])
  header = ('data, base model', 'code', 'k, r', 'published: deployed / degraded, %', 'ours: deployed / degraded, %',
            'drop', 'work: frontend + workers', 'epochs', 'seeds', 'seconds', 'on', 'time: frontend + workers',
            'bytes: out / back')
  lines, waiting = [], {}
  for row, rows in groups.items():
    if not rows:
      name = f'{row.base} {row.name}{row.form and f", {row.form}"}'
      waiting.setdefault(name, []).append(f'({row.k}, {row.r})' + (f' in {row.takes}' if row.takes else ''))
      continue
    published = '{:g} / {:g} ({})'.format(*row.published, row.source) if row.published else ''
    code = ', '.join(filter(None, (row.name, row.form, row.recipe, row.loss)))
    lines.append([f'{row.dataset}, {row.base_model}', code, f'{row.k}, {row.r}', published, *_figures(rows)])
  rest = '; '.join(f'{name} {", ".join(which)}' for name, which in waiting.items())
  return ('Accuracies on the test split with as many units missing as there are parities, means over the seeds, ± half '
          'their range; the drop is deployed less degraded accuracy, in points. Work and time are what a code adds, '
          'relative to k inferences by F (time: 64 groups at once); bytes are relative to k queries and k answers; '
          'seconds are of training and evaluation. Published: the least drop that is known for these data, base model, '
          f'k and r, of any code.\n\n{markdown(header, lines)}\n'
          + ('\nRows not made yet, by (k, r), with the time they take on two idle cores where it is known: '
             f'{rest}.\n' if rest else ''))


def save_picture(rows: Iterable[dict], path: Path, title: str) -> Path:
  """The drop of every record at k = 2, r = 1 against the work at the frontend; backups of all sizes in one colour.

  The default answer is left out: its drop makes all others look alike.
  """
  points = {(record['scheme'], record['seed']): record for record in rows
            if (record['k'], record['r']) == (2, 1) and record['scheme'] != 'default'}
  names = ['backup' if name.startswith('backup-') else name for name, _ in points]
  labels = [name.removeprefix('backup-') if name.startswith('backup-') else '' for name, _ in points]
  drops = [100 * (point['available_accuracy'] - point['degraded_accuracy']) for point in points.values()]
  panels = {'frontend work, relative to k inferences by F': [point['frontend_work'] for point in points.values()]}
  return plots.save_points(path, f'{title}, k = 2, r = 1', names, labels, panels, drops,
                           'drop, points of degraded accuracy')


def _figures(made: list[dict]) -> list[str]:
  """Cells of a row, means over the seeds; degraded accuracy with as many units missing as the code bears."""
  deployed = _mean(100 * record['available_accuracy'] for record in made)
  degraded = [100 * record['missing'][-1]['degraded_accuracy'] for record in made]
  spread = f' ± {(max(degraded) - min(degraded)) / 2:.2f}' if len(made) > 1 else ''
  hardware = ', '.join(sorted({f'{record["devices"]} x {record["device"]}' for record in made}))
  names = 'frontend_work', 'worker_work', 'seconds'
  work, worker, seconds = (_mean(record[name] for record in made) for name in names)
  epochs = made[0]['config']['epochs'] if made[0]['steps'] else 0
  return [f'{deployed:.2f} / {_mean(degraded):.2f}{spread}', f'{deployed - _mean(degraded):.2f}',
          f'{work:.3f} + {worker:.2f}', str(epochs), str(len(made)), f'{seconds:.0f}', hardware,
          _pair(made, 'frontend_time', 'worker_time', '{:.2f} + {:.2f}'),
          _pair(made, 'wire_out', 'wire_back', '{:.2f} / {:.2f}')]


def _pair(made: list[dict], one: str, other: str, form: str) -> str:
  """Two figures that not every record has, means over the seeds."""
  if not all(name in record for record in made for name in (one, other)):
    return ''
  return form.format(*(_mean(record[name] for record in made) for name in (one, other)))


def _mean(values) -> float:
  values = list(values)
  return sum(values) / len(values)
