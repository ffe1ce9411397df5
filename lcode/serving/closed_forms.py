"""What queueing theory says about services without codes and with them: `mu` service rate, `lam` arrival rate.

Where no distribution is named, service times are exponential. What is exact, a bound or a limit is said at each.
Rates are per unit of time, any; those that no number of servers given can serve are an InputError.
"""

import math
from collections.abc import Callable

import numpy as np

from lcode.errors import InputError, whole


def _load(load: float) -> float:
  if not 0 <= load < 1:
    raise InputError(f'a load of {load:g} is not allowed: queues stay finite from 0 to below 1 alone, give a smaller '
                     'arrival rate.')
  return load


def harmonic(n: int) -> float:
  return math.fsum(1 / i for i in range(1, n + 1))


def mmc_waiting(lam: float, mu: float, c: int) -> float:
  """Erlang's C: the chance that a query waits at c servers with one queue."""
  a, term, below = _load(lam / mu / whole('c', c)) * c, 1.0, 0.0
  for i in range(c):
    below += term
    term *= a / (i + 1)
  term *= c / (c - a)
  return term / (below + term)


def mmc_mean(lam: float, mu: float, c: int) -> float:
  """E of waiting and service, M/M/c."""
  return mmc_waiting(lam, mu, c) / (c * mu - lam) + 1 / mu


def mmc_tail(t: float, lam: float, mu: float, c: int) -> float:
  """P(waiting and service > t), M/M/c: waiting is 0, or Exp(c mu - lam) with the chance of Erlang's C."""
  wait, rate = mmc_waiting(lam, mu, c), c * mu - lam
  x = (rate - mu) * t
  longer = mu * t * (-math.expm1(-x) / x if x else 1.0)  # the sum of the two, relative to the service alone
  return math.exp(-mu * t) * (1 + wait * longer)


def mg1_mean(lam: float, mean: float, second_moment: float) -> float:
  """E of waiting and service at one server, any service times (Pollaczek and Khinchine)."""
  return mean + lam * second_moment / (2 * (1 - _load(lam * mean)))


def kth_of_n(k: int, n: int, mu: float) -> float:
  """E of the k-th smallest of n service times."""
  return (harmonic(whole('n', n, whole('k', k))) - harmonic(n - k)) / mu


def coded_tail(survival: Callable[[float], float], t: float, k: int, r: int) -> float:
  """P(latency > t) of a query in a systematic (k, r) code of which any k units suffice, nobody waiting; any service.

  Its own unit takes longer than t, and of the k + r - 1 others fewer than k are there.
  """
  late = survival(t)
  others = k + r - 1
  return late * math.fsum(math.comb(others, i) * (1 - late) ** i * late ** (others - i)
                          for i in range(min(k, others + 1)))


def coded_mean(k: int, mu: float) -> float:
  """E of the same for r = 1."""
  return k / ((k + 1) * mu)


def hedged_tail(survival: Callable[[float], float], t: float, delay: float) -> float:
  """P(latency > t) with a copy sent after `delay`, nobody waiting; any service. The extra load is survival(delay)."""
  return survival(t) * (survival(t - delay) if t > delay else 1.0)


def redundancy_mean(lam: float, mu: float, servers: int, d: int) -> float:
  """E with copies in the queues of d random servers, the others stopped when one is done; lam at all servers together.

  Gardner et al., "Redundancy-d: The Power of d Choices for Redundancy" (Operations Research 65(4), 2017).
  """
  _load(lam / mu / whole('servers', servers, whole('d', d)))
  return math.fsum(1 / (servers * mu * math.comb(servers - 1, d - 1) / math.comb(i - 1, d - 1) - lam)
                   for i in range(d, servers + 1))


def fork_join_bounds(lam: float, mu: float, n: int, k: int) -> tuple[float, float]:
  """Bounds of E where a job goes to all n servers and the first k to end suffice, the others stopped.

  Joshi, Liu and Soljanin, "On the Delay-Storage Trade-Off" (IEEE JSAC 32(5), 2014).
  """
  _load(lam / mu)
  mean = kth_of_n(k, n, mu)
  variance = math.fsum(1 / (j * mu) ** 2 for j in range(n - k + 1, n + 1))
  lower = math.fsum(1 / ((n - j) * mu - lam) for j in range(k))
  return lower, mean + lam * (variance + mean ** 2) / (2 * (1 - lam * mean)) if lam * mean < 1 else math.inf


def fork_join_two_mean(lam: float, mu: float) -> float:
  """E where a job goes to two servers and ends with the later (Flatto and Hahn, 1984)."""
  return (12 - _load(lam / mu)) / 8 / (mu - lam)


def shorter_of_two_mean(rho: float, mu: float) -> float:
  """E where each query joins the shorter of two random queues, many servers (a limit; Vvedenskaya et al., 1996)."""
  terms = np.arange(1, 60)
  return float(np.sum(_load(rho) ** (np.exp2(np.minimum(terms, 50)) - 2))) / mu
