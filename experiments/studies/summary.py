"""The front page of docs/results: a table and a picture of every code with Base-MLP, from the records there."""

import math
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.studies import reproduce, suites
from lcode.coding.timing import extra_time
from lcode.errors import InputError
from lcode.runs import plots, records
from lcode.runs.tables import markdown

FILES = 'best.jsonl', 'features.jsonl', 'comparison.jsonl', 'paper.jsonl'
KS, DATASETS = (2, 4, 8), {'mnist': 'MNIST', 'fashion_mnist': 'Fashion-MNIST'}
OWN = 'mosaic', 'bundle', 'learned-features', 'bundle, CNN'
PUBLISHED = {'learned-mlp': 'learned, MLP', 'learned-conv': 'learned, conv', 'parm-addition': 'ParM, sums',
             'parm-concatenation': 'ParM, tiles', 'concatenation-mlp': 'tiles, learned decoder',
             'approxifer': 'ApproxIFER', 'nercc': 'NeRCC', 'berrut': 'Berrut'}
LABELLED = 'backup-0.01', 'backup-0.05', 'backup-0.2', 'backup-1'  # in the picture; those between are drawn alone


class Point(NamedTuple):
  """A code at some k, r = 1, with Base-MLP: accuracies in %, means over seeds; costs relative to k inferences by F.

  `degraded` and `deployed` are by data set. `work` and `time` are (frontend, workers), `wire` is (bytes out in k
  queries, bytes back in k answers), `bytes` both together, relative to k queries and k answers.
  """

  name: str
  k: int
  degraded: dict[str, float]
  deployed: dict[str, float]
  work: tuple[float, float]
  time: tuple[float, float]
  wire: tuple[float, float]
  bytes: float

  def drop(self, dataset: str) -> float:
    return self.deployed[dataset] - self.degraded[dataset]


def points(results: Path) -> list[Point]:
  """Every code that has both an accuracy and a benchmark at k = 2, 4 or 8.

  Of several recipes, or records of a seed, that of the highest degraded accuracy counts. Only published codes have
  several, so that this favours them.

  Args:
    results: the directory of the records.

  Raises:
    InputError: if a file of records is missing or damaged.
  """
  figures = _accuracies(results)
  made = []
  for (name, k), benchmark in _benchmarks(results / 'benchmark.jsonl').items():
    if by_dataset := figures.get((name, k)):
      work, time, wire = (tuple(benchmark[part] for part in pair) for pair in (
          ('frontend_work', 'worker_work'), ('frontend_time', 'worker_time'), ('wire_out', 'wire_back')))
      query, answer = math.prod(benchmark['dataset_shape']), 10
      made.append(Point(name, k, {dataset: figure[0] for dataset, figure in by_dataset.items()},
                        {dataset: figure[1] for dataset, figure in by_dataset.items()}, work, time, wire,
                        (query * wire[0] + answer * wire[1]) / (query + answer)))
  return made


def _accuracies(results: Path) -> dict[tuple[str, int], dict[str, tuple[float, float]]]:
  """(name, k) -> data set -> (degraded, deployed) in %, means over the seeds, by the best of the recipes."""
  seeds: dict[tuple, dict[int, tuple[float, float]]] = {}
  for record in (record for name in FILES for record in _read(results / name)):
    if (record['kind'], record.get('base_model'), record.get('r')) == ('comparison', 'mlp', 1):
      config, scheme = record['config'], record['scheme']
      name = _name(scheme, config['form'])
      for k in KS if scheme.startswith('backup') else (record['k'],):
        recipe = tuple(config[field] for field in ('recipe', 'epochs', 'loss'))
        by_seed = seeds.setdefault((name, k, record['dataset'], recipe), {})
        figure = 100 * record['degraded_accuracy'], 100 * record['available_accuracy']
        by_seed[record['seed']] = max(by_seed.get(record['seed'], (0.0, 0.0)), figure)
  best: dict[tuple[str, int], dict[str, tuple[float, float]]] = {}
  for (name, k, dataset, _), by_seed in seeds.items():
    degraded, deployed = np.mean(list(by_seed.values()), axis=0).tolist()
    here = best.setdefault((name, k), {})
    here[dataset] = max(here.get(dataset, (0.0, 0.0)), (degraded, deployed))
  return best


def _benchmarks(path: Path) -> dict[tuple[str, int], dict]:
  """The newest benchmark of each (name, k) with Base-MLP, its times medians of all; k = 1 stands for every k."""
  runs: dict[tuple[str, int], list[dict]] = {}
  for record in _read(path):
    scheme = record.get('scheme')
    if not scheme or (record['base_model'], record['r']) != ('mlp', 1):
      continue
    if scheme == 'backup':
      share = 2 * record['k'] * record['multiply_adds'] / record['work']['base_k_inferences']['flops']
      scheme = f'backup-{round(share, 2):g}'
    for k in KS if record['k'] == 1 else (record['k'],):
      runs.setdefault((_name(scheme, record['form']), k), []).append(record | _fastest(record))
  times = [f'{part}_time{ending}' for part in ('frontend', 'worker', 'parity') for ending in ('', '_1')]
  return {key: made[-1] | {name: float(np.median([record[name] for record in made])) for name in times}
          for key, made in runs.items()}


def _fastest(record: dict) -> dict[str, float]:
  """`extra_time` by the fastest timings: where other programs run, the medians of short calls wander."""
  at_frontend = not record['wire_out']
  systematic = at_frontend or math.isclose(record['worker_work'], record['work']['parity_inference']['relative'])
  times = {count: {name: part | {'relative': part['fastest']} for name, part in parts.items()}
           for count, parts in record['times']['groups'].items()}
  return extra_time(types.SimpleNamespace(at_frontend=at_frontend, systematic=systematic), {'groups': times})


