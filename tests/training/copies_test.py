"""Recipes that train on shifted copies of the queries, too: against the same arrays given as queries of one's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode import data
from lcode.coding.black_box import recorded_answers
from lcode.errors import InputError
from lcode.runs import base_model
from lcode.runs.presets import config_of
from lcode.training.recipes import get_recipe

SHAPE = 6, 5, 1


def apply(variables, x):
  return jnp.tanh(x.reshape(len(x), -1) @ variables['w1']) @ variables['w2']


@pytest.fixture
def problem(rng):
  variables = {'w1': rng.normal(size=(30, 12)).astype('f4') / 4, 'w2': rng.normal(size=(12, 3)).astype('f4')}
  return variables, rng.random((120, *SHAPE), np.float32), rng.random((30, *SHAPE), np.float32)


@pytest.fixture
def recipe():
  plain = dataclasses.replace(get_recipe('distil'), epochs={'': 2}, least_steps=0)
  return dataclasses.replace(plain, copies=2), plain


def test_a_shifted_copy_is_the_image_moved_over_zeros(rng):
  images = rng.integers(1, 256, size=(400, 28, 14, 3), dtype=np.uint8)
  copy, offsets = data.shifted(images, 3), set()
  for image, moved in zip(images, copy):
    places = [(i, j) for i in range(-2, 3) for j in range(-1, 2)
              if np.array_equal(moved, np.pad(image, ((2, 2), (1, 1), (0, 0)))[2 + i:30 + i, 1 + j:15 + j])]
    assert len(places) == 1
    offsets |= {*places}
  assert len(offsets) == 15  # up to a fourteenth of each side
  np.testing.assert_array_equal(copy, data.shifted(images, 3))
  assert not np.array_equal(copy, data.shifted(images, 4))


def test_training_with_copies_is_training_on_the_longer_arrays(problem, recipe):
  variables, x, held_out = problem
  y = np.asarray(apply(variables, x)).argmax(-1)
  scheme = lcode.make_scheme(lcode.Code(2, 1), apply, 'mosaic', 'bundle', lcode.tile_students(
      lcode.models.mlp.MLP(3, (8,)), 2))
  longer = np.concatenate([x, data.shifted(x, 1), data.shifted(x, 2)])
  for labels, long_labels in ((None, None), (y, np.concatenate([y, y, y]))):
    got = lcode.fit(scheme, variables, x, labels, recipe=recipe[0], validation=(held_out, None))
    expected = lcode.fit(scheme, variables, longer, long_labels, recipe=recipe[1], validation=(held_out, None))
    jax.tree.map(np.testing.assert_array_equal, got.params, expected.params)
    assert got.result.steps_per_epoch == -(-3 * 60 // 64)
  cropped = lcode.fit(scheme, variables, x, y, recipe=recipe[0], validation=(held_out, None), augment=True)
  jax.tree.map(np.testing.assert_array_equal, cropped.params, expected.params)  # F has answered the copies as they are
  known = {name: np.asarray(apply(variables, arrays)) for name, arrays in (
      ('train', x), ('train copy 1', data.shifted(x, 1)), ('validation', held_out))}  # F is asked for what is not
  got = lcode.fit(scheme, variables, x, y, recipe=recipe[0], validation=(held_out, None), base_outputs=known)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got.params, expected.params)


def test_copies_that_cannot_be_are_a_sentence(problem, recipe):
  variables, x, held_out = problem
  code, small = lcode.Code(2, 1), lcode.students(lcode.models.mlp.MLP(3))
  students = lcode.make_scheme(code, apply, 'bundle', 'bundle', small)
  with pytest.raises(InputError, match=r"base_outputs\['train copy 2'\] is .* for 120 queries"):
    lcode.fit(students, variables, x, recipe=recipe[0], base_outputs={'train copy 2': np.zeros((7, 3), np.float32)},
              validation=(held_out, None))
  with pytest.raises(InputError, match=r'a query here is \[30\]: use a recipe without copies'):
    lcode.fit(lcode.make_scheme(code, apply, 'bundle', 'bundle', small), variables, x.reshape(-1, 30),
              recipe=recipe[0])
  answers = np.asarray(apply(variables, x))
  recorded = lcode.make_scheme(code, recorded_answers(x, answers), 'bundle', 'bundle', small)
  with pytest.raises(InputError, match='2 shifted copies of each query, and recorded answers hold none'):
    lcode.fit(recorded, {}, x, recipe=recipe[0])
  with pytest.raises(InputError, match='copies=-1'):
    dataclasses.replace(recipe[0], copies=-1)


def test_a_named_base_models_answers_to_copies_are_those_of_f(tmp_path):
  base = base_model.obtain(config_of('mosaic'), data.load('digits'), tmp_path, 'checkpoints/digits-mlp-k2-r1')
  queries = base.preprocess(data.shifted(base.dataset.train.images, 2))
  np.testing.assert_allclose(base.outputs['train copy 2'], base.apply(base.variables, queries), rtol=1e-4, atol=1e-4)
  assert 'train copy 2' in base.outputs and 'other' not in base.outputs
