"""What the room takes and what it refuses in a sentence: queries, answers of F, availability, parts."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode.coding import coders
from lcode.coding.base import output_shape_of
from lcode.coding.code import Code
from lcode.coding.coders.berrut import ApproxIFERDecoder
from lcode.coding.coders.bundle import BundleDecoder, BundleEncoder
from lcode.coding.coders.linear import parity_weights
from lcode.coding.costs import cost, group_costs
from lcode.coding.parity_model import default_answer, from_module, narrow_students, ParityModel, students
from lcode.coding.codec import make_codec
from lcode.coding.scheme import make_scheme, parts_to_train, PARTS
from lcode.coding.units import erase, stack_units
from lcode.errors import InputError
from lcode.models.mlp import MLP

NOTHING = {part: {} for part in PARTS}
PARTNERS = {'berrut': 'berrut', 'approxifer': 'approxifer', 'spline': 'spline', 'replication': 'replication',
            'bundle': 'bundle', 'narrow': 'bundle'}


@contextlib.contextmanager
def refused(match):
  """As pytest.raises, of one sentence that names no command-line flag."""
  with pytest.raises(InputError, match=match) as error:
    yield
  message = str(error.value)
  assert message.endswith('.') and '. ' not in message and '\n' not in message and '--' not in message, message


def scheme_of(encoder, code=Code(2, 2)):
  models = {'bundle': students(MLP(3, ())), 'narrow': narrow_students(MLP(3, ()), 2)}
  return make_scheme(code, linear, encoder, PARTNERS.get(encoder, 'mlp'), models.get(encoder))


def linear(variables, x):
  return jnp.tensordot(x, variables, x.ndim - 1)


# Queries


REFUSED = {name: 'mixes queries.*{}.*float32' for name, encoder in coders.ENCODERS.items()
           if getattr(encoder, 'mixes', True)} | {'narrow': 'must be float32.*not {}.*bundle'}


@pytest.mark.parametrize('encoder', coders.ENCODERS)
def test_integers_are_passed_on_or_refused_but_never_mixed(encoder):
  scheme = scheme_of(encoder)
  for dtype in (np.uint8, np.int32, bool):
    x = np.full((2, 4, 4, 1), 100, dtype)
    if encoder in REFUSED:
      for call in (lambda: scheme.encode(NOTHING, x), lambda: scheme.init(jax.random.key(0), x, 3)):
        with refused(REFUSED[encoder].format(np.dtype(dtype))):
          call()
    else:
      coded = scheme.encode(NOTHING, x)
      assert coded.dtype == dtype
      np.testing.assert_array_equal(coded, np.broadcast_to(x, coded.shape))


def test_a_bundle_of_token_ids_is_answered():
  class Words(nn.Module):
    @nn.compact
    def __call__(self, x):
      return nn.Dense(3)(nn.Embed(10, 4)(x).mean(1))

  words = Words()
  scheme = make_scheme(Code(2, 1), lambda v, x: words.apply(v, x), 'bundle', 'bundle', students(words))
  x = np.arange(8).reshape(2, 4)
  params, state = scheme.init(jax.random.key(0), x, 3)
  codec = make_codec(scheme, params, state)
  replies = codec.infer(None, codec.encode(x[None]))
  expected = words.apply({'params': params['parity_model']['0']}, x)
  np.testing.assert_allclose(replies[0, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
def test_low_precision_is_summed_in_float32_and_given_back(dtype, rng):
  """Nearly every parity is the sum in float64, rounded once."""
  x = jnp.asarray(rng.normal(size=(7, 500)), dtype)
  parities = jax.jit(make_scheme(Code(7, 2), linear, 'addition', 'subtraction').encode)(NOTHING, x)
  expected = jnp.asarray(parity_weights(Code(7, 2)) @ np.asarray(x, 'f8'), dtype)
  assert parities.dtype == dtype and (parities == expected).mean() > 0.98
  for encoder in ('berrut', 'replication'):
    assert scheme_of(encoder, Code(7, 7)).encode(NOTHING, x).dtype == dtype


def test_float64_stays_where_it_is_enabled():
  with jax.enable_x64(True):
    x = np.linspace(0, 1, 6).reshape(2, 3)
    parities = scheme_of('addition').encode(NOTHING, x)
    assert parities.dtype == np.float64
    np.testing.assert_allclose(parities, parity_weights(Code(2, 2)) @ x, rtol=1e-14)
    data, _ = (np.cos((2 * np.arange(4) + 1) * np.pi / 8)[i] for i in (slice(2), slice(2, 4)))
    parities = scheme_of('berrut').encode(NOTHING, data[:, None] + np.zeros((2, 1)))  # through a line, by hand
    z = np.cos(np.array([5, 7]) * np.pi / 8)
    weights = np.stack([1 / (z - data[0]), -1 / (z - data[1])], 1)
    np.testing.assert_allclose(parities[:, 0], weights @ data / weights.sum(1), rtol=1e-13)
  assert scheme_of('addition').encode(NOTHING, x).dtype == np.float32


@pytest.mark.parametrize('x', [np.zeros((3, 4), 'f4'), np.float32(1), np.zeros((0, 4), 'f4')])
def test_a_group_of_another_size_is_refused(x):
  with refused(r'queries of a group must be an array \[2, ...\]'):
    scheme_of('addition').encode(NOTHING, x)
  with refused(r'queries must be an array \[groups, 2, ...\]'):
    make_codec(scheme_of('addition'), NOTHING).encode(x[None])


# F and what answers the parities


@pytest.mark.parametrize('shape', [(), (3,), (2, 3)])
@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16])
def test_answers_of_any_shape_come_back_in_theirs(shape, dtype, rng):
  """Over a linear F: sums, exactly; and a bundle of the same F."""
  variables = jnp.asarray(rng.integers(-4, 5, size=(5, *shape)), dtype)
  queries = jnp.asarray(rng.integers(-4, 5, size=(2, 3, 5)), dtype)
  own = jax.vmap(linear, (None, 0))(variables, queries)
  same = ParityModel(lambda *_: {}, lambda v, base, x, *_, **kind: (
      linear(base, x.reshape(-1, 5)).reshape(*x.shape[:2], *shape), {}), True, bundled=True)
  assert output_shape_of(linear, variables, queries[0]) == shape
  for parts in (('addition', 'subtraction', None), ('bundle', 'bundle', same)):
    scheme = make_scheme(Code(3, 1), linear, *parts)
    codec = make_codec(scheme, NOTHING)
    replies = codec.infer(variables, codec.encode(queries))
    assert replies.shape == (2, 1, *([3] if parts[2] else []), *shape) and replies.dtype == dtype
    outputs = stack_units(own, replies, axis=1)
    answers = codec.decode(outputs, np.array([[1, 0, 1, 1], [1, 1, 0, 1]], bool))
    assert answers.shape == own.shape and answers.dtype == dtype
    np.testing.assert_array_equal(answers[:, 0], own[:, 0])
    # The mean of three, rounded to 8 bits, times three: 2^-7 of the answer's size for each.
    tolerance = 1e-5 if dtype == np.float32 else 0.05 * np.abs(np.asarray(own, 'f4')).max()
    np.testing.assert_allclose(answers.astype('f4'), own.astype('f4'), rtol=1e-5, atol=tolerance)
    flat = scheme.base_apply(variables, queries[0])
    np.testing.assert_array_equal(flat, own[0].reshape(3, -1))


def test_a_default_answer_takes_the_shape_of_fs():
  outputs = stack_units(np.ones((4, 2, 3, 5), 'f4'), np.full((4, 2, 15), 7, 'f4'), axis=1)
  assert outputs.shape == (4, 4, 3, 5) and (np.asarray(outputs)[:, 2:] == 7).all()


@pytest.mark.parametrize('answer, match', [
    (lambda v, x: (x, x), 'returned a tuple'), (lambda v, x: {'logits': x}, 'returned a dict'),
    (lambda v, x: x[:1], r'shape \[1, 4\] for 2 queries'), (lambda v, x: x.sum(), r'shape \[\] for 2 queries'),
    (lambda v, x: x.argmax(-1), 'returned int32 numbers'), (lambda v, x: x[:, :0], r'shape \[2, 0\]')])
def test_what_f_may_not_answer(answer, match):
  scheme = make_scheme(Code(2, 2), answer, 'addition', 'subtraction')
  for call in (lambda x: output_shape_of(answer, {}, jax.ShapeDtypeStruct((2, 4), np.float32)),
               lambda x: scheme.base_apply({}, x), lambda x: scheme.infer(NOTHING, {}, {}, x[None])):
    with refused(match):
      call(jnp.zeros((2, 4)))


def test_f_and_queries_that_are_none():
  with refused('base_apply=3 is no function'):
    output_shape_of(3, {}, jnp.zeros((2, 4)))
  for queries in (5, jnp.float32(1)):
    with refused('queries=.* are no queries'):
      output_shape_of(linear, {}, queries)


@pytest.mark.parametrize('own, replies, axis, match', [
    ((2, 3), (1, 4), -2, r'a reply \[4\] is neither'), ((5, 2, 3), (4, 1, 3), -2, 'differ before the units'),
    ((5, 2, 3), (5, 1, 2, 4), -2, r'a reply \[2, 4\]'), ((5, 2, 3, 4), (5, 1, 3, 4), -2, 'axis=-2: give that of'),
    ((2, 3), (1, 3), 2, 'axis=2'), ((), (1, 3), -2, 'axis=-2'), ((2, 3), (), -2, 'differ')])
def test_units_that_do_not_fit_are_not_stacked(own, replies, axis, match):
  with refused(match):
    stack_units(np.zeros(own, 'f4'), np.zeros(replies, 'f4'), axis)


def test_units_that_are_no_floats_are_not_stacked():
  with refused('base_outputs must be .*not a list'):
    stack_units([[1.0]], np.zeros((1, 1), 'f4'))
  with refused(r'replies must be .*not int64\[1, 1\]'):
    stack_units(np.zeros((1, 1), 'f4'), np.zeros((1, 1), int))
  with refused('does not fit outputs'):
    erase(np.zeros((3, 2), 'f4'), np.ones(2, bool))


# What arrived


def test_answers_that_are_not_finite_do_not_reach_the_vote(rng):
  """(4, 8), one of twelve wrong and one NaN or infinite: as if that one had not come, and near the right answers."""
  code = Code(4, 8)
  scheme = make_scheme(code, linear, 'approxifer', ApproxIFERDecoder(code, num_byzantine=1))
  kernel, x = rng.normal(size=(6, 3)).astype('f4'), rng.normal(size=(4, 6)).astype('f4')
  outputs = np.array(linear(kernel, scheme.encode(NOTHING, x)))
  outputs[3] += 20
  spoiled = np.stack([outputs, outputs, outputs])
  spoiled[0, 7], spoiled[1, 7, 1], spoiled[2, 7, 0] = np.nan, np.inf, -np.inf
  decode = jax.jit(jax.vmap(lambda outputs, available: scheme.decode(NOTHING, outputs, available)))
  missing = np.broadcast_to(np.arange(12) != 7, (3, 12))
  expected = np.asarray(decode(np.stack([outputs] * 3), missing))
  np.testing.assert_array_equal(decode(spoiled, np.ones((3, 12), bool)), expected)
  assert np.isfinite(decode(np.full_like(spoiled, np.nan), np.ones((3, 12), bool))).all()
  assert np.abs(expected[0] - x @ kernel).max() < 2


def test_training_sees_what_is_not_finite():
  scheme = make_scheme(Code(2, 1), linear, 'addition', 'subtraction')
  outputs = np.array([[1.0], [2.0], [np.nan]], 'f4')
  assert np.isnan(scheme.decode(NOTHING, outputs, np.array([True, False, True]), check_finite=False)[1])


@pytest.mark.parametrize('available, match', [
    ([2, 1, 3], 'must be bool.*indices'), (np.array([1, 0, 1]), 'indices'), (jnp.array([1]), r'int32\[1\]'),
    ([True, True], r'bool\[2\]'), (np.ones((3, 3), bool), r'bool\[3, 3\]'), (True, r'bool\[\]'),
    ([[True, True], [True]], 'no array'), (None, 'must be bool'), (jnp.ones((2, 1), bool), r'bool\[2, 1\]'),
    ([True, False, False], '2 units of group 0 .* at most 1'),
    (np.array([[1, 1, 1], [0, 0, 1]], bool), '2 units of group 1 '), (np.zeros(3, bool), '3 units of group 0')])
def test_availability_that_says_nothing_or_too_little(available, match):
  codec = make_codec(make_scheme(Code(2, 1), linear, 'addition', 'subtraction'), NOTHING)
  with refused(match):
    codec.decode(np.zeros((2, 3, 4), 'f4'), available)


def test_availability_in_every_form_says_the_same(rng):
  codec = make_codec(make_scheme(Code(2, 1), linear, 'addition', 'subtraction'), NOTHING)
  outputs, row = rng.normal(size=(2, 3, 4)).astype('f4'), [True, False, True]
  expected = codec.decode(outputs, np.array(row))
  for available in (row, [row, row], jnp.array(row), jnp.array([row, row]), np.array([row, row])):
    np.testing.assert_array_equal(codec.decode(outputs, available), expected)
  traced = jax.jit(lambda available: codec.decode(outputs, available))
  np.testing.assert_array_equal(traced(np.array(row)), expected)
  assert np.isnan(codec.decode(outputs, jnp.zeros(3, bool))).all()  # on a device: not looked at, and not made up


@pytest.mark.parametrize('passthrough', [True, False])
def test_what_too_little_arrived_for_is_not_made_up(rng, passthrough):
  """NaN where more than r units are missing or not finite, group by group; what arrived is passed on all the same."""
  parts = ('addition', 'subtraction') if passthrough else ('approxifer', 'approxifer')
  codec = make_codec(make_scheme(Code(2, 1), linear, *parts), NOTHING)
  outputs = rng.normal(size=(4, 3, 4)).astype('f4')
  whole = np.asarray(codec.decode(outputs, [True, False, True]))
  spoiled = outputs.copy()
  spoiled[1, 0, 2], spoiled[2, 2, 0] = np.nan, np.inf
  decoded = np.asarray(codec.decode(spoiled, [True, False, True]))
  np.testing.assert_array_equal(decoded[[0, 3]], whole[[0, 3]])
  assert np.isnan(decoded[1]).all() and np.isnan(decoded[2, 1]).all()
  if passthrough:
    np.testing.assert_array_equal(decoded[2, 0], outputs[2, 0])
  else:
    assert np.isnan(decoded[2, 0]).all()


@pytest.mark.parametrize('call, match', [
    (lambda c, b: c.decode(np.zeros((2, 4, 3), 'f4'), [True] * 3), r'outputs must be an array \[groups, 3, ...\]'),
    (lambda c, b: c.decode([1.0], [True] * 3), 'not a list'),
    (lambda c, b: c.decode(np.zeros((2, 3, 4), int), [True] * 3), 'must be floating-point'),
    (lambda c, b: c.infer({}, np.zeros((2, 3, 4), 'f4')), r'parities must be an array \[groups, 1, ...\]'),
    (lambda c, b: b.decode(np.zeros((2, 3, 4), 'f4'), [True] * 3), r'bundle must be \[groups, 3, 2, ...\]'),
    (lambda c, b: make_codec('mlp', NOTHING), "scheme='mlp' is no Scheme"),
    (lambda c, b: make_codec(scheme_of('mlp'), {'encoder': {}}), 'params must be')])
def test_what_a_codec_does_not_take(call, match):
  plain, bundle = (make_codec(scheme_of(name, Code(2, 1)), NOTHING) for name in ('addition', 'bundle'))
  with refused(match):
    call(plain, bundle)


def test_a_scheme_takes_outputs_of_one_group():
  scheme = make_scheme(Code(2, 1), linear, 'addition', 'subtraction')
  for outputs, available, match in [
      (np.zeros((4, 2), 'f4'), np.ones(3, bool), r'\[3, C\], not float32\[4, 2\]'),
      (np.zeros((3, 2), 'f4'), np.ones(2, bool), r'bool\[3\] for a \(2, 1\) code, not bool\[2\]'),
      (np.zeros((3, 2), 'f4'), np.arange(3), r'not int32\[3\]')]:
    with refused(match):
      scheme.decode(NOTHING, outputs, available)


# Parts


class Sums(nn.Module):
  """A part of one's own that declares what it makes."""

  code: Code
  parities = 'sums'

  def __call__(self, x):
    return x.sum(0, keepdims=True)


