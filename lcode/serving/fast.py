"""Simulations without an event loop, where the policy allows it: one query at a time is sent, or nobody waits."""

import dataclasses
import heapq
import math

import numpy as np

from lcode.errors import InputError, instance
from lcode.serving.options import PolicyOptions
from lcode.serving.service_times import CHUNK, make_service
from lcode.serving.setup import HOW, Outcome, Setup, streams_of

EXACT, RECONSTRUCTED, LATE = (HOW.index(how) for how in ('exact', 'reconstructed', 'late'))
GROUPS_AT_ONCE = 1 << 18


def simulate_fast(options: PolicyOptions, setup: Setup) -> Outcome | None:
  """What `simulate` returns, for policies without spare units and workers that nothing disturbs; None for others.

  With one queue the outcome is that of `simulate` to the last bit; with a queue for each worker, of its distribution.
  None, too, where a query would be refused or come too late.

  Args:
    options, setup: as of `simulate`, errors too.

  >>> from lcode.serving.fast import simulate_fast
  >>> from lcode.serving.options import make_options
  >>> from lcode.serving.simulator import Setup
  >>> simulate_fast(make_options('none', max_outstanding=1), Setup(queries=1000)).figures()['exact']
  900
  """
  instance('options', options, PolicyOptions)
  instance('setup', setup, Setup)
  if options.k > 1 or options.r or options.encoded or options.batch_size > 1 or options.batch_wait or not (
      options.call_timeout == math.inf) or setup.disturbed or setup.own_deadline_share:
    return None
  if options.queues == 'single':
    return _one_queue(options, setup) if options.max_outstanding == 1 else None
  return _own_queues(options, setup) if options.queues == 'round_robin' or options.choices == 1 else None


def without_queues(options: PolicyOptions, setup: Setup) -> Outcome:
  """The same service with as many workers as it takes, so that no unit waits: copies, and codes that any units decode.

  Delays by quantile are taken from the service times themselves. Workers are not counted: busy shares are nan.

  Args:
    options, setup: as of `simulate`.

  Raises:
    InputError: if the workers are disturbed, or queries batched or with deadlines of their own.
  """
  instance('options', options, PolicyOptions)
  instance('setup', setup, Setup)
  if setup.disturbed or setup.own_deadline_share or options.batch_size > 1 or options.call_timeout < math.inf:
    raise InputError('this setup is not allowed without queues: leave out disturbances, failures, batches, '
                     'call_timeout and deadlines of queries.')
  arrivals, services, rng = streams_of(setup)
  draw = make_service(setup.service, setup.service_ms)
  after, hold = _delay(options.spare_after, options.spare_quantile, draw), _delay(
      options.hold, options.hold_quantile, draw)
  latency, how, start = [], [], 0.0
  if options.tied:  # the first is sent at once, and removes the others
    options = dataclasses.replace(options, r=0, tied=False)
  left = -(-setup.queries // options.k)
  while left:
    groups = min(left, GROUPS_AT_ONCE)
    left -= groups
    times = start + np.cumsum(arrivals.exponential(1e3 / setup.rate, groups * options.k)).reshape(groups, options.k)
    start = times[-1, -1]
    spares = draw(services, groups * options.r).reshape(groups, options.r)
    if options.spare_pool == 'parity':
      spares = spares * setup.parity_scale + setup.parity_extra_ms
    own = draw(services, groups * options.k).reshape(groups, options.k)
    answered, exact = _answered(options, setup, times, own, spares, after, hold)
    latency.append((answered - times).ravel())
    how.append(np.where(exact, EXACT, RECONSTRUCTED).ravel())
  latency, how = (np.concatenate(parts)[:setup.queries] for parts in (latency, how))
  how = np.where(latency > options.deadline, LATE, how).astype(np.int8)
  return Outcome(np.minimum(latency, options.deadline), how, math.nan, math.nan, setup.uncounted)


def _answered(options, setup, times, own, spares, after, hold):
  """When the queries of groups are answered, f64[g, k], and which exactly.

  Args:
    times: f64[g, k], of their arrival.
    own, spares: f64[g, k] and f64[g, r], service times.
    after, hold: ms.
  """
  closed = times[:, -1:]
  if not options.encoded:
    spare = closed + after + spares
    if not options.spare_exact:
      spare = np.maximum(spare, closed + hold)
    fastest = np.minimum(times + own, spare.min(axis=1, keepdims=True, initial=math.inf))
    return fastest, (fastest == times + own) | options.spare_exact
  first = closed + setup.encode_ms
  data = times + own if options.passthrough else first + own
  spare = first + after + spares
  units = np.concatenate([data, spare], axis=1)
  decoded = np.partition(units, options.need - 1, axis=1)[:, options.need - 1:options.need]
  if options.alone:
    decoded = np.minimum(decoded, spare.min(axis=1, keepdims=True))
  decoded = np.maximum(decoded, closed) + setup.decode_ms
  if not options.passthrough:
    return np.broadcast_to(decoded, times.shape), np.zeros(times.shape, bool)
  return np.minimum(data, decoded), data <= decoded


def _delay(fixed, quantile, draw):
  return fixed if quantile is None else float(np.quantile(draw(np.random.default_rng(0), 100_000), quantile))


def _drawn(rng, draw, size):
  """As `service_times.stream` draws them, chunk by chunk."""
  return np.concatenate([draw(rng, CHUNK) for _ in range(-(-size // CHUNK))])[:size]


def _times(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
  """Arrivals and service times of the queries."""
  arrivals, services, _ = streams_of(setup)
  gaps = _drawn(arrivals, lambda rng, size: rng.exponential(1e3 / setup.rate, size), setup.queries)
  return np.cumsum(gaps), _drawn(services, make_service(setup.service, setup.service_ms), setup.queries)


def _one_queue(options, setup):
  arrived, service = _times(setup)
  free = [0.0] * setup.workers
  replace, ends = heapq.heapreplace, np.empty(setup.queries)
  for low in range(0, setup.queries, CHUNK):
    part = []
    for t, work in zip(arrived[low:low + CHUNK].tolist(), service[low:low + CHUNK].tolist()):
      at = free[0]
      end = (at if at > t else t) + work
      replace(free, end)
      part.append(end)
    ends[low:low + CHUNK] = part
  return _outcome(options, setup, arrived, ends - arrived, service)


def _own_queues(options, setup):
  """Lindley's recursion for each worker: the end is the sum of the work up to it, and the longest idleness before."""
  arrived, service = _times(setup)
  if options.queues == 'round_robin':
    which = np.arange(setup.queries) % setup.workers
  else:
    which = streams_of(setup)[2].integers(0, setup.workers, setup.queries)
  order = np.argsort(which, kind='stable')
  latency = np.empty(setup.queries)
  for queries in np.split(order, np.searchsorted(which[order], np.arange(1, setup.workers))):
    work = np.cumsum(service[queries])
    latency[queries] = work + np.maximum.accumulate(arrived[queries] - (work - service[queries])) - arrived[queries]
  return _outcome(options, setup, arrived, latency, service)


def _outcome(options, setup, arrived, latency, service):
  # A query meets as many waiting as have arrived before it less those that have started.
  starts = np.sort(arrived + latency - service)
  met = np.arange(setup.queries) - np.searchsorted(starts, arrived, 'right')
  if met.max() >= options.max_queued or latency.max() >= options.deadline:
    return None
  busy = float(service.sum() / setup.workers / (arrived + latency).max())
  return Outcome(latency, np.full(setup.queries, EXACT, np.int8), busy, 0.0 if setup.parity_workers else math.nan,
                 setup.uncounted)
