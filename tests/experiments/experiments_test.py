"""Every entry point runs, as a user starts it: two steps, and one JSON object as the last line."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import demo
from experiments.studies import plots
from lcode.coding.scheme import make_codec
from lcode.data import make_normalise
from lcode.runs.code_run import train_code
from lcode.runs.configs import CodeConfig, RunOptions

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / 'experiments').glob('*.py') if path.stem not in ('__init__', 'common'))


def start(module, *arguments):
  return subprocess.run([sys.executable, '-m', f'experiments.{module}', *arguments], capture_output=True, text=True,
                        cwd=ROOT, env={**os.environ, 'COLUMNS': '120'})


@pytest.mark.parametrize('module', MODULES)
def test_each_says_what_it_does(module):
  text = importlib.import_module(f'experiments.{module}').__doc__
  assert f'python -m experiments.{module}' in text and text.splitlines()[0].endswith('.')


def test_base_code_and_evaluation_from_the_command_line(tmp_path):
  base, code = f'{tmp_path}/base', f'{tmp_path}/code'
  for module, arguments in (
      ('train_base', (f'--workdir={base}', '--max_steps=2')),
      ('train_code', (f'--workdir={code}', f'--base_dir={base}', '--max_steps=2', '--k=3', '--r=2', '--loss=mse_base')),
      ('evaluate', (f'--workdir={code}',))):
    result = start(module, *arguments)
    assert result.returncode == 0, result.stderr[-2000:]
    record = json.loads(result.stdout.splitlines()[-1])
    assert 0 <= record['available_accuracy'] <= 1 and len(result.stdout.splitlines()) == 1
    workdir = base if module == 'train_base' else code
    assert json.loads((Path(workdir) / 'records.jsonl').read_text().splitlines()[-1]) == record
    if module != 'train_base':
      assert len(record['positions']) == 3 and record['config']['loss'] == 'mse_base'
      assert 'query 3 of 3 missing' in result.stderr and 'default answer' in result.stderr
    assert 'Traceback' not in result.stderr and 'Warning' not in result.stderr
  assert json.loads((Path(code) / 'records.jsonl').read_text().splitlines()[0])['steps'] == 2


def test_the_demos_picture_shows_what_it_says(tmp_path, monkeypatch):
  trained = train_code(CodeConfig(epochs=2), str(tmp_path / 'run'), None, RunOptions(devices=1))
  drawn, draw = {}, plots.save_groups

  def remember(path, images, parities, true, reconstructed, title):
    drawn.update(images=images, parities=parities, true=true, reconstructed=reconstructed)
    return draw(path, images, parities, true, reconstructed, title)

  monkeypatch.setattr(plots, 'save_groups', remember)
  path = demo.save_picture(trained, tmp_path / 'groups.png', groups=3)
  assert path.read_bytes()[:8] == b'\x89PNG\r\n\x1a\n' and path.stat().st_size > 10_000
  assert drawn['parities'].shape == (3, 1, 8, 8, 1)
  test = trained.base.dataset.test
  x = np.asarray(make_normalise(trained.base.dataset.spec)(test.images[:6]))
  outputs = np.asarray(trained.base.apply(trained.base.variables, x)).reshape(3, 2, 10)
  np.testing.assert_allclose(drawn['true'], np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True), rtol=1e-4)
  codec = make_codec(trained.scheme, trained.params)
  parity = np.asarray(trained.base.apply(trained.base.variables, drawn['parities'][:, 0]))[:, None]
  second = np.asarray(codec.decode(np.concatenate([outputs, parity], 1), np.array([True, False, True])))[:, 1]
  second = np.exp(second) / np.exp(second).sum(-1, keepdims=True)
  np.testing.assert_allclose(drawn['reconstructed'][:, 1], second, rtol=1e-4)


def test_a_comparison_from_the_command_line(tmp_path):
  arguments = (f'--workdir={tmp_path}/c', '--schemes=approxifer,replication,berrut', '--k=2', '--r=1')
  result = start('compare', *arguments)
  assert result.returncode == 0, result.stderr[-2000:]
  summary = json.loads(result.stdout.splitlines()[-1])
  assert [row['scheme'] for row in summary['rows']] == ['approxifer', 'replication', 'berrut']
  assert all(Path(picture).exists() for picture in summary['pictures']) and len(summary['pictures']) == 3
  assert '| approxifer |' in (tmp_path / 'c' / 'table.md').read_text() and 'Traceback' not in result.stderr
  assert len((tmp_path / 'c' / 'records.jsonl').read_text().splitlines()) == 3
  for wrong, words in (('--k=two', '--k=two'), ('--schemes=spine', "'spine' is no scheme")):
    result = start('compare', *arguments, wrong)
    assert result.returncode == 1 and words in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.long
def test_codes_over_a_pendulum(tmp_path):
  result = start('physics', f'--workdir={tmp_path}', '--queries=2000', '--epochs=20')
  assert result.returncode == 0, result.stderr[-2000:]
  record = json.loads(result.stdout.splitlines()[-1])
  errors = {name: row['relative_error'] for name, row in record['rows'].items()}
  assert errors['Berrut, plain (ApproxIFER)'] < 0.7 * record['default_relative_error']
  assert errors['learned encoder, parity model and decoder'] < 0.8 * record['default_relative_error']
