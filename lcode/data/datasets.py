"""Data sets by name: digits, TFDS directories, exported arrays, or a user's own; decoded once and cached."""

import dataclasses
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lcode.data.arrays import Arrays, Spec
from lcode.data.cache import cached, write_npz
from lcode.data.digest import sha256, sha256_of_file
from lcode.errors import InputError, one_of, register, whole

ARRAYS = 'test_images', 'test_labels', 'train_images', 'train_labels'
SPECS = {
    'digits': Spec(137, (8, 8, 1), 10, scale=16.0),
    'mnist': Spec(5000, (28, 28, 1), 10),
    'fashion_mnist': Spec(5000, (28, 28, 1), 10),
    'cifar10': Spec(5000, (32, 32, 3), 10, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010), augment=True),
    'spoken_digit': Spec(300, (32, 32, 1), 10, mean=(0.27,), std=(0.30,)),
}
_REGISTERED: dict[str, Callable] = {}  # how to load the data sets that users have added


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A data set by `name`, with its `spec` and its splits `train`, `validation` and `test`, each `Arrays`.

  Its labels are 0 to `num_classes` - 1; `source` is the SHA-256 of all its arrays.
  """

  name: str
  spec: Spec
  train: Arrays
  validation: Arrays
  test: Arrays
  num_classes: int
  source: str

  @property
  def image_shape(self) -> tuple[int, ...]:
    return self.train.images.shape[1:]


def register_dataset(name: str, load: Callable, spec: Spec) -> None:
  """Makes a data set known by name, to configs and experiments.

  Args:
    name: letters, digits, dashes and underscores.
    load: (data_dir or None) -> a dictionary of `train_images` and `test_images` [N, *S], of any dtype that `spec`'s
      scale, mean and std turn into queries; `train_labels` and `test_labels` int[N], from 0.
    spec: how many of the training images to hold out for validation (the last ones), how to normalise. Its shape and
      number of classes may be left for the data to say.

  Raises:
    InputError: if the name is not allowed or taken, load not a function, or spec not a `Spec`; and when it is
      loaded, if the arrays are not as above.

  >>> def load(data_dir):
  ...   return {'train_images': x[:150], 'train_labels': y[:150], 'test_images': x[150:], 'test_labels': y[150:]}
  >>> lcode.register_dataset('mine', load, lcode.Spec(validation=30, scale=1.0))
  >>> len(lcode.data.load('mine').train)
  120
  """
  if not callable(load):
    raise InputError(f'load={load!r} is no function: give (data_dir) -> a dictionary of {", ".join(ARRAYS)}.')
  if not isinstance(spec, Spec):
    raise InputError(f'spec={spec!r} is no Spec: give one, as in lcode.data.Spec(validation=1000).')
  whole('validation', spec.validation)
  if name in SPECS and name not in _REGISTERED:
    raise InputError(f'the data set {name!r} is there already: choose another name.')
  register(_REGISTERED, 'data set', name, load)
  register(SPECS, 'data set', name, spec)


def load(name: str, data_dir: str | None = None) -> Dataset:
  """Loads a data set: `digits` comes with scikit-learn, the others are TFDS directories or registered.

  Where data_dir holds <name>.npz, as `lcode.data.export` writes it, that is read instead: it needs NumPy alone.

  Args:
    name: in `lcode.data.SPECS`.
    data_dir: where it lies; None for TFDS's usual place.

  Raises:
    InputError: if the name is unknown, or the data are missing, damaged or not to be had.
  """
  spec = SPECS[one_of('data set', name, SPECS)]
  if name in _REGISTERED:
    arrays, source = _load_registered(name, data_dir)
  elif name == 'digits':
    arrays, source = _load_digits()
  elif data_dir and (exported := Path(data_dir).expanduser() / f'{name}.npz').is_file():
    arrays = _read_export(exported)
    source = _source(arrays)
  else:
    arrays, source = _load_tfds(name, data_dir)
  held_out = len(arrays['train_images']) - spec.validation
  if held_out < 1:
    raise InputError(f'{name} has {len(arrays["train_images"])} training images in {data_dir}, of which '
                     f'{spec.validation} are held out for validation: give the whole data set.')
  return Dataset(
      name, spec,
      train=Arrays(arrays['train_images'][:held_out], arrays['train_labels'][:held_out]),
      validation=Arrays(arrays['train_images'][held_out:], arrays['train_labels'][held_out:]),
      test=Arrays(arrays['test_images'], arrays['test_labels']),
      num_classes=spec.num_classes if name in _REGISTERED and spec.num_classes
      else int(arrays['train_labels'].max()) + 1, source=source)


def _load_tfds(name, data_dir):
  try:
    from lcode.data import tfds
  except ImportError as error:
    raise InputError(f'{name} as a TFDS directory needs tensorflow-datasets ({error}): install it, or give a data_dir '
                     'with arrays that experiments.prepare_data wrote where it is installed.') from error
  directory = tfds.locate(name, data_dir)
  key = f'{name}-{tfds.fingerprint(directory)[:32]}'
  if name == 'spoken_digit':
    from lcode.data import speech  # scipy.signal takes a while
    key = f'{key}-{sha256_of_file(speech.__file__)[:8]}'  # the features may change
    arrays = cached(key, lambda: speech.images(tfds.read_recordings(directory)))
  else:
    arrays = cached(key, lambda: tfds.read(directory))
  return arrays, _source(arrays)


def _source(arrays) -> str:
  """Of the arrays: the bytes of a prepared directory differ from one preparation to the next."""
  return sha256(*(arrays[key] for key in sorted(arrays)))


def _load_registered(name, data_dir):
  arrays, spec = _REGISTERED[name](data_dir), SPECS[name]
  if not isinstance(arrays, dict) or not {*ARRAYS} <= {*arrays}:
    keys = sorted(arrays) if isinstance(arrays, dict) else f'a {type(arrays).__name__}'
    raise InputError(f'the data set {name!r} was loaded as {keys}: return a dictionary of {", ".join(ARRAYS)}.')
  arrays = {key: np.asarray(arrays[key]) for key in ARRAYS}
  shape = spec.image_shape or arrays['train_images'].shape[1:]
  for split in ('train', 'test'):
    images, labels = arrays[f'{split}_images'], arrays[f'{split}_labels']
    if images.dtype.kind not in 'uif' or images.ndim < 2 or images.shape[1:] != shape or not len(images):
      raise InputError(f'the data set {name!r} has {split}_images {images.dtype}{list(images.shape)}: return numbers '
                       f'[N, {", ".join(map(str, shape)) or "..."}], at least one.')
    if labels.dtype.kind not in 'ui' or labels.shape != (len(images),):
      raise InputError(f'the data set {name!r} has {split}_labels {labels.dtype}{list(labels.shape)} for {len(images)} '
                       f'images: return whole numbers [{len(images)}].')
    most = (spec.num_classes or int(arrays['train_labels'].max()) + 1) - 1
    if labels.min() < 0 or labels.max() > most:
      raise InputError(f'the data set {name!r} has {split}_labels from {labels.min()} to {labels.max()}: they must be '
                       f'from 0 to {most}.')
    arrays[f'{split}_labels'] = labels.astype(np.int32)
  return arrays, _source(arrays)


def export(dataset: Dataset, directory: str) -> Path:
  """Writes all of a data set as <directory>/<name>.npz, for machines without TFDS; returns the file."""
  held = dataset.train, dataset.validation
  arrays = {'train_images': np.concatenate([part.images for part in held]),
            'train_labels': np.concatenate([part.labels for part in held]),
            'test_images': dataset.test.images, 'test_labels': dataset.test.labels}
  path = Path(directory).expanduser() / f'{dataset.name}.npz'
  write_npz(path, np.savez_compressed, arrays)
  return path


def _read_export(path: Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in ARRAYS}
  except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
    raise InputError(f'{path} cannot be read ({error}): write it anew with experiments.prepare_data.') from error
  for split in ('train', 'test'):
    images, labels = arrays[f'{split}_images'], arrays[f'{split}_labels']
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != (len(images),):
      raise InputError(f'{path} holds {split} images {images.dtype}{list(images.shape)} and labels '
                       f'{list(labels.shape)}: they must be uint8[N, H, W, c] and [N], as experiments.prepare_data '
                       'writes them.')
    if not len(images) or labels.dtype.kind not in 'ui' or labels.min() < 0:
      raise InputError(f'{path} holds {len(images)} {split} images with labels {labels.dtype}: there must be some, '
                       'with whole numbers from 0, as experiments.prepare_data writes them.')
  if arrays['train_images'].shape[1:] != arrays['test_images'].shape[1:]:
    raise InputError(f'{path} holds training images {list(arrays["train_images"].shape[1:])} and test images '
                     f'{list(arrays["test_images"].shape[1:])}: they must be alike.')
  return arrays


def _load_digits():
  """The 1,797 8x8 digits that scikit-learn bundles, in one fixed random order, the last 360 as test split."""
  try:
    from sklearn.datasets import load_digits
  except ImportError as error:
    raise InputError('digits come with scikit-learn, which is not installed: pip install "lcode[experiments]", or '
                     f'load {", ".join(name for name in SPECS if name != "digits")}.') from error
  bunch = load_digits()
  order = np.random.default_rng(0).permutation(len(bunch.images))
  images = bunch.images[order].astype(np.uint8)[..., None]
  labels = bunch.target[order].astype(np.int32)
  arrays = {'train_images': images[:-360], 'train_labels': labels[:-360],
            'test_images': images[-360:], 'test_labels': labels[-360:]}
  return arrays, sha256(images, labels)
