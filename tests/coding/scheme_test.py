"""One table of contracts over every encoder and decoder, and what the paper's coders compute, redone in NumPy."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode.coding import coders
from lcode.coding.code import Code, every_pattern
from lcode.coding.parity_model import default_answer, from_module, narrow_students, students, tile_students
from lcode.coding.scheme import make_scheme, parts_to_train
from lcode.coding.units import stack_units
from lcode.errors import InputError
from lcode.models.mlp import MLP

# (encoder, decoder, what answers the parities): every coder, and the mixtures that train all three parts.
PARTS_TOGETHER = [
    ('mlp', 'mlp', 'base'), ('conv', 'mlp', 'base'), ('mlp', 'subtraction', 'base'), ('mlp', 'mlp', 'own'),
    ('addition', 'subtraction', 'own'), ('addition', 'mlp', 'own'), ('concatenation', 'subtraction', 'own'),
    ('berrut', 'berrut', 'base'), ('berrut', 'mlp', 'own'), ('approxifer', 'approxifer', 'base'),
    ('approxifer', 'mlp', 'base'), ('spline', 'spline', 'base'), ('replication', 'replication', 'base'),
    ('replication', 'replication', 'default'), ('bundle', 'bundle', 'students'),
    ('mosaic', 'bundle', 'tile_students'), ('narrow', 'bundle', 'narrow_students'), ('features', 'features', 'base'),
]
CODES = [(1, 1), (2, 1), (3, 2), (5, 3)]
SHAPE, NUM_OUTPUTS = (6, 6, 2), 4


def base_apply(variables, x):
  return jnp.tanh(x.reshape(len(x), -1) @ variables)


@pytest.fixture
def variables(rng):
  return jnp.asarray(rng.normal(size=(np.prod(SHAPE), NUM_OUTPUTS)), jnp.float32)


def build(k, r, encoder, decoder, answers='base'):
  """A scheme with random weights: larger than the paper's, so that outputs depend on inputs enough to be checked."""
  models = {'base': None, 'own': from_module(MLP(NUM_OUTPUTS, (7,))), 'default': default_answer(),
            'students': students(MLP(NUM_OUTPUTS, (7,))),
            'tile_students': tile_students(MLP(NUM_OUTPUTS, (12,)), k),
            'narrow_students': narrow_students(MLP(NUM_OUTPUTS, (7,)), k)}
  scheme = make_scheme(Code(k, r), base_apply, encoder, decoder, models[answers])
  rng = np.random.default_rng(k)
  x = rng.normal(size=(k, *SHAPE)).astype('f4')
  base_variables = np.zeros((np.prod(SHAPE), NUM_OUTPUTS), 'f4')
  shapes, model_state = jax.eval_shape(lambda key: scheme.init(key, x, NUM_OUTPUTS, base_variables), jax.random.key(0))
  params = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape) / np.sqrt(max(w.shape, default=1)), jnp.float32),
                        shapes)
  return scheme, params, model_state, jnp.asarray(x)


def answer(scheme, params, variables, x, available):
  """Encode, infer, decode, as the objective does."""
  coded = scheme.encode(params, x)
  outputs, _ = scheme.infer(params, {}, variables, coded[None], True)
  outputs = stack_units(base_apply(variables, x), outputs[0]) if scheme.systematic else outputs[0]
  return coded, scheme.decode(params, outputs, available)


def refuses(k, r, encoder):
  return encoder == 'spline' and k == 1 or encoder == 'replication' and r % k


EVERY = [(k, r, *parts) for (k, r), parts in itertools.product(CODES, PARTS_TOGETHER) if not refuses(k, r, parts[0])]
EVERY += [(2, 2, *parts) for parts in PARTS_TOGETHER if parts[0] == 'replication']


