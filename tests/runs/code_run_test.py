"""Runs as a user makes them: records, resuming, a kill at any moment, and bad input that leaves files as they were."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import lcode
from lcode import models
from lcode.data import load, make_normalise, Spec, SPECS
from lcode.errors import InputError
from lcode.runs import base_model, code_run, records
from lcode.runs.code_run import evaluate_code, train_code
from lcode.runs.configs import BaseConfig, CodeConfig, RunOptions
from lcode.training import checkpoint
from lcode.training.recipes import get_recipe

ONE = RunOptions(devices=1)


@pytest.fixture(scope='module')
def base_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'base'
  base_model.train_base(BaseConfig(epochs=30), str(path), ONE)
  return path


@pytest.fixture(scope='module')
def trained(base_dir):
  path = base_dir.parent / 'code'
  return path, train_code(CodeConfig(epochs=500, seed=1), str(path), str(base_dir), ONE)


def snapshot(path):
  return {str(p): p.read_bytes() for p in Path(path).rglob('*') if p.is_file()}


def test_a_code_over_digits_learns(trained):
  record = trained[1].record
  assert record['available_accuracy'] > 0.94
  assert record['degraded_accuracy'] > 0.90  # the default answer has 0.13
  assert record['degraded_accuracy'] > record['default_accuracy'] + 0.6
  low, high = record['degraded_accuracy_interval']
  assert low < record['degraded_accuracy'] < high and high - low < 0.1


def test_the_record_is_complete_and_appended(trained):
  path, code = trained
  for name in ('config', 'seed', 'versions', 'device', 'seconds', 'groups_per_second', 'available_accuracy',
               'reconstruction_accuracy', 'degraded_accuracy', 'test_loss', 'base_parameters', 'encoder_parameters',
               'decoder_parameters', 'positions', 'commit', 'cpu'):
    assert name in code.record
  assert code.record['base_parameters'] == 64 * 200 + 200 + 200 * 100 + 100 + 100 * 10 + 10
  assert code.record['encoder_parameters'] == 128 * 128 + 128 + 128 * 64 + 64
  last = json.loads((path / 'records.jsonl').read_text().splitlines()[-1])
  assert last['degraded_accuracy'] == code.record['degraded_accuracy']
  assert list((path / 'events').glob('events.out.tfevents.*'))


def test_figures_by_brute_force(trained):
  """Every test group, every erasure, one at a time, through encode and decode alone."""
  _, code = trained
  test = load('digits').test
  x = np.asarray(make_normalise(load('digits').spec)(test.images))
  apply = jax.jit(code.base.apply)
  outputs = np.asarray(apply(code.base.variables, x))
  encode, decode = jax.jit(code.scheme.encode), jax.jit(code.scheme.decode)
  right = {0: [], 1: []}
  for group in range(len(x) // 2):
    units = slice(2 * group, 2 * group + 2)
    parity = apply(code.base.variables, encode(code.params, x[units]))
    for missing in (0, 1):
      answer = decode(code.params, np.concatenate([outputs[units], parity]), np.arange(3) != missing)[missing]
      right[missing].append(int(np.argmax(answer)) == test.labels[2 * group + missing])
  for missing, row in enumerate(code.record['positions']):
    assert row['degraded_accuracy'] == pytest.approx(np.mean(right[missing]), abs=0.006)  # a tie may fall either way
  assert code.record['available_accuracy'] == pytest.approx((outputs.argmax(-1) == test.labels).mean())


def test_evaluate_gives_the_figures_again_without_base_dir_or_training(trained, tmp_path):
  path, code = trained
  moved = tmp_path / 'moved'
  subprocess.run(['cp', '-r', str(path), str(moved)], check=True)
  record = evaluate_code(str(moved)).record
  for name in ('available_accuracy', 'reconstruction_accuracy', 'degraded_accuracy'):
    assert record[name] == code.record[name]
  assert record['test_loss'] == pytest.approx(code.record['test_loss'], rel=1e-5)


def test_a_finished_run_does_not_train_again(trained, base_dir):
  path, code = trained
  again = train_code(CodeConfig(epochs=500, seed=1), str(path), str(base_dir), ONE)
  jax.tree.map(np.testing.assert_array_equal, again.params, code.params)
  assert again.record['steps'] == code.record['steps']


def test_the_same_seed_gives_the_same_code_and_another_another(base_dir, tmp_path):
  codes = [train_code(CodeConfig(epochs=2, seed=seed), str(tmp_path / f'{i}'), str(base_dir), ONE)
           for i, seed in enumerate((5, 5, 6))]
  jax.tree.map(np.testing.assert_array_equal, codes[0].params, codes[1].params)
  assert np.abs(codes[0].params['encoder']['hidden']['kernel']
                - codes[2].params['encoder']['hidden']['kernel']).max() > 1e-3


def command(workdir, *more):
  return [sys.executable, '-m', 'experiments.train_code', f'--workdir={workdir}', '--devices=1', '--epochs=60',
          '--save_every_s=0', *more]


def final_arrays(workdir):
  store = checkpoint.Store(workdir / 'checkpoints')
  step = checkpoint.steps_in(store.root / 'latest')[-1]
  best = checkpoint.steps_in(store.root / 'best')[-1]
  arrays = {}
  for name, directory in (('latest', store.root / 'latest' / str(step)), ('best', store.root / 'best' / str(best))):
    with checkpoint._checkpointer() as checkpointer:
      arrays[name] = checkpointer.restore(directory / 'arrays')
  return step, best, arrays


@pytest.mark.parametrize('kills', [2])
def test_killed_at_any_moment_a_run_ends_bit_for_bit_as_if_never_stopped(base_dir, tmp_path, cache, kills):
  environment = {**os.environ, 'LCODE_CACHE': str(cache)}
  ends = []
  for name in ('whole', 'killed'):
    workdir = tmp_path / name
    arguments = command(workdir, f'--base_dir={base_dir}')
    if name == 'killed':
      rng = np.random.default_rng(0)
      for _ in range(kills):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        before = checkpoint.steps_in(workdir / 'checkpoints' / 'latest')
        deadline = time.monotonic() + 90
        while checkpoint.steps_in(workdir / 'checkpoints' / 'latest') == before and time.monotonic() < deadline:
          time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it was still running
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    ends.append((final_arrays(workdir), json.loads(result.stdout.splitlines()[-1])))
  (whole, record), (killed, record_killed) = ends
  assert whole[:2] == killed[:2]
  jax.tree.map(np.testing.assert_array_equal, whole[2], killed[2])
  for name in ('degraded_accuracy', 'test_loss', 'best_step', 'steps'):
    assert record[name] == record_killed[name]


def test_a_run_goes_on_with_another_number_of_devices(base_dir, tmp_path, caplog):
  config = CodeConfig(epochs=4)
  one = train_code(config, str(tmp_path / 'one'), str(base_dir), ONE)
  train_code(config, str(tmp_path / 'mixed'), str(base_dir), RunOptions(devices=8, max_steps=20))
  mixed = train_code(config, str(tmp_path / 'mixed'), str(base_dir), RunOptions(devices=2))
  assert 'written on 8 device(s), this run resumes it on 2' in caplog.text
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one.params, mixed.params)


@pytest.mark.parametrize('change, words', [
    ({'k': 0}, 'k=0'), ({'r': 0}, 'r=0'), ({'k': 138}, 'k=138 is larger than the 137 examples of the validation split'),
    ({'dataset': 'svhn'}, 'cifar10, digits, fashion_mnist, mnist'), ({'base_model': 'vit'}, 'logistic, mlp, resnet18'),
    ({'encoder': 'rnn'}, 'conv, features, mlp'),
    ({'decoder': 'rnn'}, 'mlp'), ({'loss': 'l1'}, 'kl_base, mse_base, xent_label'),
    ({'recipe': 'magic'}, 'onecycle'), ({'epochs': 0}, 'epochs=0'), ({'batch_size': 0}, 'batch_size=0'),
    ({'seed': -1}, 'seed=-1'), ({'base_model': 'logistic'}, "base_model='mlp'")])
def test_bad_input_is_a_sentence_and_leaves_nothing(base_dir, tmp_path, change, words):
  before = snapshot(base_dir)
  with pytest.raises(InputError) as error:
    train_code(CodeConfig(**change), str(tmp_path / 'new'), str(base_dir), ONE)
  message = str(error.value)
  assert words in message and '\n' not in message and message.endswith('.')
  assert not (tmp_path / 'new').exists() and snapshot(base_dir) == before


@pytest.mark.parametrize('change, options, words', [
    ({'seed': 2}, {}, 'seed=1'), ({'epochs': 5}, {}, 'epochs=500'), ({'k': 3}, {}, 'k=2'),
    ({}, {'devices': 3}, 'split evenly over 3'), ({}, {'devices': 0}, 'devices=0'),
    ({}, {'devices': 9}, 'more than the 8'), ({}, {'max_steps': 0}, 'max_steps=0'),
    ({}, {'save_every_s': -1.0}, 'save_every_s=-1.0')])
def test_another_config_or_useless_devices_leave_the_workdir(trained, base_dir, change, options, words):
  path, _ = trained
  before = snapshot(path)
  config = CodeConfig(**{'epochs': 500, 'seed': 1, **change})
  with pytest.raises(InputError, match=words):
    train_code(config, str(path), str(base_dir), RunOptions(**{'devices': 1, **options}))
  assert snapshot(path) == before


def test_another_base_model_is_refused_by_its_content(trained, tmp_path):
  path, _ = trained
  base_model.train_base(BaseConfig(epochs=1, seed=9), str(tmp_path / 'other'), ONE)
  with pytest.raises(InputError, match='base_sha256'):
    train_code(CodeConfig(epochs=500, seed=1), str(path), str(tmp_path / 'other'), ONE)


def test_a_base_dir_must_be_one(trained, tmp_path):
  (tmp_path / 'else').mkdir()
  (tmp_path / 'else' / 'config.json').write_text('{"kind": "something"}')
  with pytest.raises(InputError, match='no workdir of train_base or train_code'):
    train_code(CodeConfig(), str(tmp_path / 'new'), str(tmp_path / 'else'), ONE)
  with pytest.raises(InputError, match='no workdir of train_code'):
    evaluate_code(str(tmp_path))


def test_a_codes_workdir_lends_the_base_model_that_it_keeps(trained, tmp_path):
  path, code = trained
  other = train_code(CodeConfig(encoder='replication', decoder='replication', k=1), str(tmp_path / 'a'), str(path), ONE)
  assert other.base.sha256 == code.base.sha256 and not (tmp_path / 'a' / 'base').exists()
  with pytest.raises(InputError, match="trained with base_model='mlp', this run has 'logistic'"):
    train_code(CodeConfig(base_model='logistic'), str(tmp_path / 'b'), str(path), ONE)


def test_a_mistyped_base_dir_trains_nothing(tmp_path):
  with pytest.raises(InputError, match='holds no base model: train one there'):
    train_code(CodeConfig(), str(tmp_path / 'new'), str(tmp_path / 'fashon'), ONE)
  assert not list(tmp_path.iterdir())


def test_max_steps_limits_the_base_model_too_and_is_not_mistaken_for_training(tmp_path):
  two = RunOptions(devices=1, max_steps=2)
  code = train_code(CodeConfig(epochs=1), str(tmp_path), None, two)
  assert records.read(tmp_path / 'base')[-1]['steps'] == 2 and not code.base.finished
  assert train_code(CodeConfig(epochs=1), str(tmp_path), None, two).base.sha256 == code.base.sha256
  with pytest.raises(InputError, match='over a base model that is not finished'):
    train_code(CodeConfig(epochs=1), str(tmp_path), None, ONE)


def test_load_gives_a_code_without_data_and_writes_nothing(trained, monkeypatch):
  path, code = trained
  before = snapshot(path)
  monkeypatch.setattr('lcode.data.load', lambda *_: pytest.fail('the data were read'))
  loaded = lcode.load(path)
  assert snapshot(path) == before
  assert loaded.config == code.config and loaded.record['degraded_accuracy'] == code.record['degraded_accuracy']
  assert loaded.base.query_shape == (8, 8, 1) and loaded.base.num_outputs == 10 and loaded.base.finished
  x = loaded.base.preprocess(code.base.dataset.test.images[:10].reshape(5, 2, 8, 8, 1))
  units = np.concatenate([x, loaded.codec.encode(x)], axis=1)
  outputs = np.stack([loaded.base.apply(loaded.base.variables, units[:, i]) for i in range(3)], axis=1)
  for params, base in [(code.params, code.base), (loaded.params, loaded.base)]:
    answers = [loaded.scheme.decode(params, group, np.array([True, False, True])) for group in outputs]
  np.testing.assert_allclose(loaded.codec.decode(outputs, np.array([True, False, True])), answers, atol=1e-5)
  assert len(repr(loaded)) < 600


def test_load_of_what_is_no_code_is_a_sentence(base_dir, tmp_path):
  for path, words in [(tmp_path, 'no workdir of train_code'), (base_dir, 'holds a base model, no code'),
                      (tmp_path / 'not there', 'no workdir of train_code')]:
    with pytest.raises(InputError, match=words):
      lcode.load(path)


def test_conv_over_images_that_are_not_square(base_dir, tmp_path, monkeypatch):
  digits = load('digits')

  def cut(split):
    return dataclasses.replace(split, images=split.images[:, :, :7])
  splits = {name: cut(getattr(digits, name)) for name in ('train', 'validation', 'test')}
  narrow = dataclasses.replace(digits, **splits)
  monkeypatch.setattr('lcode.data.load', lambda *_: narrow)
  with pytest.raises(InputError, match='square'):
    train_code(CodeConfig(encoder='conv'), str(tmp_path / 'new'), str(base_dir), ONE)
  assert not (tmp_path / 'new').exists()


def test_a_workdir_that_cannot_be_written(base_dir, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='cannot be written'):
    train_code(CodeConfig(epochs=1), str(tmp_path / 'file' / 'x'), str(base_dir), ONE)


def test_a_corrupt_kept_base_or_config_is_a_sentence(trained, tmp_path):
  copy = tmp_path / 'copy'
  subprocess.run(['cp', '-r', str(trained[0]), str(copy)], check=True)
  files = [p for p in (copy / 'base_model').rglob('*') if p.is_file()]
  largest = max(files, key=lambda p: p.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:100])
  with pytest.raises(InputError, match='damaged .*: remove .* and run the command that trained the code again'):
    evaluate_code(str(copy))
  (copy / 'config.json').write_text('{')
  with pytest.raises(InputError, match='config.json cannot be read'):
    evaluate_code(str(copy))


def test_what_the_paper_and_the_data_sets_say():
  paper = get_recipe('paper')
  assert (paper.batch_size(2), paper.batch_size(5)) == (64, 32)
  assert [paper.default_epochs(name) for name in ('mnist', 'fashion_mnist', 'cifar10')] == [500, 500, 2000]
  cifar = SPECS['cifar10']
  assert (cifar.mean, cifar.std) == ((.4914, .4822, .4465), (.2023, .1994, .2010)) and cifar.augment
  assert cifar.validation == 5000
  assert SPECS['mnist'] == SPECS['fashion_mnist'] == Spec(5000, (28, 28, 1), 10)


def test_each_split_goes_where_it_belongs(base_dir, tmp_path, monkeypatch):
  seen, fit = {}, code_run.fit

  def spy(scheme, variables, images, labels, **more):
    seen.update(images=images, labels=labels, **more)
    return fit(scheme, variables, images, labels, **more)
  monkeypatch.setattr(code_run, 'fit', spy)
  real, spec = load('digits'), dataclasses.replace(SPECS['digits'], augment=True)
  monkeypatch.setattr('lcode.data.load', lambda *_: dataclasses.replace(real, spec=spec))
  record = train_code(CodeConfig(epochs=1), str(tmp_path / 'x'), str(base_dir), ONE).record
  assert seen['images'] is real.train.images and seen['labels'] is real.train.labels and seen['augment']
  assert seen['validation'] == (real.validation.images, real.validation.labels)
  assert record['erased'] == record['test_groups'] * 2 == len(real.test)
  base = evaluate_code(str(tmp_path / 'x')).base
  outputs = np.asarray(base.apply(base.variables, make_normalise(spec)(real.test.images)))
  most = np.bincount(outputs.argmax(-1)).argmax()
  assert record['default_accuracy'] == pytest.approx((real.test.labels == most).mean())


def test_a_base_in_the_workdir_is_checked_too(base_dir, tmp_path):
  subprocess.run(['cp', '-r', str(base_dir), str(tmp_path / 'base')], check=True)
  with pytest.raises(InputError, match="base_model='mlp'"):
    train_code(CodeConfig(base_model='logistic', epochs=1), str(tmp_path), None, ONE)


def test_checkpoints_without_a_config_are_not_adopted(trained, base_dir, tmp_path):
  copy = tmp_path / 'copy'
  subprocess.run(['cp', '-r', str(trained[0]), str(copy)], check=True)
  (copy / 'config.json').unlink()
  with pytest.raises(InputError, match='no config.json'):
    train_code(CodeConfig(epochs=500, seed=1), str(copy), str(base_dir), ONE)


def test_an_unfinished_base_is_finished(tmp_path):
  base_model.train_base(BaseConfig(epochs=2), str(tmp_path / 'base'), RunOptions(devices=1, max_steps=5))
  train_code(CodeConfig(epochs=1), str(tmp_path / 'code'), str(tmp_path / 'base'), ONE)
  assert records.read(tmp_path / 'base')[-1]['steps'] == 20


def test_the_kept_base_serves_when_base_dir_has_gone(base_dir, tmp_path):
  gone = tmp_path / 'base'
  subprocess.run(['cp', '-r', str(base_dir), str(gone)], check=True)
  train_code(CodeConfig(epochs=1), str(tmp_path / 'code'), str(gone), ONE)
  subprocess.run(['rm', '-r', str(gone)], check=True)
  train_code(CodeConfig(epochs=1), str(tmp_path / 'code'), str(gone), ONE)
  assert not gone.exists()


def test_a_base_dir_with_other_things_in_it_is_left_alone(tmp_path):
  (tmp_path / 'notes').mkdir()
  (tmp_path / 'notes' / 'notes.txt').write_text('mine')
  with pytest.raises(InputError, match='holds something'):
    train_code(CodeConfig(epochs=1), str(tmp_path / 'code'), str(tmp_path / 'notes'), ONE)
  assert not (tmp_path / 'code').exists() and len(list((tmp_path / 'notes').iterdir())) == 1


@pytest.mark.parametrize('content', ['{"kind": "base"}', '[]', '{'])
def test_a_config_that_is_none_is_a_sentence(tmp_path, content):
  (tmp_path / 'base').mkdir()
  (tmp_path / 'base' / 'config.json').write_text(content)
  with pytest.raises(InputError):
    train_code(CodeConfig(epochs=1), str(tmp_path / 'code'), str(tmp_path / 'base'), ONE)
  assert not (tmp_path / 'code').exists()


def test_useless_batches_and_codes_claim_nothing(tmp_path):
  with pytest.raises(InputError, match='batch of 2000 is larger'):
    base_model.train_base(BaseConfig(batch_size=2000), str(tmp_path / 'base'), ONE)
  for config, words in (
      (CodeConfig(k=1, encoder='spline', decoder='spline'), 'too few workers'),
      (CodeConfig(k=2, r=3, encoder='replication', decoder='replication'), 'r=3 copies of k=2'),
      (CodeConfig(encoder='addition', decoder='subtraction'), 'undoes sums'),
      (CodeConfig(encoder='addition', decoder='spline'), "SplineDecoder goes with parities='spline' alone"),
      (CodeConfig(encoder='approxifer', parity_model='from_base'), 'leave parity_model out'),
      (CodeConfig(parity_model='backup', multiply_adds=9999), 'do not go together: take'),
      (CodeConfig(parity_model='backup'), 'multiply_adds=None'),
      (CodeConfig(k=1, encoder='replication', decoder='replication', parity_model='backup', multiply_adds=9),
       'too small for any backup'),
      (CodeConfig(encoder='addition', train='encoder'), "'encoder' is no part to train: the encoder of this scheme"),
      (CodeConfig(train='encoders'), "part to train 'encoders'"), (CodeConfig(num_byzantine=1), 'num_byzantine=1'),
      (CodeConfig(encoder='berrut', decoder='berrut', num_byzantine=1),
       'num_byzantine=1 answers cannot be located among n=3'),
      (CodeConfig(scenarios=0), 'scenarios=0')):
    with pytest.raises(InputError, match=words) as error:
      train_code(config, str(tmp_path / 'code'), None, ONE)
    assert len(str(error.value)) < 260 and '\n' not in str(error.value) and not list(tmp_path.iterdir())


def test_evaluation_takes_several_devices(trained):
  record = evaluate_code(str(trained[0]), RunOptions(devices=8)).record
  assert record['devices'] == 8 and record['degraded_accuracy'] == trained[1].record['degraded_accuracy']


@pytest.mark.parametrize('arguments, words', [
    (['train_code', '--k=0'], 'k=0'), (['train_code', '--workdir='], '--workdir='),
    (['demo', '--groups=0'], '--groups=0'), (['train_code', '--k=two'], '--k=two'),
    (['train_base', '--epoch=3'], 'epoch'),
    (['evaluate', '--workdir=/nonexistent'], 'no workdir of train_code'), (['train_code', 'digits'], "'digits'")])
def test_the_command_line_ends_in_one_sentence(arguments, words, tmp_path):
  result = subprocess.run([sys.executable, '-m', f'experiments.{arguments[0]}', *arguments[1:]], capture_output=True,
                          text=True, env={**os.environ, 'PYTHONPATH': os.getcwd()}, cwd=tmp_path)
  assert result.returncode == 1 and result.stdout == ''
  lines = [line for line in result.stderr.splitlines() if line]
  assert len(lines) == 1 and lines[0].startswith('error: ') and words in lines[0]
  assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_resnet_and_conv_take_real_steps_on_two_devices(tmp_path):
  config = CodeConfig(encoder='conv', base_model='resnet18', epochs=1)
  base_model.train_base(BaseConfig(base_model='resnet18', epochs=1), str(tmp_path / 'base'),
                        RunOptions(devices=2, max_steps=1))
  code = train_code(config, str(tmp_path / 'code'), str(tmp_path / 'base'), RunOptions(devices=2, max_steps=1))
  assert code.record['steps'] == 1 and np.isfinite(code.record['test_loss'])
  model = models.make_model('resnet18', (8, 8, 1), 10)
  assert base_model.count_parameters(code.base.variables) == code.record['base_parameters'] == 2_776_522
  assert 'batch_stats' in code.base.variables and model.stages == (2, 2, 2)


def test_sums_over_an_affine_model_are_exact(tmp_path):
  config = CodeConfig(base_model='logistic', encoder='addition', decoder='subtraction', k=3, r=2)
  record = train_code(config, str(tmp_path), None, ONE).record
  assert record['relative_error'] < 1e-4 and record['steps'] == 0
  assert record['worker_work'] == pytest.approx(2 / 3, 0.01)
  again = evaluate_code(str(tmp_path)).record  # a code without parameters is kept like any other
  assert again['degraded_accuracy'] == record['degraded_accuracy'] > 0.9
