"""Magika behind a code: queries as the package makes them, its answers, and a service that does without them."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from examples.magika import files, model
from lcode.coding.coders import narrow
from lcode.errors import InputError
from lcode.serving.service import Service
from tests.serving.local import LocalCluster

ROOT = Path(__file__).parents[2]
needs_magika = pytest.mark.skipif(importlib.util.find_spec('magika') is None or
                                  importlib.util.find_spec('onnxruntime') is None, reason='no magika, no onnxruntime')
CONFIG = model.Config(1024, 1024, 4096, 256, 8, ('a', 'b', 'c'))
CONTENTS = {
    'code.py': b'import os\n\n\ndef f(x):\n  return os.path.join(x, "y")\n',
    'blank.py': b' \n\t' * 40 + b'import os\n' * 9,
    'long.c': b'#include <stdio.h>\n' + b'int f(int x) { return x + 1; }\n' * 400 + b' ' * 50,
    'spaces.txt': b' ' * 5000 + b'words between much white space' + b'\n' * 5000, 'zeros': bytes(3000),
    'image.png': b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + bytes(range(256)) * 20, 'exact': b'0123456789abcdef' * 64,
    'page.html': b'<!doctype html>\n<html><body><p>hello</p></body></html>\n', 'eight': b'12345678',
    'empty': b'', 'short': b'1234567', 'hidden': b'  123    \n\n'}


@pytest.fixture
def written(tmp_path):
  for name, content in CONTENTS.items():
    (tmp_path / name).write_bytes(content)
  return {name: tmp_path / name for name in CONTENTS}


@needs_magika
def test_queries_and_answers_are_the_packages_own(written):
  """Its own label and probability for each file; and no query where it answers without the model."""
  from magika import Magika
  folder = model.folder()
  config, answer, theirs = model.read_config(folder), model.load_model(folder), Magika()
  for name, path in written.items():
    tokens, wanted = files.tokens_of(path, config), theirs.identify_path(path).prediction
    assert (tokens is None) == (str(wanted.dl.label) == 'undefined'), name
    if tokens is not None:
      logits = answer(tokens[None].astype(np.float32))
      assert config.target_labels_space[logits.argmax()] == str(wanted.dl.label), name
      np.testing.assert_allclose(jax.nn.softmax(logits).max(), wanted.score, rtol=1e-4)
  assert sum(files.tokens_of(path, config) is None for path in written.values()) == 3
  tokens = files.tokens_of(written['code.py'], config)[None]
  np.testing.assert_array_equal(answer(tokens - 0.4), answer(tokens))  # what is no token is the nearest one


def test_tokens_survive_the_pack():
  """Every pair of tokens: 9 bits each of the 32, without rounding."""
  pairs = np.stack(np.meshgrid(np.arange(257), np.arange(257)), 0).reshape(2, -1).astype(np.float32)
  np.testing.assert_array_equal(narrow.unpack(narrow.pack(pairs)[None], 2)[0], pairs)


def test_ngrams_are_counted(rng):
  tokens = rng.integers(0, 257, (3, 50)).astype(np.uint32)
  counts = np.asarray(model.count_ngrams(jnp.asarray(tokens)))
  for row, own in zip(counts, tokens.tolist()):
    np.testing.assert_array_equal(row[:257], np.bincount(own, minlength=257))
    for start, n, bits in ((257, 2, 12), (257 + 2**12, 3, 13)):
      wanted = np.zeros(2**bits)
      for i in range(len(own) - n + 1):
        number = int(np.dot(own[i:i + n], [257**(n - 1 - j) for j in range(n)]))  # the n-gram as a number
        wanted[number * 2654435761 % 2**32 >> 32 - bits] += 1
      np.testing.assert_array_equal(row[start:start + 2**bits], wanted)


def test_collected_files_are_few_of_a_suffix_differ_and_share_no_directory(tmp_path):
  for folder in range(30):
    (tmp_path / f'd{folder}').mkdir()
    for i in range(6):
      (tmp_path / f'd{folder}' / f'{i}.txt').write_text(f'a text in {folder}, number {i}')
      (tmp_path / f'd{folder}' / f'{i}.md').write_text('the same everywhere')
  (tmp_path / 'd0' / 'link.py').symlink_to(tmp_path / 'd0' / '0.txt')
  found = files.collect([str(tmp_path), str(tmp_path / 'd1')], CONFIG, 100, 0)
  texts = [bytes(x[x < 256].astype(np.uint8))[:30].decode() for split in files.SPLITS for x in found[split]]
  assert len(texts) == 101 and sum(text.startswith('the same') for text in texts) == 1
  folders = [{text.split()[3] for text in map(_text, found[split]) if text.startswith('a text')} for split in found]
  assert all(folders) and not (folders[0] & folders[1] or folders[0] & folders[2] or folders[1] & folders[2])
  few = files.collect([str(tmp_path)], CONFIG, 30, 0)
  texts = [_text(x) for split in few for x in few[split]]
  assert len({text.split()[3] for text in texts if text.startswith('a text')}) == 30  # one of each directory
  again = files.collect([str(tmp_path)], CONFIG, 100, 0)
  np.testing.assert_array_equal(found['test'], again['test'])
  with pytest.raises(InputError, match='is no directory'):
    files.collect([str(tmp_path / 'none')], CONFIG, 100, 0)
  with pytest.raises(InputError, match='no files for train'):
    files.collect([str(tmp_path / 'd0')], CONFIG, 0, 0)


def _text(tokens) -> str:
  return bytes(tokens[:1024][tokens[:1024] < 256].astype(np.uint8)).decode()


@needs_magika
def test_a_service_answers_without_magika(written):
  """Where F never answers, the service's answer is the network's on the query itself, by neither pack nor decoder."""
  folder = model.folder()
  queries = np.stack([tokens for path in written.values()
                      if (tokens := files.tokens_of(path, model.read_config(folder))) is not None]).astype(np.float32)
  scheme = model.make_code(2, 8, folder)
  fitted = lcode.fit(scheme, {}, queries, validation=(queries, None), recipe='distil', epochs=1)
  trained = model.Trained(folder, 2, 8, fitted.params, fitted.model_state)
  network = model.ByteNetwork(len(model.read_config(folder).target_labels_space), 8)
  wanted = network.apply({'params': fitted.params['parity_model']['0']}, queries[:2])
  for served, policy in ((trained.coded(), 'coded'), (trained.backup(), 'backup')):
    answered = asyncio.run(_asked(served, policy, queries[:2]))
    assert [one.how for one in answered] == ['reconstructed'] * 2
    np.testing.assert_allclose([one.answer for one in answered], wanted, atol=1e-4)
  with pytest.raises(InputError, match='k=3'):
    model.make_code(3, 8, folder)


async def _asked(served, policy, queries):
  """The answers where workers of F say nothing after the first call, which the service makes to warm up."""
  cluster = LocalCluster(lambda worker, call: 0.0 if worker or call == 1 else None)
  options = served.options(policy, deadline=5000.0, **({'hold_quantile': None} if policy == 'backup' else {}))
  async with Service(served, options, num_workers=1, num_parity_workers=1, cluster=cluster) as service:
    return await asyncio.gather(*map(service.predict, queries))


@needs_magika
def test_other_magikas_are_refused(tmp_path):
  stored = json.loads((model.folder() / 'config.min.json').read_text())
  (tmp_path / 'config.min.json').write_text(json.dumps(stored | {'mid_size': 1024}))
  with pytest.raises(InputError, match='reads the middle'):
    model.read_config(tmp_path)
  with pytest.raises(InputError, match='no recorded answers'):
    model.recorded(tmp_path)


@needs_magika
@pytest.mark.long
def test_the_example_runs_and_loses_nothing(tmp_path):
  """On Ray, from files to latencies; the second time all of it is there."""
  roots = os.path.dirname(os.__file__)
  command = [sys.executable, '-m', 'examples.magika', f'--workdir={tmp_path}', f'--roots={roots}', '--per_suffix=40',
             '--epochs=2', '--width=16', '--seeds=0', '--seconds=2', '--rate=10', '--policies=none,coded']
  for _ in range(2):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout.splitlines()[-1])
    assert {row['name'] for row in record['service']} == {'none', 'coded'}
    assert all(row['lost'] == row['refused'] == 0 for row in record['service'])
    assert 0 < record['agreement'] <= 1 and len(record['agreement_interval']) == 2
