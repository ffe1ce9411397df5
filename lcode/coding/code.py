"""The shape of a code, and which of its units can be missing.

A code (k, r) encodes k queries into r parities: n = k + r units. A *pattern* says which of the n units are available,
`available: bool[n]`, data units first. Patterns are NumPy constants: they are known before anything is compiled.
"""

import dataclasses
import itertools
import math

import numpy as np

from lcode.errors import InputError, whole

# Above this many patterns a step that decodes each of them is no longer a sensible training step.
MAX_PATTERNS = 4096


@dataclasses.dataclass(frozen=True)
class Code:
  """k data units and r parity units per group. Static and hashable: usable as a static argument of `jax.jit`.

  Attributes:
    k: data units, the queries.
    r: parity units.
    n: k + r, all units.

  Raises:
    InputError: if k or r is not a whole number of at least 1; NumPy's whole numbers are taken, as ints.

  >>> lcode.Code(k=4, r=2).n
  6
  """

  k: int
  r: int

  def __post_init__(self):
    for name in ('k', 'r'):
      object.__setattr__(self, name, whole(name, getattr(self, name)))

  @property
  def n(self) -> int:
    return self.k + self.r


def check_code(code: Code) -> Code:
  """Returns `code` if it is a `Code`, else raises `InputError`."""
  if not isinstance(code, Code):
    raise InputError(f'code={code!r} is no Code: give one, as in lcode.Code(k=2, r=1).')
  return code


def num_patterns(code: Code, max_missing: int | None = None, parities_fail: bool = True,
                 passthrough: bool = True) -> int:
  """How many patterns `every_pattern` holds, by counting instead of listing."""
  return sum(_counts(code, _checked_max_missing(code, max_missing), parities_fail, passthrough))


def every_pattern(code: Code, max_missing: int | None = None, parities_fail: bool = True,
                  passthrough: bool = True) -> np.ndarray:
  """All patterns of at most `max_missing` missing units (default r) in which a data unit is missing.

  For r = 1 these are the k scenarios of "Learning a Code": one data unit missing, the parity there.

  Args:
    code: the code.
    max_missing: how many units can be missing at once, at most r.
    parities_fail: False where the parities always arrive, as from a backup at the frontend.
    passthrough: False where every answer is an approximation, whatever arrives, so that all patterns count.

  Returns:
    bool[s, n], True where a unit is available; ordered by the number missing, then by position.

  Raises:
    InputError: if `code` is not a `Code`, max_missing is outside 1..r, or there are more than 4096 patterns.

  >>> lcode.every_pattern(lcode.Code(k=2, r=1))
  array([[False,  True,  True],
         [ True, False,  True]])
  """
  most = _checked_max_missing(code, max_missing)
  if num_patterns(code, most, parities_fail, passthrough) > MAX_PATTERNS:
    raise InputError(f'a ({code.k}, {code.r}) code has more than {MAX_PATTERNS} patterns of up to {most} missing '
                     'units: choose a smaller r, or in your own program sampled_patterns.')
  missing = []
  for m in range(1, most + 1):
    for units in itertools.combinations(range(code.n if parities_fail else code.k), m):
      if units[0] < code.k or not passthrough:  # combinations are sorted: the first is a data unit if any is
        missing.append(units)
  return _patterns(code, missing)


def sampled_patterns(code: Code, count: int, seed: int | tuple[int, ...], max_missing: int | None = None,
                     parities_fail: bool = True, passthrough: bool = True) -> np.ndarray:
  """`count` different patterns, each set of that many of `every_pattern` as likely as any other, without listing them.

  Patterns are drawn by their number in the order of `every_pattern`, in whole numbers: exact for any (k, r).

  Args:
    code: the code.
    count: how many patterns.
    seed: a whole number of at least 0, or a tuple of such.
    max_missing, parities_fail, passthrough: as of `every_pattern`.

  Returns:
    bool[count, n], in random order and the same for the same seed; all patterns, in the order of `every_pattern`, if
    there are no more than `count`.

  Raises:
    InputError: if count is below 1, max_missing outside 1..r, or the seed not made of whole numbers of at least 0.

  >>> lcode.sampled_patterns(lcode.Code(k=100, r=3), count=8, seed=0).shape
  (8, 103)
  """
  most, count = _checked_max_missing(code, max_missing), whole('count', count)
  counts = _counts(code, most, parities_fail, passthrough)
  total = sum(counts)
  for number in seed if isinstance(seed, (tuple, list)) else [seed]:
    whole('seed', number, 0)
  if total <= count:
    chosen = range(total)
  else:
    rng, chosen = np.random.default_rng(seed), {}
    for last in range(total - count, total):  # Floyd's algorithm (Bentley, CACM 30(9), 1987)
      number = _below(rng, last + 1)
      chosen[last if number in chosen else number] = None
    listed = list(chosen)
    chosen = [listed[i] for i in rng.permutation(count)]
  return _patterns(code, [_missing(number, counts, code.n if parities_fail else code.k) for number in chosen])


def _below(rng: np.random.Generator, bound: int) -> int:
  """A whole number of any size, uniform in 0..bound - 1."""
  bits = (bound - 1).bit_length()
  while True:
    number = int.from_bytes(rng.bytes(-(-bits // 8)), 'little') >> (-bits % 8)
    if number < bound:
      return number


def _missing(number: int, counts: list[int], units: int) -> list[int]:
  """The missing units of the pattern of this number in the order of `every_pattern`.

  Those with m missing are the first of the m-combinations of the units in lexicographic order: combinations of
  parities alone come last.
  """
  for m, with_m in enumerate(counts, 1):
    if number < with_m:
      break
    number -= with_m
  missing, unit = [], 0
  for left in range(m, 0, -1):
    while number >= (starting_here := math.comb(units - unit - 1, left - 1)):
      number -= starting_here
      unit += 1
    missing.append(unit)
    unit += 1
  return missing


def _patterns(code: Code, missing: list) -> np.ndarray:
  available = np.ones((len(missing), code.n), bool)
  for row, units in zip(available, missing):
    row[list(units)] = False
  return available


def _counts(code: Code, most: int, parities_fail: bool, passthrough: bool) -> list[int]:
  """How many patterns have 1, 2, ..., `most` units missing."""
  if not parities_fail:
    return [math.comb(code.k, m) for m in range(1, most + 1)]
  # Patterns that erase parities alone leave nothing to reconstruct, so they are not counted.
  return [math.comb(code.n, m) - passthrough * math.comb(code.r, m) for m in range(1, most + 1)]


def _checked_max_missing(code: Code, max_missing: int | None) -> int:
  most = check_code(code).r if max_missing is None else whole('max_missing', max_missing)
  if most > code.r:
    raise InputError(f'max_missing={most} is outside 1..{code.r}: a ({code.k}, {code.r}) code repairs at most '
                     f'{code.r} missing units.')
  return most
