"""Codes in NumPy for a group alone: the numbers of the jitted functions, and whose they are."""

import jax
import numpy as np
import pytest

from lcode.coding import coders
from lcode.coding.code import Code, every_pattern
from lcode.coding.codec import make_codec
from lcode.coding.coders.linear import AdditionEncoder
from lcode.coding.host import host_code
from lcode.coding.scheme import make_scheme
from lcode.errors import InputError
from tests.coding.scheme_test import base_apply, build, NUM_OUTPUTS, PARTS_TOGETHER, refuses, SHAPE

CODES = [(k, r, *parts) for k, r in [(2, 1), (3, 3)] for parts in PARTS_TOGETHER if not refuses(k, r, parts[0])]


def made(scheme, params, calls=None):
  """The jitted codec, and what is made of it; names of the jitted functions that this calls go to `calls`."""
  codec, calls = make_codec(scheme, params), [] if calls is None else calls
  encode, decode = (lambda *inputs, name=name: calls.append(name) or getattr(codec, name)(*inputs)
                    for name in ('encode', 'decode'))
  width = (scheme.code.k, NUM_OUTPUTS) if scheme.bundled else (NUM_OUTPUTS,)
  return codec, host_code(scheme.code, scheme.on_host, encode, decode, SHAPE, width,
                          jax.tree.leaves(params['encoder']))


@pytest.mark.parametrize('k, r, encoder, decoder, answers', CODES)
def test_the_numbers_are_those_of_the_codec(k, r, encoder, decoder, answers):
  scheme, params, _, _ = build(k, r, encoder, decoder, answers)
  calls = []
  codec, (encode, decode) = made(scheme, params, calls)
  rng = np.random.default_rng(5)
  x = rng.normal(size=(1, k, *SHAPE)).astype('f4')
  coded, wanted = encode(x), np.asarray(codec.encode(x))
  assert coded.shape == wanted.shape and coded.dtype == wanted.dtype
  np.testing.assert_allclose(coded, wanted, 1e-5, 1e-5)
  if encoder in ('bundle', 'replication', 'narrow'):
    np.testing.assert_array_equal(coded.view('u4'), wanted.view('u4'))
  units = rng.normal(size=(1, k + r, *((k,) if scheme.bundled else ()), NUM_OUTPUTS)).astype('f4')
  for available in every_pattern(scheme.code):
    there = np.where(available.reshape(1, -1, *[1] * (units.ndim - 2)), units, np.nan)  # what is missing is not read
    answers, wanted = decode(there, available), np.asarray(codec.decode(there, available))
    assert answers.shape == wanted.shape and answers.dtype == wanted.dtype
    np.testing.assert_allclose(answers, wanted, 2e-4, 2e-5)
    if scheme.passthrough:
      own = units[0, :k, 0] if scheme.bundled else units[0, :k]
      np.testing.assert_array_equal(answers[0][available[:k]], own[available[:k]])
    if scheme.bundled and available[k:].sum() == 1:  # selection, bit for bit
      np.testing.assert_array_equal(answers, wanted)
  with pytest.raises(InputError, match='missing'):
    decode(units, np.arange(k + r) < k - 1)
  calls.clear()  # what says how it is computed does not go to the device again
  encode(x)
  decode(units, np.arange(k + r) > 0)
  assert calls == [name for name, how in zip(('encode', 'decode'), scheme.on_host) if how is None]


def test_what_is_linear_says_so():
  assert {name for name, part in coders.ENCODERS.items() if getattr(part, 'on_host', None)} == {
      'addition', 'berrut', 'approxifer', 'spline', 'replication', 'bundle', 'mosaic'}
  assert coders.DECODERS['berrut'](Code(2, 4), num_byzantine=1).on_host is None


def test_a_part_that_computes_something_else_is_left_as_it_is():
  class Squares(AdditionEncoder):
    def __call__(self, x):
      return super().__call__(x * x)

  scheme = make_scheme(Code(2, 1), base_apply, Squares, 'subtraction')
  params, _ = scheme.init(jax.random.key(0), np.zeros((2, *SHAPE), 'f4'), NUM_OUTPUTS)
  codec, (encode, _) = made(scheme, params)
  x = np.random.default_rng(0).normal(size=(1, 2, *SHAPE)).astype('f4')
  assert scheme.on_host[0] == 'weights'
  np.testing.assert_allclose(encode(x), codec.encode(x), 1e-5, 1e-5)
