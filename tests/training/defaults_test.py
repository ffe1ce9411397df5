"""The scheme and the amount of training that a user gets who does not choose."""

import io
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode.models.small import dense_network
from lcode.training import reporters
from lcode.training.prepare import prepare

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 20)).astype('f4')
W = [RNG.normal(size=shape).astype('f4') for shape in ((20, 60), (60, 10))]


def apply(variables, x):
  return jnp.tanh(x @ variables[0]) @ variables[1]


def test_the_default_scheme_is_a_bundle_of_the_largest_students_within_one_inference():
  scheme = lcode.default_scheme(lcode.Code(3, 2), apply, W, X)
  student = dense_network((20,), 10, int(0.7 * (20 * 60 + 60 * 10) / 3))
  shapes = jax.eval_shape(lambda key: scheme.init(key, X[:3], 10), jax.random.key(0))[0]
  own = jax.eval_shape(student.init, jax.random.key(0), X[:1])['params']
  assert sorted(shapes['parity_model']) == ['0', '1'] and scheme.bundled and not shapes['encoder']
  assert jax.tree.map(lambda x: x.shape, shapes['parity_model']['0']) == jax.tree.map(lambda x: x.shape, own)


def test_for_images_it_is_a_mosaic_whose_students_are_as_large_as_a_bundles():
  images = RNG.normal(size=(6, 10, 8, 1)).astype('f4')
  weights = {'hidden': RNG.normal(size=(80, 60)).astype('f4'), 'out': RNG.normal(size=(60, 10)).astype('f4')}

  def base(variables, x):
    return jnp.tanh(x.reshape(len(x), -1) @ variables['hidden']) @ variables['out']

  scheme = lcode.default_scheme(lcode.Code(4, 1), base, weights, images)
  params, _ = scheme.init(jax.random.key(0), images[:4], 10)
  assert scheme.encode(params, images[:4]).shape == (1, 10, 8, 1) and scheme.bundled and params['encoder']
  numbers = sum(x.size for x in jax.tree.leaves(params['parity_model']) if x.ndim == 2)  # multiply-adds of dense layers
  assert 0.6 < numbers / (0.7 * (80 * 60 + 60 * 10) / 4) <= 1


@pytest.mark.parametrize('queries, k, words', [
    (X.astype(int), 2, 'queries are int64'), (X[0], 2, 'give an array'), ([1.0], 2, 'give an array'),
    (X, 100, 'no network does with 1/100')])
def test_where_no_student_can_be_made_it_is_said(queries, k, words):
  with pytest.raises(lcode.InputError, match=words):
    lcode.default_scheme(lcode.Code(k, 1), apply, W, queries)


@pytest.mark.parametrize('scheme, recipe', [
    (lambda: lcode.default_scheme(lcode.Code(2, 1), apply, W, X), 'distil'),
    (lambda: lcode.make_scheme(lcode.Code(2, 1), apply), 'onecycle')])
def test_small_data_get_as_many_steps_as_the_recipe_needs(scheme, recipe):
  ready = prepare(scheme(), W, X, None, None, lcode.TrainingOptions())
  assert ready.recipe is lcode.RECIPES[recipe]
  least, default = ready.recipe.least_steps, ready.recipe.epochs['']
  assert ready.options.epochs * ready.plan.steps >= least > default * ready.plan.steps
  assert (ready.options.epochs - 1) * ready.plan.steps < least
  large = prepare(scheme(), W, np.resize(X, (40_000, 20)), None, None, lcode.TrainingOptions())
  assert large.options.epochs == default
  assert prepare(scheme(), W, X, None, None, lcode.TrainingOptions(epochs=2)).options.epochs == 2


def test_a_code_that_hardly_learned_is_warned_of(caplog):
  with caplog.at_level(logging.WARNING, 'lcode'):
    lcode.fit(lcode.make_scheme(lcode.Code(2, 1), apply), W, X, epochs=1)
  assert "always answering F's most frequent class" in caplog.text
  caplog.clear()
  exact = lcode.make_scheme(lcode.Code(1, 1), lambda v, x: x @ v, 'addition', 'subtraction')
  lcode.fit(exact, W[0][:, :10], X)
  assert not caplog.text


def test_progress_is_shown_to_a_person_alone(monkeypatch):
  class Terminal(io.StringIO):
    def isatty(self):
      return True
  scheme = lcode.make_scheme(lcode.Code(2, 1), apply)
  for stream, lines in ((Terminal(), 3), (io.StringIO(), 0)):
    monkeypatch.setattr(reporters.sys, 'stderr', stream)
    fitted = lcode.fit(scheme, W, X, epochs=3)
    assert stream.getvalue().count('\n') == lines
  assert len(repr(fitted)) < 120
