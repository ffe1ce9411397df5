"""What lies in a workdir is read back, also as earlier versions wrote it."""

import dataclasses
import json

import pytest

from lcode.errors import InputError
from lcode.runs import records
from lcode.runs.configs import CodeConfig


def test_records_and_configs_under_older_names_are_read_under_todays(tmp_path):
  old = dataclasses.asdict(CodeConfig(k=4, r=8, encoder='berrut', decoder='berrut', num_byzantine=1))
  old['wrong'] = old.pop('num_byzantine')
  (tmp_path / 'config.json').write_text(json.dumps({'kind': 'code', **old}))
  assert records.config_as(CodeConfig, records.read_config(tmp_path), tmp_path).num_byzantine == 1
  records.append(tmp_path, {'kind': 'comparison', 'config': old, 'passes_on': False, 'wrong_accuracy': 0.5})
  read = records.read(tmp_path)[0]
  assert (read['kind'], read['passthrough'], read['byzantine_accuracy']) == ('comparison', False, 0.5)
  assert not {'wrong', 'passes_on', 'wrong_accuracy'} & (read.keys() | read['config'].keys())
  assert read['config']['num_byzantine'] == 1
  # A run of today resumes in a workdir of before.
  records.check(tmp_path, {'kind': 'code', 'num_byzantine': 1, 'k': 4})
  with pytest.raises(InputError, match='num_byzantine=1, now it is 2'):
    records.check(tmp_path, {'num_byzantine': 2})


def test_a_line_that_was_cut_short_is_passed_over(tmp_path):
  records.append(tmp_path, {'a': 1})
  with open(tmp_path / 'records.jsonl', 'a') as file:
    file.write('{"a": 2, "b"')
  assert records.read(tmp_path) == [{'a': 1}]
  records.append(tmp_path, {'a': 3})  # is not lost with it
  assert records.read(tmp_path) == [{'a': 1}, {'a': 3}]


def test_a_damaged_line_is_passed_over(tmp_path):
  for line in range(3):
    records.append(tmp_path, {'a': line})
  damaged = bytearray((tmp_path / 'records.jsonl').read_bytes())
  damaged[2] ^= 0x80  # no UTF-8 any more
  (tmp_path / 'records.jsonl').write_bytes(damaged + b'[]\n3\nnull\n')
  assert [record.get('a') for record in records.read(tmp_path)][-2:] == [1, 2]
  assert all(isinstance(record, dict) for record in records.read(tmp_path))
