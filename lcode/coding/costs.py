"""What a group costs, counted by XLA from the compiled functions, relative to k inferences by F.

A fused multiply-add counts as two FLOPs. What a black box takes is what its owner says, else it is None, as is what is
relative to it. Not counted are small decompositions (the subtraction and spline decoders'
weights), which follow from the pattern alone and can be kept, and the look at whether what arrived is finite.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.black_box import black_box_of, queries_asked
from lcode.coding.checks import shown
from lcode.coding.scheme import Scheme
from lcode.errors import InputError, whole


PARTS_OF_A_GROUP = 'base_k_inferences', 'encode', 'parity_inference', 'decode'


def cost(fn: Callable, *args) -> dict[str, float]:
  """FLOPs and bytes accessed of the compiled function, by XLA's analysis."""
  if not callable(fn):
    raise InputError(f'fn={shown(fn)} is no function: give one that JAX can compile, and its arguments.')
  analysis = jax.jit(fn).lower(*args).compile().cost_analysis()
  return {'flops': analysis.get('flops', 0.0), 'bytes': analysis.get('bytes accessed', 0.0)}


def group_costs(scheme: Scheme, params, model_state, base_variables, query_shape, num_outputs: int,
                query_dtype: Any = np.float32) -> dict[str, Any]:
  """FLOPs and bytes of each part of a group's coded inference.

  Args:
    scheme: from `make_scheme`.
    params, model_state: of `scheme.init` or `fit`.
    base_variables: F's variables.
    query_shape: S, the shape of one query.
    num_outputs: C, how many numbers F's answer to a query has.
    query_dtype: of the queries.

  Returns:
    `base_k_inferences`, `encode`, `parity_inference` (all n inferences where not systematic) and `decode`, each a
    dictionary of `flops`, `bytes` and `relative`, FLOPs relative to those of k inferences by F; None where they depend
    on those of a black box that does not tell them.

  Raises:
    InputError: if `scheme` is not a `Scheme`, query_shape not a shape, or F or what answers the parities does not
      answer num_outputs numbers.

  >>> costs = lcode.group_costs(scheme, params, model_state, variables, query_shape=(6,), num_outputs=3)
  >>> costs['parity_inference']['relative']    # one inference by F for two queries
  0.5
  """
  if not isinstance(scheme, Scheme):
    raise InputError(f'scheme={shown(scheme)} is no Scheme: give what make_scheme returned.')
  k, n = scheme.code.k, scheme.code.n
  x = jnp.zeros((k, *shape_of(query_shape)), query_dtype)
  coded = jax.eval_shape(scheme.encode, params, x)
  coded = jnp.zeros(coded.shape, coded.dtype)

  def infer(params, model_state, base_variables, coded):
    return scheme.infer(params, model_state, base_variables, coded[None])[0]

  replies = jax.eval_shape(infer, params, model_state, base_variables, coded)
  own = jax.eval_shape(scheme.base_apply, base_variables, x)
  for answered, wanted in ((own, whole('num_outputs', num_outputs)),
                           (replies, num_outputs * (k if scheme.bundled else 1))):
    if answered.shape[-1] != wanted:
      raise InputError(f'num_outputs={num_outputs} is not what is answered, {own.shape[-1]} numbers by F and '
                       f'{replies.shape[-1]} to a parity: give C of F, and a parity model that answers as many.')
  outputs, available = jnp.zeros((n, replies.shape[-1]), replies.dtype), np.arange(n) > 0

  decode = functools.partial(scheme.decode, check_finite=False)
  calls = (scheme.base_apply, base_variables, x), (scheme.encode, params, x), (
      infer, params, model_state, base_variables, coded), (decode, params, outputs, jnp.asarray(available))
  parts = {name: cost(*call) for name, call in zip(PARTS_OF_A_GROUP, calls)}
  if box := black_box_of(scheme.base_apply):
    return {name: _beside(box, part, queries_asked(*call), k)
            for (name, part), call in zip(parts.items(), calls)}
  for part in parts.values():
    part['relative'] = part['flops'] / max(parts['base_k_inferences']['flops'], 1.0)
  return parts


def _beside(box, part: dict, asked: int, k: int) -> dict:
  """A part of a group's cost with what it asks of a black box, as far as that is known; XLA counts that as -1."""
  own, base = max(part['flops'], 0.0), None if box.multiply_adds is None else 2.0 * box.multiply_adds
  relative = asked / k if not own else None if base is None else asked / k + own / (base * k)
  return {'flops': own if not asked else None if base is None else own + asked * base,
          'bytes': None if asked else part['bytes'], 'relative': relative}


def total(*values: float | None) -> float | None:
  """A sum; None if a part of it is not known."""
  return None if any(value is None for value in values) else sum(values)


def shape_of(query_shape) -> tuple[int, ...]:
  """A query's shape as a tuple; raises InputError if it is none."""
  try:
    shape = tuple(map(operator.index, query_shape))
  except TypeError:
    shape = (0,)
  if any(side < 1 for side in shape):
    raise InputError(f'query_shape={shown(query_shape)} is not allowed: give the shape of one query, whole numbers of '
                     'at least 1, as in (28, 28, 1).')
  return shape


def extra_work(scheme: Scheme, parts: dict[str, Any]) -> dict[str, float | None]:
  """`frontend_work` and `worker_work`: what a code adds, relative to k inferences by F; parts as of `group_costs`."""
  parity = total(parts['parity_inference']['relative'], 0.0 if scheme.systematic else -1.0)
  frontend = total(parts['encode']['relative'], parts['decode']['relative'])
  if scheme.at_frontend:
    return {'frontend_work': total(frontend, parity), 'worker_work': 0.0}
  return {'frontend_work': frontend, 'worker_work': parity}


def wire_costs(scheme: Scheme, params, model_state, base_variables, query_shape, num_outputs: int,
               query_dtype: Any = np.float32) -> dict[str, float]:
  """What a code adds on the wire: `wire_out` in bytes of k queries, `wire_back` in bytes of k answers.

  Both relative to float32 queries, of which 8-bit pixels sent as bytes would be a quarter. A backup at the frontend
  sends nothing. Arguments and errors as of `group_costs`, of which nothing is compiled here.
  """
  k = scheme.code.k
  x = jax.ShapeDtypeStruct((k, *shape_of(query_shape)), query_dtype)
  coded = jax.eval_shape(scheme.encode, params, x)
  replies = jax.eval_shape(lambda *args: scheme.infer(*args)[0], params, model_state, base_variables,
                           jax.ShapeDtypeStruct((1, *coded.shape), coded.dtype))
  if scheme.at_frontend:
    return {'wire_out': 0.0, 'wire_back': 0.0}
  sent_anyway = 0 if scheme.systematic else 1  # all n coded queries stand for the k queries, too
  return {'wire_out': coded.size / x.size - sent_anyway,
          'wire_back': replies.size / (k * whole('num_outputs', num_outputs)) - sent_anyway}
