"""Every code on the same work: one frozen model, the same test groups and erasures, and what each code costs."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from experiments.studies import plots
from lcode import data, models
from lcode.coding.costs import cost
from lcode.data.digest import sha256
from lcode.errors import InputError
from lcode.runs import base_model, records
from lcode.runs.code_run import train_code
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.presets import config_of, get_preset
from lcode.runs.progress import console
from lcode.training.metrics import overall_accuracy

KEYS = ('dataset', 'base_model', 'scheme', 'seed', 'config', 'base_sha256', 'max_steps')
FIGURES = ('degraded_accuracy', 'reconstruction_accuracy', 'intact_accuracy', 'available_accuracy', 'default_accuracy',
           'relative_error', 'frontend_work', 'worker_work')


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What is compared over one base model. Budgets are multiply-adds of a backup, relative to an inference by F."""

  dataset: str
  base_model: str
  schemes: tuple[str, ...]
  ks: tuple[int, ...]
  rs: tuple[int, ...]
  seeds: tuple[int, ...] = (0,)
  epochs: int | None = None
  backup_work: tuple[float, ...] = (0.05, 0.2)
  recipe: str | None = None

  def rows(self, base_multiply_adds: float) -> Iterable[tuple[str, int, int, CodeConfig]]:
    """(scheme, k, r, config) of every row that can be; those that cannot are left out, with a line that says why."""
    for scheme in self.schemes:
      preset = get_preset(scheme)
      backups = self.backup_work if preset.parity_model == 'backup' else (0.0,)
      for seed, k, r, work in ((s, k, r, w) for s in self.seeds for k in self.ks for r in self.rs for w in backups):
        name = f'{scheme}-{work:g}' if work else scheme
        try:
          yield name, k, r, config_of(scheme, k, r, self.dataset, self.base_model, seed, self.epochs,
                                      int(work * base_multiply_adds), self.recipe)
        except InputError as error:
          console.print(f'{name}, k={k}, r={r}: left out: {error}', highlight=False)


def compare(comparison: Comparison, workdir: str, base_dir: str | None, options: RunOptions,
            base: base_model.Base | None = None) -> list[dict]:
  """Trains what needs training, evaluates all, and returns the records of the rows, in their order.

  What is done, by the records in the workdir, is not done again; what was stopped goes on.
  """
  for scheme in comparison.schemes:
    get_preset(scheme)
  path = records.open_workdir(workdir)
  base = base or load_base(comparison, path, base_dir, options)
  done = {}  # by what a row's figures depend on: those of a per-query preset are the same for every k and r
  for record in records.read(path):
    if record.get('kind') == 'comparison':
      done.setdefault(_key(record), {})[record['k'], record['r']] = record
  found = []
  for scheme, k, r, config in comparison.rows(_multiply_adds(base)):
    row = {'kind': 'comparison', 'dataset': config.dataset, 'base_model': config.base_model, 'scheme': scheme, 'k': k,
           'r': r, 'seed': config.seed, 'config': dataclasses.asdict(config), 'base_sha256': base.sha256,
           'max_steps': options.max_steps}
    same = done.setdefault(_key(row), {})
    if (k, r) not in same:
      try:
        figures = next(iter(same.values())) if same else _figures(config, path, base, options)
      except InputError as error:
        console.print(f'{scheme}, k={k}, r={r}: left out: {error}', highlight=False)
        continue
      same[k, r] = figures | row
      records.append(path, same[k, r])
      console.print(f'{scheme}, k={k}, r={r}: degraded {100 * same[k, r]["degraded_accuracy"]:.2f}', highlight=False)
    found.append(same[k, r])
  return found


def latest(workdir: Path, like: dict) -> list[dict]:
  """The rows that a workdir has over the base model of the record `like`: of each scheme, k, r and seed the newest."""
  same = {name: like[name] for name in ('kind', 'dataset', 'base_model', 'base_sha256')}
  found = {}
  for record in records.read(workdir):
    if all(record.get(name) == value for name, value in same.items()):
      found[record['scheme'], record['k'], record['r'], record['seed']] = record
  return list(found.values())


def summarise(rows: Sequence[dict]) -> list[dict]:
  """Means over the seeds, with their spread: one dictionary for each (scheme, k, r), in the order of the rows."""
  groups: dict[tuple, list[dict]] = {}
  for row in rows:
    groups.setdefault((row['scheme'], row['k'], row['r']), []).append(row)
  found = []
  for (scheme, k, r), members in groups.items():
    figures = {name: float(np.mean([row[name] for row in members])) for name in FIGURES}
    accuracies = [row['degraded_accuracy'] for row in members]
    found.append({'scheme': scheme, 'k': k, 'r': r, **figures, 'seeds': len(members),
                  'spread': max(accuracies) - min(accuracies), 'seconds': sum(row['seconds'] for row in members),
                  'passthrough': members[0]['passthrough'],
                  'by_missing': [float(np.mean([row['missing'][m]['degraded_accuracy'] for row in members]))
                                 for m in range(len(members[0]['missing']))]})
  return found


