import collections
import fractions
import itertools
import math

import numpy as np
import pytest

from lcode.coding.code import Code, every_pattern, num_patterns, sampled_patterns
from lcode.errors import InputError


def brute_force(k, r, most):
  """Filters all 2^n patterns instead of building the wanted ones."""
  patterns = [p for p in itertools.product([True, False], repeat=k + r)
              if 1 <= p.count(False) <= most and not all(p[:k])]
  return set(patterns)


@pytest.mark.parametrize('k, r', [(1, 1), (2, 1), (5, 1), (2, 2), (3, 2), (5, 3), (1, 4)])
def test_every_pattern_with_up_to_r_missing_is_there(k, r):
  for most in range(1, r + 1):
    rows = every_pattern(Code(k, r), most)
    assert set(map(tuple, rows.tolist())) == brute_force(k, r, most)
    assert len(rows) == len(brute_force(k, r, most)) == num_patterns(Code(k, r), most)
    missing = (~rows).sum(1)
    assert (np.diff(missing) >= 0).all()


def test_one_parity_gives_the_papers_k_scenarios():
  expected = np.concatenate([~np.eye(5, dtype=bool), np.ones((5, 1), bool)], axis=1)
  np.testing.assert_array_equal(every_pattern(Code(5, 1)), expected)


KINDS = [{}, {'passthrough': False}, {'parities_fail': False}]


@pytest.mark.parametrize('kind', KINDS)
def test_sampled_patterns_are_uniform(kind):
  """Chi-square over every pattern of (4, 4); five standard deviations of it are allowed."""
  code, draws, hits = Code(4, 4), 20, {tuple(row): 0 for row in every_pattern(Code(4, 4), **kind).tolist()}
  if 'parities_fail' in kind:
    draws = 2  # of 15
  for seed in range(1500):
    rows = list(map(tuple, sampled_patterns(code, draws, seed, **kind).tolist()))
    assert len(set(rows)) == draws
    for row in rows:
      hits[row] += 1
  expected = 1500 * draws / len(hits)
  # Drawn without replacement, so that a pattern's hits spread less than Poisson's.
  spread = expected * (1 - draws / len(hits)) * len(hits) / (len(hits) - 1)
  freedom = len(hits) - 1
  assert ((np.array(list(hits.values())) - expected) ** 2 / spread).sum() < freedom + 5 * np.sqrt(2 * freedom)
  assert set(hits) == {tuple(row) for row in every_pattern(code, **kind).tolist()}
  np.testing.assert_array_equal(sampled_patterns(code, draws, 3, **kind), sampled_patterns(code, draws, 3, **kind))


def test_every_subset_of_patterns_is_as_likely():
  """(2, 2) has seven patterns: 42 pairs in order."""
  hits = collections.Counter(sampled_patterns(Code(2, 2), 2, (seed, 7)).tobytes() for seed in range(7000))
  assert len(hits) == 7 * 6 and max(hits.values()) < 7000 / 42 + 5 * np.sqrt(7000 / 42) > 200
  assert min(hits.values()) > 7000 / 42 - 5 * np.sqrt(7000 / 42)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('k, r', [(1, 4), (5, 3), (3, 1)])
def test_every_number_is_that_pattern(k, r, kind):
  """Sampled by number without a table, listed in order: one more than there are gives the list."""
  code, listed = Code(k, r), every_pattern(Code(k, r), **kind)
  np.testing.assert_array_equal(sampled_patterns(code, len(listed), 0, **kind), listed)
  most = {tuple(row) for row in sampled_patterns(code, max(len(listed) - 1, 1), 0, **kind).tolist()}
  assert most <= set(map(tuple, listed.tolist())) and len(most) == max(len(listed) - 1, 1)


def test_counts_beyond_floats_are_sampled_in_whole_numbers():
  """(300, 40): more than 10^51 patterns; the shares of 40, 39 and 38 missing are those of whole numbers."""
  code = Code(300, 40)
  counts = {m: math.comb(340, m) - math.comb(40, m) for m in range(1, 41)}
  rows = sampled_patterns(code, 2000, 0)
  assert num_patterns(code) == sum(counts.values()) > 2**170 and not rows[:, :300].all(1).any()
  actual = collections.Counter((~rows).sum(1).tolist())
  for m in (40, 39, 38):
    expected = 2000 * float(fractions.Fraction(counts[m], sum(counts.values())))
    assert abs(actual[m] - expected) < 5 * np.sqrt(expected)
  share = rows.mean(0)  # every unit is missing as often: parities as data units, nearly
  np.testing.assert_allclose(share, share.mean(), atol=0.04)


def test_sampling_more_than_there_are_gives_all():
  np.testing.assert_array_equal(sampled_patterns(Code(3, 2), 1000, 0), every_pattern(Code(3, 2)))


@pytest.mark.parametrize('k, r', [(0, 1), (2, 0), (-1, 1), (2.0, 1), (True, 1)])
def test_a_code_needs_whole_positive_numbers(k, r):
  with pytest.raises(InputError, match='at least 1'):
    Code(k, r)


def test_useless_requests_are_refused():
  with pytest.raises(InputError, match='outside 1..2'):
    every_pattern(Code(3, 2), 3)
  with pytest.raises(InputError, match='sampled_patterns'):
    every_pattern(Code(40, 10))
  with pytest.raises(InputError, match='at least 1'):
    sampled_patterns(Code(3, 2), 0, 0)
  for bad in (dict(count=2.5), dict(seed=-1), dict(seed=(1, 'a')), dict(max_missing=1.5), dict(code=(3, 2))):
    with pytest.raises(InputError, match=next(iter(bad))):
      sampled_patterns(**{'code': Code(3, 2), 'count': 2, 'seed': 0} | bad)


def test_numpys_whole_numbers_make_a_code():
  code = Code(np.int64(3), np.uint8(2))
  assert code == Code(3, 2) and hash(code) == hash(Code(3, 2)) and type(code.k) is type(code.r) is int


def test_a_code_is_a_static_argument():
  assert hash(Code(2, 1)) == hash(Code(2, 1)) and Code(2, 1) == Code(2, 1) != Code(2, 2)


@pytest.mark.parametrize('k, r', [(1, 1), (3, 2), (5, 3)])
def test_scenarios_of_codes_without_data_units_and_of_backups_by_brute_force(k, r):
  every = [p for p in itertools.product([True, False], repeat=k + r) if 1 <= p.count(False) <= r]
  actual = every_pattern(Code(k, r), passthrough=False)
  assert set(map(tuple, actual.tolist())) == set(every) and len(actual) == len(every)
  assert num_patterns(Code(k, r), passthrough=False) == len(every)
  actual = every_pattern(Code(k, r), parities_fail=False)
  wanted = {p for p in every if all(p[k:])}
  assert set(map(tuple, actual.tolist())) == wanted and num_patterns(Code(k, r), parities_fail=False) == len(wanted)
  for kind, allowed in (({'passthrough': False}, set(every)), ({'parities_fail': False}, wanted)):
    sampled = sampled_patterns(Code(k, r), max(len(allowed) - 1, 1), 0, **kind)
    assert set(map(tuple, sampled.tolist())) <= allowed and len(set(map(tuple, sampled.tolist()))) == len(sampled)
