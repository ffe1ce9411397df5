"""Parities that are preimages: images of which F says the sum of what it says of the queries.

A network of ReLUs (convolutions, batch normalisation on running averages, pooling by means or maxima alike) is affine
in a cone around almost any ray far enough from the origin. So around an anchor out there, F(anchor + J⁺s) =
F(anchor) + s with J the Jacobian of F at the anchor, for all s of the size of F's outputs, and the code of sums, exact
over affine F alone, is exact over F itself, for any (k, r) and without training. The price is that the encoder has to
know the outputs that are summed: it infers by F k times. So this is no code to deploy, but the proof that accuracy
alone says nothing of one: what counts is accuracy at a frontend's budget.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.coding.code import Code
from lcode.coding.coders.linear import parity_weights, solve_sums
from lcode.errors import InputError

SCALES = (1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4)  # of anchors, queries being of size 1: float32 ends further out
RAYS = 3
PROBES = 16


class PreimageEncoder(nn.Module):
  """Weighted sums of F's answers, and for each an image to which F answers it, up to a constant."""

  code: Code
  base_apply: Callable | None = None
  takes_base = True
  fixed = True  # nothing here is trained

  @nn.compact
  def __call__(self, x, base_variables=None):
    """x: f32[k, *S] -> parities: f32[r, *S]; base_variables, F's, are needed to initialise.

    Raises:
      InputError: if F is not known.
    """
    if self.base_apply is None:
      raise InputError('the preimage encoder needs to know F: build it with its base_apply, or by name.')
    if self.is_initializing() and base_variables is None:
      raise InputError('the preimage encoder starts from F: give init the base_variables.')
    variables = self.param('base', lambda key: base_variables)
    outputs = self.base_apply(variables, x)
    anchor, inverse = self.param(
        'around', lambda key: find_anchor(key, self.base_apply, variables, x[0].shape, outputs))
    sums = jnp.asarray(parity_weights(self.code), x.dtype) @ outputs
    return anchor[None] + (sums @ inverse).reshape(self.code.r, *anchor.shape)


class PreimageDecoder(nn.Module):
  """The sums' equations solved for what is missing, less F's answer to the anchor."""

  code: Code
  goes_with = ('PreimageEncoder',)
  fixed = True

  @nn.compact
  def __call__(self, outputs, available):
    """outputs: f32[n, C] (zero where missing; true ones, of any group, to initialise), available -> f32[k, C]."""
    k = self.code.k
    constant = self.param('constant', lambda key: outputs[k:] - jnp.asarray(parity_weights(self.code)) @ outputs[:k])
    return solve_sums(self.code, outputs.at[k:].add(-constant), available)


def find_anchor(key, base_apply: Callable, base_variables, query_shape: tuple[int, ...], outputs):
  """The anchor f32[*S], of those at several distances, around which F is closest to affine; and J⁺, f32[C, prod(S)].

  Closest over normal probes of twice the size of `outputs` f32[b, C].
  """
  ray_key, probe_key = jax.random.split(key)
  rays = jax.random.normal(ray_key, (RAYS, *query_shape))
  size = jnp.sqrt(jnp.mean(jnp.square(outputs)))
  probes = 2 * size * jax.random.normal(probe_key, (PROBES, outputs.shape[-1]))

  def around(anchor):
    at, jacobian = base_apply(base_variables, anchor[None])[0], jax.jacrev(
        lambda image: base_apply(base_variables, image[None])[0])(anchor)
    inverse = jnp.linalg.pinv(jacobian.reshape(len(at), -1)).T
    found = base_apply(base_variables, anchor[None] + (probes @ inverse).reshape(-1, *query_shape)) - at[None]
    return jnp.max(jnp.abs(found - probes)), anchor, inverse

  errors, anchors, inverses = jax.lax.map(around, jnp.concatenate([scale * rays for scale in SCALES]))
  best = jnp.argmin(jnp.nan_to_num(errors, nan=jnp.inf))
  return anchors[best], inverses[best]
