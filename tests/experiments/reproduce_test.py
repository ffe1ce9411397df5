"""Suites: rows within a budget, the longest-waiting first, nothing done twice, and their table."""

import dataclasses
import hashlib
import shutil
import sys

import numpy as np
import pytest

from experiments.studies import comparison, reproduce, suites
from experiments.studies.suites import Row
from lcode import data
from lcode.errors import InputError, OutOfTime
from lcode.runs import base_model, records
from lcode.runs.code_run import train_code
from lcode.runs.configs import BaseConfig, RunOptions
from lcode.runs.presets import config_of
from lcode.training import loop

ONE = RunOptions(devices=1, save_every_s=0.5)
ROWS = [Row('digits', 'mlp', 'bundle', 2, seed=seed, epochs=2, published=(98, 90.5), source='somebody')
        for seed in (0, 1)] + [Row('digits', 'mlp', 'approxifer', 3, 2)]


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp('suite')
  base_model.train_base(BaseConfig(epochs=20), str(path / 'bases' / 'digits-mlp'), ONE)
  return path


def test_rows_are_made_once_and_their_table_says_what_they_gave(workdir, monkeypatch):
  made = reproduce.reproduce(ROWS, str(workdir), ONE, 600)
  assert [(record['scheme'], record['k'], record['seed']) for record in made] == [
      ('bundle', 2, 0), ('bundle', 2, 1), ('approxifer', 3, 0)]
  two, one = [line.split(' | ') for line in reproduce.table(ROWS, workdir).splitlines()[4:]]
  values = [100 * record['missing'][-1]['degraded_accuracy'] for record in made]
  deployed = 100 * made[0]['available_accuracy']
  mean = np.mean(values[:2])
  assert two[3:6] == ['98 / 90.5 (somebody)', f'{deployed:.2f} / {mean:.2f} ± {np.ptp(values[:2]) / 2:.2f}',
                      f'{deployed - mean:.2f}'] and two[8] == '2'
  assert one[4] == f'{deployed:.2f} / {values[2]:.2f}' and one[7] == '0'
  monkeypatch.setattr(comparison, 'train_code', lambda *_: pytest.fail('made again'))
  assert reproduce.reproduce(ROWS, str(workdir), ONE, 600) == made
  other = dataclasses.replace(ROWS[0], epochs=3)
  assert reproduce.record_of(other, workdir) is None and reproduce.table([other], workdir).count('not made yet') == 1


def test_the_longest_waiting_goes_first_and_the_budget_ends_it(workdir, monkeypatch):
  rows = [Row('digits', 'mlp', 'bundle', 5, seed=seed, epochs=5) for seed in range(3)]
  turns, clock = [], [0.0]

  def train(config, workdir, base_dir, options, base):
    turns.append(config.seed)
    clock[0] = options.stop_at + 1
    raise OutOfTime('stopped')

  monkeypatch.setattr(comparison, 'train_code', train)
  monkeypatch.setattr(reproduce.time, 'monotonic', lambda: clock[0])
  for _ in range(4):
    clock[0] += 1000
    assert reproduce.reproduce(rows, str(workdir), ONE, 60) == []
  assert turns == [0, 1, 2, 0]  # the first takes all of the budget
  with pytest.raises(InputError, match='budget_minutes=0'):
    reproduce.reproduce(rows, str(workdir), ONE, 0)


def test_a_run_out_of_time_is_saved_and_ends_as_if_never_stopped(workdir, tmp_path, monkeypatch):
  config = config_of('learned-mlp', 2, 1, 'digits', 'mlp', 0, 2, 0)
  base_dir, never = str(workdir / 'bases' / 'digits-mlp'), RunOptions(devices=1, save_every_s=1e9)
  whole = train_code(config, str(tmp_path / 'whole'), base_dir, never)

  class Clock:
    now = 0

    def monotonic(self):  # every look at it takes a second
      self.now += 1
      return self.now

  clock, stops, stopped = Clock(), 0, None
  monkeypatch.setattr(loop, 'time', clock)
  while stopped is None and stops < 50:
    try:
      stopped = train_code(config, str(tmp_path / 'stopped'), base_dir,
                           dataclasses.replace(never, stop_at=clock.now + 7 - 10 * (stops == 0)))
    except OutOfTime as over:
      assert records.read(tmp_path / 'stopped') == [] and (stops or 'step 1 of' in str(over))  # one at least
      stops += 1
  assert stops > 2 and stopped.record['steps'] == whole.record['steps']
  a, b = (trained.params['encoder']['hidden']['kernel'] for trained in (stopped, whole))
  np.testing.assert_array_equal(a, b)


