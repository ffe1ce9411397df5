"""The contract of a coding scheme: pure functions over parameter trees.

`encode` and `decode` act on one group; callers `vmap` over groups and patterns. Training, evaluation and
serving all call the same functions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.errors
import jax
import jax.numpy as jnp

from lcode.coding import coders
from lcode.coding.base import Flat
from lcode.coding.checks import check_units, checked_outputs, checked_queries, kind, shown, wide
from lcode.coding.code import check_code, Code
from lcode.coding.parity_model import apply_all, apply_one, base_itself, init_all, ParityModel
from lcode.coding.parts import check_parity_model, check_together, declared
from lcode.coding.units import erase
from lcode.errors import InputError, one_of, whole

PARTS = ('encoder', 'parity_model', 'decoder')


class Scheme(NamedTuple):
  """A code with a base model F, whose answers are vectors here: C = prod(O) numbers, whatever their shape O.

  Attributes:
    code: how many data units and parities.
    init: (key, x [k, *S], num_outputs, base_variables=None) -> params, model_state; params has an entry for each
      of `PARTS`. num_outputs is C; base_variables are needed where a parity model starts from F.
    encode: (params, x [k, *S]) -> parities [r, *S], or where not systematic all coded queries [n, *S], of x's dtype.
      Computed in float32 or wider; integers are taken by encoders that do not mix queries.
    infer: (params, model_state, base_variables, parities [g, r, *S], train=False, axis_name=None, key=None, flat=True)
      -> [g, r, C], model_state; axis_name is that of the devices a batch is split over, for batch statistics, and
      key is what a parity model's dropout draws from in training. With flat=False answers keep their shape, [g, r, *O].
    decode: (params, outputs [n, C], available bool[n], check_finite=True) -> [k, C] of the same dtype, computed in
      float32 or wider; where `passthrough`, an answer that arrived is returned unchanged. Outputs are as `stack_units`
      puts them together: wider than C where the replies to parities are. A unit of which not all numbers are finite
      counts as missing; check_finite=False is for outputs that are known to be finite, or where it must be seen that
      they are not (in training). Where more than r units are missing, what comes back is the decoder's guess: a
      `Codec` makes it NaN.
    base_apply: F, (variables, x [b, *S]) -> [b, C].
    systematic: True if the queries themselves are sent to F.
    passthrough: True if F's answer to a query, where it arrives, is the answer. Otherwise every answer is an
      approximation.
    candidates: part -> parameters to choose from on validation groups, for parts that are not trained by gradients.
    at_frontend: True if what answers the parities runs at the frontend, so that it is never missing.
    bundled: True if every parity is answered by k answers.
    reply: (params, model_state, base_variables, x [b, *S], j) -> [b, *O], of bundles [b, k, *O]: `infer` on coded
      queries of number j alone, as a worker does it; None where `infer` takes a group as a whole.
    on_host: what encoder and decoder say of how they are computed in NumPy, see `host_code`.

  The functions raise `InputError` where shapes or dtypes are wrong.

  >>> parities = scheme.encode(params, x[:2])                                      # f32[1, 6]
  >>> replies, _ = scheme.infer(params, model_state, variables, parities[None])    # f32[1, 1, 3]
  >>> units = lcode.stack_units(apply(variables, x[:2]), replies[0])               # f32[3, 3]
  >>> answers = scheme.decode(params, units, np.array([False, True, True]))        # f32[2, 3]
  >>> np.allclose(answers, apply(variables, x[:2]), atol=1e-4)
  True
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
  bundled: bool = False
  reply: Callable | None = None
  on_host: tuple[str | None, str | None] = (None, None)