class MyBundle(BundleEncoder):
  """A subclass under a name of its own."""


class MyBundleDecoder(BundleDecoder):
  """A subclass under a name of its own."""


def test_parts_go_together_by_what_they_declare():
  make_scheme(Code(2, 1), linear, MyBundle, MyBundleDecoder(Code(2, 1)), students(MLP(3)))
  assert make_scheme(Code(2, 1), linear, Sums, 'subtraction').encode(NOTHING, jnp.ones((2, 3))).shape == (1, 3)

  class Copies(Sums):
    parities = 'copies'

  class Everywhere(Sums):
    systematic = False

  for encoder, decoder, match in [
      (Copies, 'subtraction', "SubtractionDecoder cannot undo parities='copies', which Copies makes"),
      (Everywhere, 'subtraction', 'takes answers to the queries themselves, and Everywhere sends coded queries alone'),
      (Sums, 'spline', "goes with parities='spline' alone, and Sums declares 'sums': use encoder='spline'"),
      (Sums, 'bundle', "use encoder='bundle'")]:
    with refused(match):
      make_scheme(Code(2, 1), linear, encoder, decoder)
  make_scheme(Code(1, 1), linear, Copies, 'replication', default_answer())


def test_an_encoder_that_makes_too_much_is_refused_when_it_encodes():
  with refused(r'Sums made float32\[1, 3\] of a group: a \(2, 2\) code needs 2'):
    make_scheme(Code(2, 2), linear, Sums).encode(NOTHING, jnp.ones((2, 3)))


