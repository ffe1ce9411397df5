"""Every code on the same work: one frozen model, the same test groups and erasures, and what each code costs."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from experiments.studies import plots
from lcode import data, models
from lcode.coding.code import Code
from lcode.coding.costs import cost
from lcode.data.digest import sha256
from lcode.errors import InputError, whole
from lcode.models.forms import check_form
from lcode.runs import base_model, records
from lcode.runs.code_run import train_code
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.presets import config_of, get_preset
from lcode.runs.progress import console
from lcode.training.metrics import overall_accuracy

KEYS = ('dataset', 'base_model', 'scheme', 'seed', 'config', 'base_sha256', 'max_steps')
FIGURES = ('degraded_accuracy', 'reconstruction_accuracy', 'intact_accuracy', 'available_accuracy', 'default_accuracy',
           'relative_error', 'frontend_work', 'worker_work')
COSTS = ('frontend_time', 'worker_time', 'parity_time', 'frontend_time_1', 'worker_time_1', 'parity_time_1',
         'wire_out', 'wire_back')  # not in all


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What is compared over one base model.

  Attributes:
    schemes: names, as `presets.get_preset` takes them.
    ks, rs: queries and parities per group, each with each.
    seeds: of the codes.
    epochs, recipe, loss: of every code that is trained; None for its own.
    backup_work: multiply-adds of the backups, relative to an inference by F.
    form: of every small network (`models.forms`); '' for that of F's kind.

  Raises:
    InputError: if there is nothing to compare, or a number is not allowed.
  """

  dataset: str
  base_model: str
  schemes: tuple[str, ...]
  ks: tuple[int, ...]
  rs: tuple[int, ...]
  seeds: tuple[int, ...] = (0,)
  epochs: int | None = None
  backup_work: tuple[float, ...] = (0.05, 0.2)
  recipe: str | None = None
  loss: str | None = None
  form: str = ''

  def __post_init__(self):
    for name in ('schemes', 'ks', 'rs', 'seeds', 'backup_work'):
      values = getattr(self, name)
      if not isinstance(values, tuple) or not values:
        raise InputError(f'{name}={values!r} leaves nothing to compare: give a tuple of at least one.')
    for name, least in (('ks', 1), ('rs', 1), ('seeds', 0)):
      for value in getattr(self, name):
        whole(name, value, least)
    for work in self.backup_work:
      if not work >= 0:
        raise InputError(f'backup_work={work!r} is not allowed: give 0 or more, relative to an inference by F.')
    check_form(self.form)
    for scheme in self.schemes:
      get_preset(scheme)

  def rows(self, base_multiply_adds: float) -> Iterable[tuple[str, int, int, CodeConfig]]:
    """(scheme, k, r, config) of every row that can be; those that cannot are left out, with a line that says why."""
    for scheme in self.schemes:
      preset = get_preset(scheme)
      backups = self.backup_work if preset.parity_model == 'backup' else (0.0,)
      for seed, k, r, work in ((s, k, r, w) for s in self.seeds for k in self.ks for r in self.rs for w in backups):
        name = f'{scheme}-{work:g}' if work else scheme
        try:
          yield name, k, r, config_of(scheme, k, r, self.dataset, self.base_model, seed, self.epochs,
                                      int(work * base_multiply_adds), self.recipe, self.loss, self.form)
        except InputError as error:
          console.print(f'{name}, k={k}, r={r}: left out: {error}', highlight=False, soft_wrap=True)


def compare(comparison: Comparison, workdir: str, base_dir: str | None, options: RunOptions,
            base: base_model.Base | None = None) -> list[dict]:
  """Trains what needs training, evaluates all, and returns the records of the rows, in their order.

  What is done, by the records in the workdir, is not done again; what was stopped is resumed.
  """
  if base is None:
    base = obtain_base(comparison, Path(workdir), base_dir, options)
  path = records.open_workdir(workdir)
  done = {}  # by what a row's figures depend on: those of a per-query preset are the same for every k and r
  for record in records.read(path):
    if record.get('kind') == 'comparison':
      done.setdefault(_key(record), {})[record['k'], record['r']] = record
  rows = []
  for scheme, k, r, config in comparison.rows(_multiply_adds(base)):
    row = {'kind': 'comparison', 'dataset': config.dataset, 'base_model': config.base_model, 'scheme': scheme, 'k': k,
           'r': r, 'seed': config.seed, 'config': dataclasses.asdict(config), 'base_sha256': base.sha256,
           'max_steps': options.max_steps}
    same = done.setdefault(_key(row), {})
    if (k, r) not in same:
      try:
        figures = next(iter(same.values())) if same else _figures(config, path, base, options)
      except InputError as error:
        console.print(f'{scheme}, k={k}, r={r}: left out: {error}', highlight=False, soft_wrap=True)
        continue
      same[k, r] = figures | row
      records.append(path, same[k, r])
      console.print(f'{scheme}, k={k}, r={r}: degraded {100 * same[k, r]["degraded_accuracy"]:.2f}', highlight=False)
    rows.append(same[k, r])
  return rows


def latest(workdir: Path, like: dict) -> list[dict]:
  """The rows that a workdir has over the base model of the record `like`: of each scheme, k, r and seed the newest.

  Seeds that were trained for another number of epochs or steps than the newest row of their scheme, k and r are left
  out: their mean would be of neither.
  """
  same = {name: like[name] for name in ('kind', 'dataset', 'base_model', 'base_sha256')}
  newest, trainings = {}, {}
  for record in records.read(workdir):
    if all(record.get(name) == value for name, value in same.items()):
      row = record['scheme'], record['k'], record['r']
      newest[*row, record['seed']] = record
      trainings[row] = _training(record)
  return [record for (*row, _), record in newest.items() if _training(record) == trainings[tuple(row)]]


