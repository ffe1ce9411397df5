"""The contract of a coding scheme: pure functions over parameter trees.

`encode` and `decode` act on one group; callers `vmap` over groups and scenarios. Training, evaluation and
serving all call the same functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lcode import coders
from lcode.code import Code
from lcode.errors import one_of


class Scheme(NamedTuple):
  """A code over a base model F.

  Attributes:
    code: how many data units and parities.
    init: (key, x f32[k, *S], num_outputs) -> params, model_state.
    encode: (params, x f32[k, *S]) -> parities f32[r, *S].
    infer: (params, model_state, base_variables, parities f32[g, r, *S], train) -> f32[g, r, C], model_state.
    decode: (params, outputs f32[n, C], available bool[n]) -> f32[k, C]; what arrived is passed on as it is.
    base_apply: F, (variables, x f32[b, *S]) -> f32[b, C].
    systematic: True if the data units themselves are sent to F.
  """

  code: Code
  init: Callable
  encode: Callable
  infer: Callable
  decode: Callable
  base_apply: Callable
  systematic: bool


def erase(outputs, available):
  """Zeroes the rows of `outputs` [n, C] that are not `available` [n]: no value (nor NaN) and no gradient leaks."""
  return jnp.where(available[:, None], outputs, 0)


def make_scheme(code: Code, base_apply: Callable, encoder: Any = 'mlp', decoder: Any = 'mlp') -> Scheme:
  """Composes an encoder, the base model F on the parities, and a decoder.

  Args:
    code: the (k, r) code.
    base_apply: F, (variables, x f32[b, *S]) -> f32[b, C].
    encoder: a name in `coders.ENCODERS` or a Flax module of the same contract.
    decoder: a name in `coders.DECODERS` or a Flax module of the same contract.
  """
  if isinstance(encoder, str):
    encoder = coders.ENCODERS[one_of('encoder', encoder, coders.ENCODERS)](code)
  if isinstance(decoder, str):
    decoder = coders.DECODERS[one_of('decoder', decoder, coders.DECODERS)](code)

  def init(key, x, num_outputs):
    encoder_key, decoder_key = jax.random.split(key)
    params = {
        'encoder': encoder.init(encoder_key, x).get('params', {}),
    }
    outputs, available = jnp.zeros((code.n, num_outputs)), jnp.ones(code.n, bool)
    params['decoder'] = decoder.init(decoder_key, outputs, available).get('params', {})
    return params, {}

  def encode(params, x):
    return encoder.apply({'params': params['encoder']}, x)

  def infer(params, model_state, base_variables, parities, train=False):
    del params, train  # F is frozen, in evaluation mode always
    flat = parities.reshape(-1, *parities.shape[2:])
    return base_apply(base_variables, flat).reshape(*parities.shape[:2], -1), model_state

  def decode(params, outputs, available):
    outputs = erase(outputs, available)
    decoded = decoder.apply({'params': params['decoder']}, outputs, available)
    return jnp.where(available[:code.k, None], outputs[:code.k], decoded)

  return Scheme(code, init, encode, infer, decode, base_apply, systematic=True)
