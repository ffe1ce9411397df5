"""A base model and codes over it that the tests of both bounds share."""

import pytest

from lcode.runs import base_model
from lcode.runs.code_run import train_code
from lcode.runs.configs import BaseConfig, RunOptions
from lcode.runs.presets import config_of

ONE = RunOptions(devices=1)


@pytest.fixture(scope='session')
def base_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp('bounds') / 'base'
  base_model.train_base(BaseConfig('digits', 'mlp', epochs=5), str(path), ONE)
  return path


@pytest.fixture(scope='session')
def bundle(base_dir):
  path = base_dir.parent / 'bundle'
  return path, train_code(config_of('bundle', 3, 1, 'digits', 'mlp', 0, 5), str(path), str(base_dir), ONE)


@pytest.fixture(scope='session')
def backup(base_dir):
  path = base_dir.parent / 'backup'
  return path, train_code(config_of('backup', 1, 1, 'digits', 'mlp', 0, 5, 2000), str(path), str(base_dir), ONE)
