import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from lcode.errors import InputError
from lcode.training import losses


@pytest.fixture
def outputs(rng):
  return rng.normal(size=(4, 3, 10)).astype('f4') * 3, rng.normal(size=(4, 3, 10)).astype('f4') * 3


def test_kl_base_is_the_relative_entropy(outputs):
  reconstructed, base = outputs
  expected = special.rel_entr(special.softmax(base.astype('f8'), -1), special.softmax(reconstructed.astype('f8'), -1))
  np.testing.assert_allclose(losses.kl_base(*outputs, None), expected.sum(-1), rtol=1e-5)
  np.testing.assert_allclose(losses.kl_base(base, base, None), 0, atol=1e-6)


def test_a_class_without_probability_adds_nothing_to_kl_base(outputs):
  """scipy's relative entropy takes 0 log 0 as 0; the gradient is softmax(reconstruction) - softmax(F)."""
  reconstructed, base = outputs
  base[..., 2] = -np.inf
  both = np.where(np.arange(10) == 2, -np.inf, reconstructed)
  p = special.softmax(base.astype('f8'), -1)
  for given in (reconstructed, both):
    q = special.softmax(given.astype('f8'), -1)
    np.testing.assert_allclose(losses.kl_base(given, base, None), special.rel_entr(p, q).sum(-1), rtol=1e-5)
    gradient = jax.grad(lambda given: losses.kl_base(given, base, None).sum())(jnp.asarray(given))
    np.testing.assert_allclose(gradient, q - p, rtol=1e-4, atol=1e-6)
  # What F thinks possible is called impossible.
  assert np.isposinf(losses.kl_base(both, np.zeros_like(both), None)).all()
  assert np.isnan(losses.kl_base(reconstructed, base * np.nan, None)).all()


def test_shapes_that_do_not_go_together_are_sentences(outputs):
  reconstructed, base = outputs
  for loss in (losses.kl_base, losses.mse_base):
    with pytest.raises(InputError, match=r'reconstructions \[4, 3, 10\] .*base outputs \[3, 10\]'):
      loss(reconstructed, base[0], None)
  for labels in (np.zeros(3, int), np.zeros((4, 3)), np.zeros((4, 3, 1), int)):
    with pytest.raises(InputError, match='one whole number for each'):
      losses.xent_label(reconstructed, None, labels)


def test_mse_base_sums_over_outputs(outputs):
  np.testing.assert_allclose(losses.mse_base(*outputs, None), ((outputs[0] - outputs[1]) ** 2).sum(-1), rtol=1e-5)


def test_xent_label_is_minus_the_log_probability(outputs, rng):
  labels = rng.integers(10, size=(4, 3))
  expected = -np.take_along_axis(special.log_softmax(outputs[0].astype('f8'), -1), labels[..., None], -1)[..., 0]
  np.testing.assert_allclose(losses.xent_label(outputs[0], None, labels), expected, rtol=1e-5)


def test_masked_mean_equals_physically_removed(rng):
  values = rng.normal(size=(5, 7)).astype('f4')
  mask = rng.random((5, 7)) < 0.4
  np.testing.assert_allclose(losses.masked_mean(values, mask), values[mask].mean(), rtol=1e-6)
  assert losses.masked_mean(values, np.zeros((5, 7), bool)) == 0


def test_what_is_masked_out_cannot_spoil_value_or_gradient(rng):
  values = jnp.asarray(rng.normal(size=6), jnp.float32)
  mask = np.array([True, False, True, True, False, True])
  spoiled = jnp.where(mask, values, jnp.nan)
  assert losses.masked_mean(spoiled, mask) == losses.masked_mean(values, mask)
  np.testing.assert_array_equal(jax.grad(losses.masked_mean)(spoiled, mask), np.where(mask, 0.25, 0).astype('f4'))


@pytest.mark.parametrize('mask', [np.ones(3, bool), np.ones((2, 1), bool), np.ones((2, 3))])
def test_a_mask_is_never_broadcast_or_cast(mask):
  with pytest.raises(InputError, match='mask'):
    losses.masked_sum(jnp.ones((2, 3)), mask)


def test_unknown_loss_names_the_known_ones():
  with pytest.raises(InputError, match='kl_base, mse_base, xent_label'):
    losses.get_loss('l1')
