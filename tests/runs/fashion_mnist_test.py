"""One run over real Fashion-MNIST, where TFDS has it ($TFDS_DATA_DIR or its usual place)."""

import numpy as np
import pytest

from lcode import data
from lcode.data import tfds
from lcode.runs import base_model
from lcode.runs.code_run import train_code
from lcode.runs.configs import BaseConfig, CodeConfig, RunOptions

DIRECTORY = tfds.default_data_dir() / 'fashion_mnist' / '3.0.1'
pytestmark = pytest.mark.skipif(not DIRECTORY.is_dir(), reason='no Fashion-MNIST in $TFDS_DATA_DIR')


def test_the_data_are_fashion_mnist():
  dataset = data.load('fashion_mnist')
  assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [55_000, 5_000, 10_000]
  labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
  assert np.bincount(labels).tolist() == [6_000] * 10 and np.bincount(dataset.test.labels).tolist() == [1_000] * 10
  images = np.concatenate([dataset.train.images, dataset.validation.images])
  assert images.mean() == pytest.approx(72.9404, abs=1e-3)  # the known mean, 0.2860 of 255


def test_an_epoch_of_the_papers_recipe(tmp_path):
  """The authors' code reaches 56.0 / 55.6 % after one epoch, over a base model of 89.47 %."""
  one = RunOptions(devices=1)
  base_model.train_base(BaseConfig('fashion_mnist', epochs=4), str(tmp_path / 'base'), one)
  record = train_code(CodeConfig('fashion_mnist', recipe='paper', epochs=1), str(tmp_path / 'code'),
                      str(tmp_path / 'base'), one).record
  assert record['available_accuracy'] > 0.87
  assert record['reconstruction_accuracy'] > 0.5 and record['degraded_accuracy'] > 0.48
  assert record['steps'] == 430 and record['encoder_parameters'] == 3_690_288