@pytest.mark.parametrize('k, r, encoder, decoder, answers', EVERY)
class TestContract:

  def test_shapes_jit_gradients_and_no_second_compilation(self, k, r, encoder, decoder, answers, variables):
    scheme, params, _, x = build(k, r, encoder, decoder, answers)
    scenarios, traces = every_pattern(Code(k, r)), []

    def loss(params, x, available):
      traces.append(1)
      coded, y = answer(scheme, params, variables, x, available)
      return jnp.sum(y[0] ** 2), (coded, y)

    jitted = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, (coded, y)), grads = jitted(params, x, scenarios[0])  # the first query missing, all parities there
    shape = (k, *SHAPE) if encoder == 'bundle' else SHAPE
    assert coded.shape == (r if scheme.systematic else k + r, *shape) and y.shape == (k, NUM_OUTPUTS)
    assert coded.dtype == y.dtype == jnp.float32
    for grad in jax.tree.leaves({part: grads[part] for part in parts_to_train(scheme, params)}):
      assert np.isfinite(grad).all() and np.abs(grad).max() > 0
    jitted(params, x + 1, scenarios[-1])
    assert len(traces) == 1
    if k == 2:  # op by op it takes seconds
      for a, b in zip(answer(scheme, params, variables, x, scenarios[0]), (coded, y)):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)

  def test_nothing_erased_leaks_and_what_arrived_is_passed_on(self, k, r, encoder, decoder, answers):
    scheme, params, _, _ = build(k, r, encoder, decoder, answers)
    width = NUM_OUTPUTS * (k if scheme.bundled else 1)
    outputs = np.random.default_rng(3).normal(size=(k + r, width)).astype('f4')
    scenarios = every_pattern(Code(k, r))
    decode = jax.jit(jax.vmap(jax.value_and_grad(
        lambda o, a: (lambda y: (jnp.sum(y ** 2), y))(scheme.decode(params, o, a)), has_aux=True)))
    (_, actual), grads = decode(np.broadcast_to(outputs, (len(scenarios), *outputs.shape)), scenarios)
    (_, spoiled), _ = decode(np.where(scenarios[..., None], outputs, np.nan), scenarios)
    for value in (np.nan, np.inf):  # one such number of a unit that is said to be there
      broken = np.broadcast_to(outputs, (len(scenarios), *outputs.shape)).copy()
      broken[..., -1] = np.where(scenarios, broken[..., -1], value)
      (_, without), slopes = decode(broken, np.ones_like(scenarios))
      np.testing.assert_array_equal(without, actual)
      np.testing.assert_array_equal(slopes, grads)
    assert np.isfinite(actual).all() and np.isfinite(grads).all()
    np.testing.assert_array_equal(spoiled, actual)
    np.testing.assert_array_equal(np.asarray(grads)[~scenarios], 0)
    assert (np.abs(grads).max((1, 2)) > 0).all()
    if scheme.systematic:
      there = scenarios[:, :k]
      originals = np.broadcast_to(outputs[:k, :NUM_OUTPUTS], actual.shape)
      np.testing.assert_array_equal(actual[there], originals[there])
      assert not (actual[~there] == originals[~there]).any()

  def test_colours_do_not_mix_and_are_treated_alike(self, k, r, encoder, decoder, answers):
    scheme, params, _, x = build(k, r, encoder, decoder, answers)
    encode = jax.jit(scheme.encode)
    coded, changed, swapped = (np.asarray(encode(params, y)) for y in (x, x.at[..., 1].add(1.0), x[..., ::-1]))
    np.testing.assert_allclose(changed[..., 0], coded[..., 0], rtol=1e-5, atol=1e-5)
    assert np.abs(changed[..., 1] - coded[..., 1]).max() > 1e-3
    np.testing.assert_allclose(swapped, coded[..., ::-1], rtol=1e-5, atol=1e-5)


def test_the_table_has_every_coder():
  assert {parts[0] for parts in PARTS_TOGETHER} == set(coders.ENCODERS)
  assert {parts[1] for parts in PARTS_TOGETHER} == set(coders.DECODERS)
  for k, r, coder in [(1, 1, 'spline'), (3, 2, 'replication')]:
    with pytest.raises(InputError, match=f'k={k}'):
      build(k, r, coder, coder)


def count(params):
  return sum(w.size for w in jax.tree.leaves(params))


@pytest.mark.parametrize('encoder, k, side, expected', [
    ('mlp', 2, 28, 3_690_288), ('mlp', 5, 28, 18_444_384), ('mlp', 2, 32, 6_294_528), ('mlp', 5, 32, 31_463_424),
    ('conv', 2, 28, 73_001), ('conv', 5, 28, 455_201), ('conv', 2, 32, 73_001)])
def test_encoder_parameters_are_the_papers(encoder, k, side, expected):
  channels = 3 if side == 32 else 1
  scheme = make_scheme(Code(k, 1), base_apply, encoder)
  params, _ = jax.eval_shape(lambda key: scheme.init(key, jnp.zeros((k, side, side, channels)), 10), jax.random.key(0))
  assert count(params['encoder']) == expected
  assert count(params['decoder']) == {2: 1_970, 5: 9_260}[k]


