"""A bundle: the parity worker gets all k queries and answers each by a network of 1/k of F's work.

Where ParM's parity model has to undo a superposition of the queries, this one has nothing to undo: at the workers it
costs what any parity does, one inference by F, and at the frontend nothing. It takes k queries and k answers on the
wire instead of one each. Networks that answer several queries at once are known from MIMO (Havasi et al.,
arXiv:2010.06610) and DataMUX (Murahari et al., arXiv:2202.09318), with other aims.
"""

import flax.linen as nn
import jax.numpy as jnp

from lcode.coding.code import Code


class BundleEncoder(nn.Module):
  """Every parity is the k queries themselves, of any dtype."""

  code: Code
  mixes = False
  parities = 'bundles'
  on_host = 'bundle'

  def __call__(self, x):
    """x: [k, *S] -> bundles: [r, k, *S]."""
    return jnp.broadcast_to(x, (self.code.r, *x.shape))


class BundleDecoder(nn.Module):
  """The mean of the answers in the replies that arrived, to bundles, mosaics or packs; zeros where none did."""

  code: Code
  goes_with = ('bundles', 'mosaics', 'packs')
  bundled = True
  systematic = True
  on_host = 'bundle'

  def __call__(self, outputs, available):
    """outputs: f32[n, k * C], data rows first (their C outputs, then zeros), available: bool[n] -> f32[k, C]."""
    k = self.code.k
    answers = outputs[k:].reshape(self.code.r, k, -1)  # what is missing is zero already
    return answers.sum(0) / jnp.maximum(available[k:].sum(), 1)
