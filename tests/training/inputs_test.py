"""What `fit` is handed is right, or refused in a sentence before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lcode
from lcode.coding.parity_model import from_module, students
from lcode.models.mlp import MLP
from lcode.training.step import init_state

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5)).astype('f4')
W = RNG.normal(size=(5, 3)).astype('f4')
LABELS = RNG.integers(0, 3, 60)


def linear(variables, x):
  return x @ variables


def scheme_over(base_apply=linear, k=2, **parts):
  return lcode.make_scheme(lcode.Code(k, 1), base_apply, **parts)


@pytest.mark.parametrize('arguments, changes, words', [
    ((np.eye(3, dtype=int)[LABELS],), {}, r'labels are int64\[60, 3\]: give the number of its class'),
    ((LABELS[:, None],), {}, r'labels are int64\[60, 1\]'),
    ((LABELS.astype('f4'),), {}, r'labels are float32\[60\]'),
    ((list(LABELS),), {}, 'labels are a list'),
    ((LABELS + 1,), {}, r'labels lie in 1\.\.3, but F answers 3 classes: give labels in 0\.\.2'),
    ((-LABELS,), {}, r'labels lie in -2\.\.0'),
    ((LABELS[:-1],), {}, '59 labels for 60 queries'),
    ((), {'validation': X}, 'validation is a ndarray: give a pair'),
    ((), {'validation': (X[:4], LABELS[:3])}, 'validation: 3 labels for 4 queries'),
    ((), {'validation': (X[:4, :2], None)}, r'validation queries are of shape \[2\], those to train on of \[5\]'),
    ((), {'epochs': 1.5}, 'epochs=1.5 is not allowed: it must be a whole number of at least 1'),
    ((), {'epochs': 0}, 'epochs=0'), ((), {'seed': -1}, 'seed=-1'), ((), {'batch_size': 0}, 'batch_size=0'),
    ((), {'epoch': 3}, "unknown option 'epoch'.*epochs"), ((), {'loss': 'l1'}, 'kl_base, mse_base, xent_label'),
    ((), {'recipe': 'slow'}, 'distil_shifted, features'), ((), {'train_parts': 'decoder'}, "'decoder' is no tuple"),
    ((), {'train_parts': ('decoders',)}, "unknown part to train 'decoders'"),
    ((), {'train_parts': ('parity_model',)}, 'parity model of this scheme has nothing to train'),
    ((), {'scenarios': np.ones((2, 4), bool)}, r'bool\[2, 4\] are no erasure patterns of a \(2, 1\) code'),
    ((), {'scenarios': np.zeros((1, 3), bool)}, '3 of 3 units missing, of which the code repairs at most 1'),
    ((), {'scenarios': np.array([[True, True, False]])}, 'there is nothing to rebuild'),
    ((), {'devices': ['cpu']}, 'is no list of devices'), ((), {'devices': jax.devices()[:1] * 2}, 'each once'),
    ((), {'train_parts': 3}, 'train_parts=3 is no tuple'), ((), {'reporter': 3}, 'reporter=3 is none'),
    ((), {'base_outputs': 'abc'}, 'base_outputs is a str'), ((), {'store': ''}, "store='' names no directory"),
    ((), {'base_outputs': {'train': None}}, r"base_outputs\['train'\] is a NoneType"),
    ((), {'base_outputs': {'validation': np.ones((5, 3))}}, 'for 6 queries'),
    ((), {'augment': True}, 'augment=True crops and flips images'),
    ((), {'batch_size': 10**9}, 'a batch of 1000000000'),
    ((), {'epochs': 10**10, 'max_steps': 2}, 'epochs=10000000000 of'),
    ((), {'save_every_s': 'a'}, "save_every_s='a'"), ((), {'stop_at': float('nan')}, 'stop_at=nan'),
    ((), {'scenarios': 0}, 'scenarios=0'), ((), {'devices': 2}, 'devices=2 is no list of devices'),
    ((), {'save_every_s': -1}, 'save_every_s=-1'), ((), {'preprocess': 'scale'}, "preprocess='scale' is no function"),
    ((), {'preprocess': lambda x: x[0]}, 'it must return one query for each'),
    ((), {'store': 3}, 'store=3 is no store: give a directory'),
    ((), {'options': {'epochs': 1}}, 'give TrainingOptions')])
def test_a_wrong_argument_is_a_sentence(arguments, changes, words):
  options = {'options': changes.pop('options')} if 'options' in changes else {}
  with pytest.raises(lcode.InputError, match=words) as error:
    lcode.fit(scheme_over(), W, X, *arguments, **options, **changes)
  assert '\n' not in str(error.value) and str(error.value).endswith('.') and '--' not in str(error.value)


@pytest.mark.parametrize('base_apply, words', [
    (lambda v, x: (x @ v, x), 'returned a tuple'), (lambda v, x: {'logits': x @ v}, 'returned a dict'),
    (lambda v, x: (x @ v).argmax(-1), 'int32 numbers'), (lambda v, x: np.asarray(x) @ v, 'give F as a JAX function'),
    (lambda x: x @ W, 'base_apply cannot answer queries'), (lambda v, x: x @ v.T, r'queries float32\[2, 5\]'),
    (lambda v, x: (x @ v)[:1], r'shape \[1, 3\] for 2 queries')])
def test_an_f_that_gives_no_answers_is_a_sentence(base_apply, words):
  with pytest.raises(lcode.InputError, match=words):
    lcode.fit(scheme_over(base_apply), W, X, epochs=1)


@pytest.mark.parametrize('value', [np.nan, -np.inf])
def test_answers_that_are_not_finite_are_counted_before_training(value):
  def masked(variables, x):
    return (x @ variables).at[:, 0].set(jnp.where(x[:, 0] > 1, value, 0))
  bad = int((X[:54, 0] > 1).sum())
  with pytest.raises(lcode.InputError, match=f'F\'s answers to {bad} of 54 training queries are not finite.*-1e4'):
    lcode.fit(scheme_over(masked), W, X[:54], validation=(X[X[:, 0] <= 1][:6], None), epochs=1)


def test_a_single_output_wants_the_squared_error():
  with pytest.raises(lcode.InputError, match="loss='kl_base' compares classes.*mse_base"):
    lcode.fit(scheme_over(), W[:, :1], X, epochs=1)
  assert np.isfinite(lcode.fit(scheme_over(), W[:, :1], X, loss='mse_base', epochs=1).result.best.value)


def test_a_parity_model_that_starts_from_variables_without_params_is_refused():
  model = MLP(3, (4,))
  scheme = scheme_over(lambda v, x: model.apply({'params': v['weights']}, x), encoder='addition', decoder='subtraction',
                       parity_model=from_module(model, start_from_base=True))
  weights = model.init(jax.random.key(0), X[:1])['params']
  with pytest.raises(lcode.InputError, match="cannot start from a dict.*'params'"):
    lcode.fit(scheme, {'weights': weights}, X, epochs=1)


def test_what_is_no_scheme_or_no_array_is_refused():
  with pytest.raises(lcode.InputError, match='is no Scheme'):
    lcode.fit(lcode.Code(2, 1), W, X)
  for images, words in [(X.tolist(), 'images is a list'), (np.array(['a', 'b']), 'images holds <U1'),
                        (X[:1], 'too few'), (X[:30], 'k=4 is larger than the split of 3')]:
    with pytest.raises(lcode.InputError, match=words):
      lcode.fit(scheme_over(k=4), W, images)


@pytest.mark.parametrize('shape', [(), (2, 3)])
def test_outputs_of_any_rank_are_trained_and_come_back_in_their_shape(shape):
  def answer(variables, x):
    return jnp.tanh(x @ variables)[:, :6].reshape(len(x), *shape) if shape else (x @ variables)[:, 0]
  weights = RNG.normal(size=(5, 6)).astype('f4')
  fitted = lcode.fit(scheme_over(answer, encoder='addition', decoder='subtraction'), weights, X, loss='mse_base')
  x = X[:8].reshape(4, 2, 5)
  units = np.concatenate([x, fitted.codec.encode(x)], axis=1)
  outputs = jnp.stack([answer(weights, units[:, i]) for i in range(3)], axis=1)
  answers = fitted.codec.decode(outputs, np.array([True, False, True]))
  assert answers.shape == (4, 2, *shape)
  if not shape:  # linear: exact
    np.testing.assert_allclose(answers[:, 1], answer(weights, x[:, 1]), rtol=1e-3, atol=1e-4)


def test_a_student_with_dropout_trains_and_answers_the_same_every_time():
  import flax.linen as nn

  class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.relu(nn.Dense(8)(x))))

  scheme = scheme_over(encoder='bundle', decoder='bundle', parity_model=students(Dropped()))
  fitted = lcode.fit(scheme, W, X, epochs=2, batch_size=4)
  x = X[:8].reshape(4, 2, 5)
  replies = [fitted.codec.infer(W, fitted.codec.encode(x)) for _ in range(2)]
  np.testing.assert_array_equal(*replies)


@pytest.mark.parametrize('values, words', [
    ((3, lambda k: 8, {'': 3}), 'make_optimizer=3'),
    ((lambda n: optax.sgd(1.0), lambda k: 8.5, {'': 3}), r'batch_size\(2\) of a recipe=8.5'),
    ((lambda n: optax.sgd(1.0), lambda k: 8, {'': None}), r"epochs\[''\] of a recipe=None"),
    ((lambda n: optax.sgd(1.0), lambda k: 8, {'digits': 2}), 'for any other')])
def test_a_recipe_that_cannot_be_followed_is_a_sentence(values, words):
  with pytest.raises(lcode.InputError, match=words):
    lcode.Recipe(*values)


def test_the_default_scheme_needs_a_code():
  with pytest.raises(lcode.InputError, match=r'code=\(2, 1\) is no Code'):
    lcode.default_scheme((2, 1), linear, W, X)


def test_a_store_that_cannot_be_written_to_is_a_sentence(tmp_path):
  (tmp_path / 'file').write_text('')
  for place in (tmp_path / 'file', tmp_path / 'file' / 'below', tmp_path / ('a' * 300)):
    with pytest.raises(lcode.InputError, match='cannot be (written to|read)'):
      lcode.fit(scheme_over(), W, X, epochs=1, store=place)


def test_a_key_takes_no_more_than_its_bits():
  with pytest.raises(lcode.InputError, match='is too large for a random key'):
    init_state({}, {}, optax.sgd(1.0), 2**40)


def test_losses_of_whole_numbers_and_of_no_class():
  """uint8 would wrap around: 200 against 100 had an error of 16."""
  for loss in (lcode.mse_base, lcode.kl_base):
    with pytest.raises(lcode.InputError, match='floating-point numbers, not uint8'):
      loss(np.array([[200]], np.uint8), np.array([[100]], np.uint8), None)
    with pytest.raises(lcode.InputError, match='not a list'):
      loss([[1.0]], [[2.0]], None)
  values = np.asarray(lcode.xent_label(jnp.ones((4, 3)), None, np.array([0, -1, 3, 2])))
  np.testing.assert_allclose(values, [np.log(3), np.nan, np.nan, np.log(3)], rtol=1e-6)


def test_an_optimiser_is_made_for_the_real_number_of_steps_alone():
  """Schedules with a long warm-up raise where there are fewer steps; and what is no transformation is a sentence."""
  asked = []
  recipe = lcode.Recipe(lambda steps: asked.append(steps) or optax.sgd(0.1), lambda k: 8, {'': 3})
  lcode.fit(scheme_over(), W, X, recipe=recipe)
  assert set(asked) == {3 * 4}  # 54 queries, 27 groups, 4 batches of 8
  with pytest.raises(lcode.InputError, match='make_optimizer of a recipe returned a NoneType'):
    lcode.fit(scheme_over(), W, X, recipe=lcode.Recipe(lambda steps: None, lambda k: 8, {'': 3}))
