"""What a group costs, counted by XLA from the compiled functions, relative to k inferences by F.

A fused multiply-add counts as two FLOPs. Not counted are small decompositions (the subtraction and spline decoders'
weights), which follow from the scenario alone and can be kept.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.scheme import Scheme


def cost(fn: Callable, *args) -> dict[str, float]:
  """FLOPs and bytes accessed of the compiled function, by XLA's analysis."""
  analysis = jax.jit(fn).lower(*args).compile().cost_analysis()
  return {'flops': analysis.get('flops', 0.0), 'bytes': analysis.get('bytes accessed', 0.0)}


def group_costs(scheme: Scheme, params, model_state, base_variables, query_shape, num_outputs: int) -> dict[str, Any]:
  """FLOPs and bytes of each part of a group's coded inference.

  Returns:
    `base_k_inferences`, `encode`, `parity_inference` (of a code that is not systematic: all n inferences), `decode`,
    each {'flops', 'bytes', 'relative'}, relative to k inferences by F in FLOPs.
  """
  k, n = scheme.code.k, scheme.code.n
  x = jnp.zeros((k, *query_shape))
  coded = jnp.zeros(jax.eval_shape(scheme.encode, params, x).shape)

  def infer(params, model_state, base_variables, coded):
    return scheme.infer(params, model_state, base_variables, coded[None])[0]

  width = jax.eval_shape(infer, params, model_state, base_variables, coded).shape[-1]
  outputs, available = jnp.zeros((n, width)), np.arange(n) > 0

  parts = {'base_k_inferences': cost(scheme.base_apply, base_variables, x), 'encode': cost(scheme.encode, params, x),
           'parity_inference': cost(infer, params, model_state, base_variables, coded),
           'decode': cost(scheme.decode, params, outputs, jnp.asarray(available))}
  for part in parts.values():
    part['relative'] = part['flops'] / max(parts['base_k_inferences']['flops'], 1.0)
  return parts


def extra_work(scheme: Scheme, parts: dict[str, Any]) -> dict[str, float]:
  """`frontend_work` and `worker_work`: what a code adds, relative to k inferences by F."""
  parity = parts['parity_inference']['relative'] - (0.0 if scheme.systematic else 1.0)
  frontend = parts['encode']['relative'] + parts['decode']['relative']
  if scheme.at_frontend:
    return {'frontend_work': frontend + parity, 'worker_work': 0.0}
  return {'frontend_work': frontend, 'worker_work': parity}
