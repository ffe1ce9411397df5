"""What the decoder of bundles, mosaics and packs is to make of its students' answers."""

import numpy as np

from lcode.coding.code import every_pattern


def check_means(scheme, params, outputs, expected, own):
  """In every pattern: F's answers, expected [k, C], where they arrived, else the mean of own [r, k, C] that did."""
  code = scheme.code
  for available in every_pattern(code):
    answers = scheme.decode(params, outputs, available)
    for i in range(code.k):
      arrived = own[available[code.k:], i]
      wanted = expected[i] if available[i] else arrived.mean(0) if len(arrived) else 0
      np.testing.assert_allclose(answers[i], wanted, atol=1e-5)
