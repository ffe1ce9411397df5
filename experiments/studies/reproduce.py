"""Suites: named rows of published and of our own figures, gone through within a budget of time, and their table."""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path

from experiments.studies import comparison, plots
from experiments.studies.comparison import Comparison
from experiments.studies.tables import markdown
from lcode.errors import InputError, OutOfTime
from lcode.runs import records
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.presets import config_of
from lcode.runs.progress import console

MARGIN = 0.03, 10.0  # of the budget, and seconds, whichever is more: for saving and evaluating what is in hand


@dataclasses.dataclass(frozen=True)
class Row:
  """A figure to make: a scheme over a base model, by a recipe, and what is published for it.

  Attributes:
    epochs, recipe, loss: None for the scheme's own.
    backup_work: of a backup: its multiply-adds, relative to an inference by F.
    published: deployed and degraded accuracy in %, or None.
    source: of the published figures.
  """

  dataset: str
  base_model: str
  scheme: str
  k: int
  r: int = 1
  seed: int = 0
  epochs: int | None = None
  recipe: str | None = None
  published: tuple[float, float] | None = None
  source: str = ''
  backup_work: float = 0.0
  loss: str | None = None

  @property
  def base(self) -> str:
    return f'{self.dataset}-{self.base_model}'

  @property
  def name(self) -> str:
    return f'{self.scheme}-{self.backup_work:g}' if self.backup_work else self.scheme

  @property
  def config(self) -> CodeConfig:
    """But for the size of a backup, which follows from F."""
    return config_of(self.scheme, self.k, self.r, self.dataset, self.base_model, self.seed, self.epochs, 1, self.recipe,
                     self.loss)

  @property
  def comparison(self) -> Comparison:
    return Comparison(self.dataset, self.base_model, (self.scheme,), (self.k,), (self.r,), (self.seed,), self.epochs,
                      (self.backup_work,), self.recipe, self.loss)

  def __str__(self):
    return f'{self.base} {self.name} ({self.k}, {self.r}) seed {self.seed}'


AUTHORS = 'the authors\' code, run over a base model of its own'
BLOG, PARM = 'the authors, best encoder and decoder, ResNet-18', 'ParM\'s sums, ResNet-18'
APPROXIFER = 'ApproxIFER\'s plot data, S = 1, ResNet-18'


def paper_suite() -> list[Row]:
  """The 2018 paper's codes (arXiv:1806.01259) and ParM's over its base models, with what is published beside them.

  Two rows by the paper's recipe, for as many epochs as the authors' code was run for here; the others by one cycle of
  the learning rate, in a twentieth of the paper's 500 epochs or less.
  """
  rows = [
      Row('mnist', 'mlp', 'learned-mlp', 2, epochs=40, recipe='paper', published=(97.93, 97.1), source=AUTHORS),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=60, recipe='paper', published=(89.47, 87.1), source=AUTHORS),
      Row('fashion_mnist', 'mlp', 'learned-conv', 2, published=(89.47, 81.4), source=AUTHORS),
      Row('mnist', 'mlp', 'learned-conv', 2),
      Row('mnist', 'mlp', 'learned-mlp', 5, epochs=12),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 5, epochs=12),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=20),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=20, loss='mse_base'),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=20, loss='xent_label'),
  ]
  for dataset, deployed, learned, parm in [('mnist', 99.2, 99.2, 99.19), ('fashion_mnist', 92.9, 92.2, 91.11)]:
    rows += [
        Row(dataset, 'resnet18', 'learned-mlp', 2, epochs=8),
        Row(dataset, 'resnet18', 'learned-conv', 2, epochs=8, published=(deployed, learned), source=BLOG),
        Row(dataset, 'resnet18', 'parm-addition', 2, epochs=3, published=(deployed, parm), source=PARM),
        Row(dataset, 'resnet18', 'parm-concatenation', 2, epochs=3)]
  return rows + [
      Row('fashion_mnist', 'resnet18', 'learned-mlp', 5, epochs=8),
      Row('cifar10', 'resnet18', 'learned-conv', 2, epochs=8, published=(93.5, 82.1), source=BLOG),
      Row('cifar10', 'resnet18', 'parm-addition', 2, epochs=3, published=(93.5, 87.37), source=PARM)]


def _best_known() -> dict[tuple, tuple[tuple[float, float], str]]:
  """The published figures of least drop and their source, for (data set, base model, k, r), whatever the code."""
  known = {(dataset, 'resnet18', 8, 1): (figures, APPROXIFER) for dataset, figures in [
      ('mnist', (99, 87.2)), ('fashion_mnist', (93, 74)), ('cifar10', (94, 77.6))]}
  rows = [row for row in paper_suite() if row.published]
  for row in sorted(rows, key=lambda row: row.published[0] - row.published[1]):
    known.setdefault((row.dataset, row.base_model, row.k, row.r), (row.published, row.source))
  return known


