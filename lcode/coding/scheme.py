"""The contract of a coding scheme: pure functions over parameter trees.

`encode` and `decode` act on one group; callers `vmap` over groups and scenarios. Training, evaluation and
serving all call the same functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding import coders
from lcode.coding.code import Code
from lcode.coding.parity_model import apply_all, base_itself, init_all, ParityModel
from lcode.errors import InputError, one_of

PARTS = ('encoder', 'parity_model', 'decoder')


class Scheme(NamedTuple):
  """A code over a base model F.

  Attributes:
    code: how many data units and parities.
    init: (key, x f32[k, *S], num_outputs, base_variables=None) -> params, model_state; params has an entry for each
      of `PARTS`. base_variables are needed where a parity model starts from F.
    encode: (params, x f32[k, *S]) -> parities f32[r, *S], or where not systematic all coded queries f32[n, *S].
    infer: (params, model_state, base_variables, parities f32[g, r, *S], train=False, axis_name=None, key=None)
      -> f32[g, r, C], model_state; axis_name is that of the devices a batch is split over, for batch statistics, and
      key is what a parity model's dropout draws from in training.
    decode: (params, outputs f32[n, C], available bool[n]) -> f32[k, C]; what arrived is passed on as it is.
      Outputs are as `stack_units` puts them together: wider than C where the replies to parities are.
    base_apply: F, (variables, x f32[b, *S]) -> f32[b, C].
    systematic: True if the data units themselves are sent to F.
    passthrough: True if what arrives of these is the answer. Otherwise every answer is an approximation.
    candidates: part -> parameters to choose from on validation groups, for parts that are not trained by gradients.
    at_frontend: True if what answers the parities runs at the frontend, so that it is never missing.
  """

  code: Code
  init: Callable
  encode: Callable
  infer: Callable
  decode: Callable
  base_apply: Callable
  systematic: bool
  passthrough: bool
  candidates: dict[str, list]
  at_frontend: bool


def erase(outputs, available):
  """Zeroes the rows of `outputs` [n, C] that are not `available` [n]: no value (nor NaN) and no gradient leaks."""
  return jnp.where(available[:, None], outputs, 0)


def stack_units(base_outputs, replies):
  """F's outputs f32[..., k, C] over the replies to the parities f32[..., r, W] -> f32[..., n, W].

  W is C for most codes; where it is more (a bundle's k answers), C outputs are followed by zeros.
  """
  wider = replies.shape[-1] - base_outputs.shape[-1]
  if wider:
    base_outputs = jnp.pad(base_outputs, [(0, 0)] * (base_outputs.ndim - 1) + [(0, wider)])
  return jnp.concatenate([base_outputs, replies], axis=-2)


def make_scheme(code: Code, base_apply: Callable, encoder: Any = 'mlp', decoder: Any = 'mlp',
                parity_model: ParityModel | None = None) -> Scheme:
  """Composes an encoder, what answers the parities, and a decoder.

  Args:
    code: the (k, r) code.
    base_apply: F, (variables, x f32[b, *S]) -> f32[b, C].
    encoder: a name in `coders.ENCODERS` or a Flax module of the same contract.
    decoder: a name in `coders.DECODERS` or a Flax module of the same contract.
    parity_model: see `parity`; None for F itself.

  Raises:
    InputError: if a name is unknown, or the parts do not go together.
  """
  if isinstance(encoder, str):
    module = coders.ENCODERS[one_of('encoder', encoder, coders.ENCODERS)]
    encoder = module(code)
  if isinstance(decoder, str):
    decoder = coders.DECODERS[one_of('decoder', decoder, coders.DECODERS)](code)
  model = base_itself(base_apply) if parity_model is None else parity_model
  _check_parts(encoder, decoder, model)
  systematic = getattr(encoder, 'systematic', True)
  passthrough = systematic and getattr(decoder, 'passthrough', True)

  def init(key, x, num_outputs, base_variables=None):
    encoder_key, decoder_key = jax.random.split(key)
    coded, variables = encoder.init_with_output(encoder_key, x)
    parity_params, model_state = init_all(model, code.r, jax.random.fold_in(key, 1), coded, num_outputs, base_variables)
    outputs = jnp.zeros((code.n, num_outputs * (code.k if model.bundled else 1)))
    available = jnp.ones(code.n, bool)
    return {'encoder': variables.get('params', {}), 'parity_model': parity_params,
            'decoder': decoder.init(decoder_key, outputs, available).get('params', {})}, model_state

  def encode(params, x):
    return encoder.apply({'params': params['encoder']}, x)

  def infer(params, model_state, base_variables, parities, train=False, axis_name=None, key=None):
    return apply_all(model, params['parity_model'], model_state, base_variables, parities, train, axis_name, key)

  def decode(params, outputs, available):
    outputs = erase(outputs, available)
    decoded = decoder.apply({'params': params['decoder']}, outputs, available)
    if not passthrough:
      return decoded
    return jnp.where(available[:code.k, None], outputs[:code.k, :decoded.shape[-1]], decoded)

  modules = {'encoder': encoder, 'decoder': decoder}
  candidates = {part: module.candidates() for part, module in modules.items() if hasattr(module, 'candidates')}
  return Scheme(code, init, encode, infer, decode, base_apply, systematic, passthrough, candidates,
                model.at_frontend)


class Codec(NamedTuple):
  """A code with its parameters as jitted functions over a batch of groups.

  Attributes:
    encode: f32[g, k, *S] -> parities f32[g, r, *S] (all coded queries f32[g, n, *S] where not systematic).
    decode: (outputs f32[g, n, C], available bool[n] or bool[g, n]) -> f32[g, k, C].
    infer: (base_variables, parities f32[g, r, *S]) -> f32[g, r, C]: F on them, or the parity models.
  """

  encode: Callable
  decode: Callable
  infer: Callable


def make_codec(scheme: Scheme, params, model_state=None) -> Codec:
  """The jitted functions of a scheme with these parameters (which stay arguments of what is compiled)."""
  encode_fn = jax.jit(jax.vmap(scheme.encode, (None, 0)))
  decode_fn = jax.jit(jax.vmap(scheme.decode, (None, 0, 0)))
  infer_fn = jax.jit(lambda *args: scheme.infer(*args)[0])
  params, model_state = jax.device_put((params, model_state or {}))  # once, not with every call

  def decode(outputs, available):
    # A pattern from the host is prepared there: for a group alone, a dispatch costs more than the arithmetic.
    xp = jnp if isinstance(available, jax.Array) else np
    return decode_fn(params, outputs, xp.broadcast_to(xp.asarray(available, bool), outputs.shape[:2]))

  return Codec(lambda x: encode_fn(params, x), decode,
               lambda base_variables, parities: infer_fn(params, model_state, base_variables, parities))


def parts_to_train(scheme: Scheme, params, wanted=None) -> tuple[str, ...]:
  """The parts that gradients train: those of `wanted`, or all that have parameters which are not chosen otherwise.

  Raises:
    InputError: if a wanted part is unknown, or has nothing to train.
  """
  able = tuple(part for part in PARTS if jax.tree.leaves(params[part])
               and part not in scheme.candidates)
  for part in wanted or ():
    if one_of('part to train', part, PARTS) not in able:
      raise InputError(f'--train={part}: the {part.replace("_", " ")} of this scheme has nothing to train; choose from '
                       f'{", ".join(able) or "none"}, or leave the flag out.')
  return able if wanted is None else tuple(part for part in PARTS if part in wanted)


def _check_parts(encoder, decoder, model):
  """Raises InputError if the parts do not go together."""
  partners, name = getattr(decoder, 'goes_with', None), type(encoder).__name__
  if name in getattr(decoder, 'refuses', ()):
    raise InputError(f'the {type(decoder).__name__} undoes sums, which {name} does not make: use --encoder=addition, '
                     'concatenation or one that is trained.')
  if partners is not None and name not in partners:
    raise InputError(f'the {type(decoder).__name__} undoes what {" or ".join(partners)} does, not '
                     f'{type(encoder).__name__}: use them together.')
  if not getattr(encoder, 'systematic', True) and not model.shared:
    raise InputError(f'{type(encoder).__name__} sends coded queries to every worker, so that there are no parities for '
                     'a parity model: use --parity_model=base, F itself.')
  if not model.bundled == (name == 'BundleEncoder') == (type(decoder).__name__ == 'BundleDecoder'):
    raise InputError(f'{name}, {type(decoder).__name__} and a parity model that is {"" if model.bundled else "no "}'
                     'students: a bundle wants all three, --encoder=bundle --parity_model=students --decoder=bundle.')
  if model.per_query and 'Replication' not in type(encoder).__name__:
    raise InputError(f'a backup or default answer takes queries as they are, not parities of {type(encoder).__name__}: '
                     'use --encoder=replication.')
