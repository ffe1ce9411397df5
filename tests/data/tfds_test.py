"""The sources: what is prepared from upstream archives is what is read; whatever is wrong is said in one sentence."""

import gzip
import http.client
import io
import shutil
import struct
import sys
import tarfile
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing

from lcode.data import tfds as directories
from lcode.errors import InputError

CLASSES = 'airplane automobile bird cat deer dog frog horse ship truck'.split()
SIZES = {'train': 30, 'test': 10}
NAMES = ['mnist', 'fashion_mnist', 'cifar10']


def _arrays(name):
  rng = np.random.default_rng(NAMES.index(name))
  shape = (32, 32, 3) if name == 'cifar10' else (28, 28, 1)
  return {split: (rng.integers(0, 256, (n, *shape), np.uint8), rng.integers(0, 10, n, np.uint8))
          for split, n in SIZES.items()}


def _archives(name):
  """The upstream files that hold `_arrays(name)`, by file name."""
  arrays = _arrays(name)
  if name == 'cifar10':
    rows = {split: np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(len(images), -1)], axis=1)
            for split, (images, labels) in arrays.items()}
    members = {f'data_batch_{i + 1}.bin': part.tobytes() for i, part in enumerate(np.split(rows['train'], 5))}
    members |= {'test_batch.bin': rows['test'].tobytes(), 'batches.meta.txt': '\n'.join(CLASSES + ['', '']).encode()}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz') as archive:
      for member, content in members.items():
        info = tarfile.TarInfo(f'cifar-10-batches-bin/{member}')
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return {'cifar-10-binary.tar.gz': file.getvalue()}
  files = {}
  for prefix, split in (('train', 'train'), ('t10k', 'test')):
    images, labels = arrays[split]
    files[f'{prefix}-images-idx3-ubyte.gz'] = struct.pack('>4i', 0x803, len(images), 28, 28) + images.tobytes()
    files[f'{prefix}-labels-idx1-ubyte.gz'] = struct.pack('>2i', 0x801, len(labels)) + labels.tobytes()
  return {file: gzip.compress(content, mtime=0) for file, content in files.items()}


def _checksum(content, tmp_path):
  path = tmp_path / 'checksum'
  path.write_bytes(content)
  return directories._sha256(path)


def _lay(name, root, monkeypatch, tmp_path):
  """Makes TFDS know the small archives of `name`, and lays them into `root`."""
  folder = root / 'downloads' / name
  folder.mkdir(parents=True, exist_ok=True)
  archives = _archives(name)
  for url, info in tfds.builder_cls(name).url_infos.items():
    file = url.rsplit('/', 1)[-1]
    monkeypatch.setattr(info, 'checksum', _checksum(archives[file], tmp_path))
    (folder / file).write_bytes(archives[file])
  return folder


def _multiset(images, labels):
  return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels))


def _sentence(raised) -> str:
  message = str(raised.value)
  assert '\n' not in message and message.endswith('.') and '. ' not in message.replace('... ', '')
  return message


