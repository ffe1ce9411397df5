import itertools

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


def test_sampled_patterns_are_different_valid_and_uniform():
  code = Code(6, 3)
  allowed = brute_force(6, 3, 3)
  hits = dict.fromkeys(allowed, 0)
  for seed in range(400):
    rows = list(map(tuple, sampled_patterns(code, 10, seed).tolist()))
    assert len(set(rows)) == 10 and set(rows) <= allowed
    for row in rows:
      hits[row] += 1
  counts = np.array(list(hits.values()))
  expected = 4000 / len(allowed)
  assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
  np.testing.assert_array_equal(sampled_patterns(code, 10, 3), sampled_patterns(code, 10, 3))


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


def test_a_code_is_a_static_argument():
  assert hash(Code(2, 1)) == hash(Code(2, 1)) and Code(2, 1) == Code(2, 1) != Code(2, 2)


@pytest.mark.parametrize('k, r', [(1, 1), (3, 2), (5, 3)])
def test_scenarios_of_codes_without_data_units_and_of_backups_by_brute_force(k, r):
  every = [p for p in itertools.product([True, False], repeat=k + r) if 1 <= p.count(False) <= r]
  found = every_pattern(Code(k, r), passthrough=False)
  assert set(map(tuple, found.tolist())) == set(every) and len(found) == len(every)
  assert num_patterns(Code(k, r), passthrough=False) == len(every)
  found = every_pattern(Code(k, r), parities_fail=False)
  wanted = {p for p in every if all(p[k:])}
  assert set(map(tuple, found.tolist())) == wanted and num_patterns(Code(k, r), parities_fail=False) == len(wanted)
  for kind, allowed in (({'passthrough': False}, set(every)), ({'parities_fail': False}, wanted)):
    sampled = sampled_patterns(Code(k, r), max(len(allowed) - 1, 1), 0, **kind)
    assert set(map(tuple, sampled.tolist())) <= allowed and len(set(map(tuple, sampled.tolist()))) == len(sampled)
