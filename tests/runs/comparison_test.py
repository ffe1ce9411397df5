"""Every code on the same work: rows, what they cost, and that nothing is done twice."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import lcode
from lcode.coding import coders
from lcode.errors import InputError
from lcode.runs import base_model, comparison, report, tables
from lcode.runs.configs import BaseConfig, RunOptions
from lcode.runs.presets import config_of, PRESETS, Preset, get_preset

ONE = RunOptions(devices=1)
FREE = ('approxifer', 'replication', 'addition:from_base:subtraction', 'backup', 'nonsense')

FIGURES = {'reconstruction_accuracy': 0.5, 'intact_accuracy': 0.5, 'available_accuracy': 0.5, 'default_accuracy': 0.1,
           'relative_error': 0.5, 'frontend_work': 0.0, 'worker_work': 0.5, 'seconds': 1.0, 'passthrough': True,
           'missing': [{'degraded_accuracy': 0.5}]}


@pytest.fixture(scope='module')
def base_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('comparison') / 'base'
  base_model.train_base(BaseConfig(epochs=20), str(path), ONE)
  return str(path)


@pytest.fixture(scope='module')
def compared(base_dir, tmp_path_factory):
  path = tmp_path_factory.mktemp('comparison')
  what = comparison.Comparison('digits', 'mlp', FREE[:4], (2,), (1, 2), epochs=3, backup_work=(0.1,))
  return what, path, comparison.compare(what, str(path), base_dir, ONE)


def by_row(rows):
  return {(row['scheme'], row['k'], row['r']): row for row in rows}


def test_every_row_is_there_with_its_cost(compared):
  _, path, made = compared
  rows = by_row(made)
  names = ('approxifer', 'replication', 'addition:from_base:subtraction', 'backup-0.1')
  assert set(rows) == {(name, k, r) for name in names for k in (2,) for r in (1, 2)} and len(made) == 8
  for (name, k, r), row in rows.items():
    expected = {'replication': r, 'backup-0.1': 0}.get(name, r / k)
    assert row['worker_work'] == pytest.approx(expected, rel=1e-3)
    low, high = {'backup-0.1': (0.05, 0.11)}.get(name, (0, 0.05))
    assert low <= row['frontend_work'] <= high
    assert row['passthrough'] == (name != 'approxifer') and len({row['base_sha256'] for row in made}) == 1
    if name == 'replication':
      assert row['degraded_accuracy'] == row['available_accuracy'] and row['reconstruction_accuracy'] == 1
  assert [json.loads(line) for line in (path / 'records.jsonl').read_text().splitlines()] == made


def test_what_is_done_is_not_done_again(compared, base_dir, monkeypatch):
  what, path, made = compared
  monkeypatch.setattr(comparison, 'train_code', lambda *_: pytest.fail('trained again'))
  before = (path / 'records.jsonl').read_bytes()
  assert comparison.compare(what, str(path), base_dir, ONE) == made
  assert (path / 'records.jsonl').read_bytes() == before
  assert by_row(comparison.latest(path, made[0])) == by_row(made)
  assert comparison.latest(path, made[0] | {'base_sha256': 'another'}) == []


def test_a_row_cut_short_is_resumed(base_dir, tmp_path):
  what = comparison.Comparison('digits', 'mlp', ('parm-addition',), (2,), (1,), epochs=2)
  whole = comparison.compare(what, str(tmp_path / 'a'), base_dir, ONE)[0]
  stopped = RunOptions(devices=1, max_steps=3)
  comparison.compare(what, str(tmp_path / 'b'), base_dir, stopped)
  resumed = comparison.compare(what, str(tmp_path / 'b'), base_dir, ONE)[0]
  assert resumed['steps'] == whole['steps'] and resumed['test_loss'] == whole['test_loss']


def test_a_training_time_is_planned_once_for_a_row_and_all_its_seeds(tmp_path):
  """Over rows that nobody trains: an epoch takes 4 s, then 20, then 5; a code without training has none."""
  trained, asked = [], []

  def train(config, folder, options):
    trained.append((config.encoder, config.k, config.seed, config.epochs))
    return {'degraded_accuracy': 0.5, 'steps': 0 if config.encoder == 'approxifer' else 3}

  def seconds_an_epoch(config, seconds, options):
    asked.append((config.encoder, config.k))
    return None if config.encoder == 'approxifer' else [4.0, 20.0, 5.0][len(asked) - 1]

  over = comparison.Over('sha', 1e4, config_of, train, seconds_an_epoch)
  what = comparison.Comparison('digits', 'mlp', ('bundle', 'approxifer'), (2, 3), (1,), seeds=(0, 1), seconds_a_row=10)
  made = comparison.compare_over(over, what, str(tmp_path), ONE)
  assert asked == [('bundle', 2), ('bundle', 3), ('approxifer', 2), ('approxifer', 3)]
  assert [entry for entry in trained if entry[0] == 'bundle'] == [
      ('bundle', 2, 0, 2), ('bundle', 3, 0, 1), ('bundle', 2, 1, 2), ('bundle', 3, 1, 1)]
  assert [row.get('planned_seconds') for row in made] == [8, 20, 8, 20, *4 * [None]]
  again = dataclasses.replace(what, seeds=(0, 1, 2))
  rows = comparison.compare_over(over, again, str(tmp_path), ONE)
  assert len(asked) == 4 and len(trained) == 12 and trained[8] == ('bundle', 2, 2, 2)
  assert [row for row in rows if row['seed'] < 2] == made
  rows = [row | {'config': row['config'], **FIGURES} for row in rows]
  epochs = tables.tables(report.mean_over_seeds(rows)).split('as many as 10 s hold')[1]
  assert '| bundle | 2 | 1, of 20 s |' in epochs


def test_table_and_pictures(compared):
  _, path, made = compared
  rows = report.mean_over_seeds(made)
  text = tables.tables(rows)

  def section(title, r):
    return text.split(f'{title} r = {r}')[1].split(' r = ')[0]

  for row in rows:
    table = section('Degraded accuracy, %, at', row['r'])
    by_missing = ' / '.join(f'{100 * value["degraded_accuracy"]:.1f}' for value in
                            by_row(made)[row['scheme'], row['k'], row['r']]['missing'])
    assert f'| {row["scheme"]} | {by_missing} |' in table
    interval = section('95 % interval of the degraded accuracy, %, at', row['r'])
    ends = [missing['degraded_accuracy_interval'] for missing in
            by_row(made)[row['scheme'], row['k'], row['r']]['missing']]
    assert f'| {row["scheme"]} | ' + ' / '.join(f'{100 * a:.1f} to {100 * b:.1f}' for a, b in ends) + ' |' in interval
    work = section('Extra work at', row['r'])
    assert f'| {row["scheme"]} | {row["frontend_work"]:.3f} + {row["worker_work"]:.2f} |' in work
  assert 'approxifer, nothing missing' in text and 'backup-0.1, nothing missing' not in text
  for picture in report.save_pictures(rows, path, 'a test'):
    assert picture.read_bytes().startswith(b'\x89PNG') and picture.stat().st_size > 10_000


def test_without_matplotlib_there_are_no_pictures(compared, tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  monkeypatch.delitem(sys.modules, 'lcode.runs.plots', raising=False)
  monkeypatch.delattr(lcode.runs, 'plots', raising=False)
  assert report.report(report.mean_over_seeds(compared[2]), tmp_path, 'a test') == []
  assert [path.name for path in tmp_path.iterdir()] == ['table.md']
  assert 'pip install "lcode[experiments]" brings matplotlib' in capsys.readouterr().err


def test_means_over_seeds(compared):
  row = compared[2][0]
  other = row | {'seed': 1, 'degraded_accuracy': row['degraded_accuracy'] - 0.1}
  mean, = report.mean_over_seeds([row, other])
  assert mean['seeds'] == 2 and mean['spread'] == pytest.approx(0.1)
  assert mean['degraded_accuracy'] == pytest.approx(row['degraded_accuracy'] - 0.05)


def test_intervals_are_shown_where_they_are_wide_and_means_over_seeds(compared):
  row = next(row for row in compared[2] if row['r'] == 1)

  def with_interval(low, high, seed=0):
    return row | {'seed': seed, 'missing': [row['missing'][0] | {'degraded_accuracy_interval': [low, high]}]}

  wide = tables.tables(report.mean_over_seeds([with_interval(0.5, 0.6), with_interval(0.52, 0.64, 1)]))
  assert '| 51.0 to 62.0 |' in wide
  assert 'interval' not in tables.tables(report.mean_over_seeds([with_interval(0.5, 0.515)]))
  old = row | {'missing': [{name: value for name, value in row['missing'][0].items() if 'interval' not in name}]}
  assert 'interval' not in tables.tables(report.mean_over_seeds([old, with_interval(0.5, 0.6, 1)]))


def test_overall_accuracy_of_rows_by_hand(compared):
  """f = 0.1: a backup never fails, two copies and a query fail together once in a thousand times."""
  rows = {(row['scheme'], row['r']): row for row in report.mean_over_seeds(compared[2])}
  backup, copies = rows['backup-0.1', 1], rows['replication', 2]
  assert report.overall(backup, 0.1) == pytest.approx(
      0.9 * backup['available_accuracy'] + 0.1 * backup['degraded_accuracy'])
  assert report.overall(copies, 0.1) == pytest.approx(
      0.999 * copies['available_accuracy'] + 0.001 * copies['default_accuracy'])
  for row in rows.values():
    assert report.overall(row, 0.0) == row['intact_accuracy']
    if not row['scheme'].startswith('backup'):
      assert report.overall(row, 1.0) == pytest.approx(row['default_accuracy'])


def test_rows_that_cannot_be_are_left_out_with_the_reason(base_dir, tmp_path, capsys):
  what = comparison.Comparison('digits', 'mlp', ('nercc', 'addition:base:subtraction', 'berrut'), (1, 500), (1,))
  made = comparison.compare(what, str(tmp_path), base_dir, ONE)
  assert set(by_row(made)) == {('berrut', 1, 1)}
  said = ' '.join(capsys.readouterr().err.split())
  assert 'nercc, k=1, r=1: left out: k=1 leaves a spline too few workers' in said
  assert 'addition:base:subtraction, k=1, r=1: left out: decoder=\'subtraction\' undoes sums' in said
  assert 'berrut, k=500, r=1: left out: k=500 is larger than the 137 examples of the validation split' in said


def test_students_of_a_named_work_take_it_at_every_k():
  what = comparison.Comparison('digits', 'mlp', ('mosaic', 'bundle', 'backup', 'nercc'), (2, 4), (1,),
                               backup_work=(0.5,), form='dense', student_work=0.25)
  over = comparison.Over('', 1000.0, comparison.config_of, None, None)
  sizes = {(scheme, k): config.multiply_adds for scheme, k, _, config in what.rows(over)}
  assert sizes == {('mosaic', 2): 250, ('mosaic', 4): 250, ('bundle', 2): 250, ('bundle', 4): 250,
                   ('backup-0.5', 2): 500, ('backup-0.5', 4): 500, ('nercc', 2): None, ('nercc', 4): None}
  of_f = dataclasses.replace(what, student_work=None, form='')
  assert {config.multiply_adds for scheme, *_, config in of_f.rows(over) if scheme in ('mosaic', 'bundle')} == {None}


@pytest.mark.parametrize('change, words', [
    ({'schemes': FREE}, "'nonsense' is no scheme"), ({'schemes': ()}, r'schemes=\(\) leaves nothing to compare'),
    ({'ks': (0,)}, 'ks=0 is not allowed'), ({'rs': (1.5,)}, 'rs=1.5 is not allowed'),
    ({'seeds': (-1,)}, 'seeds=-1'), ({'backup_work': (-0.1,)}, 'backup_work=-0.1'),
    ({'student_work': 0.0}, 'student_work=0.0'), ({'student_work': 'all'}, "student_work='all'")])
def test_what_cannot_be_compared_is_a_sentence(change, words):
  fine = {'dataset': 'digits', 'base_model': 'mlp', 'schemes': ('nercc',), 'ks': (2,), 'rs': (1,)}
  with pytest.raises(InputError, match=words):
    comparison.Comparison(**fine | change)


def test_a_base_dir_that_is_mistyped_leaves_no_trace(tmp_path):
  what = comparison.Comparison('digits', 'mlp', ('nercc',), (2,), (1,))
  with pytest.raises(InputError, match="base_dir='.*typo' holds no base model"):
    comparison.compare(what, str(tmp_path / 'b'), str(tmp_path / 'typo'), ONE)
  assert list(tmp_path.iterdir()) == []


def test_rows_of_other_epochs_are_not_mixed_and_epochs_are_shown(compared):
  _, path, made = compared
  trained = next(row for row in made if row['scheme'] == 'addition:from_base:subtraction')
  assert trained['config']['epochs'] == 3 and trained['steps']
  folder = path / 'mixed'
  folder.mkdir()
  rows = [trained, trained | {'seed': 1}, trained | {'seed': 2, 'config': trained['config'] | {'epochs': 7}},
          trained | {'seed': 3, 'config': trained['config'] | {'epochs': 7}, 'max_steps': 5}]
  for count, expected in ((2, [0, 1]), (3, [2]), (4, [3])):
    (folder / 'records.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows[:count]))
    assert [row['seed'] for row in comparison.latest(folder, trained)] == expected
  free = next(row for row in made if row['scheme'] == 'approxifer')
  text = tables.tables(report.mean_over_seeds([rows[3], free | {'k': trained['k'], 'r': trained['r']}]))
  epochs = text.split('Epochs of training')[1]
  assert '| addition:from_base:subtraction | 7, cut at 5 steps |' in epochs and 'approxifer' not in epochs


def test_presets():
  for name, preset in PRESETS.items():
    config = config_of(name, 4, 2, 'mnist', 'mlp', 7, None, 10_000)
    assert (config.encoder, config.decoder, config.parity_model) == (
        preset.encoder, preset.decoder, preset.parity_model) and config.seed == 7
    assert (config.k, config.r) == ((1, 2 if name == 'replication' else 1) if preset.per_query else (4, 2))
  assert get_preset('conv') == Preset('conv')
  mixed = get_preset('mlp:from_scratch:subtraction')
  assert (mixed.encoder, mixed.parity_model, mixed.decoder) == ('mlp', 'from_scratch', 'subtraction')
  assert mixed.loss == 'mse_base'
  for name in ('a:b', 'mlp:mlp:mlp', ''):
    with pytest.raises(InputError, match='no scheme'):
      get_preset(name)


def test_the_docs_encoder_is_one_line(base_dir, tmp_path, monkeypatch):
  text = (Path(__file__).parents[2] / 'docs' / 'your_code.md').read_text()
  names = {}
  exec(re.search(r'```python\n(# my_encoder.*?)```', text, re.DOTALL)[1], names)
  monkeypatch.setitem(coders.ENCODERS, 'mine', names['MyEncoder'])
  what = comparison.Comparison('digits', 'mlp', ('mine', 'mine:from_base:subtraction', 'default'), (2,), (2,), epochs=2)
  rows = by_row(comparison.compare(what, str(tmp_path), base_dir, ONE))
  assert rows['mine', 2, 2]['worker_work'] == pytest.approx(1.0, rel=1e-3)
  assert rows['mine', 2, 2]['encoder_parameters'] == 128 * 256 + 256 + 256 * 128 + 128
  assert all(np.isfinite(row['test_loss']) for row in rows.values()) and len(rows) == 3