def _training(record) -> tuple:
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
    figures = {name: float(np.mean([row[name] for row in members])) for name in named}
    accuracies = [row['degraded_accuracy'] for row in members]
    epochs, max_steps = _training(members[0])
    means.append({'scheme': scheme, 'k': k, 'r': r, **figures, 'seeds': len(members),
                  'spread': max(accuracies) - min(accuracies), 'seconds': sum(row['seconds'] for row in members),
                  'passthrough': members[0]['passthrough'], 'at_frontend': _at_frontend(members[0]),
                  'code': [members[0]['config'][name] for name in 'kr'], 'epochs': epochs, 'max_steps': max_steps,
                  'by_missing': [float(np.mean([row['missing'][m]['degraded_accuracy'] for row in members]))
                                 for m in range(len(members[0]['missing']))], 'intervals': _intervals(members)})
  return means


def _intervals(members) -> list[list[float]] | None:
  """Of the degraded accuracy, (low, high) for each number of missing units; not all records have them.

  Ends are means over the seeds: all are judged on the same test split, so that more seeds make no interval narrower.
  """
  name = 'degraded_accuracy_interval'
  if not all(name in missing for row in members for missing in row['missing']):
    return None
  return np.mean([[missing[name] for missing in row['missing']] for row in members], axis=0).tolist()


def overall(row: dict, unavailable: float) -> float:
  """Overall accuracy of a row of `mean_over_seeds` when a fraction of the units is unavailable."""
  return overall_accuracy(unavailable, Code(*row['code']), row['by_missing'], row['available_accuracy'],
                          row['default_accuracy'], None if row['passthrough'] else row['intact_accuracy'],
                          row['at_frontend'])


def save_pictures(rows: Sequence[dict], workdir: Path, title: str) -> list[Path]:
  """Degraded accuracy against extra work and against k, overall accuracy against f, from rows of `mean_over_seeds`.

  Drawn are the rows of the smallest r, the last picture at the smallest k: more would hide each other.
  """
  r = min(row['r'] for row in rows)
  rows = [row for row in rows if row['r'] == r]
  k = min(row['k'] for row in rows)
  by_k = {}
  for row in rows:
    by_k.setdefault(row['scheme'], []).append((row['k'], 100 * row['degraded_accuracy']))
  work = {f'{where} work, relative to k inferences by F': [row[f'{where}_work'] for row in rows]
          for where in ('frontend', 'worker')}
  curves = {row['scheme']: [(f, 100 * overall(row, f)) for f in np.linspace(0, 0.3, 31)]
            for row in rows if row['k'] == k}
  return [
      plots.save_points(workdir / 'accuracy-against-work.png', f'{title}, r = {r}: degraded accuracy against work',
                        [row['scheme'] for row in rows], [f'k={row["k"]}' for row in rows], work,
                        [100 * row['degraded_accuracy'] for row in rows], 'degraded accuracy, %'),
      plots.save_lines(workdir / 'accuracy-against-k.png', f'{title}, r = {r}: degraded accuracy against k',
                       {name: sorted(points) for name, points in by_k.items()}, 'k', 'degraded accuracy, %'),
      plots.save_lines(workdir / 'overall-accuracy.png', f'{title}, k = {k}, r = {r}: overall accuracy', curves,
                       'probability that a unit is unavailable', 'overall accuracy, %'),
  ]


def _figures(config, path, base, options) -> dict:
  what = json.dumps([dataclasses.asdict(config), base.sha256], sort_keys=True)
  name = sha256(what)[:8]
  name = f'{config.encoder}-{config.parity_model}-{config.decoder}-k{config.k}-r{config.r}-{name}'
  trained = train_code(config, str(path / 'codes' / name), None, options, base)
  return trained.record | {'kind': 'comparison', 'passthrough': trained.scheme.passthrough,
                           'at_frontend': trained.scheme.at_frontend}


def obtain_base(comparison: Comparison, path: Path, base_dir: str | Path | None, options: RunOptions,
                own: Path | None = None) -> base_model.Base:
  """The base model, loaded or trained: that of the first seed, whatever the codes' seeds.

  Args:
    comparison: names it.
    path: the workdir.
    base_dir: a workdir of `train_base`; None for `own`.
    options: how to train it.
    own: where it lies, or is trained where there is none; None for <path>/base.

  Raises:
    InputError: before anything is written, if base_dir holds no such base model, or the data are not to be had.
  """
  own = own or path / 'base'
  base_model.check_base_dir(base_dir or own, comparison.base_model, comparison.dataset, may_be_empty=base_dir is None)
  options.choose_devices(models.is_convolutional(comparison.base_model), 64)
  config = CodeConfig(comparison.dataset, comparison.base_model).resolved()
  dataset = data.load(comparison.dataset, options.data_dir)
  return base_model.obtain(config, dataset, path, base_dir, options, own)


def _multiply_adds(base) -> float:
  """Of one inference by F: half of XLA's FLOPs."""
  return cost(base.apply, base.variables, np.zeros((1, *base.dataset.image_shape), np.float32))['flops'] / 2


def _key(record) -> str:
  return json.dumps([record.get(name) for name in KEYS], sort_keys=True)
