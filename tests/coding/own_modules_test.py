"""What a user's own encoders, decoders and parity models get wrong is said in a sentence, not by a traceback."""

import logging

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode.coding.coders import linear as sums
from lcode.coding.parity_model import from_module, ParityModel, students
from lcode.errors import InputError

CODE = lcode.Code(2, 1)
X = np.random.default_rng(0).normal(size=(60, 5)).astype('f4')
W = np.random.default_rng(1).normal(size=(5, 3)).astype('f4')


def linear(variables, x):
  return x @ variables


def module(call):
  """A Flax module that does what `call(self, ...)` says."""
  return type('Mine', (nn.Module,), {'__call__': nn.compact(call)})()


def drops(self, x, available=None):
  return nn.Dropout(0.5, deterministic=False)(x[:1])


def remembers(self, x, available=None):
  self.variable('memory', 'x', lambda: jnp.zeros(3))
  return x[:1 if available is None else 2]


@pytest.mark.parametrize('parts, words', [
    ({'encoder': module(drops)}, 'Mine cannot be run on float32'),
    ({'encoder': module(lambda self, x: x[:, :1])}, r'Mine made float32\[2, 1\] of a group: a \(2, 1\) code needs 1'),
    ({'encoder': module(lambda self, x: (x[:1], x))}, 'Mine made a tuple of a group'),
    ({'encoder': module(remembers)}, 'Mine has variables memory'),
    ({'encoder': nn.Dense}, 'Dense'),
    ({'decoder': module(remembers)}, 'Mine has variables memory'),
    ({'decoder': module(lambda self, x, available: x)}, r'Mine made float32\[3, 3\] of outputs \[3, 3\].*\[2, 3\]'),
    ({'decoder': module(lambda self, x, available: x[:1])}, r'Mine made float32\[1, 3\]'),  # not broadcast to all
    ({'decoder': module(lambda self, x, available: x[0])}, r'Mine made float32\[3\]'),
    ({'decoder': module(lambda self, x, available: x[:2, :2])}, r'Mine made float32\[2, 2\]'),
    ({'decoder': module(lambda self, x: x[:2])}, 'Mine cannot be run'),
    ({'encoder': 'addition', 'parity_model': from_module(nn.Dense(6))}, 'gives 6 numbers where 3 are needed'),
    ({'encoder': 'bundle', 'decoder': 'bundle', 'parity_model': students(nn.Dense(2))}, 'gives 4 numbers where 6'),
    ({'parity_model': ParityModel(lambda *_: {}, lambda *arguments: arguments[2] @ W, True)}, 'returned a'),
    ({'parity_model': from_module(module(lambda self, x: x @ self.variable('weights', 'w', lambda: W).value))},
     'variables weights and no params'),
    ({'parity_model': from_module(nn.Dense(3), start=lambda base, fresh: {'params': {'kernel': jnp.ones((2, 3)),
                                                                                     'bias': jnp.ones(3)}})},
     'Dense cannot be run on float32'),
])
def test_what_does_not_go_together_is_told_before_training(parts, words):
  with pytest.raises(InputError, match=words) as error:
    lcode.fit(lcode.make_scheme(CODE, linear, **parts), W, X, epochs=1)
  assert '\n' not in str(error.value) and str(error.value).endswith('.')


def test_an_rng_of_another_name_is_named():
  def noisy(self, x, train):
    return nn.Dense(3)(x + (jax.random.normal(self.make_rng('noise'), x.shape) if train else 0))

  with pytest.raises(InputError, match='train=True from another rng than dropout'):
    lcode.fit(lcode.make_scheme(CODE, linear, parity_model=from_module(module(noisy))), W, X, epochs=1)


def test_a_codec_takes_the_shapes_that_it_was_made_for():
  fitted = lcode.fit(lcode.make_scheme(CODE, linear), W, X, epochs=1)
  with pytest.raises(InputError, match=r'MLPEncoder cannot be run on float32\[2, 7\]'):
    fitted.codec.encode(np.ones((3, 2, 7), 'f4'))
  with pytest.raises(InputError, match=r'MLPDecoder cannot be run on float32\[3, 4\]'):
    fitted.codec.decode(np.ones((3, 3, 4), 'f4'), [True] * 3)
  for queries in (np.full((3, 2, 5), 'a'), np.full((3, 2, 5), None)):
    with pytest.raises(InputError, match='must be an array of numbers'):
      fitted.codec.encode(queries)
  with pytest.raises(InputError, match='no indices'):
    lcode.erase(np.ones((3, 2)), np.array([2, 1, 3]))
  with pytest.raises(InputError, match="axis='1' is no axis"):
    lcode.stack_units(np.ones((1, 2, 3)), np.ones((1, 1, 3)), axis='1')


def test_eight_bit_floats_are_mixed_in_float32():
  x = jnp.asarray(np.array([[[1.0, 2.0], [3.0, 6.0]]]), jnp.float8_e4m3fn)
  codec = lcode.make_codec(lcode.make_scheme(CODE, linear, 'addition', 'subtraction'),
                           {'encoder': {}, 'parity_model': {}, 'decoder': {}})
  parity = codec.encode(x)
  assert parity.dtype == x.dtype
  np.testing.assert_array_equal(np.asarray(parity, 'f4'), [[[2.0, 4.0]]])


def test_sums_of_many_parities_warn_of_what_they_amplify(caplog, rng):
  """By trial: errors of random signs in the parities, all that can be missing being so, the hardest neighbours."""
  for k, r in ((4, 2), (6, 3), (5, 5)):
    weights, worst = sums.parity_weights(lcode.Code(k, r)), 0
    for first in range(k - r + 1):
      inverse = np.linalg.pinv(weights[:, first:first + r])
      signs = np.array(np.meshgrid(*[[-1, 1]] * r)).reshape(r, -1)
      worst = max(worst, np.abs(inverse @ signs).max())
    assert sums.amplification(lcode.Code(k, r)) == pytest.approx(worst, rel=1e-6)
  with caplog.at_level(logging.WARNING, 'lcode'):
    for _ in range(2):
      lcode.make_scheme(lcode.Code(10, 3), linear, 'addition', 'subtraction')
      lcode.make_scheme(lcode.Code(20, 10), linear, 'addition', 'subtraction')
  assert len([r for r in caplog.records if '(20, 10) code of sums amplifies' in r.message]) == 1
  assert 'a (10, 3)' not in caplog.text
