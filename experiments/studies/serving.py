"""Simulated services as records: a single one, and sweeps over load, code, slow workers, cluster size and policy."""

import dataclasses
import itertools
import math
import time
from pathlib import Path
from typing import Any

import jax

from lcode.errors import InputError
from lcode.runs import records
from lcode.runs.plots import save_lines
from lcode.runs.progress import console
from lcode.runs.tables import markdown
from lcode.serving.events import BASE
from lcode.serving.fast import simulate_fast, without_queues
from lcode.serving.options import PolicyOptions, make_options, named
from lcode.serving.simulator import Setup, simulate

SEEDS = 0, 1, 2
PARM_RATES = 150.0, 210.0, 270.0, 330.0, 390.0  # of figure 9a of arXiv:1905.00863, at 12 + 6 instances
CODED = {'parity_extra_ms': 2.0}
# What a line of the pictures is: the policy, its options, and what its parity workers are.
LINES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    'none': ('none', {}, {}), 'equal': ('equal', {}, {}), 'replication': ('replication', {}, {}),
    'hedged at p95': ('hedged', {}, {}), 'tied': ('tied', {}, {}),
    'backup, 0.7 of F\'s time': ('backup', {}, {'parity_scale': 0.7}),
    'backup, 0.3 of F\'s time': ('backup', {}, {'parity_scale': 0.3}),
    'coded, k = 2': ('coded', {}, CODED), 'bundle, k = 2': ('coded', {'alone': True}, CODED)}
RIVALS = 'equal', 'replication', 'hedged at p95', 'backup, 0.7 of F\'s time', 'coded, k = 2'


@dataclasses.dataclass(frozen=True)
class Point:
  """A simulation of a sweep: `line` at `x` of the picture `panel`."""

  panel: str
  line: str
  x: float
  seed: int
  policy: str
  options: PolicyOptions
  setup: Setup


def instances(policy: str, workers: int, parity_workers: int) -> dict[str, int]:
  """Equal resources: where a policy has no parity units, the parity workers run F, too (`none` leaves them out)."""
  joined = named(policy).spare_workers
  if joined is None or joined == BASE:
    return {'workers': workers + (parity_workers if joined else 0), 'parity_workers': 0}
  return {'workers': workers, 'parity_workers': parity_workers}


def measure(policy: str, options: PolicyOptions, setup: Setup, queued: bool = True) -> dict[str, Any]:
  """The record of a simulation; by the fast path where there is one. `queued=False` leaves queues out."""
  began = time.process_time()
  if queued:
    outcome = simulate_fast(options, setup)
    fast = outcome is not None
    outcome = outcome or simulate(options, setup)
  else:
    outcome, fast = without_queues(options, setup), True
  return {'kind': 'simulation', 'policy': policy, **_finite(outcome.figures()), 'options': _finite(options),
          'setup': _finite(setup), 'queued': queued, 'fast': fast, 'cpu_s': time.process_time() - began}


def _finite(values) -> dict[str, Any]:
  """Fields as JSON has them: None for what is not finite."""
  fields = values if isinstance(values, dict) else dataclasses.asdict(values)
  return {name: None if isinstance(value, float) and not math.isfinite(value) else value
          for name, value in fields.items()}


