"""Packed answers: digits against whole-number arithmetic, and every answer read back through a frozen F."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode import bases, models, runs
from lcode.code import Code, every_scenario
from lcode.coders import packed
from lcode.configs import BaseConfig, CodeConfig, Sitting
from lcode.errors import InputError
from lcode.models.simple import MLP
from lcode.scheme import make_scheme, parts_to_train, stack_units

SHAPE = (12, 12, 1)
CLASSES = 5


def _f(name):
  model = models.make_model(name, SHAPE, CLASSES)
  return models.make_apply(model), model.init(jax.random.key(1), jnp.zeros((1, *SHAPE)))


@pytest.mark.parametrize('name, k, r', [
    ('mlp', 2, 1), ('mlp', 8, 1), ('mlp', 3, 2), ('lenet5', 4, 1), ('logistic', 5, 1)])
def test_the_frontends_answers_come_back_through_f(name, k, r, rng):
  apply, variables = _f(name)
  small = MLP(CLASSES, (6,))
  own = small.init(jax.random.key(2), jnp.zeros((1, *SHAPE)))
  packing = packed.find_packing(jax.random.key(0), apply, variables, SHAPE, k)
  scheme = make_scheme(Code(k, r), apply, packed.PackedEncoder(Code(k, r), packing, small.apply, own),
                       packed.PackedDecoder(Code(k, r), packing))
  params, state = scheme.init(jax.random.key(0), jnp.zeros((k, *SHAPE)), CLASSES, variables)
  assert parts_to_train(scheme, params) == ()
  for _ in range(5):
    x = jnp.asarray(rng.uniform(-3, 3, (k, *SHAPE)), jnp.float32)
    scores, deployed = np.asarray(small.apply(own, x)), apply(variables, x)
    parities = scheme.encode(params, x)
    np.testing.assert_array_equal(np.asarray(parities != packing.anchor[None]).reshape(r, -1).sum(1) <= CLASSES, True)
    outputs = stack_units(deployed, scheme.infer(params, state, variables, parities[None])[0][0])
    expected = np.maximum(scores - scores.max(-1, keepdims=True), -packed.RANGE)
    for available in every_scenario(Code(k, r)):
      decoded = np.asarray(scheme.decode(params, outputs, available))
      np.testing.assert_array_equal(decoded[available[:k]], deployed[available[:k]])
      missing = ~available[:k]
      np.testing.assert_array_equal(decoded.argmax(-1)[missing], scores.argmax(-1)[missing])
      step = packed.RANGE / (packed.levels(k) - 1)
      assert (expected - decoded)[missing].min() > -1e-4 and (expected - decoded)[missing].max() < step + 1e-4


def test_digits_are_those_of_whole_numbers(rng):
  k, base = 3, packed.levels(3)
  assert base**k <= packed.CAPACITY < (base + 1)**k
  digits = rng.integers(0, base, (k, 4))
  whole = [sum(int(digits[i, j]) * base**i for i in range(k)) for j in range(4)]
  np.testing.assert_array_equal(packed.places(k) @ digits, whole)
  identity = packed.Packing(jnp.zeros(4), jnp.arange(4), jnp.eye(4), jnp.zeros(4), jnp.float32(1))
  decoder = packed.PackedDecoder(Code(k, 1), identity)
  outputs = jnp.zeros((4, 4)).at[3].set(identity.write(jnp.asarray(whole, jnp.float32)))
  decoded, _ = decoder.init_with_output(jax.random.key(0), outputs, jnp.asarray([False, True, True, True]))
  np.testing.assert_allclose((np.asarray(decoded) / packed.RANGE + 1) * (base - 1), digits, atol=1e-4)


def test_only_the_highest_score_has_the_highest_digit():
  digits = packed.to_digits(jnp.asarray([1.0, 0.999, -50.0, 0.0]), 2)
  np.testing.assert_array_equal(digits, [1, 0, 0, 0])


def test_all_corners_are_read_rightly():
  """Of the whole box, worked out by F in one batch and in another order."""
  apply, variables = _f('mlp')
  packing = packed.find_packing(jax.random.key(3), apply, variables, SHAPE, 2)
  corners = np.stack(np.meshgrid(*[[0.0, 255.0]] * CLASSES), -1).reshape(-1, CLASSES).astype(np.float32)
  images = np.stack([packing.write(corner) for corner in corners])
  np.testing.assert_allclose(packing.read(apply(variables, images)), corners, atol=0.4)


def test_what_cannot_be_packed_is_said():
  apply, variables = _f('mlp')
  with pytest.raises(InputError, match='at most 8'):
    packed.find_packing(jax.random.key(0), apply, variables, SHAPE, 9)
  with pytest.raises(InputError, match='affine enough'):
    packed.find_packing(jax.random.key(0), lambda variables, x: jnp.tanh(x.reshape(len(x), -1)[:, :5]), {}, SHAPE, 2)
  with pytest.raises(InputError, match='affine enough'):
    packed.find_packing(jax.random.key(0), lambda variables, x: jnp.sin(x.reshape(len(x), -1)[:, :5]), {}, SHAPE, 2)
  packing = packed.find_packing(jax.random.key(0), apply, variables, SHAPE, 2)
  with pytest.raises(InputError, match='PackedEncoder'):
    make_scheme(Code(2, 1), apply, 'addition', packed.PackedDecoder(Code(2, 1), packing))


def test_a_bundles_students_are_as_good_at_the_frontend(tmp_path):
  """The same figures from the parity worker's students and from F's answers to what they wrote."""
  sitting = Sitting(devices=1)
  bases.train_base(BaseConfig('digits', 'mlp', epochs=5), str(tmp_path / 'base'), sitting)
  parts = {'encoder': 'bundle', 'decoder': 'bundle', 'parity_model': 'students', 'recipe': 'distil'}
  bundle = runs.train_code(CodeConfig('digits', 'mlp', k=3, epochs=5, **parts), str(tmp_path / 'bundle'),
                           str(tmp_path / 'base'), sitting).record
  found = runs.evaluate_packed(str(tmp_path / 'bundle'), sitting).record
  assert found['degraded_accuracy'] == bundle['degraded_accuracy'] > 0.5
  assert found['available_accuracy'] == bundle['available_accuracy']
  assert bundle['frontend_work'] < 0.01 < found['frontend_work'] < 0.4  # a third of F a query, and the writing
  assert found['worker_work'] == pytest.approx(1 / 3, rel=0.01)  # F's own answer to one parity for three
  runs.train_code(CodeConfig('digits', 'mlp', k=2, encoder='preimage', decoder='preimage', parity_model='base'),
                  str(tmp_path / 'other'), str(tmp_path / 'base'), sitting)
  with pytest.raises(InputError, match='bundle'):
    runs.evaluate_packed(str(tmp_path / 'other'), sitting)
