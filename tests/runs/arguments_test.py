"""What train_code, train_base, evaluate_code and load do not take, said before anything is read or written."""

import dataclasses

import pytest

import lcode
from lcode.errors import InputError
from lcode.runs.code_run import evaluate_code

FINE = {'config': lcode.CodeConfig(), 'workdir': 'run', 'base_dir': None, 'options': lcode.RunOptions()}


@pytest.mark.parametrize('change, words', [
    ({'config': None}, 'config is a NoneType, which is not allowed: give a CodeConfig'),
    ({'config': {'k': 2}}, 'config is a dict'), ({'config': lcode.BaseConfig()}, 'config is a BaseConfig'),
    ({'options': None}, 'options is a NoneType'), ({'options': {'devices': 1}}, 'options is a dict'),
    ({'base': 'dir'}, 'base is a str'), ({'workdir': None}, 'workdir=None names no directory'),
    ({'workdir': ''}, "workdir='' names no directory"), ({'base_dir': 3}, 'base_dir=3 names no directory'),
    ({'config': lcode.CodeConfig(train=('decoder',))}, 'train='), ({'config': lcode.CodeConfig(k='2')}, "k='2'")])
def test_what_train_code_does_not_take(change, words, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(InputError, match=words):
    lcode.train_code(**FINE | change)
  assert not list(tmp_path.iterdir())


def test_what_the_others_do_not_take(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for call, words in [(lambda: lcode.train_base(lcode.CodeConfig(), 'run'), 'config is a CodeConfig'),
                      (lambda: lcode.train_base(lcode.BaseConfig(), None), 'workdir=None'),
                      (lambda: lcode.train_base(lcode.BaseConfig(), 'run', None), 'options is a NoneType'),
                      (lambda: lcode.load(None), 'workdir=None'), (lambda: lcode.load('nowhere'), 'is no workdir of'),
                      (lambda: evaluate_code('run', None), 'options is a NoneType'),
                      (lambda: evaluate_code(''), "workdir=''")]:
    with pytest.raises(InputError, match=words):
      call()
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('field, value', [
    ('devices', 0), ('devices', 'all'), ('max_steps', 1.5), ('save_every_s', 'a'), ('save_every_s', -1.0),
    ('save_every_s', float('nan')), ('data_dir', 3), ('data_dir', '')])
def test_what_run_options_do_not_take(field, value):
  with pytest.raises(InputError, match=f'{field}='):
    dataclasses.replace(lcode.RunOptions(), **{field: value})
