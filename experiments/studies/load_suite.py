"""Every policy under the same load on the real service: codes against other uses of the same machines."""

import asyncio
import dataclasses
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.studies import load
from lcode.runs import plots, records, tables
from lcode.runs.code_run import train_code
from lcode.runs.configs import RunOptions
from lcode.runs.presets import config_of
from lcode.runs.progress import console
from lcode.serving.cluster import Cluster
from lcode.serving.disturbed import Disturbance, disturbed
from lcode.serving.options import named
from lcode.serving.served import of_workdir, Served
from lcode.serving.service import Service

GRID = 1 - np.logspace(0, -3.5, 40)  # quantiles of the picture of latencies
# Name -> policy, and the code of the model that it serves.
MODES = {'none': ('none', 'mosaic'), 'equal resources': ('equal', 'mosaic'), 'replication': ('replication', 'mosaic'),
         'hedged': ('hedged', 'mosaic'), 'tied': ('tied', 'mosaic'), 'backup': ('backup', 'backup'),
         'coded, mosaic': ('coded', 'mosaic'), 'coded, bundle': ('coded', 'bundle'),
         'coded, sums (ParM)': ('coded', 'parm-addition')}


class Machines(NamedTuple):
  """How many workers, and what they suffer."""

  num_workers: int
  num_parity_workers: int
  disturbance: Disturbance


class Mode(NamedTuple):
  """A policy, what it serves, and its other options."""

  policy: str
  served: Served
  fields: dict = {}


def run(workdir: Path, base_dir: Path, machines: Machines, rates: Sequence[float], wanted: load.Load,
        seeds: Sequence[int], k: int = 2) -> list[dict]:
  """`measure` of all MODES. Codes are trained first, over the base model in `base_dir`, on digits."""
  codes = {}
  for scheme in dict.fromkeys(scheme for _, scheme in MODES.values()):
    config = config_of(scheme, k, 1, 'digits', 'mlp', 0, None, 2000)
    path = workdir / 'codes' / scheme
    trained = train_code(config, str(path), str(base_dir), RunOptions(time_costs=False))
    codes[scheme] = of_workdir(path)
  test = trained.base.dataset.test
  modes = {name: Mode(policy, codes[scheme]) for name, (policy, scheme) in MODES.items()}
  return measure(workdir, modes, machines, np.asarray(trained.base.preprocess(test.images)), test.labels, rates, wanted,
                 seeds)


def measure(workdir: Path, modes: Mapping[str, Mode], machines: Machines, queries: np.ndarray, labels: np.ndarray,
            rates: Sequence[float], wanted: load.Load, seeds: Sequence[int]) -> list[dict]:
  """All modes at all rates and seeds, in an order of the seed's, on the same Ray actors; returns the records.

  What is in the workdir's records already is not run again.

  Args:
    workdir: where records go.
    modes: by name.
    machines: that serve.
    queries, labels: f32[N, *S] that are sent, and what is right, int[N].
    rates, seeds: of the load.
    wanted: the rest of the load.
  """
  done = {(r['name'], r['rate'], r['seed']): r for r in records.read(workdir) if r.get('kind') == 'load_suite'}
  cells = [(name, rate, seed) for seed in seeds for name, rate in _shuffled(modes, rates, seed)]
  cluster = Cluster(keep=True) if any(cell not in done for cell in cells) else None
  try:
    for name, rate, seed in cells:
      if (name, rate, seed) not in done:
        record = _cell(cluster, modes[name], machines, queries, labels,
                       dataclasses.replace(wanted, rate=rate, seed=seed))
        done[name, rate, seed] = record | {'kind': 'load_suite', 'name': name, 'rate': rate, 'seed': seed}
        records.append(workdir, done[name, rate, seed])
      made = done[name, rate, seed]
      console.print(f'{name}, {rate:g} a second, seed {seed}: p50 {made["p50_ms"]:.1f}, p99.9 {made["p999_ms"]:.1f} ms',
                    highlight=False, soft_wrap=True)
  finally:
    if cluster is not None:
      cluster.close()
  return [done[cell] for cell in cells]


