"""The upstream files of data sets, parsed: IDX, CIFAR-10's binary version, archives of WAV files."""

import gzip
import io
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np


def idx_examples(files: dict[str, Path], split: str) -> tuple[np.ndarray, np.ndarray]:
  """(uint8[N, H, W, 1], uint8[N]) of the IDX files of MNIST and its kin."""
  prefix = {'train': 'train', 'test': 't10k'}[split]
  images = _idx(files[f'{prefix}-images-idx3-ubyte.gz'])
  return images[..., None], _idx(files[f'{prefix}-labels-idx1-ubyte.gz'])


def _idx(path) -> np.ndarray:
  """An IDX file of unsigned bytes: magic 0, 0, 8, rank; big-endian sizes; the values."""
  with gzip.open(path) as file:
    content = file.read()
  rank = content[3]
  shape = np.frombuffer(content, '>i4', rank, offset=4)
  return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def cifar_examples(files: dict[str, Path], split: str) -> tuple[np.ndarray, np.ndarray]:
  """(uint8[N, 32, 32, 3], uint8[N]) of CIFAR-10's binary version: a label byte, then three planes."""
  names = [f'data_batch_{i}.bin' for i in range(1, 6)] if split == 'train' else ['test_batch.bin']
  rows = np.concatenate([np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in _members(files, names)])
  return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0]


def cifar_classes(files: dict[str, Path]) -> list[str]:
  return _members(files, ['batches.meta.txt'])[0].decode().split()


def _members(files, names) -> list[bytes]:
  with tarfile.open(files['cifar-10-binary.tar.gz']) as archive:
    return [archive.extractfile(f'cifar-10-batches-bin/{name}').read() for name in names]


def recordings(files: dict[str, Path]) -> Iterator[tuple[str, np.ndarray]]:
  """(file name, int16[samples]) of the 16-bit WAV files below `recordings/` in the Free Spoken Digit Dataset's archive.

  The first channel, where one has two.
  """
  (path,) = files.values()
  with tarfile.open(path) as archive:
    for member in archive:
      name = PurePosixPath(member.name)
      if name.suffix == '.wav' and name.parent.name == 'recordings':
        with wave.open(io.BytesIO(archive.extractfile(member).read())) as file:
          samples = np.frombuffer(file.readframes(file.getnframes()), '<i2')
          yield name.name, samples[::file.getnchannels()]
