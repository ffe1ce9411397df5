"""How long a group's coded inference takes where it runs, relative to k inferences by F: measured, in one process.

Equal multiply-adds are not equal time: on processors a convolution of few channels takes several times what a dense
layer does. All calls of a round follow each other, and a round's calls are compared with each other alone, so that
ratios hold on a machine that others use too.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.checks import shown
from lcode.coding.codec import make_codec
from lcode.coding.costs import PARTS_OF_A_GROUP, shape_of
from lcode.coding.scheme import Scheme
from lcode.coding.units import stack_units
from lcode.errors import InputError, whole

LEAST_S = 2e-3  # of a timing: shorter calls are made several times in it
MOST_S = 8.0  # of all rounds of one number of groups, about; three rounds at least


def group_times(scheme: Scheme, params, model_state, base_variables, query_shape, groups: Sequence[int] = (1, 64),
                rounds: int = 15) -> dict[str, Any]:
  """Times the jitted calls for a group alone and for several at once, dispatch included.

  Args:
    scheme, params, model_state, base_variables: as `costs.group_costs` takes them.
    query_shape: S; queries are float32.
    groups: how many groups a call is for.
    rounds: timings of each call, interleaved; fewer where they take long.

  Returns:
    `platform`, `device`, `threads` (cores of the machine) and `groups`, a dictionary from the number of groups (as
    text) to `base_k_inferences`, `encode`, `parity_inference`, `decode`, and `base_inference`, F on one query a group,
    each with `microseconds` of a call and `relative` to k inferences by F for as many groups, both medians, and
    `spread`, the quartiles of `relative`; `fastest`, see `interleaved`.

  Raises:
    InputError: if scheme is no Scheme, query_shape no shape, or a number is below 1.
  """
  if not isinstance(scheme, Scheme):
    raise InputError(f'scheme={shown(scheme)} is no Scheme: give what make_scheme returned.')
  shape = shape_of(query_shape)
  whole('rounds', rounds)
  device = jax.devices()[0]
  times = {str(whole('groups', count)): interleaved(_calls(scheme, params, model_state, base_variables, shape, count),
                                                    rounds) for count in groups}
  return {'platform': device.platform, 'device': device.device_kind, 'threads': os.cpu_count(), 'groups': times}


def _calls(scheme, params, model_state, base_variables, shape, groups: int) -> dict[str, Callable]:
  """The four calls, compiled and warm."""
  code, codec = scheme.code, make_codec(scheme, params, model_state)
  x = jnp.ones((groups, code.k, *shape), jnp.float32)
  queries, coded, base_apply = x.reshape(-1, *shape), codec.encode(x), jax.jit(scheme.base_apply)
  base_variables = jax.device_put(base_variables)
  units = codec.infer(base_variables, coded)
  if scheme.systematic:
    own = base_apply(base_variables, queries).reshape(groups, code.k, -1)
    units = stack_units(own, units.reshape(*units.shape[:2], *([code.k] if scheme.bundled else []), -1), axis=1)
  available = np.arange(code.n) > 0
  calls = (lambda: base_apply(base_variables, queries), lambda: codec.encode(x),
           lambda: codec.infer(base_variables, coded), lambda: codec.decode(units, available))
  one = queries[:groups]
  return dict(zip(PARTS_OF_A_GROUP, calls)) | {'base_inference': lambda: base_apply(base_variables, one)}


def interleaved(calls: Mapping[str, Callable], rounds: int = 15) -> dict[str, dict]:
  """Times calls in turn, so that each round compares them with each other.

  Args:
    calls: functions without arguments whose results JAX can wait for; the first is what others are relative to.
    rounds: timings of each; fewer where they take long.

  Returns:
    For each name `microseconds`, `relative` and `spread`, as of `group_times`, and `fastest`, the ratio of the fastest
    timings: where others keep every core busy, medians of single ratios wander.

  Raises:
    InputError: if there are no calls, or rounds is below 1.
  """
  if not isinstance(calls, Mapping) or not calls or not all(map(callable, calls.values())):
    raise InputError(f'calls={shown(calls)} cannot be timed: give functions without arguments, by names.')
  whole('rounds', rounds)
  for call in calls.values():
    jax.block_until_ready(call())  # compiles
  counts = {name: math.ceil(LEAST_S / max(_timed(call, 1), 1e-9)) for name, call in calls.items()}
  took = sum(counts[name] * _timed(call, 1) for name, call in calls.items())
  rounds = max(min(rounds, int(MOST_S / max(took, 1e-9))), min(rounds, 3))
  seconds = np.array([[_timed(call, counts[name]) for name, call in calls.items()] for _ in range(rounds)])
  relative = seconds / seconds[:, :1]
  fastest = seconds.min(0) / seconds[:, 0].min()
  return {name: {'microseconds': 1e6 * float(np.median(seconds[:, i])), 'relative': float(np.median(relative[:, i])),
                 'spread': np.quantile(relative[:, i], (0.25, 0.75)).tolist(), 'fastest': float(fastest[i])}
          for i, name in enumerate(calls)}


def _timed(call: Callable, count: int) -> float:
  """Seconds of a call, each waited for."""
  began = time.perf_counter()
  for _ in range(count):
    jax.block_until_ready(call())
  return (time.perf_counter() - began) / count


def extra_time(scheme: Scheme, times: dict[str, Any]) -> dict[str, float]:
  """What a code adds in time, relative to k inferences by F; `times` as of `group_times`.

  Returns:
    `frontend_time`, `worker_time` of the most groups, and of one group `frontend_time_1`, `worker_time_1` where it was
    timed; and `parity_time`, `parity_time_1`: what answers the parities, relative to F on one query a group.
  """
  figures = {}
  most = max(times['groups'], key=int)
  for count, ending in ((most, ''), ('1', '_1')):
    if count in times['groups']:
      parts = {name: part['relative'] for name, part in times['groups'][count].items()}
      frontend, parity = parts['encode'] + parts['decode'], parts['parity_inference']
      worker = parity if scheme.systematic else max(parity - 1, 0.0)  # all n inferences, of which k are F's own
      if scheme.at_frontend:
        frontend, worker = frontend + parity, 0.0
      figures |= {f'frontend_time{ending}': frontend, f'worker_time{ending}': worker,
                  f'parity_time{ending}': parity / parts['base_inference']}
  return figures