def best_suite() -> list[Row]:
  """lcode's own codes over every base model; over the small one three seeds, of bundles at k = 2 and 5 alone.

  Over ResNets fewer epochs than the recipe's, so that processors can, but for ResNet-18 on CIFAR-10, which needs an
  accelerator.
  """
  models = [('mnist', 'mlp'), ('fashion_mnist', 'mlp'), ('cifar10', 'resnet20'), ('mnist', 'resnet18'),
            ('fashion_mnist', 'resnet18'), ('cifar10', 'resnet18')]
  rows, known = [], _best_known()
  for seed in (0, 1, 2):
    for dataset, model in models:
      for k, r in [(2, 1), (3, 1), (4, 1), (5, 1), (8, 1), (4, 2)]:
        if seed == 0 or model == 'mlp' and k in (2, 5):
          rows.append(Row(dataset, model, 'bundle', k, r, seed, _epochs(dataset, model, 'bundle'), None,
                          *known.get((dataset, model, k, r), (None, ''))))
      for k, r in [(2, 1), (3, 1), (4, 1), (5, 1), (8, 1), (10, 1), (4, 2)]:
        if seed == 0 or model == 'mlp':
          rows.append(Row(dataset, model, 'mosaic', k, r, seed, _epochs(dataset, model, 'mosaic')))
  for dataset, model in models:  # the rival: a query's answer by a small network at the frontend, whatever k
    rows += [Row(dataset, model, 'backup', 2, epochs=_epochs(dataset, model, 'backup'), backup_work=work)
             for work in BACKUPS]
  return rows


def _epochs(dataset: str, model: str, scheme: str) -> int | None:
  if model == 'mlp' or (dataset, model) == ('cifar10', 'resnet18'):
    return None
  return {('resnet18', 'bundle'): 1, ('resnet18', 'mosaic'): 3}.get((model, scheme), 6)


BACKUPS = 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0
SUITES = {'paper': paper_suite, 'best': best_suite}


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
  """The newest finished record of a row, over the base model under <path>/bases if one lies there."""
  wanted = dataclasses.asdict(row.config) | {'backup_multiply_adds': None}
  finished = [record['base_sha256'] for record in records.read(path / 'bases' / row.base) if record.get('finished')]
  for record in reversed(records.read(path / row.base)):
    if (record.get('kind'), record.get('max_steps')) != ('comparison', None):
      continue
    same = (record['scheme'], record['k'], record['r']) == (row.name, row.k, row.r)
    if same and record['config'] | {'backup_multiply_adds': None} == wanted and (
        not finished or record['base_sha256'] == finished[-1]):
      return record
  return None


def _touched(row: Row, path: Path) -> float:
  """When the row last had a turn; 0 for never."""
  turns = records.read(path / row.base)
  return max((turn['at'] for turn in turns if turn.get('kind') == 'turn' and turn['row'] == str(row)), default=0.0)


def _touch(row: Row, path: Path) -> None:
  records.append(path / row.base, {'kind': 'turn', 'row': str(row), 'at': time.time()})


def table(rows: Iterable[Row], path: Path) -> str:
  """The table of a suite: what is published beside what was made, with cost, seeds, seconds and hardware."""
  groups: dict[Row, list[dict]] = {}
  for row in rows:
    record = record_of(row, path)
    groups.setdefault(dataclasses.replace(row, seed=0), []).extend([] if record is None else [record])
  header = ('data, base model', 'code', 'k, r', 'published: deployed / degraded', 'ours: deployed / degraded', 'drop',
            'frontend + worker work', 'epochs', 'seeds', 'seconds', 'on', 'frontend + worker time', 'wire out / back')
  lines = []
  for row, made in groups.items():
    published = '{:g} / {:g} ({})'.format(*row.published, row.source) if row.published else ''
    code = ', '.join(filter(None, (row.name, row.recipe, row.loss)))
    lines.append([f'{row.dataset}, {row.base_model}', code, f'{row.k}, {row.r}', published, *_figures(made)])
  return ('Drops are in points, with as many units missing as there are parities. What is published beside a bundle '
          f'is the best known of any code. Rows without figures wait.\n\n{markdown(header, lines)}\n')


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
  if not made:
    return ['', '', '', '', '', '', 'not made yet', '', '']
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
