"""Simulated services from the command line, and sweeps of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.studies import serving
from lcode.errors import InputError
from lcode.runs import records
from lcode.serving.options import POLICIES

ROOT = Path(__file__).parents[2]


def start(*arguments):
  return subprocess.run([sys.executable, '-m', 'experiments.simulate', *arguments], text=True, cwd=ROOT,
                        capture_output=True)


def test_one_service_from_the_command_line(tmp_path):
  np.save(tmp_path / 'trace.npy', np.linspace(10, 30, 50))
  result = start('--policy=coded', '--k=3', '--r=1', '--parity_workers=4', '--queries=3000', '--rate=200',
                 f'--service={tmp_path}/trace.npy', f'--workdir={tmp_path}/run')
  assert result.returncode == 0, result.stderr[-2000:]
  record = json.loads(result.stdout.splitlines()[-1])
  assert record['counted'] == 2700 == record['exact'] + record['reconstructed'] and record['policy'] == 'coded'
  assert 10 <= record['p50_ms'] <= record['p90_ms'] <= record['p99_ms'] <= record['p995_ms'] <= record['p999_ms']
  assert record['options']['k'] == 3 and record['setup']['parity_workers'] == 4 and record['failed'] == 0
  assert records.read(tmp_path / 'run') == [record] and 'reconstructed' in result.stderr


@pytest.mark.parametrize('arguments, words', [
    (['--policy=tied', '--queues=single'], 'tied'), (['--suite=sweep', '--budget_minutes=0'], 'budget_minutes=0')])
def test_what_is_mistyped_is_a_sentence(arguments, words, tmp_path):
  result = start(*arguments, '--queries=100', f'--workdir={tmp_path}/run')
  assert result.returncode == 1 and words in result.stderr and not result.stdout
  assert len(result.stderr.splitlines()) == 1 and not (tmp_path / 'run').exists()


def test_resources_are_equal():
  sizes = {name: serving.instances(name, 12, 6) for name in POLICIES}
  assert sizes.pop('none') == {'workers': 12, 'parity_workers': 0}
  assert {sum(size.values()) for size in sizes.values()} == {18}
  assert sizes['coded'] == sizes['backup'] == {'workers': 12, 'parity_workers': 6} and sizes['equal']['workers'] == 18


def test_a_sweep_resumes_and_is_drawn(tmp_path, monkeypatch):
  points = serving.points(40)
  assert {point.policy for point in points} == set(POLICIES) and len({repr(point) for point in points}) == len(points)
  monkeypatch.setattr(serving, 'points', lambda queries: points[::7])
  made = serving.sweep(str(tmp_path), 600.0, 40)
  assert len(made) == len(points[::7]) == len(records.read(tmp_path))
  assert serving.sweep(str(tmp_path), 600.0, 40) == records.read(tmp_path) and len(records.read(tmp_path)) == len(made)
  files = serving.save(made, str(tmp_path))
  assert [path.name for path in files][0] == 'serving.md' and all(path.exists() for path in files)
  assert '| equal |' in files[0].read_text() and files[1].read_bytes()[:4] == b'\x89PNG'
  with pytest.raises(InputError, match='budget_minutes'):
    serving.sweep(str(tmp_path / 'other'), -1.0, 40)


def test_gaps_are_means_over_seeds_with_half_their_range():
  made = [{'panel': 'rate', 'line': 'a', 'x': 1.0, 'p50_ms': 10.0, 'p999_ms': value} for value in (20.0, 26.0)]
  assert serving.gaps(made, 'rate') == {'a': {1.0: (13.0, 3.0)}} and serving.gaps(made, 'code') == {}


def test_parms_table_is_of_means_over_seeds():
  made = [{'panel': 'rate', 'line': 'equal', 'x': 270.0, 'reconstructed': 5 * seed, 'counted': 50, 'utilisation': 0.31,
           **{mark: 20.0 + seed for mark in serving.MARKS}} for seed in (0, 1)]
  assert '| equal | 20.5 / 20.5 / 20.5 / 20.5 | 20.3 / 33.3 / 38.3 / 52.8 | 5.0 | 31 |' in serving.parm_table(made)
