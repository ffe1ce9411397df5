"""What a training can be told, checked when it is told."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.scheme import PARTS
from lcode.errors import InputError, one_of, whole
from lcode.training.losses import get_loss
from lcode.training.recipes import Recipe, get_recipe


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
  """How a code is trained.

  Attributes:
    loss: a name in `lcode.losses.LOSSES`.
    recipe: a name in `lcode.RECIPES`, or a `Recipe`; None for the one that suits the scheme.
    epochs: None for the recipe's, or as many as its least number of steps takes.
    batch_size: groups per step, over all devices; None for the recipe's.
    seed: of the initial parameters, the groups and the augmentation.
    train_parts: which of 'encoder', 'parity_model', 'decoder' to train, the others stay as they start; None for all
      that have parameters.
    scenarios: erasure patterns bool[s, n] to train and validate on; or how many to sample for each step from those of
      up to r missing units; None for all of them, or 64 per step where there are more.
    preprocess: images [b, *I] -> queries f32[b, *S], run on the device.
    augment: random crop and flip of what is encoded; the targets stay those of the plain images.
    devices: None for all accelerators, or on CPU the first device.
    max_steps: stop after so many steps; None for not.
    save_every_s: seconds between two checkpoints.
    stop_at: time.monotonic() after which the training is stopped, the store holding all of it; None for never.

  Raises:
    InputError: if a name is unknown, a number out of range, or anything else of a kind that is not allowed.

  >>> lcode.TrainingOptions(epochs=5, train_parts=('encoder',)).loss
  'kl_base'
  """

  loss: str = 'kl_base'
  recipe: str | Recipe | None = None
  epochs: int | None = None
  batch_size: int | None = None
  seed: int = 0
  train_parts: Sequence[str] | None = None
  scenarios: Any = None
  preprocess: Callable = jnp.asarray
  augment: bool = False
  devices: Sequence | None = None
  max_steps: int | None = None
  save_every_s: float = 60.0
  stop_at: float | None = None

  def __post_init__(self):
    get_loss(self.loss)
    if not (self.recipe is None or isinstance(self.recipe, Recipe)):
      get_recipe(self.recipe)
    for name in ('epochs', 'batch_size', 'max_steps'):
      if getattr(self, name) is not None:
        whole(name, getattr(self, name))
    whole('seed', self.seed, 0)
    if self.train_parts is not None:
      self._check_parts()
    if self.scenarios is not None and not isinstance(self.scenarios, np.ndarray):
      whole('scenarios', self.scenarios)
    if not callable(self.preprocess):
      raise InputError(f'preprocess={self.preprocess!r} is no function: give one from images to queries, or leave it '
                       'out.')
    if self.devices is not None:
      self._check_devices()
    if not isinstance(self.save_every_s, numbers.Real) or not self.save_every_s >= 0:
      raise InputError(f'save_every_s={self.save_every_s!r} is not allowed: it must be seconds, 0 or more.')
    # The clock's zero is anywhere, so that any number is a time.
    if self.stop_at is not None and (not isinstance(self.stop_at, numbers.Real) or math.isnan(self.stop_at)):
      raise InputError(f'stop_at={self.stop_at!r} is not allowed: give a time of time.monotonic(), or None.')

  def _check_devices(self):
    devices = self.devices if isinstance(self.devices, (list, tuple, np.ndarray)) else ()
    if not len(devices) or not all(isinstance(device, jax.Device) for device in devices) or len(
        set(devices)) < len(devices):
      raise InputError(f'devices={self.devices!r} is no list of devices: give some of jax.devices(), each once, or '
                       'None.')

  def _check_parts(self):
    if not isinstance(self.train_parts, (list, tuple)):
      raise InputError(f'train_parts={self.train_parts!r} is no tuple: give one, as in (\'encoder\',), or None.')
    for part in self.train_parts:
      one_of('part to train', part, PARTS)


def with_changes(options: TrainingOptions | None, changes: dict) -> TrainingOptions:
  """The options with some fields replaced; raises InputError on a name that is none of them."""
  options = TrainingOptions() if options is None else options
  if not isinstance(options, TrainingOptions):
    raise InputError(f'options={options!r} is not allowed: give TrainingOptions, or its fields by name, as in '
                     'epochs=5.')
  for name in changes:
    one_of('option', name, [field.name for field in dataclasses.fields(TrainingOptions)])
  return dataclasses.replace(options, **changes)