def _shuffled(modes, rates, seed: int) -> list[tuple[str, float]]:
  cells = [(name, rate) for rate in rates for name in modes]
  random.Random(seed).shuffle(cells)
  return cells


def _cell(cluster: Cluster, mode: Mode, machines: Machines, queries, labels, wanted: load.Load) -> dict:
  counter = load.Counter()
  served = disturbed(mode.served, dataclasses.replace(machines.disturbance, seed=wanted.seed))
  parity_workers = machines.num_parity_workers if named(mode.policy).spare_workers else 0
  options = served.options(mode.policy, max_outstanding=1, seed=wanted.seed, **mode.fields)
  service = Service(served, options, cluster=cluster, num_workers=machines.num_workers,
                    num_parity_workers=parity_workers, observer=counter)

  async def measured():
    async with service:
      return await load.run(service, counter, queries, labels, wanted, GRID)
  began = time.perf_counter()
  return asyncio.run(measured()) | {'took_s': time.perf_counter() - began}


def summary(rows: Sequence[dict]) -> list[dict]:
  """Of each mode and rate the median over the seeds, in their order."""
  cells: dict[tuple, list[dict]] = {}
  for row in rows:
    cells.setdefault((row['rate'], row['name']), []).append(row)
  figures = ('p50_ms', 'p99_ms', 'p999_ms', 'utilisation', 'degraded_accuracy', 'overall_accuracy', 'lost', 'refused')
  return [{'rate': rate, 'name': name, 'seeds': len(members)} |
          {figure: _median([member[figure] for member in members]) for figure in figures} |
          {'gap_ms': _median([member['p999_ms'] - member['p50_ms'] for member in members])}
          for (rate, name), members in sorted(cells.items(), key=lambda cell: cell[0][0])]


def _median(values) -> float | None:
  there = [value for value in values if value is not None]
  return float(np.median(there)) if there else None


def table(rows: Sequence[dict]) -> str:
  """Markdown: a line for each mode and rate of `summary`."""
  def percent(value):
    return '' if value is None else f'{100 * value:.1f}'
  return tables.markdown(
      ['queries a second', 'policy', 'p50, ms', 'p99', 'p99.9', 'p99.9 - p50', 'utilisation, %',
       'reconstructed answers right, %', 'all answers right, %', 'lost'],
      [[f'{row["rate"]:g}', row['name'], *(f'{row[name]:.1f}' for name in ('p50_ms', 'p99_ms', 'p999_ms', 'gap_ms')),
        percent(row['utilisation']), percent(row['degraded_accuracy']), percent(row['overall_accuracy']),
        f'{row["lost"]:g}'] for row in rows])


def save_pictures(rows: Sequence[dict], workdir: Path) -> list[Path]:
  """The tail of the latencies at the first rate; p99.9 against the load; accuracy against p99.9."""
  first, means = rows[0]['rate'], summary(rows)
  tails = {}
  for name in MODES:
    members = [row['latencies_ms'] for row in rows if row['name'] == name and row['rate'] == first]
    if members:
      tails[name] = list(zip(np.median(members, axis=0), 1 - GRID))
  over_load = {name: [(row['rate'], row['p999_ms']) for row in means if row['name'] == name] for name in tails}
  here = [row for row in means if row['rate'] == first]
  return [
      plots.save_lines(workdir / 'latencies.png', f'{first:g} queries a second: share of answers later than', tails,
                       'ms', 'share of answers', 'log'),
      plots.save_lines(workdir / 'tail-against-load.png', 'p99.9 against the load', over_load, 'queries a second',
                       'p99.9, ms'),
      plots.save_points(workdir / 'accuracy-against-tail.png', f'{first:g} queries a second: accuracy against p99.9',
                        [row['name'] for row in here], [''] * len(here),
                        {'p99.9, ms': [row['p999_ms'] for row in here]},
                        [100 * row['overall_accuracy'] for row in here], 'answers that are right, %', 'linear')]
