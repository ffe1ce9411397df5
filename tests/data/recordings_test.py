"""Directories of recordings: prepared as TFDS's own builder does and otherwise, read; the real ones where they are."""

import importlib.util
import io
import json
import re
import sys
import tarfile
import wave

import numpy as np
import pytest
import tensorflow_datasets as tfds

from lcode import data
from lcode.data import datasets, tfds as directories
from lcode.data.digest import sha256
from lcode.errors import InputError

VERSION = '1.0.9'
REAL = directories.default_data_dir() / 'spoken_digit' / VERSION


def recordings():
  """60 recordings by name, of as many lengths."""
  rng = np.random.default_rng(0)
  return {f'{label}_{speaker}_{index}': rng.integers(-2**15, 2**15, 300 + 10 * label + index, np.int16)
          for label in range(3) for speaker in ('jo', 'kim') for index in (0, 1, 4, 5, 9, 10, 11, 12, 20, 49)}


def archive() -> bytes:
  """As upstream, where a few recordings have two channels, with a file that is none."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode='w:gz') as tar:
    for name, audio in recordings().items():
      content = io.BytesIO()
      with wave.open(content, 'wb') as wav:
        channels = [audio, audio[::-1]] if name.endswith('_kim_49') else [audio]
        wav.setparams((len(channels), 2, 8000, 0, 'NONE', None))
        wav.writeframes(np.stack(channels, axis=1).astype('<i2').tobytes())
      info = tarfile.TarInfo(f'free-spoken-digit-dataset-1.0.9/recordings/{name}.wav')
      info.size = content.tell()
      content.seek(0)
      tar.addfile(info, content)
    tar.addfile(tarfile.TarInfo('free-spoken-digit-dataset-1.0.9/README.md'))
  return file.getvalue()


def lay(root, monkeypatch):
  """Makes TFDS know the small archive, and lays it into `root`."""
  folder = root / 'downloads' / 'spoken_digit'
  folder.mkdir(parents=True)
  ((url, info),) = tfds.builder_cls('spoken_digit').url_infos.items()
  (folder / url.rsplit('/', 1)[-1]).write_bytes(archive())
  monkeypatch.setattr(info, 'checksum', sha256(archive()))


class Spoken(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """The other way that the data set is stored: int16, names as `id`, test split apart."""

  VERSION, name = tfds.core.Version(VERSION), 'spoken_digit'
  names = list(recordings())

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
        'audio': tfds.features.Tensor(shape=(None,), dtype=np.int16), 'id': tfds.features.Text(),
        'label': tfds.features.ClassLabel(num_classes=10), 'speaker': tfds.features.Text()}))

  def _split_generators(self, dl_manager):
    del dl_manager
    test = {name for name in self.names if int(name.split('_')[2]) < 5}
    return {'train': self._generate_examples([name for name in self.names if name not in test]),
            'test': self._generate_examples([name for name in self.names if name in test])}

  def _generate_examples(self, names):
    for key, name in enumerate(names):
      yield key, {'audio': recordings()[name], 'id': name, 'label': int(name[0]), 'speaker': name.split('_')[1]}


def store(root, names=None):
  builder = Spoken(data_dir=str(root))
  builder.names = names or Spoken.names
  tfds.disable_progress_bar()
  builder.download_and_prepare(file_format='array_record')
  return root / 'spoken_digit' / VERSION


def same(read):
  assert sorted(read) == sorted(recordings())
  for name, audio in recordings().items():
    assert read[name].dtype == np.int16
    np.testing.assert_array_equal(read[name], audio)


def test_both_ways_of_storing_are_read_as_the_same_arrays(tmp_path, monkeypatch, capfd):
  monkeypatch.setitem(datasets.SPECS, 'spoken_digit', data.Spec(12, (32, 32, 1), 10))
  lay(tmp_path / 'upstream', monkeypatch)
  same(directories.read_recordings(directories.locate('spoken_digit', str(tmp_path / 'upstream'))))
  plain = tfds.builder_from_directory(tmp_path / 'upstream' / 'spoken_digit' / VERSION)
  assert {name: split.num_examples for name, split in plain.info.splits.items()} == {'train': 60}  # as TFDS has it
  same(directories.read_recordings(store(tmp_path / 'split')))
  one, other = (data.load('spoken_digit', str(tmp_path / root)) for root in ('upstream', 'split'))
  assert one.source == other.source and (len(one.train), len(one.validation), len(one.test)) == (30, 12, 18)
  assert 'tensorflow' not in sys.modules
  exported = data.export(one, tmp_path / 'arrays')
  assert data.load('spoken_digit', str(exported.parent)).source == one.source


@pytest.mark.parametrize('names, words', [
    (['1_jo_3', '1_jo_3'], "'1_jo_3' of label 1 is there twice"), (['2_jo'], "'2_jo' of label 2"),
    ], ids=['twice', 'without an index'])
def test_a_recording_in_doubt_is_refused(tmp_path, monkeypatch, names, words):
  audio = np.ones(500, np.int16)
  monkeypatch.setattr(sys.modules[__name__], 'recordings', lambda: dict.fromkeys(names, audio))
  monkeypatch.setattr(Spoken, '_split_generators', lambda self, _: {'train': self._generate_examples(names)})
  with pytest.raises(InputError, match=re.escape(words)):
    directories.read_recordings(store(tmp_path))


@pytest.mark.skipif(importlib.util.find_spec('tensorflow') is not None, reason='TensorFlow reads it')
def test_what_only_tensorflow_reads_is_not_called_damaged(tmp_path):
  """TFDS's own preparation has a feature of audio that needs it."""
  directory = store(tmp_path)
  features = json.loads((directory / 'features.json').read_text())
  features['featuresDict']['features']['audio'] = {
      'pythonClassName': 'tensorflow_datasets.core.features.audio_feature.Audio',
      'audio': {'shape': {'dimensions': ['-1']}, 'dtype': 'int64', 'encoding': 'none', 'fileFormat': 'wav',
                'sampleRate': '8000'}}
  (directory / 'features.json').write_text(json.dumps(features))
  with pytest.raises(InputError, match='tensorflow.*install it, or name another data_dir') as raised:
    directories.read_recordings(directory)
  assert 'remove' not in str(raised.value)


@pytest.mark.skipif(not REAL.is_dir(), reason='no spoken digits in $TFDS_DATA_DIR')
def test_the_data_are_the_spoken_digits():
  read = directories.read_recordings(REAL)
  builder = tfds.builder_from_directory(REAL)
  if 'test' in builder.info.splits:  # what is apart there is what the data set's convention says
    stored = {example['id'].decode() for example in builder.as_data_source(split='test')}
    assert stored == {name for name in read if int(name.split('_')[2]) < 5}
  dataset = data.load('spoken_digit')
  splits = [dataset.train, dataset.validation, dataset.test]
  assert sum(len(split) for split in splits) == len(read) and len(dataset.test) == len(read) // 10
  assert all(len(np.unique(np.bincount(split.labels))) == 1 for split in splits[1:])  # as many of every digit
  images = [image.tobytes() for split in splits for image in split.images]
  assert len(set(images)) == len(images)
  mean, std = dataset.spec.mean[0], dataset.spec.std[0]
  normalised = np.asarray(data.make_normalise(dataset.spec)(dataset.train.images))
  assert abs(normalised.mean()) < 0.02 and abs(normalised.std() - 1) < 0.02, (mean, std)