def _answer(monkeypatch, respond):
  monkeypatch.setattr(urllib.request, 'urlopen', respond)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
  """No network but what a test makes up."""
  def refuse(url, **_):
    raise urllib.error.URLError(f'no network in tests: {url}')
  _answer(monkeypatch, refuse)


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A prepared mnist directory; copy it before damaging it."""
  tmp_path = tmp_path_factory.mktemp('prepared')
  with pytest.MonkeyPatch.context() as monkeypatch:
    _lay('mnist', tmp_path, monkeypatch, tmp_path)
    return directories.locate('mnist', str(tmp_path))


@pytest.fixture
def copy(prepared, tmp_path):
  directory = tmp_path / 'copy' / 'mnist' / prepared.name
  shutil.copytree(prepared, directory)
  return directory


@pytest.mark.parametrize('name', NAMES)
def test_what_is_prepared_is_what_is_read(name, tmp_path, monkeypatch, capfd):
  _lay(name, tmp_path, monkeypatch, tmp_path)
  (tmp_path / name / 'incomplete.ABCDEF_0').mkdir(parents=True)  # of a run that was killed
  directory = directories.locate(name, str(tmp_path))
  read = directories.read(directory)
  for split, (images, labels) in _arrays(name).items():
    assert read[f'{split}_images'].dtype == np.uint8 and read[f'{split}_labels'].dtype == np.int32
    assert read[f'{split}_images'].shape == images.shape
    assert _multiset(read[f'{split}_images'], read[f'{split}_labels']) == _multiset(images, labels)
  out, err = capfd.readouterr()
  assert out == '' and len(err.splitlines()) <= 1
  assert 'tensorflow' not in sys.modules
  times = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
  assert directories.locate(name, str(tmp_path)) == directory
  assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == times


def test_plain_tfds_reads_what_was_prepared(tmp_path, monkeypatch):
  _lay('cifar10', tmp_path, monkeypatch, tmp_path)
  read = directories.read(directories.locate('cifar10', str(tmp_path)))
  for split, (images, labels) in _arrays('cifar10').items():
    source = tfds.data_source('cifar10', data_dir=tmp_path, split=split, download=False)
    order = sorted(range(SIZES[split]), key=hashing.Hasher(split).hash_key)  # the stock builder's
    assert [example['id'].decode() for example in source] == [f'{split}_{index:05d}' for index in order]
    for i, (index, example) in enumerate(zip(order, source)):
      np.testing.assert_array_equal(example['image'], images[index])
      np.testing.assert_array_equal(example['image'], read[f'{split}_images'][i])
      assert example['label'] == labels[index] == read[f'{split}_labels'][i]
  assert tfds.builder('cifar10', data_dir=tmp_path).info.features['label'].names == CLASSES


def test_data_dir_must_exist(tmp_path):
  with pytest.raises(InputError) as raised:
    directories.locate('mnist', str(tmp_path / 'nowhere'))
  assert 'is no directory' in _sentence(raised) and not (tmp_path / 'nowhere').exists()


def test_a_wrong_file_is_refused(tmp_path, monkeypatch):
  folder = _lay('mnist', tmp_path, monkeypatch, tmp_path)
  path = folder / 't10k-labels-idx1-ubyte.gz'
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(InputError) as raised:
    directories.locate('mnist', str(tmp_path))
  assert str(path) in _sentence(raised) and not (tmp_path / 'mnist').exists()


def test_a_file_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
  path = _lay('mnist', tmp_path, monkeypatch, tmp_path) / 't10k-labels-idx1-ubyte.gz'
  path.unlink()
  path.mkdir()
  with pytest.raises(InputError) as raised:
    directories.locate('mnist', str(tmp_path))
  assert str(path) in _sentence(raised)


def test_missing_files_are_fetched(tmp_path, monkeypatch):
  folder = _lay('mnist', tmp_path, monkeypatch, tmp_path)
  (folder / 'train-labels-idx1-ubyte.gz').unlink()
  asked = []

  def respond(url, **_):
    asked.append(url)
    return io.BytesIO(_archives('mnist')[url.rsplit('/', 1)[-1]])
  _answer(monkeypatch, respond)
  assert len(directories.read(directories.locate('mnist', str(tmp_path)))['train_labels']) == SIZES['train']
  assert [url.rsplit('/', 1)[-1] for url in asked] == ['train-labels-idx1-ubyte.gz']
  assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted(_archives('mnist'))


def test_a_wrong_answer_is_refused_and_not_kept(tmp_path, monkeypatch):
  _answer(monkeypatch, lambda url, **_: io.BytesIO(b'<html>Please log in</html>'))
  with pytest.raises(InputError) as raised:
    directories.locate('mnist', str(tmp_path))
  assert 'SHA-256' in _sentence(raised)
  assert not [path for path in tmp_path.rglob('*') if path.is_file()]


@pytest.mark.parametrize('error', [
    urllib.error.URLError('Name or service not known'), TimeoutError('timed out'), ConnectionResetError('reset'),
    http.client.BadStatusLine('garbage\r\n'), http.client.IncompleteRead(b''),
], ids=lambda error: type(error).__name__)
def test_without_network_it_says_what_to_do(error, tmp_path, monkeypatch):
  def respond(url, **_):
    raise error
  _answer(monkeypatch, respond)
  with pytest.raises(InputError) as raised:
    directories.locate('mnist', str(tmp_path))
  message = _sentence(raised)
  assert 'name a data_dir' in message and str(tmp_path / 'downloads' / 'mnist') in message
  assert all(file in message for file in _archives('mnist'))


def test_a_silent_network_is_given_up_soon(tmp_path, monkeypatch):
  monkeypatch.setattr(directories, 'TIMEOUT_S', 0.2)
  _answer(monkeypatch, lambda url, **_: time.sleep(3))
  with pytest.raises(InputError) as raised:
    directories.locate('mnist', str(tmp_path))
  assert 'no answer in 0.2 s' in _sentence(raised)


def test_an_unwritable_place_is_named(tmp_path, monkeypatch):
  _lay('mnist', tmp_path, monkeypatch, tmp_path)
  (tmp_path / 'mnist').write_text('in the way')  # permissions do not bind root
  with pytest.raises(InputError) as raised:
    directories.locate('mnist', str(tmp_path))
  assert 'writable data_dir' in _sentence(raised)


def test_another_process_may_be_faster(prepared, tmp_path, monkeypatch):
  _lay('mnist', tmp_path, monkeypatch, tmp_path)

  class Late:

    def download_and_prepare(self, **_):
      shutil.copytree(prepared, tmp_path / 'mnist' / prepared.name)
      raise FileExistsError('Destination already exists.')
  monkeypatch.setattr(directories, '_builder', lambda *_: Late())
  assert len(directories.read(directories.locate('mnist', str(tmp_path)))['test_labels']) == SIZES['test']


def _file(directory, split):
  return next(directory.glob(f'mnist-{split}.array_record*'))


def _flip(path, where):
  content = bytearray(path.read_bytes())
  content[where] ^= 1
  path.write_bytes(content)


def _fewer(directory):
  path = directory / 'dataset_info.json'
  path.write_text(path.read_text().replace('"30"', '"20"'))


DAMAGES = {
    'bit_near_the_start': lambda d: _flip(_file(d, 'train'), 70),
    'bit_in_the_images': lambda d: _flip(_file(d, 'train'), 3000),
    'bit_in_the_other_split': lambda d: _flip(_file(d, 'test'), 3000),
    'cut': lambda d: _file(d, 'train').write_bytes(_file(d, 'train').read_bytes()[:3000]),
    'emptied': lambda d: _file(d, 'train').write_bytes(b''),
    'removed': lambda d: _file(d, 'test').unlink(),
    'one_split_for_the_other': lambda d: shutil.copy(_file(d, 'train'), _file(d, 'test')),
    'fewer_in_the_info': _fewer,
    'empty_info': lambda d: (d / 'dataset_info.json').write_text(''),
    'no_info': lambda d: (d / 'dataset_info.json').unlink(),
    'no_features': lambda d: (d / 'features.json').unlink(),
}


@pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES)
def test_damage_is_seen(damage, copy):
  directories.read(copy)
  damage(copy)
  with pytest.raises(InputError) as raised:
    directories.read(directories.locate('mnist', str(copy.parent.parent)))
  assert f'{copy} cannot be read' in str(raised.value) and '\n' not in str(raised.value)


def test_another_file_format_is_not_called_damage(copy):
  info = copy / 'dataset_info.json'
  info.write_text(info.read_text().replace('array_record', 'tfrecord'))
  with pytest.raises(InputError) as raised:
    directories.read(copy)
  assert 'tfrecord' in _sentence(raised) and 'remove' not in str(raised.value)


def test_fingerprint_sees_every_file(copy):
  before = directories.fingerprint(copy)
  assert before == directories.fingerprint(copy)
  _flip(_file(copy, 'test'), 5)
  assert directories.fingerprint(copy) != before


@pytest.mark.parametrize('inside', ['mnist', 'mnist/3.0.1'])
def test_a_data_sets_own_directory_is_not_taken_for_the_one_above(tmp_path, inside, monkeypatch):
  monkeypatch.setattr(directories, 'prepare', lambda *_: pytest.fail('prepared inside of another'))
  (tmp_path / 'mnist' / '3.0.1').mkdir(parents=True)
  with pytest.raises(InputError, match=f'is the directory of mnist itself: name the one above, {tmp_path}.'):
    directories.locate('mnist', str(tmp_path / inside))
  assert directories.locate('mnist', str(tmp_path)) == tmp_path / 'mnist' / '3.0.1'
