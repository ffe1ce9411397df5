"""One table of contracts over every encoder and decoder, and what the paper's coders compute, redone in NumPy."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode import coders
from lcode.code import Code, every_scenario
from lcode.errors import InputError
from lcode.scheme import make_scheme

FAMILIES = list(itertools.product(coders.ENCODERS, coders.DECODERS))
CODES = [(1, 1), (2, 1), (3, 2), (5, 3)]
SHAPE, NUM_OUTPUTS = (6, 6, 2), 4


def base_apply(variables, x):
  return jnp.tanh(x.reshape(len(x), -1) @ variables)


@pytest.fixture
def variables(rng):
  return jnp.asarray(rng.normal(size=(np.prod(SHAPE), NUM_OUTPUTS)), jnp.float32)


def build(k, r, encoder, decoder):
  """A scheme with random weights: larger than the paper's, so that outputs depend on inputs enough to be checked."""
  scheme = make_scheme(Code(k, r), base_apply, encoder, decoder)
  rng = np.random.default_rng(k)
  x = rng.normal(size=(k, *SHAPE)).astype('f4')
  shapes, model_state = jax.eval_shape(lambda key: scheme.init(key, x, NUM_OUTPUTS), jax.random.key(0))
  params = jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape) / np.sqrt(max(w.shape)), jnp.float32), shapes)
  return scheme, params, model_state, jnp.asarray(x)


@pytest.mark.parametrize('encoder, decoder', FAMILIES)
@pytest.mark.parametrize('k, r', CODES)
class TestContract:

  def test_shapes_jit_and_no_second_compilation(self, k, r, encoder, decoder, variables):
    scheme, params, model_state, x = build(k, r, encoder, decoder)
    traces = []

    def run(params, x, available):
      traces.append(1)
      parities = scheme.encode(params, x)
      outputs, _ = scheme.infer(params, model_state, variables, parities[None], False)
      outputs = jnp.concatenate([base_apply(variables, x), outputs[0]])
      return parities, scheme.decode(params, outputs, available)

    jitted = jax.jit(run)
    available = every_scenario(Code(k, r))[0]
    parities, answers = jitted(params, x, available)
    assert parities.shape == (r, *SHAPE) and answers.shape == (k, NUM_OUTPUTS)
    assert parities.dtype == answers.dtype == jnp.float32
    jitted(params, x + 1, every_scenario(Code(k, r))[-1])
    assert len(traces) == 1
    for a, b in zip(run(params, x, available), (parities, answers)):
      np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)

  def test_gradients_are_finite_and_reach_every_parameter(self, k, r, encoder, decoder, variables):
    scheme, params, model_state, x = build(k, r, encoder, decoder)
    available = every_scenario(Code(k, r))[0]  # the first query missing, all parities there

    def loss(params):
      parities = scheme.encode(params, x)
      outputs, _ = scheme.infer(params, model_state, variables, parities[None], True)
      outputs = jnp.concatenate([base_apply(variables, x), outputs[0]])
      return jnp.sum(scheme.decode(params, outputs, available)[0] ** 2)

    grads = jax.grad(loss)(params)
    for grad in jax.tree.leaves(grads):
      assert np.isfinite(grad).all() and np.abs(grad).max() > 0

  def test_nothing_of_what_is_erased_leaks(self, k, r, encoder, decoder):
    scheme, params, _, _ = build(k, r, encoder, decoder)
    outputs = jnp.asarray(np.random.default_rng(3).normal(size=(k + r, NUM_OUTPUTS)), jnp.float32)
    for available in every_scenario(Code(k, r)):
      answers = scheme.decode(params, outputs, available)
      assert np.isfinite(answers).all()
      spoiled = jnp.where(available[:, None], outputs, jnp.nan)
      np.testing.assert_array_equal(scheme.decode(params, spoiled, available), answers)
      grad = jax.grad(lambda o: jnp.sum(scheme.decode(params, o, available) ** 2))(outputs)
      np.testing.assert_array_equal(grad[~available], 0)
      assert np.abs(grad[available]).max() > 0

  def test_what_arrived_is_passed_on(self, k, r, encoder, decoder):
    scheme, params, _, _ = build(k, r, encoder, decoder)
    outputs = jnp.asarray(np.random.default_rng(3).normal(size=(k + r, NUM_OUTPUTS)), jnp.float32)
    for available in every_scenario(Code(k, r)):
      answers = np.asarray(scheme.decode(params, outputs, available))
      there = available[:k]
      np.testing.assert_array_equal(answers[there], outputs[:k][there])
      assert not (answers[~there] == outputs[:k][~there]).any()

  def test_colours_do_not_mix_and_share_the_weights(self, k, r, encoder, decoder):
    scheme, params, _, x = build(k, r, encoder, decoder)
    parities = scheme.encode(params, x)
    changed = scheme.encode(params, x.at[..., 1].add(1.0))
    np.testing.assert_allclose(changed[..., 0], parities[..., 0], rtol=1e-5, atol=1e-5)
    assert np.abs(changed[..., 1] - parities[..., 1]).max() > 1e-3
    np.testing.assert_allclose(scheme.encode(params, x[..., ::-1]), parities[..., ::-1], rtol=1e-5, atol=1e-5)


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
  with pytest.raises(InputError, match='conv, mlp'):
    make_scheme(Code(2, 1), base_apply, encoder='rnn')
  with pytest.raises(InputError, match='mlp'):
    make_scheme(Code(2, 1), base_apply, decoder='rnn')