@pytest.mark.parametrize('wrong, match', [
    (dict(code=(2, 1)), r'code=\(2, 1\) is no Code'), (dict(base_apply={}), r'base_apply=\{\} is no function'),
    (dict(parity_model='from_base'), "parity_model='from_base' is no ParityModel"),
    (dict(parity_model=MLP(3)), 'bare Flax module: wrap it'), (dict(encoder=7), 'encoder=7 is not allowed'),
    (dict(decoder=lambda code: code), 'which is no Flax module'),
    (dict(decoder=MyBundleDecoder(Code(3, 1))), r'of a \(3, 1\) code and cannot be part of a \(2, 1\)'),
    (dict(encoder=lambda: 0), 'cannot be built from a Code alone')])
def test_what_make_scheme_does_not_take(wrong, match):
  with refused(match):
    make_scheme(**{'code': Code(2, 1), 'base_apply': linear} | wrong)


class Plain(nn.Module):
  """An encoder, and as a subclass a decoder."""

  @nn.compact
  def __call__(self, x, available=None):
    return self.param('start', lambda key: jnp.zeros(())) + x[:2]


class PlainDecoder(Plain):
  pass


def test_keys_of_the_parts_are_all_different(monkeypatch):
  """A parity model's first key had followed from the decoder's."""
  keys = {}

  def record(part, module, name):
    start = getattr(module, name)
    monkeypatch.setattr(module, name, lambda self, key, *rest, **kind: (
        keys.setdefault(part, key), start(self, key, *rest, **kind))[1])

  record('encoder', Plain, 'init_with_output')
  record('decoder', PlainDecoder, 'init')
  model = ParityModel(lambda key, *_: (keys.setdefault('parity model', key), {})[1], lambda *_: None, True)
  scheme = make_scheme(Code(2, 2), linear, Plain(), PlainDecoder(), model)
  scheme.init(jax.random.key(4), jnp.zeros((2, 3)), 3)
  data = {part: jax.random.key_data(key).tolist() for part, key in keys.items()}
  split = jax.random.split(jax.random.key(4))
  assert [data['encoder'], data['decoder']] == jax.random.key_data(split).tolist()  # as ever
  followed = [jax.random.key_data(jax.random.fold_in(key, j)).tolist() for key in split for j in range(3)]
  assert data['parity model'] not in followed


