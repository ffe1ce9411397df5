"""Mosaics against interpolation redone in NumPy and the same students called one tile at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode import models
from lcode.coding.code import Code
from lcode.coding.coders.mosaic import MosaicEncoder, STRETCH, take_apart, tile_shape
from lcode.coding.costs import cost
from lcode.coding.scheme import make_scheme
from lcode.coding.units import stack_units
from lcode.errors import InputError
from lcode.models.mlp import MLP
from lcode.models.student import make_tile_student
from lcode.runs.code_run import train_code
from lcode.runs.configs import RunOptions
from lcode.runs.presets import config_of
from tests.coding.coders.means import check_means

C = 3


def base_apply(variables, x):
  return jnp.sin(x.reshape(len(x), -1) @ variables)


@pytest.mark.parametrize('shape', [(28, 28, 1), (32, 32, 3), (8, 8, 1), (12, 30, 2)])
@pytest.mark.parametrize('k', [1, 2, 3, 5, 8, 10])
def test_tiles_hold_as_much_as_fits_hardly_stretched(shape, k):
  height, width, channels = tile_shape(shape, k)
  assert channels == shape[2] and k * height * width <= shape[0] * shape[1]
  stretch = max(height / shape[0], width / shape[1]) / min(height / shape[0], width / shape[1])
  assert stretch <= STRETCH + 1e-6
  for h in range(1, shape[0] + 1):  # nothing larger is within the bytes and the stretch
    for w in range(1, shape[1] + 1):
      ratios = h / shape[0], w / shape[1]
      if k * h * w <= shape[0] * shape[1] and max(ratios) / min(ratios) <= STRETCH:
        assert h * w <= height * width


def test_what_is_no_image_or_sequence_or_too_small():
  assert tile_shape((100, 13), 3) == (33, 13) and tile_shape((20,), 3) == (6,)
  for shape, k in (((2, 2, 1), 5), ((4,), 5), ((2, 2, 2, 2), 2), ((), 1)):
    with pytest.raises(InputError, match="use encoder='bundle', or a smaller k"):
      tile_shape(shape, k)


def reading(size, to, phase):
  """f64[to, size]: antialiased linear interpolation by triangles as wide as a pixel of the result."""
  step = size / to
  centres = (np.arange(to) + 0.5 - phase) * step - 0.5
  weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(size)) / max(step, 1))
  return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize('shape, k, r', [((9, 12, 2), 2, 1), ((9, 12, 2), 5, 1), ((8, 8, 1), 4, 2), ((8, 8, 1), 3, 3),
                                         ((24, 2), 3, 2), ((24,), 4, 1), ((24,), 4, 2)])
def test_tiles_start_as_the_queries_down_sampled_at_the_paritys_phase(shape, k, r, rng):
  x = rng.normal(size=(k, *shape)).astype('f4')
  parities, _ = MosaicEncoder(Code(k, r)).init_with_output(jax.random.key(0), x)
  assert parities.shape == (r, *shape)
  tile = tile_shape(shape, k)
  tiles = np.asarray(take_apart(parities, k))
  for j in range(r):
    phase = (j + 0.5) / r - 0.5
    expected = x.astype(float)
    for axis in range(1, 3 if len(shape) == 3 else 2):
      along = reading(shape[axis - 1], tile[axis - 1], phase)
      expected = np.moveaxis(np.tensordot(along, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(tiles[j], expected, atol=2e-5)
  used = k * int(np.prod(tile))
  np.testing.assert_array_equal(np.asarray(parities).reshape(r, -1)[:, used:], 0)


@pytest.mark.parametrize('k, r', [(1, 1), (3, 1), (4, 2)])
def test_what_is_missing_is_the_mean_of_the_students_that_arrived(k, r, rng):
  shape, student = (6, 5, 1), MLP(C, (6,))
  scheme = make_scheme(Code(k, r), base_apply, 'mosaic', 'bundle', lcode.tile_students(student, k))
  x = rng.normal(size=(k, *shape)).astype('f4')
  variables = rng.normal(size=(30, C)).astype('f4')
  params, state = scheme.init(jax.random.key(0), x, C)
  parities = scheme.encode(params, x)
  outputs = stack_units(base_apply(variables, x), scheme.infer(params, state, variables, parities[None])[0][0])
  tiles = np.asarray(take_apart(parities, k))
  own = np.stack([[student.apply({'params': params['parity_model'][str(j)]}, tile[None])[0] for tile in tiles[j]]
                  for j in range(r)])
  check_means(scheme, params, outputs, base_apply(variables, x), own)


@pytest.mark.parametrize('name, shape, k', [
    ('mlp', (28, 28, 1), 2), ('mlp', (28, 28, 1), 10), ('resnet20', (32, 32, 3), 4), ('resnet20', (32, 32, 3), 3),
    ('resnet18', (28, 28, 1), 5), ('lenet5', (28, 28, 1), 4), ('vgg11', (32, 32, 3), 4)])
def test_k_students_cost_no_more_than_one_inference(name, shape, k):
  def flops(model, count, of):
    x = jnp.zeros((count, *of))
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    return cost(lambda variables, x: model.apply(variables, x), variables, x)['flops']

  base, tile = models.make_model(name, shape, 10), tile_shape(shape, k)
  assert flops(make_tile_student(base, shape, tile, k), k, tile) / flops(base, 1, shape) <= 1.06


def test_at_a_quarter_of_the_pixels_a_resnet_is_itself():
  base = models.make_model('resnet20', (32, 32, 3), 10)
  assert make_tile_student(base, (32, 32, 3), (16, 16, 3), 4) == base


def test_what_has_no_student_is_a_sentence():
  with pytest.raises(InputError, match='a Logistic has no student of 1/40'):
    make_tile_student(models.make_model('logistic', (8, 8, 1), 10), (8, 8, 1), (1, 1, 1), 40)
  with pytest.raises(InputError, match='k=0'):
    lcode.tile_students(MLP(3), 0)
  with pytest.raises(InputError, match='do not go together: take'):
    make_scheme(Code(2, 1), base_apply, 'mosaic', 'bundle', lcode.students(MLP(C)))
  with pytest.raises(InputError, match='do not go together: take'):
    make_scheme(Code(2, 1), base_apply, 'bundle', 'bundle', lcode.tile_students(MLP(C), 2))


def test_a_mosaic_of_digits_learns_and_loads(tmp_path):
  config = config_of('mosaic', 4, 1, 'digits', 'mlp', 0, 60)
  trained = train_code(config, str(tmp_path), None, RunOptions(devices=1))
  record = trained.record  # 16 of 64 pixels for each; sums keep about half at k = 4
  assert record['degraded_accuracy'] > 0.85 and 0.6 < record['worker_work'] * 4 < 1.05
  loaded = lcode.load(tmp_path)
  x = np.random.default_rng(0).random((2, 4, 8, 8, 1), np.float32)
  parities = loaded.codec.encode(x)
  assert parities.shape == (2, 1, 8, 8, 1)  # one query's bytes
  np.testing.assert_array_equal(loaded.codec.infer(None, parities), trained.codec.infer(None, parities))
