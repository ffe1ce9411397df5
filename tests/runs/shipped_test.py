"""The checkpoints that come with the repository: small, whole, and giving the figures that their records say."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from lcode import data
from lcode.data import tfds
from lcode.runs.code_run import evaluate_code
from lcode.runs.base_model import zeros_like
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.parts import build_scheme
from lcode.runs.records import config_as, read, read_config
from lcode.training import checkpoint

SHIPPED = sorted((Path(__file__).parents[2] / 'checkpoints').glob('*'))


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.name)
def test_it_is_what_its_name_says_and_undamaged(path):
  config = config_as(CodeConfig, read_config(path), path)
  assert path.name == f'{config.dataset}-{config.base_model}-k{config.k}-r{config.r}'
  shape = data.SPECS[config.dataset].image_shape
  scheme = build_scheme(config, shape, 10)
  shapes = jax.eval_shape(lambda key: scheme.init(key, jax.numpy.zeros((config.k, *shape)), 10, None),
                          jax.random.key(0))
  params, _ = checkpoint.Store(path / 'checkpoints').load_best(zeros_like(shapes)).variables
  leaves = jax.tree.leaves(params['parity_model'])  # restored, against the SHA-256 of every file
  assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in leaves)
  assert len(leaves) == (8 if config.form == 'cnn' else 6) * config.r


def test_all_of_them_are_small():
  assert len(SHIPPED) >= 12
  assert sum(file.stat().st_size for path in SHIPPED for file in path.rglob('*') if file.is_file()) < 20e6


@pytest.mark.parametrize('path', SHIPPED[::4], ids=lambda path: path.name)
def test_evaluation_gives_the_figures_of_its_record(path, tmp_path):
  config = read_config(path)
  if config['dataset'] != 'digits' and not (tfds.default_data_dir() / config['dataset']).is_dir():
    pytest.skip(f'no {config["dataset"]} in $TFDS_DATA_DIR')
  shutil.copytree(path, tmp_path / 'copy')
  actual, said = evaluate_code(str(tmp_path / 'copy'), RunOptions(devices=1)).record, read(path)[-1]
  for name in ('degraded_accuracy', 'reconstruction_accuracy', 'available_accuracy'):
    assert actual[name] == pytest.approx(said[name], abs=2e-4)  # a tie or two, on another processor
  assert said['base_sha256'] == actual['base_sha256']
