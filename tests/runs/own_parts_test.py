"""A user's own parts, by name, from training to loading, without a line of the library changed."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode import data, models
from lcode.coding import coders
from lcode.coding.coders.bundle import BundleEncoder
from lcode.data import datasets
from lcode.errors import InputError
from lcode.runs import base_model, parts, presets


class MyEncoder(nn.Module):
  """The first query is the parity."""

  code: lcode.Code
  parities = 'firsts'

  def __call__(self, x):
    return jnp.broadcast_to(x[:1], (self.code.r, *x.shape[1:]))


class MyDecoder(nn.Module):
  """What is missing is what answered the parity."""

  code: lcode.Code
  goes_with = ('firsts',)

  def __call__(self, outputs, available):
    return jnp.broadcast_to(outputs[self.code.k], (self.code.k, outputs.shape[-1]))


class MyBundle(BundleEncoder):
  """A subclass is what its parent is."""


class MyModel(nn.Module):
  num_outputs: int

  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(self.num_outputs)(nn.relu(nn.Dense(32)(x.reshape(len(x), -1))))


@pytest.fixture(autouse=True)
def tables():
  """Registering lasts for a test alone."""
  tables = [coders.ENCODERS, coders.DECODERS, models.MODELS, parts.PARITY_MODELS, presets.PRESETS, data.SPECS,
            datasets._REGISTERED]
  before = [dict(table) for table in tables]
  yield tables
  for table, entries in zip(tables, before):
    table.clear()
    table.update(entries)


def register_all():
  lcode.register_encoder('firsts', MyEncoder)
  lcode.register_decoder('firsts', MyDecoder)
  lcode.register_model('mine', lambda shape, num_outputs, axis_name: MyModel(num_outputs))
  lcode.register_parity_model('mine', lambda _, shape, num_outputs, config: lcode.from_module(MyModel(num_outputs)),
                              'a small one of mine')
  lcode.register_preset('mine', lcode.Preset('firsts', 'firsts', 'mine', recipe='distil'))


def test_own_parts_train_and_load_by_name(tmp_path):
  register_all()
  config = presets.config_of('mine', 2, 1, 'digits', 'mine', 0, 2, 0)
  assert (config.encoder, config.decoder, config.parity_model, config.recipe) == ('firsts', 'firsts', 'mine', 'distil')
  trained = lcode.train_code(config, str(tmp_path), None, lcode.RunOptions(devices=1, max_steps=20))
  assert trained.base.variables['params']['Dense_1']['kernel'].shape == (64, 32)
  loaded = lcode.load(tmp_path)
  x = np.random.default_rng(0).random((3, 2, 8, 8, 1), np.float32)
  np.testing.assert_array_equal(loaded.codec.encode(x)[:, 0], x[:, 0])
  np.testing.assert_array_equal(loaded.codec.infer(None, loaded.codec.encode(x)),
                                trained.codec.infer(None, trained.codec.encode(x)))


def test_a_code_of_own_parts_says_what_to_import(tmp_path, tables):
  before = [dict(table) for table in tables]
  register_all()
  lcode.register_dataset('own', lambda data_dir: pytest.fail('asked for data'), lcode.Spec(100, (8, 8, 1), 10, 16.0))
  digits = data.load('digits')
  config = presets.config_of('mine', 2, 1, 'own', 'mine', epochs=1)
  own = dataclasses.replace(digits, name='own', spec=data.SPECS['own'])
  base = base_model.blank_base('mine', own)
  rng = np.random.default_rng(0)
  base = dataclasses.replace(base, dataset=own, variables=jax.tree.map(
      lambda x: rng.normal(size=x.shape).astype(x.dtype), base.variables))
  lcode.train_code(config, str(tmp_path), None, lcode.RunOptions(devices=1, max_steps=2), base)
  data.SPECS.pop('own')
  assert lcode.load(tmp_path).config == config  # needs neither the data set nor its name
  with pytest.raises(InputError, match="parts that are not known here .*'own'.*: import the module"):
    lcode.evaluate_code(tmp_path)
  for table, entries in zip(tables, before):
    table.clear()
    table.update(entries)
  with pytest.raises(InputError, match="parts that are not known here .*'mine'.*: import the module"):
    lcode.load(tmp_path)


def test_a_scheme_by_name_is_one_call(tmp_path):
  config = lcode.config_of('mosaic', k=3, epochs=7)
  assert (config.encoder, config.parity_model, config.decoder) == ('mosaic', 'tile_students', 'bundle')
  assert (config.k, config.r, config.dataset, config.epochs, config.recipe) == (3, 1, 'digits', 7, 'distil')
  with pytest.raises(InputError, match='how many multiply-adds'):
    lcode.config_of('backup')


def test_parts_go_together_by_what_they_declare():
  register_all()
  lcode.register_encoder('subbundle', MyBundle)
  student = lcode.students(MyModel(10))
  assert lcode.make_scheme(lcode.Code(2, 1), lambda v, x: x, 'subbundle', 'bundle', student).bundled
  with pytest.raises(InputError, match="MyDecoder goes with parities='firsts' alone, and AdditionEncoder declares"):
    lcode.make_scheme(lcode.Code(2, 1), lambda v, x: x, 'addition', 'firsts')


@pytest.mark.parametrize('register, words', [
    (lambda: lcode.register_encoder('mlp', MyEncoder), "encoder 'mlp' is there already"),
    (lambda: lcode.register_encoder('my encoder', MyEncoder), "the encoder name 'my encoder' is not allowed"),
    (lambda: lcode.register_decoder('mine', 3), 'makes no decoder'),
    (lambda: lcode.register_model('mine', 'resnet'), 'is no function'),
    (lambda: lcode.register_parity_model('mine', 3), 'give a function'),
    (lambda: lcode.register_preset('mine', lcode.Preset('nothing')), "unknown encoder 'nothing'"),
    (lambda: lcode.register_preset('mine', 'mlp'), 'give a Preset'),
    (lambda: lcode.register_preset('bundle', lcode.Preset('mlp')), "preset 'bundle' is there already")])
def test_what_cannot_be_registered_is_a_sentence(register, words):
  with pytest.raises(InputError, match=words):
    register()