def _name(scheme: str, form: str) -> str:
  return f'{scheme}, CNN' if form == 'cnn' and scheme.startswith(('bundle', 'backup')) else scheme


def _read(path: Path) -> list[dict[str, Any]]:
  if not path.is_file():
    raise InputError(f'{path} is not there: name a directory of records, as docs/results is.')
  return records.read(path.parent, path.name)


def table(made: list[Point], ks: tuple[int, ...] = KS) -> str:
  """For each k: lcode's codes, the best published code on either data set, the backup that costs what a mosaic does."""
  header = ('k', 'code', *(f'{label}: degraded, % (drop)' for label in DATASETS.values()), 'time: frontend + workers',
            'work: frontend + workers', 'bytes: out / back')
  lines = []
  for k in ks:
    here = {point.name: point for point in made if point.k == k}
    names = [name for name in OWN if name in here and name != 'bundle, CNN']
    for dataset in DATASETS:
      names.append(max((name for name in PUBLISHED if dataset in here.get(name, _NONE).degraded),
                       key=lambda name: here[name].degraded[dataset]))
    lines += [_cells(str(k), here[name]) for name in dict.fromkeys([*names, _equal_backup(here)])]
  return markdown(header, [*lines, _cells('any', here['replication'])])


def _cells(k: str, point: Point) -> list[str]:
  return [k, _label(point.name) + ' (published)' * (point.name in PUBLISHED),
          *(_shown(point, dataset) for dataset in DATASETS), '{:.2f} + {:.2f}'.format(*point.time),
          '{:.3f} + {:.2f}'.format(*point.work), '{:.3g} / {:.3g}'.format(*point.wire)]


_NONE = Point('', 0, {}, {}, (0, 0), (0, 0), (0, 0), 0)


def _equal_backup(here: dict[str, Point]) -> str:
  """The backup whose work is nearest to the mosaic's, at the frontend and the worker together."""
  mosaic = sum(here['mosaic'].work)
  return min((name for name in here if name.startswith('backup') and 'CNN' not in name),
             key=lambda name: abs(sum(here[name].work) - mosaic))


def _shown(point: Point, dataset: str) -> str:
  return f'{point.degraded[dataset]:.2f} ({point.drop(dataset):.2f})' if dataset in point.degraded else ''


def _label(name: str) -> str:
  if name.startswith('backup-'):
    share, *form = name.removeprefix('backup-').split(', ')
    return f'backup, {100 * float(share):g} % of F' + ''.join(f', {part}' for part in form)
  return PUBLISHED.get(name, name)


def picture(made: list[Point], path: Path, dataset: str = 'fashion_mnist', ks: tuple[int, ...] = (2, 8)) -> Path:
  """The drop of every code against its time, bytes as the area of the marker; a panel for each k."""
  panels = {}
  for k in ks:
    here = [point for point in made if point.k == k and dataset in point.degraded and not (
        point.name.startswith('backup') and 'CNN' in point.name)]
    panels[f'k = {k}'] = [plots.Sized(sum(point.time), point.drop(dataset), point.bytes, *_drawn(point.name))
                          for point in here]
  return plots.save_sized(
      path, f'Every code with Base-MLP on {DATASETS[dataset]}, one parity, one prediction missing', panels,
      'extra time at frontend and workers, relative to k inferences by F', 'drop in accuracy, points (lower is better)',
      'extra bytes, relative to k queries and answers')


def costs(results: Path) -> str:
  """What each code takes in time, for a group alone and for 64 at once, and on the wire."""
  found = _benchmarks(results / 'benchmark.jsonl')
  header = ['code', *(f'{groups}, k = {k}' for groups in ('a group', '64 groups') for k in KS),
            *(f'parity worker, k = {k}' for k in KS), 'bytes, k = 2: out / back']
  lines = []
  for name in dict.fromkeys(name for name, _ in found):
    # What answers query by query costs the same for every k: it is shown once.
    here = [record if record and (record['k'] == k or k == KS[0]) else None
            for k, record in ((k, found.get((name, k))) for k in KS)]
    times = ['' if record is None else f'{record["frontend_time" + ending]:.2f} + {record["worker_time" + ending]:.2f}'
             for ending in ('_1', '') for record in here]
    parity = [f'{record["parity_time"]:.2f}' if record and record['wire_out'] else '' for record in here]
    lines.append([_label(name), *times, *parity, '{wire_out:g} / {wire_back:g}'.format(**found[name, KS[0]])])
  return markdown(header, lines)


def _drawn(name: str) -> tuple[str, str]:
  """A point's label and kind."""
  if name.startswith('backup'):
    return _label(name) if name in LABELLED else '', 'backup at the frontend, of 1 % to 100 % of F\'s work'
  return _label(name), 'lcode\'s own' if name in OWN else 'replication' if name == 'replication' else 'published'


def suite(name: str, results: Path) -> str:
  """The page of a suite of `experiments.reproduce`, from the records that lie in docs/results."""
  files = {'best': ('best.jsonl', 'features.jsonl'), 'paper': ('paper.jsonl',)}[name]
  stored = [record for file in files for record in _read(results / file)]
  text = reproduce.table_of((row, reproduce.newest(row, stored)) for row in suites.SUITES[name]())
  links = ' and '.join(f'[{file}]({file})' for file in files)
  return (f'# {suites.TITLES[name]}\n\nRecords: {links}; made by `python -m experiments.reproduce --suite={name} '
          f'--data_dir=DIR`, shown by `python -m experiments.summary`.\n\n{text}')
