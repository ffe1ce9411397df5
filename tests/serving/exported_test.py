"""Exported codes: the same answers as the code's own functions, without Flax, and nothing else than was written."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode import data, models
from lcode.errors import InputError
from lcode.runs.base_model import Base
from lcode.runs.code_run import Trained
from lcode.runs.parts import build_scheme
from lcode.runs.presets import config_of, PRESETS
from lcode.serving import exported as reading
from lcode.serving.export import export_code
from lcode.serving.exported import load_export
from lcode.serving.served import of_export, of_trained

ROOT = Path(__file__).parents[2]
SHAPE, C, SEED = (12, 12, 1), 10, 3


def trained(preset, k=2, r=1, name='mlp', num_byzantine=0):
  """A code over a base model, neither of them trained: what is exported need not be good."""
  config = dataclasses.replace(config_of(preset, k, r, 'digits', name, 0, None, 5000), num_byzantine=num_byzantine)
  model = models.make_model(name, SHAPE, C)
  variables = model.init(jax.random.key(SEED), jnp.zeros((1, *SHAPE)))
  scheme = build_scheme(config, SHAPE, C)
  params, state = scheme.init(jax.random.key(1), jnp.ones((scheme.code.k, *SHAPE)), C, variables)
  base = Base(name, variables, lambda v, x: model.apply(v, x), 'sum', data.SPECS['digits'], SHAPE, C)
  return Trained(config, scheme, params, state, base, {'degraded_accuracy': 0.5})


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  path = tmp_path_factory.mktemp('exported') / 'code'
  return path, export_code(trained('bundle'), path)


@pytest.mark.parametrize('preset', PRESETS)
def test_answers_are_those_of_the_code(preset, tmp_path):
  code, groups = trained(preset, r=2), 3
  exported, units = export_code(code, tmp_path / 'out', ('cpu',)), code.scheme.code
  queries = np.random.default_rng(0).normal(size=(groups, units.k, *SHAPE)).astype('f4')
  flat = queries.reshape(-1, *SHAPE)
  parities, answers = code.codec.encode(queries), code.base.apply(code.base.variables, flat)
  replies = code.codec.infer(code.base.variables, parities)
  np.testing.assert_allclose(exported.base(flat), answers, 1e-5, 1e-5)
  np.testing.assert_allclose(exported.encode(queries), parities, 1e-5, 1e-5)
  np.testing.assert_allclose(exported.parity(parities), replies, 1e-4, 1e-4)
  last = parities.shape[1] - 1
  np.testing.assert_allclose(exported.reply(parities[:, last], last), replies[:, last], 1e-4, 1e-4)
  if code.scheme.systematic:
    replies = exported.stack(answers.reshape(groups, units.k, C), replies)
  available = np.arange(units.n) != 0
  np.testing.assert_allclose(exported.decode(replies, available), code.codec.decode(replies, available), 1e-4, 1e-4)
  served = of_export(tmp_path / 'out')  # a group alone, in NumPy where that is quicker
  np.testing.assert_allclose(served.encode(queries[:1]), parities[:1], 1e-5, 1e-5)
  np.testing.assert_allclose(served.decode(np.asarray(replies)[:1], available),
                             code.codec.decode(replies, available)[:1], 1e-4, 1e-4)
  assert exported.code == units and exported.manifest['figures'] == {'degraded_accuracy': 0.5}


def test_an_export_that_does_not_say_how_it_is_computed_is_served_by_its_programs(written, tmp_path):
  shutil.copytree(written[0], tmp_path / 'old')
  manifest = json.loads((tmp_path / 'old' / 'manifest.json').read_text())
  assert manifest.pop('on_host') == ['bundle', 'bundle']
  (tmp_path / 'old' / 'manifest.json').write_text(json.dumps(manifest))
  x = np.random.default_rng(0).normal(size=(1, 2, *SHAPE)).astype('f4')
  np.testing.assert_array_equal(of_export(tmp_path / 'old').encode(x), of_export(written[0]).encode(x))


def test_a_code_that_locates_wrong_answers_is_served_with_as_many_as_that_takes(tmp_path):
  code = trained('approxifer', r=5, num_byzantine=1)
  export_code(code, tmp_path / 'out', ('cpu',))
  for served in (of_trained(code), of_export(tmp_path / 'out')):
    options = served.options()
    assert (options.need, options.n, options.passthrough) == (2 * (2 + 1), 7, False)
  assert of_trained(trained('approxifer', r=5)).options().need == 2


def test_one_program_serves_every_batch(written):
  queries = np.random.default_rng(0).normal(size=(7, 2, *SHAPE)).astype('f4')
  together = written[1].parity(written[1].encode(queries))
  for count in (1, 4):
    np.testing.assert_allclose(written[1].parity(written[1].encode(queries[:count])), together[:count], 1e-5, 1e-5)


def test_stored_pixels_are_normalised_as_in_training(written):
  pixels = np.arange(144, dtype=np.uint8).reshape(1, *SHAPE) % 17
  spec = data.SPECS['digits']
  np.testing.assert_allclose(written[1].preprocess(pixels), (pixels / spec.scale - spec.mean[0]) / spec.std[0], 1e-5)


def test_serving_needs_neither_flax_nor_training_code(written, tmp_path):
  queries = np.random.default_rng(1).normal(size=(3, 2, *SHAPE)).astype('f4')
  np.save(tmp_path / 'queries.npy', queries)
  program = f'''
import sys, numpy as np
from lcode.serving.exported import load_export
code = load_export({str(written[0])!r}, {written[1].sha256!r})
queries = np.load({str(tmp_path / 'queries.npy')!r})
replies = code.parity(code.encode(queries))
units = code.stack(code.base(queries.reshape(-1, *queries.shape[2:])).reshape(3, 2, -1), replies)
np.save({str(tmp_path / 'answers.npy')!r}, code.decode(units, [True, False, True]))
print([m for m in ('flax', 'optax', 'orbax', 'lcode.training', 'lcode.runs', 'lcode.models') if m in sys.modules])
'''
  ran = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=ROOT)
  assert ran.returncode == 0, ran.stderr
  assert ran.stdout.strip() == '[]'
  code = trained('bundle')
  own = code.base.apply(code.base.variables, queries.reshape(-1, *SHAPE)).reshape(3, 2, C)
  units = lcode.stack_units(own, code.codec.infer(None, code.codec.encode(queries)), axis=1)
  expected = code.codec.decode(units, [True, False, True])
  np.testing.assert_allclose(np.load(tmp_path / 'answers.npy'), expected, 1e-4, 1e-4)


@pytest.mark.parametrize('name', ['arrays.npz', 'encode.jax', 'base.jax', 'reply.jax', 'decode.jax', 'preprocess.jax'])
def test_a_changed_file_is_refused_by_name(written, tmp_path, name):
  copy = shutil.copytree(written[0], tmp_path / 'copy')
  content = bytearray((copy / name).read_bytes())
  content[len(content) // 2] ^= 1
  (copy / name).write_bytes(content)
  with pytest.raises(InputError, match=f'{name} is not what was exported'):
    load_export(copy)
  (copy / name).unlink()
  with pytest.raises(InputError, match=name):
    load_export(copy)


def test_another_manifest_is_refused(written, tmp_path):
  copy = shutil.copytree(written[0], tmp_path / 'copy')
  manifest = json.loads((copy / 'manifest.json').read_text())
  (copy / 'manifest.json').write_text(json.dumps(manifest | {'figures': {'degraded_accuracy': 1.0}}))
  assert load_export(copy).manifest['figures']['degraded_accuracy'] == 1.0  # nobody said which it has to be
  with pytest.raises(InputError, match='is not the one that was exported'):
    load_export(copy, written[1].sha256)
  (copy / 'manifest.json').write_text(json.dumps(manifest | {'format': 2}))
  with pytest.raises(InputError, match='format'):
    load_export(copy)
  (copy / 'manifest.json').write_text(json.dumps(manifest | {'files': {}}))
  with pytest.raises(InputError, match='lists other files'):
    load_export(copy)
  (copy / 'manifest.json').write_text(json.dumps(manifest | {'platforms': ['tpu']}))
  with pytest.raises(InputError, match='exported for tpu, this is cpu'):
    load_export(copy)
  (copy / 'manifest.json').write_text('{')
  with pytest.raises(InputError, match='no exported code'):
    load_export(copy)


def test_a_file_that_does_not_belong_there_is_refused(written, tmp_path):
  copy = shutil.copytree(written[0], tmp_path / 'copy')
  (copy / 'more.pkl').write_bytes(b'')
  with pytest.raises(InputError, match='more.pkl'):
    load_export(copy)


def test_a_program_of_another_version_is_a_sentence(written, tmp_path, monkeypatch):
  monkeypatch.setattr(reading.export, 'deserialize', lambda _: (_ for _ in ()).throw(ValueError('version 99')))
  with pytest.raises(InputError, match='version 99'):
    load_export(written[0])


def test_nonsense_is_refused_before_anything_is_written(written, tmp_path):
  (tmp_path / 'taken').mkdir()
  (tmp_path / 'taken' / 'file').touch()
  code = trained('bundle')
  for arguments, message in [((code, tmp_path / 'taken'), 'holds something'), ((code, ''), 'names no directory'),
                             ((None, tmp_path / 'new'), 'NoneType'), ((code, tmp_path / 'new', ('abacus',)), 'abacus'),
                             ((code, tmp_path / 'new', ()), 'platforms'), ((code, tmp_path / 'new', 'cpu'), 'tuple')]:
    with pytest.raises(InputError, match=message):
      export_code(*arguments)
  assert not (tmp_path / 'new').exists()
  exported = written[1]
  for call in (lambda: exported.base(np.ones((1, 12, 12))), lambda: exported.base(np.ones((1, *SHAPE))),
               lambda: exported.encode(np.ones((1, 3, *SHAPE), 'f4')), lambda: exported.base([[1.0]]),
               lambda: exported.decode(np.ones((1, 3, 2, C), 'f4'), [True, False, False]),
               lambda: exported.decode(np.ones((1, 3, C), 'f4'), [True, False, True])):
    with pytest.raises(InputError):
      call()


def test_bfloat16_parameters_come_back_as_they_were(tmp_path):
  code = trained('bundle')
  narrow = jax.tree.map(lambda a: a.astype(jnp.bfloat16), code.base.variables)
  code = dataclasses.replace(code, base=dataclasses.replace(code.base, variables=narrow))
  exported = export_code(code, tmp_path / 'out', ('cpu',))
  x = np.random.default_rng(2).normal(size=(2, *SHAPE)).astype('f4')
  np.testing.assert_allclose(exported.base(x), code.base.apply(narrow, x), 1e-5, 1e-5)
