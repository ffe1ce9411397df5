"""Every entry point runs, as a user starts it: two steps, and one JSON object as the last line."""

import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import demo
from lcode.coding.codec import make_codec
from lcode.data import make_normalise
from lcode.runs import plots
from lcode.runs.code_run import train_code
from lcode.runs.configs import CodeConfig, RunOptions

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / 'experiments').glob('*.py')
                 if "__name__ == '__main__'" in path.read_text())


def start(module, *arguments, path='', **options):
  environment = {**os.environ, 'COLUMNS': '120', 'PYTHONPATH': str(path)}
  return subprocess.run([sys.executable, '-m', f'experiments.{module}', *arguments], text=True, cwd=ROOT,
                        env=environment, **{'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE} | options)


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
  assert all(Path(picture).exists() for picture in summary['pictures']) and len(summary['pictures']) == 5
  assert '| approxifer |' in (tmp_path / 'c' / 'table.md').read_text() and 'Traceback' not in result.stderr
  assert len((tmp_path / 'c' / 'records.jsonl').read_text().splitlines()) == 3
  for wrong, words in (('--k=two', '--k=two'), ('--schemes=spine', "'spine' is no scheme")):
    result = start('compare', *arguments, wrong)
    assert result.returncode == 1 and words in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.long
def test_codes_over_a_pendulum(tmp_path):
  result = start('physics', f'--workdir={tmp_path}', '--queries=2000', '--epochs=60')
  assert result.returncode == 0, result.stderr[-2000:]
  record = json.loads(result.stdout.splitlines()[-1])
  errors = {name: row['relative_error'] for name, row in record['rows'].items()}
  assert errors['Berrut, plain (ApproxIFER)'] < 0.7 * record['default_relative_error']
  assert errors['learned encoder, parity model and decoder'] < 0.8 * record['default_relative_error']
  assert errors['narrow, six rounded numbers each'] == pytest.approx(errors['bundle'], rel=0.1)
  assert errors['bundle'] < 0.3 and errors['bundle'] < errors['mosaic, three of six numbers each'] < 0.5


def test_the_docs_own_model_is_compared_by_one_command(tmp_path):
  page = (ROOT / 'docs' / 'your_model.md').read_text()
  code = re.search(r'```python\n(# mine.py\n.*?register_function.*?)```', page, re.DOTALL)[1]
  (tmp_path / 'mine.py').write_text(code)
  workdir = tmp_path / 'runs'
  arguments = ('--import=mine', '--model=my_model', '--schemes=approxifer,mosaic,backup', '--k=2', '--r=1',
               '--notime_costs', '--seconds_a_row=0.2', f'--workdir={workdir}')
  result = start('compare', *arguments, path=tmp_path)
  assert result.returncode == 0, result.stderr[-2000:]
  summary = json.loads(result.stdout.splitlines()[-1])
  rows = {row['scheme']: row for row in summary['rows']}
  assert set(rows) == {'approxifer', 'mosaic', 'backup-0.05', 'backup-0.2'}
  assert {Path(picture).stem for picture in summary['pictures']} == {
      'accuracy-against-k', 'accuracy-against-work', 'accuracy-against-bytes', 'overall-accuracy'}  # no time was taken
  assert rows['mosaic']['available_accuracy'] > 0.9 and '| mosaic |' in (workdir / 'table.md').read_text()
  assert 'my_model (9' in result.stderr
  assert 'known: my_model' in start('compare', '--import=mine', '--help', path=tmp_path).stdout.replace('\n', ' ')
  result = start('compare', '--import=mine', '--model=yours', path=tmp_path)
  assert result.returncode == 1 and "unknown function 'yours'" in result.stderr


def test_a_choice_reads_the_test_split_for_the_chosen_row_alone(tmp_path):
  arguments = ('--schemes=mosaic,approxifer,backup', '--backup_work=0.6', '--k=2', '--seconds_a_row=0.1',
               '--notime_costs', f'--workdir={tmp_path}', '--max_worker_work=0.4')
  records = []
  for allowed in (0.7, 0):
    result = start('choose', *arguments, f'--max_frontend_work={allowed}')
    assert result.returncode == 0, result.stderr[-2000:]
    records.append(json.loads(result.stdout.splitlines()[-1]))
    verdicts = {verdict['row']['scheme']: verdict for verdict in records[-1]['verdicts']}
    assert set(verdicts) == {'mosaic', 'approxifer', 'backup-0.6'}
    assert 'work at the workers 0.500, 0.4 allowed' in verdicts['approxifer']['reasons']
    assert all(verdict['row']['split'] == 'validation' for verdict in verdicts.values())
    assert records[-1]['why'] in ' '.join(result.stderr.split())
  some, none = records
  assert some['row']['scheme'] in ('mosaic', 'backup-0.6') and none['choice'] == 'none'
  assert (some['test']['scheme'], some['test']['split']) == (some['row']['scheme'], 'test')
  assert none['row'] is None and none['test'] is None
  splits = [[json.loads(line)['split'] for line in path.read_text().splitlines()]
            for path in tmp_path.glob('codes/*/records.jsonl')]
  assert sorted(splits) == [['validation'], ['validation'], ['validation', 'test']]


MINE = '''
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import lcode

class First(nn.Module):
  code: lcode.Code
  parities = 'firsts'
  def __call__(self, x):
    return jnp.broadcast_to(x[:1], (self.code.r, *x.shape[1:]))

class Linear(nn.Module):
  num_outputs: int
  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(self.num_outputs)(x)

def load(data_dir):
  x = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
  labels = x.argmax(-1)
  return {'train_images': x[:500], 'train_labels': labels[:500], 'test_images': x[500:], 'test_labels': labels[500:]}

lcode.register_encoder('first', First)
lcode.register_model('linear', lambda shape, num_outputs, axis_name: Linear(num_outputs))
lcode.register_parity_model('small', lambda module, shape, num_outputs, config: lcode.from_module(Linear(num_outputs)))
lcode.register_preset('mine', lcode.Preset('first', 'mlp', 'small', recipe='distil', source='a preset of mine'))
lcode.register_dataset('triples', load, lcode.Spec(validation=100, image_shape=(3,), num_classes=3, scale=1.0))
'''


def test_a_users_own_parts_are_imported_before_the_flags_are_read(tmp_path):
  (tmp_path / 'my_parts.py').write_text(MINE)
  result = start('compare', '--import=my_parts', '--help', path=tmp_path)
  assert result.returncode == 0 and not result.stderr
  for word in ('triples', 'linear', 'mine (a preset of mine)'):
    assert word in ' '.join(result.stdout.split())
  workdir = tmp_path / 'run'
  result = start('train_code', '--import', 'my_parts', '--dataset=triples', '--base_model=linear', '--scheme=mine',
                 '--max_steps=3', f'--workdir={workdir}', path=tmp_path)
  assert result.returncode == 0, result.stderr[-2000:]
  config = json.loads(result.stdout)['config']
  assert (config['dataset'], config['base_model'], config['encoder'], config['parity_model']) == (
      'triples', 'linear', 'first', 'small')
  result = start('evaluate', '--import=my_parts', f'--workdir={workdir}', path=tmp_path)
  assert result.returncode == 0, result.stderr[-2000:]
  result = start('evaluate', f'--workdir={workdir}')  # without it, one is told what is unknown
  assert result.returncode == 1 and 'import the module that registers' in result.stderr


def flags_in(help_text):
  return re.findall(r'^  --(\w+)', help_text, re.MULTILINE)


@pytest.mark.parametrize('module', MODULES)
def test_help_shows_the_commands_own_flags_first(module):
  result = start(module, '--help')
  assert result.returncode == 0 and not result.stderr
  assert result.stdout.startswith(importlib.import_module(f'experiments.{module}').__doc__.strip())
  shown = flags_in(result.stdout)
  source = (ROOT / 'experiments' / f'{module}.py').read_text()
  own = re.findall(r"DEFINE_\w+\('(\w+)'", source)
  first_of_others = result.stdout.index('\n\n', result.stdout.index('This command:'))
  first = flags_in(result.stdout[:first_of_others])
  assert own and set(own) <= set(shown)
  assert [name for name in first if name in own] == [name for name in own if name in first] != []
  assert shown[:len(first)] == first and len(set(shown)) == len(shown)
  if 'define_code_flags' in source:
    assert {'scheme', 'k', 'r', 'dataset', 'base_model', 'encoder', 'decoder', 'import'} <= set(shown)


@pytest.mark.parametrize('arguments, words', [
    (['train_code', '--nonsense=3'], 'nonsense'), (['train_code', '--k=two'], '--k=two'),
    (['train_code', 'k=2'], "'k=2' is no flag"), (['evaluate', '--workdir='], '--workdir= names no directory'),
    (['train_code', '--import=no_such_module'], "No module named 'no_such_module'"),
    (['train_code', '--import='], '--import= names no module'),
    (['train_code', '--max_steps=0'], 'max_steps=0 is not allowed'),
    (['compare', '--schemes='], '--schemes= names no scheme'), (['compare', '--k='], '--k= is not allowed'),
    (['reproduce', '--only=nothing'], '--only=nothing names no base model')])
def test_what_is_mistyped_is_a_sentence(arguments, words, tmp_path):
  result = start(*arguments, *([] if '--workdir=' in arguments else [f'--workdir={tmp_path}/run']))
  assert result.returncode == 1 and words in result.stderr and not result.stdout
  assert len(result.stderr.splitlines()) == 1 and not (tmp_path / 'run').exists()


def test_a_terminal_is_spared_the_json(tmp_path):
  ours, theirs = pty.openpty()
  result = start('train_base', f'--workdir={tmp_path}/base', '--max_steps=2', stdout=theirs)
  os.close(theirs)
  assert result.returncode == 0, result.stderr
  os.set_blocking(ours, False)
  with pytest.raises(BlockingIOError if sys.platform != 'linux' else OSError):  # Linux: the other end is closed
    os.read(ours, 1)
  os.close(ours)
  assert f'record: {tmp_path}/base/records.jsonl' in result.stderr


def test_the_experiments_are_listed():
  result = subprocess.run([sys.executable, '-m', 'experiments'], text=True, capture_output=True, cwd=ROOT)
  listed = re.findall(r'^python -m experiments\.(\S+)', result.stdout, re.MULTILINE)
  assert listed == sorted([*MODULES, 'bounds.packed', 'bounds.preimage']) and result.returncode == 0


def interrupt(arguments, heard, times=1):
  """Starts an experiment and interrupts it when it has said `heard`: (exit status, what it said)."""
  process = subprocess.Popen([sys.executable, '-m', *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
  said = ''
  for line in process.stderr:
    said += line
    if heard in line:
      for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
      break
  said += process.stderr.read()
  return process.wait(), said


def test_an_interrupted_training_is_saved_and_resumed(tmp_path):
  command = ['experiments.train_base', '--epochs=100000', f'--workdir={tmp_path}/base']
  status, said = interrupt(command, 'step ')
  assert status == 130 and 'Traceback' not in said
  step, total = re.search(r'stopped at step (\d+) of (\d+), and saved: the same command resumes there', said).groups()
  assert int(total) == 1_000_000
  status, said = interrupt(command, 'resumed at')
  assert f'resumed at step {step} of' in said and status == 130


def test_where_nothing_is_trained_an_interruption_ends_it_at_once(tmp_path):
  status, said = interrupt(['experiments.compare', '--schemes=approxifer', f'--workdir={tmp_path}/c', '--k=2,3,4,5,6',
                            '--r=1,2,3,4,5'], 'k=2, r=1: degraded')
  assert status == 130 and said.endswith('interrupted.\n') and 'Traceback' not in said