def test_rows_over_another_base_model_are_not_done_and_their_codes_not_gone_on_with(workdir, tmp_path):
  reproduce.reproduce(ROWS[:1], str(workdir), ONE, 600)
  shutil.copytree(workdir, tmp_path / 'moved')
  path = tmp_path / 'moved'
  assert reproduce.record_of(ROWS[0], path) is not None
  shutil.rmtree(path / 'bases')
  base_model.train_base(BaseConfig(epochs=1, seed=1), str(path / 'bases' / 'digits-mlp'), ONE)
  assert reproduce.record_of(ROWS[0], path) is None
  (made,) = reproduce.reproduce(ROWS[:1], str(path), ONE, 600)
  assert made['available_accuracy'] != reproduce.record_of(ROWS[0], workdir)['available_accuracy']
  code = next((workdir / 'digits-mlp' / 'codes').glob('bundle*'))
  with pytest.raises(InputError, match='was started'):
    train_code(ROWS[0].config, shutil.copytree(code, path / 'code'), str(path / 'bases' / 'digits-mlp'), ONE)


def test_a_base_model_that_cannot_be_had_stops_its_own_rows_alone(workdir, monkeypatch):
  lost = Row('mnist', 'mlp', 'bundle', 2)
  monkeypatch.setattr(comparison.data, 'load', lambda name, *_, load=data.load: load('digits') if name == 'digits'
                      else pytest.fail('twice') if (workdir / 'asked').exists()
                      else (_ for _ in ()).throw(InputError(str((workdir / 'asked').write_text('')))))
  made = reproduce.reproduce([lost, dataclasses.replace(lost, k=3), ROWS[2]], str(workdir), ONE, 600)
  assert [record['scheme'] for record in made] == ['approxifer']


def test_every_row_of_every_suite_can_be_made():
  for make in suites.SUITES.values():
    rows = make()
    assert len(set(rows)) == len(rows) > 10
    for row in rows:
      (made,) = row.comparison.rows(1e6)
      mine, its = (dataclasses.replace(config, multiply_adds=None) for config in (row.config, made[3]))
      assert made[:3] == (row.name, row.k, row.r) and mine == its


def test_beside_bundles_stands_what_is_published_with_the_least_drop():
  drops = {(row.base, row.k): round(row.published[0] - row.published[1], 2)
           for row in suites.best_suite() if row.published}
  assert drops == {  # of arXiv:1806.01259's code and authors, arXiv:1905.00863, arXiv:2109.09868
      ('mnist-mlp', 2): 0.83, ('fashion_mnist-mlp', 2): 2.37, ('mnist-resnet18', 2): 0, ('mnist-resnet18', 8): 11.8,
      ('fashion_mnist-resnet18', 2): 0.7, ('fashion_mnist-resnet18', 8): 19, ('cifar10-resnet18', 2): 6.13,
      ('cifar10-resnet18', 8): 16.4}


def test_exported_arrays_are_the_same_data_under_the_same_name(tmp_path, rng):
  images, labels = rng.integers(0, 256, (5300, 4, 4, 1)).astype(np.uint8), rng.integers(0, 10, 5300).astype(np.int32)
  cut = [data.Arrays(images[part], labels[part]) for part in (slice(100), slice(100, 5100), slice(5100, None))]
  arrays = {'test_images': images[5100:], 'test_labels': labels[5100:], 'train_images': images[:5100],
            'train_labels': labels[:5100]}
  source = hashlib.sha256(b''.join(arrays[name].tobytes() for name in sorted(arrays))).hexdigest()
  path = data.export(data.Dataset('mnist', data.SPECS['mnist'], *cut, 10, source), str(tmp_path / 'new'))
  assert path == tmp_path / 'new' / 'mnist.npz'
  loaded = data.load('mnist', str(tmp_path / 'new'))
  for name in ('train', 'validation', 'test'):
    for part in ('images', 'labels'):
      np.testing.assert_array_equal(getattr(getattr(loaded, name), part),
                                    getattr(cut[('train', 'validation', 'test').index(name)], part))
  assert loaded.source == source and loaded.num_classes == 10


def test_without_tfds_arrays_are_asked_for(tmp_path, monkeypatch):
  monkeypatch.delattr('lcode.data.tfds', raising=False)
  monkeypatch.setitem(sys.modules, 'lcode.data.tfds', None)  # importing it fails
  with pytest.raises(InputError, match='mnist.*tensorflow-datasets.*prepare_data'):
    data.load('mnist', str(tmp_path))


def test_a_damaged_export_is_a_sentence(tmp_path):
  (tmp_path / 'mnist.npz').write_bytes(b'PK\x03\x04 no archive')
  with pytest.raises(InputError, match='mnist.npz cannot be read.*prepare_data'):
    data.load('mnist', str(tmp_path))
  np.savez(tmp_path / 'mnist.npz', train_images=np.zeros((3, 4, 4)), train_labels=np.zeros(3), test_images=np.zeros(0),
           test_labels=np.zeros(0))
  with pytest.raises(InputError, match='float64'):
    data.load('mnist', str(tmp_path))
