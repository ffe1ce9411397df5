"""Narrow queries against formats written out by hand, and the same students called on each rounded query."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode.coding.code import Code
from lcode.coding.coders import narrow
from lcode.coding.scheme import make_scheme
from lcode.coding.units import stack_units
from lcode.errors import InputError
from lcode.models.mlp import MLP
from lcode.runs.code_run import evaluate_code, train_code
from lcode.runs.configs import RunOptions
from lcode.runs.presets import config_of
from tests.coding.coders.means import check_means

SHAPE, C = (5, 4, 1), 3


def base_apply(variables, x):
  return jnp.sin(x.reshape(len(x), -1) @ variables)


def numbers(exponent_bits, mantissa_bits, bias, last=None):
  """f64: every number of a format, sorted; the largest `last` exponents are those of infinities and NaN."""
  exponents, m = range(2**exponent_bits - (last or 0)), np.arange(2**mantissa_bits) / 2**mantissa_bits
  above = [(m if e == 0 else 1 + m) * 2.0**(max(e, 1) - bias) for e in exponents]
  return np.unique(np.concatenate([*above, *(-values for values in above)]))


NUMBERS = {2: numbers(5, 10, 15, 1), 4: numbers(3, 4, 3, 1), 8: numbers(2, 1, 1) / 2}


def of(k):
  return next(NUMBERS[places] for places in NUMBERS if k <= places)


def bits(x):
  return np.asarray(x).view(np.uint32)


unpack = jax.jit(narrow.unpack, static_argnums=1)
pack = jax.jit(narrow.pack)


def spread(rng, *shape):
  """f32: of all magnitudes from far below to far above what the formats hold, zeros and the extremes among them."""
  x = (rng.normal(size=shape) * np.exp(6 * rng.normal(size=shape))).astype('f4')
  x.reshape(len(x), -1)[:, :8] = [0, -0.0, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-40, -0.01]
  return x


@pytest.mark.parametrize('k', [2, 3, 4, 5, 8])
def test_each_number_becomes_the_nearest_of_its_format_and_saturates(k, rng):
  x = spread(rng, k, 3000)
  got = np.asarray(unpack(pack(x)[None], k))[0].astype(float)
  known = of(k)
  limited = np.clip(x.astype(float), known[0], known[-1])
  at = np.clip(np.searchsorted(known, limited), 1, len(known) - 1)
  nearest = np.minimum(np.abs(known[at] - limited), np.abs(known[at - 1] - limited))
  assert np.isin(got, known).all() and got.min() == known[0] == -known[-1]
  np.testing.assert_array_equal(np.abs(got - limited), nearest)
  ties = known[:-1] + np.diff(known) / 2  # half-way between two: to the one with an even last bit
  tied = np.broadcast_to(ties.astype('f4'), (k, len(ties)))
  even = (np.arange(len(ties)) - len(known) // 2) % 2 == 0
  expected = np.where(even, known[:-1], known[1:])
  np.testing.assert_array_equal(unpack(pack(tied)[None], k)[0], np.broadcast_to(expected, tied.shape))


def test_alone_a_query_is_sent_as_it_is(rng):
  x = spread(rng, 1, 50)
  np.testing.assert_array_equal(bits(unpack(pack(x)[None], 1)[0]), bits(x))


@pytest.mark.parametrize('k', [2, 3, 4, 7, 8])
def test_packs_of_finite_queries_are_normal_finite_numbers(k):
  """Whatever the highest numbers: all pairs of 8 bits, all fours of 4 bits, all of 16."""
  values = of(k).astype('f4')
  highest = {2: 1, 3: 2, 4: 2}.get(k, 4)
  combined = np.stack(np.meshgrid(*[values] * highest), 0).reshape(highest, -1)
  x = np.concatenate([np.full((k - highest, combined.shape[1]), values[0]), combined])
  for low in (values[0], values[-1], np.float32(0)):
    x[:k - highest] = low
    packs = np.asarray(pack(x))
    assert np.isfinite(packs).all() and (np.abs(packs) >= np.finfo('f4').tiny).all()
    np.testing.assert_array_equal(unpack(packs[None], k)[0], x)


def made(k, r, rng, student=MLP(C, (6,))):
  scheme = make_scheme(Code(k, r), base_apply, 'narrow', 'bundle', lcode.narrow_students(student, k))
  x = spread(rng, 6 * k, *SHAPE).reshape(6, k, *SHAPE)
  params, state = scheme.init(jax.random.key(0), x[0], C)
  return scheme, params, state, x, rng.normal(size=(20, C)).astype('f4')


@pytest.mark.parametrize('k, r', [(1, 1), (2, 2), (8, 1)])
def test_bits_survive_all_that_a_parity_goes_through(k, r, rng, tmp_path):
  scheme, params, state, x, variables = made(k, r, rng)
  codec = lcode.make_codec(scheme, params, state)
  parities = codec.encode(x)
  assert parities.shape == (6, r, *SHAPE) and parities.dtype == jnp.float32
  alone = np.stack([[narrow.pack(group)] * r for group in x])  # op by op
  np.testing.assert_array_equal(bits(parities), bits(alone))
  stacked = stack_units(jnp.asarray(x), parities, axis=1)[:, k:]
  np.save(tmp_path / 'parities.npy', stacked)
  loaded = np.load(tmp_path / 'parities.npy')
  np.testing.assert_array_equal(bits(loaded), bits(alone))
  if k > 1:  # even arithmetic that flushes subnormal numbers
    np.testing.assert_array_equal(bits(jax.jit(lambda x, one: x * one + 0)(loaded, np.float32(1))), bits(alone))
  np.testing.assert_array_equal(codec.infer(None, loaded), codec.infer(None, parities))


@pytest.mark.parametrize('k', [2, 3, 8])
def test_nan_is_that_of_its_own_query_alone(k, rng):
  scheme, params, state, x, variables = made(k, 1, rng)
  x = x.clip(-3, 3)
  codec = lcode.make_codec(scheme, params, state)
  broken = x.copy()
  broken[0, 0, 2] = np.nan
  broken[1, :, 1] = np.nan
  broken[2, k - 1] = -np.float32(np.nan)
  expected = np.isnan(broken).reshape(6, k, -1)
  got = np.asarray(unpack(codec.encode(broken)[:, 0], k)).reshape(6, k, -1)
  np.testing.assert_array_equal(np.isnan(got), expected)
  np.testing.assert_array_equal(got[~expected],
                                np.asarray(unpack(codec.encode(x)[:, 0], k)).reshape(6, k, -1)[~expected])
  replies = np.asarray(codec.infer(None, codec.encode(broken)))
  np.testing.assert_array_equal(np.isnan(replies).all(-1)[:, 0], expected.any(-1))
  own = jax.vmap(base_apply, (None, 0))(variables, broken)
  answers = codec.decode(stack_units(own, replies, axis=1), np.ones(k + 1, bool))
  np.testing.assert_array_equal(np.isnan(answers).any(-1), expected.any(-1))


@pytest.mark.parametrize('k, r', [(1, 1), (4, 2)])
def test_what_is_missing_is_the_mean_of_the_students_that_arrived(k, r, rng):
  student = MLP(C, (6,))
  scheme, params, state, x, variables = made(k, r, rng, student)
  x = x[0].clip(-3, 3)
  rounded = x if k == 1 else of(k)[np.abs(of(k) - x[..., None]).argmin(-1)].astype('f4')
  outputs = stack_units(base_apply(variables, x),
                        scheme.infer(params, state, variables, scheme.encode(params, x)[None])[0][0])
  own = np.stack([[student.apply({'params': params['parity_model'][str(j)]}, q[None])[0] for q in rounded]
                  for j in range(r)])
  check_means(scheme, params, outputs, base_apply(variables, x), own)


def test_what_cannot_be_packed_is_a_sentence(rng):
  with pytest.raises(InputError, match='k=9 queries do not fit into the bits of one'):
    make_scheme(Code(9, 1), base_apply, 'narrow', 'bundle', lcode.students(MLP(C)))
  for k, words in ((9, 'k=9 queries'), (0, 'k=0')):
    with pytest.raises(InputError, match=words):
      lcode.narrow_students(MLP(C), k)
  scheme, params, state, x, _ = made(2, 1, rng)
  for wrong in (jnp.asarray(x[0], jnp.bfloat16), x[0].clip(-3, 3).astype('f2'), np.ones(x[0].shape, 'i4')):
    with pytest.raises(InputError, match=f"queries must be float32.*not {wrong.dtype}.*use encoder='bun"):
      scheme.encode(params, wrong)
  with pytest.raises(InputError, match='parities must be float32'):
    scheme.infer(params, state, None, x[:, :1].clip(-3, 3).astype('f2'))
  for encoder, model in (('narrow', lcode.students(MLP(C))), ('narrow', None),
                         ('bundle', lcode.narrow_students(MLP(C), 2))):
    with pytest.raises(InputError, match='do not go together: take'):
      make_scheme(Code(2, 1), base_apply, encoder, 'bundle', model)


def test_narrow_digits_learn_load_and_evaluate(tmp_path):
  trained = train_code(config_of('narrow', 4, 1, 'digits', 'mlp', 0, 20), str(tmp_path), None, RunOptions(devices=1))
  record = trained.record
  assert record['degraded_accuracy'] > 0.85 and record['encoder_parameters'] == 0
  assert record['wire_out'] == 1 / 4 and record['wire_back'] == 1
  loaded = lcode.load(tmp_path)
  x = np.random.default_rng(0).random((2, 4, 8, 8, 1), np.float32)
  parities = loaded.codec.encode(x)
  np.testing.assert_array_equal(bits(parities), bits(trained.codec.encode(x)))
  np.testing.assert_array_equal(loaded.codec.infer(None, parities), trained.codec.infer(None, parities))
  again = evaluate_code(tmp_path, RunOptions(devices=1)).record
  for name in ('degraded_accuracy', 'reconstruction_accuracy', 'test_loss'):
    assert again[name] == record[name]