def overall(row: dict, unavailable: float) -> float:
  """Overall accuracy when a fraction of the outputs is unavailable.

  A code that passes on what arrives approximates the rest alone. Any other approximates all k answers of a group, the
  better if all n outputs are there, which happens with probability (1 - f)^n.
  """
  n = row['k'] + row['r']
  touched = unavailable if row['passthrough'] else 1 - (1 - unavailable) ** n
  return overall_accuracy(row['intact_accuracy'], row['degraded_accuracy'], touched)


def markdown(rows: Sequence[dict]) -> str:
  """Tables of `summarise`d rows: for each r the accuracies and the extra work, a column for each k."""
  parts = []
  for r in sorted({row['r'] for row in rows}):
    here = {(row['scheme'], row['k']): row for row in rows if row['r'] == r}
    ks = sorted({k for _, k in here})
    names = list(dict.fromkeys(name for name, _ in here))
    intact = [name for name in names if not next(row for (n, _), row in here.items() if n == name)['passthrough']]
    counts = ' / '.join(str(m) for m in range(1, r + 1))
    parts.append(f'r = {r}. Degraded accuracy, %, with {counts} missing')
    parts.append(_table(ks, {name: [_degraded(here.get((name, k))) for k in ks] for name in names} | {
        f'{name}, nothing missing': [_percent(here.get((name, k)), 'intact_accuracy') for k in ks] for name in intact}))
    parts.append(f'r = {r}. Extra work at the frontend + at the workers, relative to k inferences by F')
    parts.append(_table(ks, {name: [_work(here.get((name, k))) for k in ks] for name in names}))
  return '\n\n'.join(parts) + '\n'


def _table(ks, cells):
  lines = ['| scheme | ' + ' | '.join(f'k = {k}' for k in ks) + ' |', '|---' * (len(ks) + 1) + '|']
  return '\n'.join(lines + [f'| {name} | ' + ' | '.join(row) + ' |' for name, row in cells.items()])


def _degraded(row):
  if row is None:
    return ''
  spread = f' ± {50 * row["spread"]:.1f}' if row['seeds'] > 1 else ''
  return ' / '.join(f'{100 * value:.1f}' for value in row['by_missing']) + spread


def _percent(row, name):
  return '' if row is None else f'{100 * row[name]:.1f}'


def _work(row):
  return '' if row is None else f'{row["frontend_work"]:.3f} + {row["worker_work"]:.2f}'


def save_pictures(rows: Sequence[dict], workdir: Path, title: str) -> list[Path]:
  """Degraded accuracy against extra work and against k, overall accuracy against f, from `summarise`d rows.

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
                       'fraction of outputs unavailable', 'overall accuracy, %'),
  ]


def _figures(config, path, base, options) -> dict:
  what = json.dumps([dataclasses.asdict(config), base.sha256], sort_keys=True)
  name = sha256(what)[:8]
  name = f'{config.encoder}-{config.parity_model}-{config.decoder}-k{config.k}-r{config.r}-{name}'
  trained = train_code(config, str(path / 'codes' / name), None, options, base)
  return trained.record | {'kind': 'comparison', 'passthrough': trained.scheme.passthrough}


def load_base(comparison: Comparison, path: Path, base_dir: str | Path | None, options: RunOptions) -> base_model.Base:
  """The base model, loaded or trained: that of the first seed, whatever the codes' seeds."""
  base_dir = path / 'base' if base_dir is None else Path(base_dir)
  code_config = CodeConfig(comparison.dataset, comparison.base_model).resolved()
  base_model.check_base_dir(base_dir, code_config)
  options.choose_devices(models.is_convolutional(comparison.base_model), 64)
  dataset = data.load(comparison.dataset, options.data_dir)
  return (base_model.load_base(code_config, dataset, path, str(base_dir)) or
          base_model.finish_base(code_config, path, str(base_dir), options))


def _multiply_adds(base) -> float:
  """Of one inference by F: half of XLA's FLOPs."""
  return cost(base.apply, base.variables, np.zeros((1, *base.dataset.image_shape), np.float32))['flops'] / 2


def _key(record) -> str:
  return json.dumps([record.get(name) for name in KEYS], sort_keys=True)
