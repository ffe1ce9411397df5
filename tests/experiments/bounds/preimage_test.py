"""Preimages: F of a parity is the sum of F's answers, in float64 too; and nothing is lost over networks of ReLUs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bounds import preimage
from experiments.bounds.measure import load_base
from lcode import models
from lcode.coding.code import Code, every_pattern
from lcode.coding.units import stack_units
from lcode.errors import InputError
from lcode.models.resnet import ResNet
from lcode.runs.configs import RunOptions

ROOT = Path(__file__).parents[3]
ONE = RunOptions(devices=1)
SHAPE = (12, 12, 1)


@pytest.mark.parametrize('name, tolerance, k, r', [
    ('logistic', 1e-4, 5, 2), ('mlp', 0.05, 5, 2), ('lenet5', 0.05, 3, 1), ('resnet', 0.05, 2, 1)])
def test_every_answer_comes_back_over_an_untrained_f(name, tolerance, k, r, rng):
  model = ResNet(7, (1, 1), 8) if name == 'resnet' else models.make_model(name, SHAPE, 7)
  x = jnp.asarray(rng.uniform(size=(k, *SHAPE)), jnp.float32)
  variables = model.init(jax.random.key(1), x)
  apply = jax.jit(models.make_apply(model))
  scheme, params = preimage.make_preimages(jax.random.key(0), Code(k, r), apply, variables, x)
  others = jnp.asarray(rng.uniform(size=(k, *SHAPE)), jnp.float32)  # not those that it was initialised with
  own = apply(variables, others)
  replies, _ = scheme.infer(params, {}, variables, scheme.encode(params, others)[None])
  outputs = stack_units(own, replies[0])
  decode = jax.jit(scheme.decode)
  for available in every_pattern(Code(k, r)):
    if available[k:].sum() >= k - available[:k].sum():
      error = np.linalg.norm(decode(params, outputs, available) - own)
      assert error < tolerance * np.linalg.norm(own)


def test_an_mlp_worked_out_in_float64(rng):
  """F of the anchor plus J⁺s, by hand."""
  weights = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in ((20, 30), (30, 4))]

  def apply(variables, x):
    h = x.reshape(len(x), -1) @ variables[0]
    return jnp.maximum(h + 0.3, 0) @ variables[1]

  small = [jnp.asarray(w, jnp.float32) for w in weights]
  outputs = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
  anchor, inverse = preimage.find_anchor(jax.random.key(2), apply, small, (20,), outputs)
  anchor, inverse = np.asarray(anchor, float), np.asarray(inverse, float)
  active = anchor @ weights[0] + 0.3 > 0
  jacobian = (weights[0] * active) @ weights[1]  # [d, C]
  np.testing.assert_allclose(inverse, np.linalg.pinv(jacobian.T).T, atol=1e-4)
  sums = rng.normal(size=(50, 4))
  actual = np.maximum((anchor + sums @ inverse) @ weights[0] + 0.3, 0) @ weights[1]
  at = np.maximum(anchor @ weights[0] + 0.3, 0) @ weights[1]
  np.testing.assert_allclose(actual - at, sums, atol=1e-3)


def test_over_a_trained_base_model_nothing_is_lost_and_the_frontend_pays(base_dir, bundle):
  """From a workdir of a base model and from a code's, which keeps the same one."""
  base, kept = load_base(str(base_dir), ONE), load_base(str(bundle[0]), ONE)
  assert base.sha256 == kept.sha256 == bundle[1].base.sha256 and kept.dataset.name == 'digits'
  actual = preimage.evaluate_preimages(base, 3, 2, options=ONE).record
  assert actual['kind'] == 'preimage' and actual['available_accuracy'] > 0.8
  assert actual['missing'][1]['degraded_accuracy'] == pytest.approx(actual['available_accuracy'], abs=0.01)
  assert 1 < actual['frontend_work'] < 1.2 and actual['worker_work'] == pytest.approx(2 / 3, rel=1e-3)
  assert actual['reconstruction_accuracy'] > 0.98


def test_from_the_command_line(base_dir, tmp_path):
  workdir = shutil.copytree(base_dir, tmp_path / 'base')

  result = subprocess.run(
      [sys.executable, '-m', 'experiments.bounds.preimage', f'--base_dir={workdir}', '--k=4'],
      capture_output=True, text=True, cwd=ROOT)
  assert result.returncode == 0, result.stderr[-2000:]
  record = json.loads(result.stdout)
  assert record == json.loads((workdir / 'records.jsonl').read_text().splitlines()[-1])
  assert record['kind'] == 'preimage' and record['config']['k'] == 4 and 'query 4 of 4 missing' in result.stderr


def test_what_holds_no_base_model_is_said(tmp_path):
  with pytest.raises(InputError, match='no workdir of train_base'):
    load_base(str(tmp_path), ONE)
