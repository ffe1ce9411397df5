"""Queries as arrays: their grouping into batches, and what turns them into queries on the device."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lcode.errors import InputError, whole

MOST_PADDED = 2**16  # groups of a batch that may be nothing but padding


@dataclasses.dataclass(frozen=True)
class Spec:
  """What is fixed about a data set: its queries' shape, scale to [0, 1], normalisation, validation split, augmentation.

  Attributes:
    validation: how many images of the training split are held out, its last ones.
    image_shape, num_classes: known without loading the data; None where only the data say.
    scale, mean, std: a query is (pixels / scale - mean) / std, mean and std for each channel.
    augment: random crop (of 4 pixels more a side) and flip.

  >>> lcode.Spec(validation=5000, image_shape=(28, 28, 1), num_classes=10).scale
  255.0
  """

  validation: int
  image_shape: tuple[int, ...] | None = None
  num_classes: int | None = None
  scale: float = 255.0
  mean: tuple[float, ...] = (0.0,)
  std: tuple[float, ...] = (1.0,)
  augment: bool = False


@dataclasses.dataclass(frozen=True)
class Arrays:
  """One split: `images` [N, *I], such as uint8[N, H, W, c], and `labels` int[N], None where there are none."""

  images: np.ndarray
  labels: np.ndarray

  def __len__(self):
    return len(self.images)


@dataclasses.dataclass(frozen=True)
class Plan:
  """Which examples make up the groups of which batch.

  Attributes:
    indices: int32[steps, g, k] into a split.
    real: bool[steps, g], False for the groups that only fill the last batch.
    available: bool[steps, s, n], the scenarios of each step, or None where all steps have the same.
  """

  indices: np.ndarray
  real: np.ndarray
  available: np.ndarray | None = None

  @property
  def steps(self) -> int:
    return len(self.indices)


def plan_batches(order: np.ndarray, k: int, batch_size: int, drop_last: bool = False) -> Plan:
  """Cuts `order` (int[N]) into groups of k and batches of `batch_size` groups; left-over examples are dropped.

  Raises:
    InputError: if there is not one whole group (with `drop_last`, not one whole batch).
  """
  whole('k', k)
  whole('batch_size', batch_size)
  groups = len(order) // k
  if groups == 0:
    raise InputError(f'k={k} is larger than the split of {len(order)} examples: choose a smaller k.')
  if batch_size > max(groups, MOST_PADDED):  # an array of that size would be filled with nothing
    raise InputError(f'a batch of {batch_size} is far larger than the {groups} groups there are: choose a smaller '
                     'batch_size.')
  steps = groups // batch_size if drop_last else -(-groups // batch_size)
  if steps == 0:
    raise InputError(f'a batch of {batch_size} is larger than the {groups} there are: choose a smaller batch_size.')
  indices = np.zeros((steps * batch_size, k), np.int32)
  used = min(groups, len(indices))
  indices[:used] = order[:used * k].reshape(used, k)
  real = np.arange(len(indices)) < used
  return Plan(indices.reshape(steps, batch_size, k), real.reshape(steps, batch_size))


def epoch_order(num_examples: int, seed: int, epoch: int) -> np.ndarray:
  """A fresh random order for each epoch, the same whenever it is asked for: int[N]."""
  return np.random.default_rng([seed, epoch]).permutation(num_examples)


@functools.cache
def make_normalise(spec: Spec) -> Callable:
  """Returns uint8[..., c] -> f32[..., c]: pixels / scale, minus mean, over std.

  The same function for the same spec, so that what is compiled over it is compiled once.
  """
  scale = 1.0 / (spec.scale * np.asarray(spec.std, np.float32))
  shift = np.asarray(spec.mean, np.float32) / np.asarray(spec.std, np.float32)

  def normalise(images):
    per_channel = (1,) * (images.ndim - 1) + (-1,)
    return images.astype(jnp.float32) * scale.reshape(per_channel) - shift.reshape(per_channel)

  return normalise


def crop_and_flip(key, image, pad: int = 4):
  """Random crop of the zero-padded image and a random left-right flip: key, [H, W, c] -> [H, W, c]."""
  crop_key, flip_key = jax.random.split(key)
  offset = jax.random.randint(crop_key, (2,), 0, 2 * pad + 1)
  padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
  cropped = jax.lax.dynamic_slice(padded, (offset[0], offset[1], 0), image.shape)
  return jnp.where(jax.random.bernoulli(flip_key), cropped[:, ::-1], cropped)


def shifted(images: np.ndarray, number: int) -> np.ndarray:
  """Copy `number` of the images, [N, H, W, c]: each moved by some pixels, at random, zeros where it moved away from.

  Up to a fourteenth of a side each way, at least 1 pixel. The same copy whenever it is asked for.
  """
  if np.ndim(images) != 4:
    raise InputError(f'copies are shifted images [height, width, channels], and a query here is '
                     f'{list(np.shape(images)[1:])}: use a recipe without copies.')
  count, *sides, _ = images.shape
  most = [max(side // 14, 1) for side in sides]
  rng = np.random.default_rng([whole('number', number), count])
  padded = np.pad(images, [(0, 0), *((by, by) for by in most), (0, 0)])
  views = np.lib.stride_tricks.sliding_window_view(padded, sides, (1, 2))  # [N, places, places, c, H, W]
  down, across = (rng.integers(0, 2 * by + 1, count) for by in most)
  return np.ascontiguousarray(np.moveaxis(views[np.arange(count), down, across], 1, -1))
