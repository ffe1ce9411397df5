"""Packed answers: digits against whole-number arithmetic, and every answer read back through a frozen F."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bounds import packed, packing
from lcode import models
from lcode.coding.code import Code, every_pattern
from lcode.coding.scheme import make_scheme
from lcode.coding.units import stack_units
from lcode.errors import InputError
from lcode.models.mlp import MLP
from lcode.models.resnet import ResNet
from lcode.runs.configs import CodeConfig, RunOptions

ROOT = Path(__file__).parents[3]
ONE = RunOptions(devices=1)
SHAPE = (12, 12, 1)
CLASSES = 5


def _f(name):
  model = ResNet(CLASSES, (1, 1), 8) if name == 'resnet' else models.make_model(name, SHAPE, CLASSES)
  return models.make_apply(model), model.init(jax.random.key(1), jnp.zeros((1, *SHAPE)))


@pytest.mark.parametrize('name, k, r', [
    ('mlp', 3, 2), ('logistic', 4, 1), ('resnet', 2, 1)])
def test_the_frontends_answers_come_back_through_f(name, k, r, rng):
  apply, variables = _f(name)
  small = MLP(CLASSES, (6,))
  own = small.init(jax.random.key(2), jnp.zeros((1, *SHAPE)))
  place = packing.find_packing(jax.random.key(0), apply, variables, SHAPE, k)
  scheme = packing.make_packed(Code(k, r), apply, place, small.apply, own)
  params, state = scheme.init(jax.random.key(0), jnp.zeros((k, *SHAPE)), CLASSES, variables)
  seen = set()
  infer, decode, encode = (jax.jit(fn) for fn in (scheme.infer, scheme.decode, scheme.encode))
  for _ in range(5):
    x = jnp.asarray(rng.uniform(-3, 3, (k, *SHAPE)), jnp.float32)
    scores, deployed = np.asarray(small.apply(own, x)), apply(variables, x)
    seen |= set(scores.argmax(-1))
    outputs = stack_units(deployed, infer(params, state, variables, encode(params, x)[None])[0][0])
    for available in every_pattern(Code(k, r)):
      decoded = np.asarray(decode(params, outputs, available))
      np.testing.assert_array_equal(decoded[available[:k]], deployed[available[:k]])
      missing = ~available[:k]
      np.testing.assert_array_equal(decoded.argmax(-1)[missing], scores.argmax(-1)[missing])
      np.testing.assert_array_equal(decoded.max(-1)[missing], 0)
  assert len(seen) > 1


@pytest.mark.parametrize('k, classes, base', [(2, 10, 2), (3, 10, 3), (4, 10, 4), (5, 10, 10), (9, 10, 10), (1, 2, 2)])
def test_digits_tell_all_classes_apart_and_are_as_coarse_as_fit(k, classes, base):
  digits = packing.class_digits(k, classes)
  assert k * digits.shape[1] <= classes - 1
  assert (base - 1)**digits.shape[1] < classes <= base**digits.shape[1]
  assert len({tuple(row) for row in digits.round(4)}) == classes
  np.testing.assert_allclose(np.unique(digits), np.linspace(-1, 1, base), atol=1e-6)
  message = np.asarray(packing.message_of(jnp.arange(k) % classes, classes))
  np.testing.assert_array_equal(message[:digits.size // classes * k].reshape(k, -1), digits[np.arange(k) % classes])


def test_every_message_is_read_rightly():
  """Of all there are, worked out by F in one batch; and few pixels of the anchor are touched."""
  apply, variables = _f('mlp')
  place = packing.find_packing(jax.random.key(3), apply, variables, SHAPE, 2)
  digits = packing.class_digits(2, CLASSES)
  messages = np.asarray([np.concatenate([one, two]) for one in digits for two in digits])
  images = np.stack([place.write(message) for message in messages])
  np.testing.assert_allclose(place.read(apply(variables, images)), messages, atol=0.7)  # digits are 2 apart
  assert 0 < (images != place.anchor[None]).reshape(len(images), -1).any(0).sum() == CLASSES - 1


def test_what_cannot_be_packed_is_said():
  apply, variables = _f('mlp')
  with pytest.raises(InputError, match='at most 4'):
    packing.find_packing(jax.random.key(0), apply, variables, SHAPE, 5)
  with pytest.raises(InputError, match='affine enough'):
    packing.find_packing(jax.random.key(0), lambda _, x: jnp.floor(x.reshape(len(x), -1)[:, :5]), {}, SHAPE, 2)
  with pytest.raises(InputError, match='affine enough'):
    packing.find_packing(jax.random.key(0), lambda _, x: jnp.sin(1e6 * x.reshape(len(x), -1)[:, :5]), {}, SHAPE, 2)
  place = packing.find_packing(jax.random.key(0), apply, variables, SHAPE, 2)
  with pytest.raises(InputError, match='packed answers'):
    make_scheme(Code(2, 1), apply, 'addition', packing.PackedDecoder(Code(2, 1), place))


def test_a_bundles_students_are_as_good_at_the_frontend(bundle):
  """The same figures from the parity worker's students and from F's answers to what they wrote."""
  own = bundle[1].record
  actual = packed.evaluate_packed(bundle[1], options=ONE).record
  assert actual['kind'] == 'packed' and actual['answers_by'] == 'students'
  assert actual['degraded_accuracy'] == own['degraded_accuracy'] > 0.5
  assert actual['available_accuracy'] == own['available_accuracy'] and actual['base_sha256'] == own['base_sha256']
  assert own['frontend_work'] < 0.01 < actual['frontend_work'] < 0.4  # a third of F a query, and the writing
  assert actual['worker_work'] == pytest.approx(1 / 3, rel=0.01)  # F's own answer to one parity for three
  with pytest.raises(InputError, match='has its own k'):
    packed.evaluate_packed(bundle[1], 3, options=ONE)


def test_a_backup_answers_for_any_k(backup):
  actual = packed.evaluate_packed(backup[1], 4, 2, ONE).record
  assert actual['degraded_accuracy'] == pytest.approx(backup[1].record['degraded_accuracy'], abs=0.01)
  assert actual['answers_by'] == 'backup'
  assert actual['missing'][0]['degraded_accuracy'] == actual['missing'][1]['degraded_accuracy'] > 0.5
  assert (actual['config']['k'], actual['config']['r']) == (4, 2)
  with pytest.raises(InputError, match='needs to be told'):
    packed.evaluate_packed(backup[1], options=ONE)
  other = dataclasses.replace(backup[1], config=CodeConfig())
  with pytest.raises(InputError, match='of a bundle or of a backup'):
    packed.evaluate_packed(other, options=ONE)


def test_from_the_command_line(backup, tmp_path):
  workdir = shutil.copytree(backup[0], tmp_path / 'backup')
  result = subprocess.run(
      [sys.executable, '-m', 'experiments.bounds.packed', f'--workdir={workdir}', '--k=2'], capture_output=True,
      text=True, cwd=ROOT)
  assert result.returncode == 0, result.stderr[-2000:]
  record = json.loads(result.stdout)
  assert record == json.loads((workdir / 'records.jsonl').read_text().splitlines()[-1])
  assert record['kind'] == 'packed' and set(record['microseconds']) == {*record['costs'], 'base_inference'}
