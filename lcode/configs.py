"""What a run is configured by: frozen, checked, and with the recipe's choices filled in."""

import dataclasses

from lcode import coders, data, models, parallel
from lcode.code import Code
from lcode.errors import InputError, one_of
from lcode.losses import get_loss
from lcode.recipes import BASE_RECIPES, get_recipe


@dataclasses.dataclass(frozen=True)
class BaseConfig:
  """What a base model is trained by; None stands for the recipe's choice."""

  dataset: str = 'digits'
  base_model: str = 'mlp'
  epochs: int | None = None
  batch_size: int | None = None
  seed: int = 0

  def resolved(self) -> 'BaseConfig':
    """With the recipe's choices filled in; raises InputError on unknown names and useless numbers."""
    one_of('data set', self.dataset, data.SPECS)
    recipe = BASE_RECIPES[one_of('base model', self.base_model, models.MODELS)]
    return _positive(dataclasses.replace(
        self, epochs=recipe.default_epochs(self.dataset) if self.epochs is None else self.epochs,
        batch_size=recipe.batch_size if self.batch_size is None else self.batch_size))


@dataclasses.dataclass(frozen=True)
class CodeConfig:
  """What a code is trained by; None stands for the recipe's choice."""

  dataset: str = 'digits'
  base_model: str = 'mlp'
  k: int = 2
  r: int = 1
  encoder: str = 'mlp'
  decoder: str = 'mlp'
  loss: str = 'kl_base'
  recipe: str = 'onecycle'
  epochs: int | None = None
  batch_size: int | None = None
  seed: int = 0

  def resolved(self) -> 'CodeConfig':
    """With the recipe's choices filled in; raises InputError on unknown names and useless numbers."""
    one_of('data set', self.dataset, data.SPECS)
    one_of('base model', self.base_model, models.MODELS)
    one_of('encoder', self.encoder, coders.ENCODERS)
    one_of('decoder', self.decoder, coders.DECODERS)
    get_loss(self.loss)
    Code(self.k, self.r)
    recipe = get_recipe(self.recipe)
    return _positive(dataclasses.replace(
        self, epochs=recipe.default_epochs(self.dataset) if self.epochs is None else self.epochs,
        batch_size=recipe.batch_size(self.k) if self.batch_size is None else self.batch_size))


@dataclasses.dataclass(frozen=True)
class Sitting:
  """What may change from one sitting of a run to the next."""

  data_dir: str | None = None
  devices: int | None = None
  max_steps: int | None = None
  save_every_s: float = 60.0

  def choose_devices(self, convolutional: bool, batch_size: int) -> list:
    devices = parallel.choose_devices(self.devices, convolutional, batch_size)
    parallel.check_batch(batch_size, devices)
    return devices


def _positive(config):
  for name in ('epochs', 'batch_size'):
    if getattr(config, name) < 1:
      raise InputError(f'--{name}={getattr(config, name)} is too small: it must be at least 1.')
  if config.seed < 0:
    raise InputError(f'--seed={config.seed} is negative: it must be 0 or more.')
  return config