def test_what_is_registered_is_known_by_name(monkeypatch):
  for table in (coders.ENCODERS, coders.DECODERS):
    for name in [*table]:
      monkeypatch.setitem(table, name, table[name])  # so that what is added below is taken back
  monkeypatch.setattr(coders, 'TABLES', {'encoder': dict(coders.ENCODERS), 'decoder': dict(coders.DECODERS)})
  coders.register_encoder('my-sums', Sums)
  coders.register_encoder('my-sums', Sums)
  coders.register_decoder('mine', lambda code: MyBundleDecoder(code))
  assert make_scheme(Code(2, 1), linear, 'my-sums', 'subtraction').systematic
  assert make_scheme(Code(2, 1), linear, 'bundle', 'mine', students(MLP(3))).bundled
  for name, value, match in [('mlp', Sums, 'there already'), ('my sums', Sums, 'is not allowed'),
                             ('x', MLP(3), 'makes no encoder'), ('x', 3, 'makes no'),
                             ('x', Started, 'cannot be built from a Code alone'), ('x', lambda code: 3, 'makes 3 of')]:
    with refused(match):
      coders.register_encoder(name, value)


class Started(nn.Module):
  code: Code
  another: int


# Precision


def products(jaxpr):
  """Every dot_general of a jaxpr, also of those inside."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      yield equation
    for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, 'eqns')):
      if hasattr(inner, 'eqns') or hasattr(inner, 'jaxpr'):
        yield from products(getattr(inner, 'jaxpr', inner))


@pytest.mark.parametrize('encoder, decoder', [
    ('addition', 'subtraction'), ('berrut', 'berrut'), ('approxifer', 'approxifer'), ('spline', 'spline'),
    ('concatenation', 'subtraction'), ('approxifer', ApproxIFERDecoder(Code(2, 4), 1))])
def test_exact_codes_ask_for_full_precision(encoder, decoder):
  scheme = make_scheme(Code(2, 4), linear, encoder, decoder)
  x, outputs = jnp.zeros((2, 4, 4, 1)), jnp.zeros((6, 3))
  params = jax.eval_shape(lambda: scheme.init(jax.random.key(0), x, 3))[0]
  traced = [jax.make_jaxpr(scheme.encode)(params, x), jax.make_jaxpr(scheme.decode)(params, outputs, jnp.ones(6, bool))]
  precisions = [equation.params['precision'] for jaxpr in traced for equation in products(jaxpr.jaxpr)]
  assert len(precisions) >= 2
  for precision in precisions:
    assert set(precision or [None]) == {jax.lax.Precision.HIGHEST}


# Parity models and costs


@pytest.mark.parametrize('arguments, match', [
    (dict(module=MLP), 'is no Flax module'), (dict(module=np.tanh), 'is no Flax module'),
    (dict(module=MLP(3), start=7), 'start=7'),
    (dict(module=MLP(3), start_from_base=True, start=lambda a, b: a), 'give one of the two')])
def test_what_a_parity_model_is_not_made_of(arguments, match):
  for make in (from_module, students):
    if make is from_module or 'start_from_base' not in arguments:
      with refused(match):
        make(**arguments)


def test_a_parity_model_cannot_start_from_nothing():
  scheme = make_scheme(Code(2, 1), linear, 'addition', 'subtraction', from_module(MLP(3), start_from_base=True))
  for base_variables in (None, jnp.zeros((3, 3))):
    with refused('cannot start from a .*base_variables'):
      scheme.init(jax.random.key(0), jnp.zeros((2, 3)), 3, base_variables)


def test_dropout_without_a_key_is_a_sentence():
  class Dropping(nn.Module):
    @nn.compact
    def __call__(self, x, train):
      return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))

  scheme = make_scheme(Code(2, 1), linear, 'addition', 'subtraction', from_module(Dropping()))
  params, state = scheme.init(jax.random.key(0), jnp.zeros((2, 3)), 3)
  with refused('Dropping draws random numbers with train=True and no key'):
    scheme.infer(params, state, None, jnp.zeros((1, 1, 3)), True)


def test_costs_of_what_is_no_scheme_and_of_other_outputs():
  scheme = make_scheme(Code(2, 1), linear, 'addition', 'subtraction')
  good = dict(scheme=scheme, params=NOTHING, model_state={}, base_variables=jnp.zeros((4, 3)), query_shape=(4,),
              num_outputs=3)
  for wrong, match in [(dict(scheme=3), 'scheme=3 is no Scheme'), (dict(query_shape=4), 'query_shape=4'),
                       (dict(query_shape=(4, 0)), 'query_shape'), (dict(num_outputs=5), 'num_outputs=5 .* 3 numbers'),
                       (dict(num_outputs=2.5), 'num_outputs=2.5')]:
    with refused(match):
      group_costs(**good | wrong)
  with refused('fn=3 is no function'):
    cost(3)


def test_parts_to_train_are_names_in_a_tuple():
  with refused("'encoder', a string"):
    parts_to_train(scheme_of('mlp'), NOTHING, 'encoder')


def test_num_outputs_is_a_whole_number():
  for count in (0, 2.5, '3'):
    with refused('num_outputs='):
      lcode.make_scheme(Code(2, 1), linear).init(jax.random.key(0), jnp.zeros((2, 3)), count)
