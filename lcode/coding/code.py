"""The shape of a code, and which of its units can be missing.

A code (k, r) encodes k queries into r parities: n = k + r units. A *scenario* is one pattern of
availability among the n units, `available: bool[n]`, data units first. Scenarios are NumPy constants:
they are known before anything is compiled.
"""

import dataclasses
import itertools
import math

import numpy as np

from lcode.errors import InputError

# Above this many scenarios a step that decodes each of them is no longer a sensible training step.
MAX_PATTERNS = 4096


@dataclasses.dataclass(frozen=True)
class Code:
  """k data units and r parity units a group. Static and hashable: usable as a jit static argument."""

  k: int
  r: int

  def __post_init__(self):
    for name in ('k', 'r'):
      value = getattr(self, name)
      if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f'{name}={value!r} is not a code: {name} must be a whole number of at least 1.')

  @property
  def n(self) -> int:
    return self.k + self.r


def num_patterns(code: Code, max_missing: int | None = None, parities_fail: bool = True,
                 passthrough: bool = True) -> int:
  """How many scenarios `every_pattern` holds, by counting instead of listing."""
  return sum(_counts(code, _checked_max_missing(code, max_missing), parities_fail, passthrough))


def every_pattern(code: Code, max_missing: int | None = None, parities_fail: bool = True,
                  passthrough: bool = True) -> np.ndarray:
  """All patterns of at most `max_missing` missing units (default r) in which a data unit is missing.

  For r = 1 these are the paper's k scenarios: one data unit missing, the parity there.

  Args:
    code: the code.
    max_missing: how many units can be missing at once, at most r.
    parities_fail: False where the parities always arrive, as from a backup at the frontend.
    passthrough: False where answers are approximations whatever arrives, so that all patterns count.

  Returns:
    bool[s, n], True where a unit is available; ordered by the number missing, then by position.

  Raises:
    InputError: if max_missing is outside 1..r, or there are more than MAX_PATTERNS patterns.
  """
  most = _checked_max_missing(code, max_missing)
  count = num_patterns(code, most, parities_fail, passthrough)
  if count > MAX_PATTERNS:
    raise InputError(f'a ({code.k}, {code.r}) code has more than {MAX_PATTERNS} scenarios of up to {most} missing '
                     'units: choose a smaller r, or in your own program sampled_patterns.')
  patterns = []
  for m in range(1, most + 1):
    for missing in itertools.combinations(range(code.n if parities_fail else code.k), m):
      if missing[0] < code.k or not passthrough:  # combinations are sorted: the first is a data unit if any is
        available = np.ones(code.n, bool)
        available[list(missing)] = False
        patterns.append(available)
  return np.stack(patterns)


def sampled_patterns(code: Code, count: int, seed: int | tuple[int, ...], max_missing: int | None = None,
                     parities_fail: bool = True, passthrough: bool = True) -> np.ndarray:
  """`count` different scenarios, drawn uniformly from those of `every_pattern` without listing them.

  Returns:
    bool[count, n]; all scenarios (in the order of `every_pattern`) if there are no more than `count`.
  """
  most = _checked_max_missing(code, max_missing)
  if count < 1:
    raise InputError(f'count={count} scenarios cannot be sampled: it must be at least 1.')
  if num_patterns(code, most, parities_fail, passthrough) <= count:
    return every_pattern(code, most, parities_fail, passthrough)
  rng = np.random.default_rng(seed)
  counts = _counts(code, most, parities_fail, passthrough)
  weights = [m_missing / sum(counts) for m_missing in counts]  # of whole numbers that may not fit a float
  seen: dict[tuple[int, ...], None] = {}
  while len(seen) < count:
    m = 1 + rng.choice(most, p=weights)
    missing = tuple(sorted(rng.permutation(code.n if parities_fail else code.k)[:m].tolist()))
    if missing[0] < code.k or not passthrough:
      seen[missing] = None
  available = np.ones((count, code.n), bool)
  for row, missing in enumerate(seen):
    available[row, list(missing)] = False
  return available


def _counts(code, most, parities_fail, passthrough) -> list[int]:
  """How many scenarios have 1, 2, ..., `most` units missing."""
  if not parities_fail:
    return [math.comb(code.k, m) for m in range(1, most + 1)]
  # Patterns that erase parities alone leave nothing to reconstruct, so they are not counted.
  return [math.comb(code.n, m) - passthrough * math.comb(code.r, m) for m in range(1, most + 1)]


def _checked_max_missing(code: Code, max_missing: int | None) -> int:
  most = code.r if max_missing is None else max_missing
  if not 1 <= most <= code.r:
    raise InputError(f'max_missing={most} is outside 1..{code.r}: a ({code.k}, {code.r}) code repairs at most '
                     f'{code.r} missing units.')
  return most
