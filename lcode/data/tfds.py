"""TFDS directories: read, and where they are missing prepared, without TensorFlow.

TFDS's own extraction of archives needs TensorFlow. Here the upstream files are fetched (or laid into the folder
by hand), checked against TFDS's own table of sizes and SHA-256 sums, parsed (`upstream`), and handed to the
stock builder, which writes the directory that `tfds.data_source` reads.
"""

import concurrent.futures
import contextlib
import http.client
import os
import re
import shutil
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from absl import logging as absl_logging
from array_record.python import array_record_module

from lcode.data import upstream
from lcode.data.digest import sha256, sha256_of_file
from lcode.errors import InputError

TIMEOUT_S = 10


def default_data_dir() -> Path:
  """TFDS's usual place: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
  return Path(os.environ.get('TFDS_DATA_DIR', '~/tensorflow_datasets')).expanduser()


def locate(name: str, data_dir: str | None) -> Path:
  """The prepared directory of `name`, downloaded and prepared first where it is missing.

  Raises:
    InputError: if data_dir does not exist, or the data are neither there nor can be fetched.
  """
  root = Path(data_dir).expanduser() if data_dir else default_data_dir()
  if data_dir and not root.is_dir():
    raise InputError(f'data_dir={data_dir} is no directory: name one that holds {name} as a TFDS directory, '
                     'or leave data_dir out.')
  version = str(tfds.builder_cls(name).VERSION)
  directory = root / name / version
  if not directory.exists():  # TFDS leaves an existing one alone, whatever is in it: `read` judges that
    _check_level(name, version, root)
    prepare(name, root)
  return directory


def _check_level(name: str, version: str, root: Path) -> None:
  """Raises InputError where `root` is the data set's own directory, in which another would be prepared."""
  root = root.resolve()
  if root.name == name and (root / version).is_dir():
    above = root.parent
  elif (root.parent.name, root.name) == (name, version):
    above = root.parent.parent
  else:
    return
  raise InputError(f'data_dir={root} is the directory of {name} itself: name the one above, {above}.')


def fingerprint(directory: Path) -> str:
  """SHA-256 over the names and contents of a prepared directory's files."""
  files = sorted(p for p in directory.iterdir() if p.is_file())
  return sha256(*(f'{path.name}\0{_sha256(path)}' for path in files))


def read(directory: Path) -> dict[str, np.ndarray]:
  """Decodes a prepared image-classification directory.

  Returns:
    `train_images`, `test_images` uint8[N, H, W, c]; `train_labels`, `test_labels` int32[N]; in stored order.

  Raises:
    InputError: if a file is missing, damaged, or holds another number of examples than it should.
  """
  arrays = {}
  with _reading(directory) as builder:
    for split in ('train', 'test'):
      examples = _examples(builder, split)
      arrays[f'{split}_images'] = np.stack([example['image'] for example in examples])
      arrays[f'{split}_labels'] = np.array([example['label'] for example in examples], np.int32)
      if arrays[f'{split}_images'].dtype != np.uint8:
        raise ValueError(f'split {split} is not what features.json says')
  return arrays


def read_recordings(directory: Path) -> dict[str, np.ndarray]:
  """Decodes a prepared directory of labelled recordings, whatever splits it has.

  Returns:
    By name, `{label}_{speaker}_{index}`: int16[samples]. A name is the example's `id`, or its `audio/filename` without
    `.wav`, as TFDS's own builder stores it.

  Raises:
    InputError: as `read`, and if a name is there twice or says another label than is stored.
  """
  recordings = {}
  with _reading(directory) as builder:
    for example in (example for split in builder.info.splits for example in _examples(builder, split)):
      name = (example['id'] if 'id' in example else example['audio/filename']).decode().removesuffix('.wav')
      if name in recordings or not re.fullmatch(rf'{example["label"]}_[a-z]+_[0-9]+', name):
        raise ValueError(f'the recording {name!r} of label {example["label"]} is there twice, or is not named so')
      recordings[name] = example['audio'].astype(np.int16)
  return recordings


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[tfds.core.DatasetBuilder]:
  """The directory's builder; whatever goes wrong with it within is an InputError that names the directory."""
  verbosity = absl_logging.get_verbosity()
  absl_logging.set_verbosity(absl_logging.ERROR)  # TFDS advises to install OpenCV; PIL does
  try:
    builder = tfds.builder_from_directory(directory)
    if builder.info.file_format.value != 'array_record':
      raise InputError(f'{directory} is stored as {builder.info.file_format.value}, lcode reads array_record alone: '
                       'name another data_dir, an empty one will be filled.')
    yield builder
  except InputError:
    raise
  except ImportError as error:  # TFDS's own spoken digits: its feature of audio
    raise InputError(f'{directory} needs what is not installed to be read ({error}): install it, or name another '
                     'data_dir, an empty one will be filled.') from error
  except Exception as error:  # whatever a reader of damaged files comes up with
    reason = str(error).strip().split('\n')[0][:200] or type(error).__name__
    raise InputError(f'{directory} cannot be read ({reason}): remove that directory and run again, '
                     'or copy it anew.') from error
  finally:
    absl_logging.set_verbosity(verbosity)