def points(queries: int) -> list[Point]:
  """All of the sweep, what tells most first, and all lines of a seed before the next seed."""
  made = []

  def add(panel, x, line, label=None, k=2, r=1, workers=12, parity_workers=6, rate=270.0, **fields):
    policy, options, others = LINES[line]
    options = options | {'max_outstanding': 1} | ({'k': k, 'r': r} if policy == 'coded' else {})
    made.extend(Point(panel, label or line, float(x), seed, policy, make_options(policy, **options),
                      Setup(rate=rate, queries=queries, seed=seed, **instances(policy, workers, parity_workers),
                            **others, **fields)) for seed in SEEDS)

  for rate, line in itertools.product(PARM_RATES, LINES):
    add('rate', rate, line, rate=rate)
  for r, k in itertools.product((1, 2), (2, 3, 4, 6)):
    add('code', k, 'coded, k = 2', f'coded, r = {r}', k, r, parity_workers=12 * r // k)
  for share, line in itertools.product((0.0, 0.06, 0.12, 0.25), RIVALS):
    add('slow-share', share, line, slow_share=share, slow_factor=1.5)
  for scale, line in itertools.product((1, 10, 100, 556), RIVALS):
    add('workers', 18 * scale, line, workers=12 * scale, parity_workers=6 * scale, rate=270.0 * scale)
  return sorted(made, key=lambda point: (point.panel not in ('rate', 'code'), point.seed))


def sweep(workdir: str, budget_s: float, queries: int) -> list[dict]:
  """Records of the sweep's points, as many as fit into the budget; those in the workdir are not made again."""
  path, until = records.open_workdir(workdir), time.monotonic() + budget_s
  environment = records.environment(jax.devices()[:1])
  done = {_key(record): record for record in records.read(path) if record.get('kind') == 'simulation'}
  wanted, made, longest = points(queries), [], 0.0
  for number, point in enumerate(wanted):
    began = time.monotonic()
    head = {'panel': point.panel, 'line': point.line, 'x': point.x}
    record = done.get(_key(head | {'options': _finite(point.options), 'setup': _finite(point.setup)}))
    if record is None:
      if began + longest > until:
        break
      record = head | measure(point.policy, point.options, point.setup) | environment
      records.append(path, record)
      longest = max(longest, time.monotonic() - began)
      console.print(f'{number + 1} of {len(wanted)}: {point.line}, {point.panel} {point.x:g}, seed {point.seed}: '
                    f'p99.9 - p50 {record["p999_ms"] - record["p50_ms"]:.1f} ms', highlight=False, soft_wrap=True)
    made.append(record)
  if not made:
    raise InputError(f'--budget_minutes={budget_s / 60:g} is over before the first simulation: give more.')
  return made


def _key(record):
  setup = _finite(Setup()) | record['setup']  # what is younger than a record had its default
  return repr([record.get(name) for name in ('panel', 'line', 'x')] + [
      sorted(fields.items()) for fields in (record['options'], setup)])


def gaps(made: list[dict], panel: str) -> dict[str, dict[float, tuple[float, float]]]:
  """p99.9 - p50 in ms of each line of a panel: x -> (mean over seeds, half the range)."""
  found: dict[str, dict[float, list]] = {}
  for record in made:
    if record['panel'] == panel:
      found.setdefault(record['line'], {}).setdefault(record['x'], []).append(record['p999_ms'] - record['p50_ms'])
  return {line: {x: (sum(values) / len(values), (max(values) - min(values)) / 2) for x, values in sorted(row.items())}
          for line, row in found.items()}


MARKS = 'p50_ms', 'p99_ms', 'p995_ms', 'p999_ms'
# By eye, off ParM's figures.
PUBLISHED = {'equal': '20.3 / 33.3 / 38.3 / 52.8', 'coded, k = 2': '20.5 / 25.5 / 26.8 / 30.8'}


def parm_table(made: list[dict]) -> str:
  """Percentiles at 270 queries a second, means over seeds, beside what ParM published."""
  rows = []
  for line in dict.fromkeys(record['line'] for record in made):
    here = [record for record in made if (record['panel'], record['line'], record['x']) == ('rate', line, 270.0)]
    if here:
      share = sum(record['reconstructed'] for record in here) / sum(record['counted'] for record in here)
      rows.append([line, ' / '.join(f'{sum(record[mark] for record in here) / len(here):.1f}' for mark in MARKS),
                   PUBLISHED.get(line, ''), f'{100 * share:.1f}', f'{100 * here[0]["utilisation"]:.0f}'])
  return markdown(['p50 / p99 / p99.5 / p99.9, ms', 'simulated', 'published', 'reconstructed, %', 'workers busy, %'],
                  rows)


XLABELS = {'rate': 'queries a second, with 12 + 6 workers', 'code': 'k, with 12 workers and 12 r / k parity workers',
           'slow-share': 'the share of workers that take 1.5 times as long',
           'workers': 'the number of workers, at 15 queries a second each'}


HEAD = """# Simulated services

Latency of a service with and without codes, in ms, by the simulator: means of the seeds. Service times, and the
published figures, are those of ParM (arXiv:1905.00863): ResNet-18 on 12 workers, and 6 more that run what the line
says (F, copies, a backup, or parities). What the lines and the simulator are: [serving](../serving.md); records:
[serving.jsonl](serving.jsonl).

```
python -m experiments.simulate --suite=sweep --queries=100000 --budget_minutes=60 --workdir=runs/serving
```

At 270 queries a second: percentiles of the latency, the share of answers that were reconstructed, and how busy the
workers that run F are."""


def save(made: list[dict], workdir: str) -> list[Path]:
  """A picture for each panel, and a table of all."""
  path, saved, text = Path(workdir), [], [HEAD, parm_table(made)]
  for panel, label in XLABELS.items():
    lines = gaps(made, panel)
    if not lines:
      continue
    xs = sorted({x for row in lines.values() for x in row})
    text.append(f'p99.9 - median, ms, ± half the range of the seeds, against {label}:\n\n' + markdown(
        ['', *(f'{x:g}' for x in xs)], ([line, *(f'{row[x][0]:.1f} ± {row[x][1]:.1f}' if x in row else '' for x in xs)]
                                        for line, row in lines.items())))
    saved.append(save_lines(path / f'serving-{panel}.png', 'Latency at the tail, simulated',
                            {line: [(x, mean) for x, (mean, _) in row.items()] for line, row in lines.items()}, label,
                            'p99.9 - median, ms', xscale='log' if panel == 'workers' else 'linear'))
  (path / 'serving.md').write_text('\n\n'.join(text) + '\n')
  return [path / 'serving.md', *saved]
