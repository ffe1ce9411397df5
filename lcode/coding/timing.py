"""How long a group's coded inference takes where it runs, relative to k inferences by F: measured, in one process.

Equal multiply-adds are not equal time: on processors a convolution of few channels takes several times what a dense
layer does. All calls of a round follow each other, and a round's calls are compared with each other alone, so that
ratios hold on a machine that others use too. A black box is timed where it answers, outside of JAX; one of which only
answers are recorded is not timed, and what is relative to it is None, unless its owner says how long it takes.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.black_box import black_box_of, queries_asked
from lcode.coding.checks import shown
from lcode.coding.codec import make_codec
from lcode.coding.costs import PARTS_OF_A_GROUP, shape_of, total
from lcode.coding.host import host_code
from lcode.coding.scheme import Scheme
from lcode.coding.units import stack_units
from lcode.errors import InputError, whole

LEAST_S = 2e-3  # of a timing: shorter calls are made several times in it
MOST_S = 8.0  # of all rounds of one number of groups, about; three rounds at least


def group_times(scheme: Scheme, params, model_state, base_variables, query_shape, groups: Sequence[int] = (1, 64),
                rounds: int = 15, query_dtype: Any = np.float32) -> dict[str, Any]:
  """Times the jitted calls for a group alone and for several at once, dispatch included.

  Args:
    scheme, params, model_state, base_variables: as `costs.group_costs` takes them.
    query_shape: S.
    groups: how many groups a call is for.
    rounds: timings of each call, interleaved; fewer where they take long.
    query_dtype: of the queries.

  Returns:
    `platform`, `device`, `threads` (cores of the machine) and `groups`, a dictionary from the number of groups (as
    text) to `base_k_inferences`, `encode`, `parity_inference`, `decode`, and `base_inference`, F on one query a group,
    each with `microseconds` of a call and `relative` to k inferences by F for as many groups, both medians, and
    `spread`, the quartiles of `relative`; `fastest`, see `interleaved`; each None where it is not known.

  Raises:
    InputError: if scheme is no Scheme, query_shape no shape, or a number is below 1.
  """
  if not isinstance(scheme, Scheme):
    raise InputError(f'scheme={shown(scheme)} is no Scheme: give what make_scheme returned.')
  shape = shape_of(query_shape)
  whole('rounds', rounds)
  device, code = jax.devices()[0], scheme.code
  times = {}
  for count in groups:
    calls = _calls(scheme, params, model_state, base_variables, shape, query_dtype,
                   whole('groups', count))
    if (box := black_box_of(scheme.base_apply)) and box.recorded:
      asked = _asked_a_group(scheme, params, model_state, base_variables, shape, query_dtype)
      times[str(count)] = _recorded(calls, box, code.k, asked, count, rounds)
    else:
      times[str(count)] = interleaved(calls, rounds)
  return {'platform': device.platform, 'device': device.device_kind, 'threads': os.cpu_count(), 'groups': times}


def _calls(scheme, params, model_state, base_variables, shape, dtype, groups: int) -> dict[str, Callable]:
  """The four calls, compiled and warm."""
  code, codec = scheme.code, make_codec(scheme, params, model_state)
  x = jnp.ones((groups, code.k, *shape), dtype)
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
  named = dict(zip(PARTS_OF_A_GROUP, calls)) | {'base_inference': lambda: base_apply(base_variables, one)}
  if box := black_box_of(scheme.base_apply):
    all_there, first = np.asarray(queries), np.asarray(one)
    named |= {'base_k_inferences': lambda: box.answers(all_there), 'base_inference': lambda: box.answers(first)}
  return named


def _asked_a_group(scheme, params, model_state, base_variables, shape, dtype) -> int:
  """How many queries to a black box answer a group's parities."""
  coded = jax.eval_shape(scheme.encode, params, jnp.zeros((scheme.code.k, *shape), dtype))
  return queries_asked(lambda coded: scheme.infer(params, model_state, base_variables, coded)[0],
                       jnp.zeros((1, *coded.shape), coded.dtype))


def _recorded(calls: dict[str, Callable], box, k: int, asked: int, groups: int, rounds: int) -> dict[str, dict]:
  """The same where F is not there to be timed: what is asked of it takes as many times what its owner says."""
  queries = {'base_k_inferences': k, 'base_inference': 1} | ({'parity_inference': asked} if asked else {})
  times = interleaved({name: call for name, call in calls.items() if name not in queries}, rounds)
  one = box.seconds and 1e6 * groups * box.seconds
  for part in times.values():
    part |= {'relative': one and part['microseconds'] / (k * one), 'spread': None, 'fastest': None}
  return times | {name: {'microseconds': one and count * one, 'relative': count / k, 'spread': None,
                         'fastest': None}
                  for name, count in queries.items()}


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


def host_times(scheme: Scheme, params, model_state, query_shape, num_outputs: int, rounds: int = 15) -> dict[str, dict]:
  """Times the coding of a group alone as a service does it (`host_code`), and by the jitted functions in turn with it.

  Args:
    scheme, params, model_state, query_shape, rounds: as `group_times` takes them.
    num_outputs: C.

  Returns:
    For `encode` and `decode`, from NumPy arrays to NumPy arrays: `microseconds`, `jitted_microseconds`, and `relative`
    to the jitted, the median of the ratios, with `spread`, their quartiles.
  """
  code, codec = scheme.code, make_codec(scheme, params, model_state)
  answer = (code.k, num_outputs) if scheme.bundled else (num_outputs,)
  on_host = host_code(code, scheme.on_host, codec.encode, codec.decode, query_shape, answer,
                      jax.tree.leaves(params['encoder']))
  inputs = [np.ones((1, code.k, *query_shape), np.float32)], [np.ones((1, code.n, *answer), np.float32),
                                                              np.arange(code.n) > 0]
  found = {}
  for name, jitted, ours, given in zip(('encode', 'decode'), codec, on_host, inputs):
    times = interleaved({'jitted': lambda: np.asarray(jitted(*given)), 'host': lambda: ours(*given)}, rounds)
    found[name] = {'microseconds': times['host']['microseconds'], 'relative': times['host']['relative'],
                   'spread': times['host']['spread'], 'jitted_microseconds': times['jitted']['microseconds']}
  return found


def _timed(call: Callable, count: int) -> float:
  """Seconds of a call, each waited for."""
  began = time.perf_counter()
  for _ in range(count):
    jax.block_until_ready(call())
  return (time.perf_counter() - began) / count


def extra_time(scheme: Scheme, times: dict[str, Any]) -> dict[str, float | None]:
  """What a code adds in time, relative to k inferences by F; `times` as of `group_times`; None where not known.

  Returns:
    `frontend_time`, `worker_time` of the most groups, and of one group `frontend_time_1`, `worker_time_1` where it was
    timed; and `parity_time`, `parity_time_1`: what answers the parities, relative to F on one query a group.
  """
  figures = {}
  most = max(times['groups'], key=int)
  for count, ending in ((most, ''), ('1', '_1')):
    if count in times['groups']:
      parts = {name: part['relative'] for name, part in times['groups'][count].items()}
      frontend, parity = total(parts['encode'], parts['decode']), parts['parity_inference']
      # Of a code that is not systematic all n inferences, of which k are F's own.
      worker = parity if scheme.systematic or parity is None else max(parity - 1, 0.0)
      if scheme.at_frontend:
        frontend, worker = total(frontend, parity), 0.0
      figures |= {f'frontend_time{ending}': frontend, f'worker_time{ending}': worker,
                  f'parity_time{ending}': parity if parity is None else parity / parts['base_inference']}
  return figures