def _examples(builder, split) -> list[dict]:
  source = builder.as_data_source(split=split)
  examples = source.__getitems__(range(len(source)))
  if len(examples) != sum(_num_records(path) for path in builder.info.splits[split].filepaths):
    raise ValueError(f'split {split} is not what dataset_info.json says')
  return examples


def prepare(name: str, root: Path) -> None:
  """Writes the TFDS directory of `name` below `root` from the upstream files, fetching those that are missing."""
  files = fetch(name, root / 'downloads' / name)
  try:
    builder = _builder(name, files, root)
    print(f'Preparing {name} under {root}, once, in a minute or so.', file=sys.stderr)
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(None):  # TFDS announces a download
      builder.download_and_prepare(download_dir=str(root / 'downloads' / name / 'tmp'), file_format='array_record')
  except OSError as error:
    if (root / name / str(tfds.builder_cls(name).VERSION)).is_dir():
      return  # another process was faster
    raise InputError(f'{name} cannot be prepared under {root} ({error}): name a writable data_dir.') from error


def fetch(name: str, folder: Path) -> dict[str, Path]:
  """The upstream files of `name` in `folder`, by file name, each checked against TFDS's size and SHA-256.

  Raises:
    InputError: if a file has another content, or is missing and cannot be fetched.
  """
  infos = {folder / url.rsplit('/', 1)[-1]: (url, info) for url, info in tfds.builder_cls(name).url_infos.items()}
  missing = [path for path in infos if not path.exists()]
  for path, (url, info) in infos.items():
    if path not in missing and _sha256(path) != info.checksum:
      raise InputError(f'{path} is not the file that TFDS knows as {url} (SHA-256 differs): remove it or '
                       'lay the right one in its place.')
  for path in missing:
    url, info = infos[path]
    try:
      _download(url, path, info)
    except (OSError, http.client.HTTPException) as error:  # URLError, time-outs, unwritable folders, broken answers
      raise InputError(f'{name} is not at {folder.parent.parent}, and {url} cannot be fetched ({str(error).strip()}): '
                       f'name a data_dir that holds {name} as a TFDS directory, or lay '
                       f'{", ".join(p.name for p in missing if not p.exists())} in {folder}.') from error
  return {path.name: path for path in infos}


def _download(url, path, info):
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'{path.name}.{os.getpid()}.part')
  try:
    with _open(url) as response, open(part, 'wb') as file:
      print(f'Fetching {url} ({info.size}).', file=sys.stderr)
      shutil.copyfileobj(response, file)
    if _sha256(part) != info.checksum:
      raise InputError(f'{url} sent something else than TFDS knows under that address (SHA-256 differs): '
                       'try again, or get the file elsewhere.')
    os.replace(part, path)
  finally:
    part.unlink(missing_ok=True)


def _open(url):
  """urlopen within TIMEOUT_S in all: its own limit holds for each of a host's addresses, and not for the resolver."""
  answer = concurrent.futures.Future()

  def connect():
    try:
      answer.set_result(urllib.request.urlopen(url, timeout=TIMEOUT_S))
    except Exception as error:
      answer.set_exception(error)

  threading.Thread(target=connect, daemon=True).start()
  try:
    return answer.result(TIMEOUT_S)
  except TimeoutError as error:
    raise TimeoutError(f'no answer in {TIMEOUT_S} s') from error


def _num_records(path) -> int:
  reader = array_record_module.ArrayRecordReader(os.fspath(path))
  try:
    return reader.num_records()
  finally:
    reader.close()


def _sha256(path) -> str:
  try:
    return sha256_of_file(path)
  except OSError as error:
    raise InputError(f'{path} cannot be read ({error.strerror}): make it readable, or name another data_dir.'
                     ) from error


def _builder(name, files, root):
  """The stock builder of `name`, reading `files` and encoding by PIL or not at all instead of by TensorFlow."""
  import PIL.Image

  examples = {'cifar10': upstream.cifar_examples}.get(name, upstream.idx_examples)
  splits = ('train',) if name == 'spoken_digit' else ('train', 'test')

  class Builder(tfds.builder_cls(name), skip_registration=True):

    def _info(self):
      if name != 'spoken_digit':
        return super()._info()
      return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({
          'audio': tfds.features.Tensor(shape=(None,), dtype=np.int16),  # the stock one needs TensorFlow
          'label': tfds.features.ClassLabel(num_classes=10), 'audio/filename': tfds.features.Text()}))

    def _split_generators(self, dl_manager):
      del dl_manager
      if name == 'cifar10':
        self.info.features['label'].names = upstream.cifar_classes(files)
      return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
      if name == 'spoken_digit':
        for file, audio in upstream.recordings(files):
          yield file, {'audio': audio, 'label': int(file[0]), 'audio/filename': file}
        return
      for index, (image, label) in enumerate(zip(*examples(files, split))):
        pixels = PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        example = {'image': pixels, 'label': int(label)}
        if 'id' in self.info.features:
          example['id'] = f'{split}_{index:05d}'
        yield index, example

  Builder.name = name
  return Builder(data_dir=str(root))
