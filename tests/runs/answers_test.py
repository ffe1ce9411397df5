"""F's answers that are kept on disk: used only by the F and the data that they are of."""

import dataclasses

import jax
import numpy as np
import pytest

from lcode import data
from lcode.runs import answers, base_model
from lcode.runs.presets import config_of


@pytest.fixture
def base(tmp_path, monkeypatch):
  monkeypatch.setenv('LCODE_CACHE', str(tmp_path / 'cache'))
  monkeypatch.setattr(answers, 'LEAST_SECONDS', 0)
  return base_model.obtain(config_of('mosaic'), data.load('digits'), tmp_path, 'checkpoints/digits-mlp-k2-r1')


def kept_files(tmp_path):
  return sorted((tmp_path / 'cache' / 'answers').iterdir())


def test_answers_are_computed_once_for_all_processes(base, tmp_path, monkeypatch):
  first = {split: base.outputs[split] for split in ('train', 'validation', 'test')}
  images = base.preprocess(base.dataset.test.images)
  np.testing.assert_allclose(first['test'], jax.jit(base.apply)(base.variables, images), rtol=1e-5, atol=1e-5)
  assert len(kept_files(tmp_path)) == 3
  asked = []

  def counting(apply, variables, images, *rest):
    asked.append(len(images))
    return apply_in_batches(apply, variables, images, *rest)

  apply_in_batches = answers.apply_in_batches
  monkeypatch.setattr(answers, 'apply_in_batches', counting)
  again = dataclasses.replace(base)  # as another process would have it
  for split, expected in first.items():
    np.testing.assert_array_equal(again.outputs[split], expected)
  assert asked == [answers.COMPARED] * 3


def test_another_f_or_what_f_would_not_answer_is_not_used(base, tmp_path):
  expected = base.outputs['test']
  base.outputs['test']
  other = dataclasses.replace(base, apply=lambda variables, x: -base.apply(variables, x))  # the same variables, by name
  np.testing.assert_allclose(other.outputs['test'], -expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(dataclasses.replace(base).outputs['test'], expected, rtol=1e-5, atol=1e-5)
  doubled = jax.tree.map(lambda x: 2 * x, base.variables)
  dataclasses.replace(base, variables=doubled, sha256='2' * 64).outputs['test']
  assert len(kept_files(tmp_path)) == 2
  for path in kept_files(tmp_path):
    path.write_bytes(b'no arrays')
  np.testing.assert_allclose(dataclasses.replace(base).outputs['test'], expected, rtol=1e-5, atol=1e-5)
