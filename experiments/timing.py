"""How long the calls for one group take."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.codec import make_codec
from lcode.coding.scheme import Scheme, stack_units


def time_calls(scheme: Scheme, params, model_state, base_variables, query_shape: tuple[int, ...], num_outputs: int,
               repeats: int = 5, count: int = 100) -> dict[str, float]:
  """Microseconds of the jitted calls for one group alone, dispatch included.

  Args:
    query_shape: *S.
    num_outputs: C, how many numbers F answers.
    repeats: timings of each call, of which the median is given.
    count: calls a timing, each waited for.

  Returns:
    `base_k_inferences`, `encode`, `parity_inference` and `decode`, as `costs.group_costs` names them.
  """
  codec = make_codec(scheme, params, model_state)
  x = jnp.ones((1, scheme.code.k, *query_shape))
  coded, queries = codec.encode(x), x[0]
  units = codec.infer(base_variables, coded)
  if scheme.systematic:
    units = stack_units(jnp.ones((1, scheme.code.k, num_outputs)), units)
  available, base_apply = np.arange(scheme.code.n) > 0, jax.jit(scheme.base_apply)
  calls = {'base_k_inferences': lambda: base_apply(base_variables, queries), 'encode': lambda: codec.encode(x),
           'parity_inference': lambda: codec.infer(base_variables, coded),
           'decode': lambda: codec.decode(units, available)}
  return {name: _median_microseconds(call, repeats, count) for name, call in calls.items()}


def _median_microseconds(call, repeats, count) -> float:
  jax.block_until_ready(call())  # compiles
  seconds = []
  for _ in range(repeats):
    began = time.perf_counter()
    for _ in range(count):
      jax.block_until_ready(call())
    seconds.append((time.perf_counter() - began) / count)
  return 1e6 * statistics.median(seconds)
