"""The arrays that a training is handed, checked before anything is compiled."""

import math

import numpy as np

from lcode.coding.black_box import black_box_of
from lcode.data import Arrays
from lcode.errors import InputError
from lcode.training.devices import default_devices


def split_arrays(images, labels, validation) -> tuple[Arrays, Arrays]:
  """Training and validation arrays; without `validation`, the last tenth (at most 5,000) is held out.

  Raises:
    InputError: if there are too few queries, a label for each is missing, or the two are not of the same shape.
  """
  check_pair('images', images, labels)
  if validation is not None:
    if not isinstance(validation, (tuple, list)) or len(validation) != 2:
      raise InputError(f'validation is a {type(validation).__name__}: give a pair (images, labels), with None for '
                       'labels that are not known.')
    check_pair('validation', *validation)
    if np.shape(validation[0])[1:] != np.shape(images)[1:]:
      raise InputError(f'validation queries are of shape {list(np.shape(validation[0])[1:])}, those to train on of '
                       f'{list(np.shape(images)[1:])}: give the same.')
    return Arrays(images, labels), Arrays(*validation)
  held_out = min(5000, math.ceil(len(images) / 10))
  cut = len(images) - held_out
  if cut < 1:
    raise InputError(f'{len(images)} queries are too few to train on: give at least 2.')
  parts = [(images[:cut], None if labels is None else labels[:cut]),
           (images[cut:], None if labels is None else labels[cut:])]
  return Arrays(*parts[0]), Arrays(*parts[1])


def check_pair(name: str, images, labels) -> None:
  """Raises InputError unless these are queries [N, ...] and int[N] labels of them, or None."""
  if not np.ndim(images) or not hasattr(images, 'dtype'):
    raise InputError(f'{name} is a {type(images).__name__}: give an array [N, ...] of N queries.')
  if images.dtype.kind in 'OSUMm':
    raise InputError(f'{name} holds {images.dtype}: give an array of numbers.')
  if labels is None:
    return
  if not hasattr(labels, 'dtype') or np.ndim(labels) != 1 or not np.issubdtype(labels.dtype, np.integer):
    kind = f'{labels.dtype}{list(np.shape(labels))}' if hasattr(labels, 'dtype') else f'a {type(labels).__name__}'
    raise InputError(f'{name}: labels are {kind}: give the number of its class for each query, int[N], or None.')
  if len(labels) != len(images):  # a gather would read past the end without a word
    prefix = '' if name == 'images' else f'{name}: '
    raise InputError(f'{prefix}{len(labels)} labels for {len(images)} queries: give one for each, or None.')


def check_labels(name: str, labels, num_outputs: int) -> None:
  """Raises InputError if a label is no class of F."""
  if labels is None or not len(labels):
    return
  low, high = int(np.min(labels)), int(np.max(labels))
  if low < 0 or high >= num_outputs:
    raise InputError(f'{name} labels lie in {low}..{high}, but F answers {num_outputs} classes: give labels in '
                     f'0..{num_outputs - 1}, or None.')


def devices_to_ask(base_apply, devices) -> list:
  """These devices, or all accelerators, on CPU the first device, where they are None; for a black box no more than one.

  Raises:
    InputError: if several devices are to ask a black box: on few cores their calls wait for each other.
  """
  one_alone = black_box_of(base_apply) is not None
  devices = default_devices()[:1 if one_alone else None] if devices is None else list(devices)
  if len(devices) > 1 and one_alone:
    raise InputError(f'F is a black box, which one device at a time can ask, not {len(devices)}: give one, as in '
                     'devices=jax.devices()[:1].')
  return devices


def check_outputs(name: str, outputs: np.ndarray) -> None:
  """Raises InputError if F answers what is not finite: no code can learn from it."""
  bad = ~np.isfinite(outputs).all(axis=-1)
  if bad.any():
    raise InputError(f'F\'s answers to {int(bad.sum())} of {len(bad)} {name} queries are not finite, first to query '
                     f'{int(bad.argmax())}: look at these queries, and mask classes by a large negative number such as '
                     '-1e4 instead of -inf.')
