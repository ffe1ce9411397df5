"""A code with its parameters, as jitted functions over many groups: what a service calls."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lcode.coding.checks import available_of_groups, check_units, kind, shown
from lcode.coding.scheme import PARTS, Scheme
from lcode.errors import InputError


class Codec(NamedTuple):
  """A code with its parameters as jitted functions over a batch of groups. F's answers keep their shape O.

  Attributes:
    encode: [g, k, *S] -> parities [g, r, *S] (all coded queries [g, n, *S] where not systematic), of the same dtype.
    decode: (outputs [g, n, *O], available bool[n] or bool[g, n]) -> [g, k, *O], of the same dtype. Outputs of a bundle
      are [g, n, k, *O], as `stack_units` makes them. A unit of which not all numbers are finite counts as missing;
      where more than r are missing so, what cannot be rebuilt comes back as NaN.
    infer: (base_variables, parities [g, r, *S]) -> [g, r, *O], of a bundle [g, r, k, *O]: F on them, or the parity
      models (for which base_variables may be None).

  All raise `InputError` where shapes or dtypes are wrong. `decode` raises it too where more than r units of a group are
  missing, if `available` is a NumPy array or a list; a `jax.Array` may be on a device or traced, and is not looked at:
  there NaN comes back.

  >>> codec, groups = lcode.make_codec(scheme, params), x.reshape(100, 2, 6)
  >>> replies = codec.infer(variables, codec.encode(groups))                  # f32[100, 1, 3]
  >>> units = lcode.stack_units(apply(variables, groups), replies, axis=1)    # f32[100, 3, 3]
  >>> answers = codec.decode(units, np.array([True, False, True]))            # every second answer was lost
  >>> np.allclose(answers, apply(variables, groups), atol=1e-4)
  True
  """

  encode: Callable
  decode: Callable
  infer: Callable


def make_codec(scheme: Scheme, params, model_state=None) -> Codec:
  """The jitted functions of a scheme with its parameters (which stay arguments of what is compiled).

  Args:
    scheme: from `make_scheme`.
    params, model_state: from `scheme.init` or `fit`; None for a scheme without state.

  Raises:
    InputError: if `scheme` is not a `Scheme`, or `params` are not the parameters of its three parts.

  >>> lcode.make_codec(scheme, params).encode(x.reshape(100, 2, 6)).shape
  (100, 1, 6)
  """
  if not isinstance(scheme, Scheme):
    raise InputError(f'scheme={shown(scheme)} is no Scheme: give what make_scheme returned.')
  if not isinstance(params, Mapping) or set(params) != set(PARTS):
    raise InputError(f'params must be a dictionary of the parameters of {", ".join(PARTS)}: give those of scheme.init '
                     'or of fit.')
  code = scheme.code
  sent = code.r if scheme.systematic else code.n

  decode_all = jax.jit(functools.partial(decode_groups, scheme))
  encode_all = jax.jit(jax.vmap(scheme.encode, (None, 0)))
  infer_all = jax.jit(lambda *args: scheme.infer(*args, flat=False)[0])
  params, model_state = jax.device_put((params, model_state or {}))  # once, not with every call

  def encode(x):
    check_units('queries', x, 1, code.k)
    return encode_all(params, x)

  def decode(outputs, available):
    check_units('outputs', outputs, 1, code.n)
    if scheme.bundled and outputs.shape[2:3] != (code.k,):
      raise InputError(f'the outputs of a bundle must be [groups, {code.n}, {code.k}, ...], not {kind(outputs)}: put '
                       "F's and the replies together by stack_units.")
    return decode_all(params, outputs, available_of_groups(available, len(outputs), code))

  def infer(base_variables, parities):
    check_units('parities', parities, 1, sent)
    return infer_all(params, model_state, base_variables, parities)

  return Codec(encode, decode, infer)


def decode_groups(scheme: Scheme, params, outputs, available):
  """What `Codec.decode` compiles: outputs [g, n, *O] ([g, n, k, *O] of a bundle), available bool[g, n] -> [g, k, *O].

  For those who compile it themselves; any arrays are taken, and too few answers are NaN.
  """
  code, (g, n, *answer) = scheme.code, outputs.shape
  outputs = outputs.reshape(g, n, math.prod(answer))
  there = available & jnp.isfinite(outputs).all(-1)
  decode_one = functools.partial(scheme.decode, check_finite=False)  # it has just been looked at
  decoded = jax.vmap(decode_one, (None, 0, 0))(params, outputs, there)
  # Whatever a decoder makes of too little, it is no answer.
  answered = there.sum(1, keepdims=True) >= code.k
  if scheme.passthrough:
    answered |= there[:, :code.k]
  decoded = jnp.where(answered[..., None], decoded, jnp.nan)
  answer = answer[1:] if scheme.bundled else answer
  return decoded.reshape(g, code.k, *answer)
