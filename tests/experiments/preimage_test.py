"""Preimages: F of a parity is the sum of F's answers, in float64 too; and nothing is lost over networks of ReLUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bounds.preimage import find_anchor
from lcode import models
from lcode.coding.code import Code, every_pattern
from lcode.coding.scheme import make_scheme, parts_to_train, stack_units
from lcode.errors import InputError
from lcode.models.resnet import ResNet

SHAPE = (20, 20, 1)


@pytest.mark.parametrize('name, tolerance, k, r', [
    ('logistic', 1e-4, 5, 2), ('mlp', 0.02, 2, 1), ('mlp', 0.05, 5, 2), ('lenet5', 0.05, 3, 1),
    ('resnet', 0.05, 2, 1)])
def test_every_answer_comes_back_over_an_untrained_f(name, tolerance, k, r, rng):
  model = ResNet(7, (1, 1), 8) if name == 'resnet' else models.make_model(name, SHAPE, 7)
  x = jnp.asarray(rng.uniform(size=(k, *SHAPE)), jnp.float32)
  variables = model.init(jax.random.key(1), x)
  apply = jax.jit(models.make_apply(model))
  scheme = make_scheme(Code(k, r), apply, 'preimage', 'preimage')
  params, state = jax.jit(scheme.init, static_argnums=2)(jax.random.key(0), x, 7, variables)
  assert parts_to_train(scheme, params) == ()
  others = jnp.asarray(rng.uniform(size=(k, *SHAPE)), jnp.float32)  # not those that it was initialised with
  own = apply(variables, others)
  replies, _ = scheme.infer(params, state, variables, scheme.encode(params, others)[None])
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

  anchor, inverse = find_anchor(jax.random.key(2), apply, [jnp.asarray(w, jnp.float32) for w in weights], (20,),
                                jnp.asarray(rng.normal(size=(3, 4)), jnp.float32))
  anchor, inverse = np.asarray(anchor, float), np.asarray(inverse, float)
  active = anchor @ weights[0] + 0.3 > 0
  jacobian = (weights[0] * active) @ weights[1]  # [d, C]
  np.testing.assert_allclose(inverse, np.linalg.pinv(jacobian.T).T, atol=1e-4)
  sums = rng.normal(size=(50, 4))
  found = np.maximum((anchor + sums @ inverse) @ weights[0] + 0.3, 0) @ weights[1]
  at = np.maximum(anchor @ weights[0] + 0.3, 0) @ weights[1]
  np.testing.assert_allclose(found - at, sums, atol=1e-3)


def test_what_it_needs_is_said():
  scheme = make_scheme(Code(2, 1), lambda variables, x: x.reshape(len(x), -1) @ variables, 'preimage', 'preimage')
  with pytest.raises(InputError, match='base_variables'):
    scheme.init(jax.random.key(0), jnp.zeros((2, 3, 3, 1)), 4)
  with pytest.raises(InputError, match='PreimageEncoder'):
    make_scheme(Code(2, 1), lambda variables, x: x, 'addition', 'preimage')
