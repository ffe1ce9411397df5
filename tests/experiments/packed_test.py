"""Packed answers: digits against whole-number arithmetic, and every answer read back through a frozen F."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bounds import packed
from lcode import models
from lcode.coding.code import Code, every_pattern
from lcode.coding.scheme import make_scheme, parts_to_train, stack_units
from lcode.errors import InputError
from lcode.models.mlp import MLP
from lcode.runs import base_model
from lcode.runs.code_run import evaluate_packed, train_code
from lcode.runs.configs import BaseConfig, CodeConfig, RunOptions

SHAPE = (12, 12, 1)
CLASSES = 5


def _f(name):
  model = models.make_model(name, SHAPE, CLASSES)
  return models.make_apply(model), model.init(jax.random.key(1), jnp.zeros((1, *SHAPE)))


@pytest.mark.parametrize('name, k, r', [
    ('mlp', 2, 1), ('mlp', 4, 1), ('mlp', 3, 2), ('lenet5', 4, 1), ('logistic', 3, 1), ('resnet20', 2, 1)])
def test_the_frontends_answers_come_back_through_f(name, k, r, rng):
  apply, variables = _f(name)
  small = MLP(CLASSES, (6,))
  own = small.init(jax.random.key(2), jnp.zeros((1, *SHAPE)))
  packing = packed.find_packing(jax.random.key(0), apply, variables, SHAPE, k)
  scheme = make_scheme(Code(k, r), apply, packed.PackedEncoder(Code(k, r), packing, small.apply, own),
                       packed.PackedDecoder(Code(k, r), packing))
  params, state = scheme.init(jax.random.key(0), jnp.zeros((k, *SHAPE)), CLASSES, variables)
  assert parts_to_train(scheme, params) == ()
  seen = set()
  for _ in range(5):
    x = jnp.asarray(rng.uniform(-3, 3, (k, *SHAPE)), jnp.float32)
    scores, deployed = np.asarray(small.apply(own, x)), apply(variables, x)
    seen |= set(scores.argmax(-1))
    outputs = stack_units(deployed, scheme.infer(params, state, variables, scheme.encode(params, x)[None])[0][0])
    for available in every_pattern(Code(k, r)):
      decoded = np.asarray(scheme.decode(params, outputs, available))
      np.testing.assert_array_equal(decoded[available[:k]], deployed[available[:k]])
      missing = ~available[:k]
      np.testing.assert_array_equal(decoded.argmax(-1)[missing], scores.argmax(-1)[missing])
      np.testing.assert_array_equal(decoded.max(-1)[missing], 0)
  assert len(seen) > 1


@pytest.mark.parametrize('k, classes, base', [(2, 10, 2), (3, 10, 3), (4, 10, 4), (5, 10, 10), (9, 10, 10), (1, 2, 2)])
def test_digits_tell_all_classes_apart_and_are_as_coarse_as_fit(k, classes, base):
  digits = packed.class_digits(k, classes)
  assert k * digits.shape[1] <= classes - 1
  assert (base - 1)**digits.shape[1] < classes <= base**digits.shape[1]
  assert len({tuple(row) for row in digits.round(4)}) == classes
  np.testing.assert_allclose(np.unique(digits), np.linspace(-1, 1, base), atol=1e-6)
  message = np.asarray(packed.message_of(jnp.arange(k) % classes, classes))
  np.testing.assert_array_equal(message[:digits.size // classes * k].reshape(k, -1), digits[np.arange(k) % classes])


def test_every_message_is_read_rightly():
  """Of all there are, worked out by F in one batch; and few pixels of the anchor are touched."""
  apply, variables = _f('mlp')
  packing = packed.find_packing(jax.random.key(3), apply, variables, SHAPE, 2)
  digits = packed.class_digits(2, CLASSES)
  messages = np.asarray([np.concatenate([one, two]) for one in digits for two in digits])
  images = np.stack([packing.write(message) for message in messages])
  np.testing.assert_allclose(packing.read(apply(variables, images)), messages, atol=0.7)  # digits are 2 apart
  assert 0 < (images != packing.anchor[None]).reshape(len(images), -1).any(0).sum() == CLASSES - 1


def test_what_cannot_be_packed_is_said():
  apply, variables = _f('mlp')
  with pytest.raises(InputError, match='at most 4'):
    packed.find_packing(jax.random.key(0), apply, variables, SHAPE, 5)
  with pytest.raises(InputError, match='affine enough'):
    packed.find_packing(jax.random.key(0), lambda _, x: jnp.floor(x.reshape(len(x), -1)[:, :5]), {}, SHAPE, 2)
  with pytest.raises(InputError, match='affine enough'):
    packed.find_packing(jax.random.key(0), lambda _, x: jnp.sin(1e6 * x.reshape(len(x), -1)[:, :5]), {}, SHAPE, 2)
  packing = packed.find_packing(jax.random.key(0), apply, variables, SHAPE, 2)
  with pytest.raises(InputError, match='PackedEncoder'):
    make_scheme(Code(2, 1), apply, 'addition', packed.PackedDecoder(Code(2, 1), packing))


def test_a_bundles_students_are_as_good_at_the_frontend(tmp_path):
  """The same figures from the parity worker's students and from F's answers to what they wrote."""
  options = RunOptions(devices=1)
  base_model.train_base(BaseConfig('digits', 'mlp', epochs=5), str(tmp_path / 'base'), options)
  parts = {'encoder': 'bundle', 'decoder': 'bundle', 'parity_model': 'students', 'recipe': 'distil'}
  bundle = train_code(CodeConfig('digits', 'mlp', k=3, epochs=5, **parts), str(tmp_path / 'bundle'),
                           str(tmp_path / 'base'), options).record
  found = evaluate_packed(str(tmp_path / 'bundle'), options=options).record
  assert found['degraded_accuracy'] == bundle['degraded_accuracy'] > 0.5
  assert found['available_accuracy'] == bundle['available_accuracy']
  assert bundle['frontend_work'] < 0.01 < found['frontend_work'] < 0.4  # a third of F a query, and the writing
  assert found['worker_work'] == pytest.approx(1 / 3, rel=0.01)  # F's own answer to one parity for three
  with pytest.raises(InputError, match='has its own k'):
    evaluate_packed(str(tmp_path / 'bundle'), 3, options=options)


def test_a_backup_answers_for_any_k(tmp_path):
  options = RunOptions(devices=1)
  base_model.train_base(BaseConfig('digits', 'mlp', epochs=5), str(tmp_path / 'base'), options)
  parts = {'encoder': 'replication', 'decoder': 'replication', 'parity_model': 'backup'}
  backup = train_code(
      CodeConfig('digits', 'mlp', k=1, epochs=5, backup_multiply_adds=2000, recipe='distil', **parts),
      str(tmp_path / 'backup'), str(tmp_path / 'base'), options).record
  found = evaluate_packed(str(tmp_path / 'backup'), 4, 2, options).record
  assert found['degraded_accuracy'] == pytest.approx(backup['degraded_accuracy'], abs=0.01)
  assert found['answers_by'] == 'backup'
  assert found['missing'][0]['degraded_accuracy'] == found['missing'][1]['degraded_accuracy'] > 0.5
  assert (found['config']['k'], found['config']['r']) == (4, 2)
  with pytest.raises(InputError, match='needs to be told'):
    evaluate_packed(str(tmp_path / 'backup'), options=options)
  train_code(CodeConfig('digits', 'mlp', k=2, encoder='preimage', decoder='preimage', parity_model='base'),
                  str(tmp_path / 'other'), str(tmp_path / 'base'), options)
  with pytest.raises(InputError, match='of a bundle or of a backup'):
    evaluate_packed(str(tmp_path / 'other'), options=options)