def test_initial_weights_are_the_papers():
  def start(encoder):
    scheme = make_scheme(Code(2, 1), base_apply, encoder)
    return jax.jit(lambda key: scheme.init(key, jnp.zeros((2, 12, 12, 1)), 10)[0])(jax.random.key(0))
  params = start('mlp')
  for layer in [*params['encoder'].values(), *params['decoder'].values()]:
    assert float(layer['kernel'].std()) == pytest.approx(0.01, rel=0.1)
    assert not layer['bias'].any()
  for layer in start('conv')['encoder'].values():
    height, width, inputs, outputs = layer['kernel'].shape
    bound = np.sqrt(2) * np.sqrt(6 / (height * width * (inputs + outputs)))
    largest = float(np.abs(layer['kernel']).max())
    assert 0.85 * bound < largest <= bound
    if layer['kernel'].size > 1000:
      assert float(layer['kernel'].std()) == pytest.approx(bound / np.sqrt(3), rel=0.05)
    assert not layer['bias'].any()


def dense(layer, x):
  return x @ np.asarray(layer['kernel'], 'f8') + np.asarray(layer['bias'], 'f8')


def test_mlp_coders_in_numpy():
  scheme, params, _, x = build(3, 2, 'mlp', 'mlp')
  encoder, x = params['encoder'], np.asarray(x, 'f8')
  for channel in range(SHAPE[-1]):
    flat = np.concatenate([query[..., channel].ravel() for query in x])
    parity = dense(encoder['parity'], np.maximum(dense(encoder['hidden'], flat), 0)).reshape(2, 6, 6)
    np.testing.assert_allclose(scheme.encode(params, x)[..., channel], parity, rtol=1e-4, atol=1e-4)
  outputs = np.random.default_rng(0).normal(size=(5, NUM_OUTPUTS))
  available = np.array([True, False, True, False, True])
  h = np.where(available[:, None], outputs, 0).ravel()
  for name in ('hidden_0', 'hidden_1'):
    h = np.maximum(dense(params['decoder'][name], h), 0)
  answer = dense(params['decoder']['out'], h).reshape(3, NUM_OUTPUTS)[1]
  np.testing.assert_allclose(scheme.decode(params, outputs, available)[1], answer, rtol=1e-4, atol=1e-4)


def test_conv_encoder_in_numpy():
  scheme, params, _, x = build(2, 1, 'conv', 'mlp')
  side = SHAPE[0]
  for channel in range(SHAPE[-1]):
    h = np.stack([np.asarray(query[..., channel], 'f8') for query in x])  # [channels, H, W]
    for layer, dilation in enumerate((1, 1, 2, 4, 8, 1)):
      weights = params['encoder'][f'conv_{layer}']
      kernel = np.asarray(weights['kernel'], 'f8')
      padded = np.pad(h, ((0, 0), (dilation, dilation), (dilation, dilation)))
      out = np.zeros((kernel.shape[-1], side, side)) + np.asarray(weights['bias'])[:, None, None]
      for i, j in itertools.product(range(3), repeat=2):
        window = padded[:, i * dilation:i * dilation + side, j * dilation:j * dilation + side]
        out += np.einsum('chw,co->ohw', window, kernel[i, j])
      h = np.maximum(out, 0)
    last = params['encoder']['parity']
    parity = np.einsum('chw,co->ohw', h, np.asarray(last['kernel'], 'f8')[0, 0])
    parity += np.asarray(last['bias'])[:, None, None]
    np.testing.assert_allclose(scheme.encode(params, x)[0, ..., channel], parity[0], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize('shape', [(6, 5, 1), (36,), (6, 6)])
def test_conv_wants_square_images(shape):
  scheme = make_scheme(Code(2, 1), base_apply, 'conv')
  with pytest.raises(InputError, match='square'):
    scheme.init(jax.random.key(0), jnp.zeros((2, *shape)), 4)


def test_mlp_takes_any_shape_of_query():
  for shape in [(7,), (3, 4), (2, 3, 4), (2, 2, 2, 3)]:
    scheme = make_scheme(Code(2, 1), base_apply)
    params, _ = scheme.init(jax.random.key(0), jnp.zeros((2, *shape)), 4)
    assert scheme.encode(params, jnp.ones((2, *shape))).shape == (1, *shape)
    pixels = np.prod(shape) // (shape[-1] if len(shape) == 3 else 1)  # only images have colours
    assert params['encoder']['hidden']['kernel'].shape == (2 * pixels, 2 * pixels)


def test_own_modules_and_unknown_names():
  class Sum(nn.Module):
    @nn.compact
    def __call__(self, x):
      return x.sum(0, keepdims=True)
  scheme = make_scheme(Code(3, 1), base_apply, encoder=Sum())
  params, _ = scheme.init(jax.random.key(0), jnp.ones((3, 5)), 4)
  np.testing.assert_array_equal(scheme.encode(params, jnp.ones((3, 5))), np.full((1, 5), 3))
  with pytest.raises(InputError, match='conv, features, mlp'):
    make_scheme(Code(2, 1), base_apply, encoder='rnn')
  with pytest.raises(InputError, match='mlp'):
    make_scheme(Code(2, 1), base_apply, decoder='rnn')