def make_scheme(code: Code, base_apply: Callable, encoder: Any = 'mlp', decoder: Any = 'mlp',
                parity_model: ParityModel | None = None) -> Scheme:
  """Composes an encoder, what answers the parities, and a decoder.

  Args:
    code: the (k, r) code.
    base_apply: F, (variables, x [b, *S]) -> floats [b, *O].
    encoder: a name in `lcode.coders.ENCODERS`, or a Flax module of the same contract (see `register_encoder`) or its
      class.
    decoder: a name in `lcode.coders.DECODERS`, or a Flax module of the same contract or its class.
    parity_model: a `ParityModel`; None for F itself.

  Returns:
    a `Scheme`, pure functions without parameters; `scheme.init` or `fit` makes those.

  Raises:
    InputError: if a name is unknown, `base_apply` is not a function, a part is neither a name nor a Flax module nor
      its class, or the parts do not go together.

  >>> scheme = lcode.make_scheme(lcode.Code(k=4, r=2), apply, 'addition', 'subtraction')
  >>> params, _ = scheme.init(jax.random.key(0), x[:4], num_outputs=3)
  >>> scheme.encode(params, x[:4]).shape
  (2, 6)
  """
  check_code(code)
  if not callable(base_apply):
    raise InputError(f'base_apply={shown(base_apply)} is no function: give F as (variables, queries) -> answers.')
  encoder, decoder = coders.build('encoder', encoder, code), coders.build('decoder', decoder, code)
  model = base_itself(base_apply) if parity_model is None else parity_model
  check_parity_model(model)
  check_together(encoder, decoder, model)
  systematic, mixes = getattr(encoder, 'systematic', True), getattr(encoder, 'mixes', True)
  passthrough = systematic and getattr(decoder, 'passthrough', True)
  sent = code.r if systematic else code.n  # coded queries a group

  def init(key, x, num_outputs, base_variables=None):
    encoder_key, decoder_key = jax.random.split(key)
    width = whole('num_outputs', num_outputs) * (code.k if model.bundled else 1)
    x = checked_queries(x, encoder, mixes, code)
    coded, variables = _run(encoder, encoder.init_with_output, encoder_key, wide(x) if mixes else x)
    coded = _checked_coded(coded, encoder, sent, code).astype(x.dtype)
    # 2, because to fold in 1 is what gives the decoder's key.
    parity_params, model_state = init_all(model, code.r, jax.random.fold_in(key, 2), coded, num_outputs, base_variables)
    starting = _run(decoder, decoder.init, decoder_key, jnp.zeros((code.n, width)), jnp.ones(code.n, bool))
    return {'encoder': _params_of(encoder, variables), 'parity_model': parity_params,
            'decoder': _params_of(decoder, starting)}, model_state

  def encode(params, x):
    x = checked_queries(x, encoder, mixes, code)
    coded = _run(encoder, encoder.apply, {'params': params['encoder']}, wide(x) if mixes else x)
    return _checked_coded(coded, encoder, sent, code).astype(x.dtype)

  def infer(params, model_state, base_variables, parities, train=False, axis_name=None, key=None, flat=True):
    check_units('parities', parities, 1, sent)
    answers, state = apply_all(model, params['parity_model'], model_state, base_variables, parities, train, axis_name,
                               key)
    return answers.reshape(*answers.shape[:2], math.prod(answers.shape[2:])) if flat else answers, state

  def reply(params, model_state, base_variables, x, j):
    return apply_one(model, params['parity_model'], model_state, base_variables, x, whole('j', j, 0))[0]

  def decode(params, outputs, available, check_finite=True):
    outputs, available = checked_outputs(jnp.asarray(outputs), jnp.asarray(available), code)
    if check_finite:
      available &= jnp.isfinite(outputs).all(-1)
    outputs = erase(outputs, available)
    decoded = _run(decoder, decoder.apply, {'params': params['decoder']}, wide(outputs), available)
    wanted = code.k, outputs.shape[1] // (code.k if model.bundled else 1)
    if getattr(decoded, 'shape', None) != wanted:
      raise InputError(f'{type(decoder).__name__} made {kind(decoded)} of outputs {list(outputs.shape)}: it must make '
                       f'an array {list(wanted)}, an answer for each query.')
    decoded = decoded.astype(outputs.dtype)
    if not passthrough:
      return decoded
    return jnp.where(available[:code.k, None], outputs[:code.k, :decoded.shape[-1]], decoded)

  modules = {'encoder': encoder, 'decoder': decoder}
  candidates = {part: module.candidates() for part, module in modules.items() if hasattr(module, 'candidates')}
  return Scheme(code, init, encode, infer, decode, Flat(base_apply), systematic, passthrough, candidates,
                model.at_frontend, model.bundled, reply,
                tuple(declared(part, 'on_host') for part in (encoder, decoder)))


def _run(module, method: Callable, *args):
  """A call of a user's encoder or decoder; what Flax has to say against it as a sentence."""
  try:
    return method(*args)
  except (flax.errors.FlaxError, TypeError) as error:
    reason = str(error).split('\n')[0][:120]
    raise InputError(f'{type(module).__name__} cannot be run on {kind(args[1])} ({reason}): an encoder or decoder is a '
                     'function of its parameters and one group, without other variables or random numbers, and takes '
                     'the shapes that it was initialised for.') from error


def _checked_coded(coded, encoder, sent: int, code: Code):
  if getattr(coded, 'shape', ())[:1] != (sent,):
    raise InputError(f'{type(encoder).__name__} made {kind(coded)} of a group: a ({code.k}, {code.r}) code needs '
                     f'{sent} coded queries, [{sent}, ...].')
  return coded


def _params_of(module, variables) -> dict:
  others = sorted(set(variables) - {'params'})
  if others:
    raise InputError(f'{type(module).__name__} has variables {", ".join(others)}: an encoder or decoder may have '
                     'parameters alone, no state.')
  return variables.get('params', {})


def parts_to_train(scheme: Scheme, params, wanted=None) -> tuple[str, ...]:
  """The parts that gradients train: those of `wanted`, or all that have parameters which are not chosen otherwise.

  Raises:
    InputError: if a wanted part is unknown, or has nothing to train.
  """
  able = tuple(part for part in PARTS if jax.tree.leaves(params[part])
               and part not in scheme.candidates)
  if isinstance(wanted, str):
    raise InputError(f'the parts to train are {wanted!r}, a string: give a tuple of names, as in ({wanted!r},).')
  for part in wanted or ():
    if one_of('part to train', part, PARTS) not in able:
      raise InputError(f'{part!r} is no part to train: the {part.replace("_", " ")} of this scheme has nothing to '
                       f'train; choose from {", ".join(able) or "none"}, or give None for all that can be.')
  return able if wanted is None else tuple(part for part in PARTS if part in wanted)
