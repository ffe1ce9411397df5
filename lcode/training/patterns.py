"""Which erasure patterns a code is trained and validated on."""

from collections.abc import Callable

import numpy as np

from lcode.coding.code import MAX_PATTERNS, every_pattern, num_patterns, sampled_patterns
from lcode.coding.scheme import Scheme
from lcode.errors import InputError

PATTERNS_A_STEP = 64  # of more than that, so many are sampled for each step


def check_patterns(scheme: Scheme, patterns: np.ndarray) -> None:
  """Raises InputError unless these are patterns bool[s, n] of the scheme's code, with at most r units missing."""
  n = scheme.code.n
  if patterns.ndim != 2 or patterns.shape[1] != n or patterns.dtype != bool or not len(patterns):
    raise InputError(f'scenarios={patterns.dtype}{list(patterns.shape)} are no erasure patterns of a ({scheme.code.k}, '
                     f'{scheme.code.r}) code: give bool[s, {n}], True where a unit is available.')
  most = int((~patterns).sum(1).max())
  if most > scheme.code.r:
    raise InputError(f'scenarios has a pattern with {most} of {n} units missing, of which the code repairs at most '
                     f'{scheme.code.r}: leave it out.')
  if scheme.passthrough and patterns[:, :scheme.code.k].all():
    raise InputError(f'in none of the {len(patterns)} scenarios a data unit (the first {scheme.code.k}) is missing, so '
                     'that there is nothing to rebuild: give others.')


def patterns_of(scheme: Scheme, wanted, seed: int) -> tuple[Callable | None, np.ndarray]:
  """What to train on and what to validate on.

  Args:
    scheme: the code.
    wanted: bool[s, n], or how many a step, or None for all of them or `PATTERNS_A_STEP`.
    seed: of those that are sampled.

  Returns:
    (epoch, steps) -> bool[steps, s, n] where each step samples its own, else None; and validation's, bool[s, n].
  """
  code, kind = scheme.code, (not scheme.at_frontend, scheme.passthrough)
  if isinstance(wanted, np.ndarray):
    return None, wanted
  count = PATTERNS_A_STEP if wanted is None else wanted
  fixed = sampled_patterns(code, 4 * count, seed, None, *kind)
  total = num_patterns(code, None, *kind)
  if total <= count:
    return None, fixed
  listed = every_pattern(code, None, *kind) if total <= MAX_PATTERNS else None

  def sample(epoch, steps):
    rng = np.random.default_rng([seed, epoch])
    if listed is not None:
      return np.stack([listed[rng.choice(total, count, replace=False)] for _ in range(steps)])
    seeds = rng.integers(2**31, size=steps).tolist()
    return np.stack([sampled_patterns(code, count, step_seed, None, *kind) for step_seed in seeds])

  return sample, fixed
