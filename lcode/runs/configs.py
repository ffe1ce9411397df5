"""What a run is configured by: frozen, checked, and with the recipe's choices filled in."""

import dataclasses

from lcode import data, models
from lcode.coding import coders
from lcode.coding.code import Code
from lcode.errors import InputError, one_of
from lcode.training.devices import check_batch, choose_devices
from lcode.training.losses import get_loss
from lcode.training.recipes import BASE_RECIPES, get_recipe


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


PARITY_MODELS = {
    'base': 'F itself, frozen, as in "Learning a Code"',
    'from_base': 'of F\'s architecture, trained, starting from F: a parity model (ParM)',
    'from_scratch': 'of F\'s architecture, trained from fresh weights',
    'backup': 'a small network distilled from F, at the frontend; goes with replication',
    'students': 'a network of 1/k of F\'s work, answering every query of a bundle',
    'default': 'the same answer for every query, at the frontend; goes with replication',
}


@dataclasses.dataclass(frozen=True)
class CodeConfig:
  """What a code is trained by; None stands for the recipe's choice, '' in `train` for all that can be trained."""

  dataset: str = 'digits'
  base_model: str = 'mlp'
  k: int = 2
  r: int = 1
  encoder: str = 'mlp'
  decoder: str = 'mlp'
  parity_model: str = 'base'
  train: str = ''
  loss: str = 'kl_base'
  recipe: str = 'onecycle'
  epochs: int | None = None
  batch_size: int | None = None
  seed: int = 0
  scenarios: int | None = None
  backup_multiply_adds: int | None = None
  num_byzantine: int = 0

  def resolved(self) -> 'CodeConfig':
    """With the recipe's choices filled in; raises InputError on unknown names and what makes no sense."""
    one_of('data set', self.dataset, data.SPECS)
    one_of('base model', self.base_model, models.MODELS)
    one_of('encoder', self.encoder, coders.ENCODERS)
    one_of('decoder', self.decoder, coders.DECODERS)
    one_of('parity model', self.parity_model, PARITY_MODELS)
    get_loss(self.loss)
    Code(self.k, self.r)
    self._check_combination()
    recipe = get_recipe(self.recipe)
    return _positive(dataclasses.replace(
        self, epochs=recipe.default_epochs(self.dataset) if self.epochs is None else self.epochs,
        batch_size=recipe.batch_size(self.k) if self.batch_size is None else self.batch_size))

  @property
  def train_parts(self) -> tuple[str, ...] | None:
    return tuple(self.train.split(',')) if self.train else None

  @property
  def convolutional(self) -> bool:
    """Whether the work is mostly convolutions."""
    return self.encoder == 'conv' or self.base_model in models.CONVOLUTIONAL

  def _check_combination(self):
    fixed = self.encoder in ('addition', 'concatenation', 'berrut')
    linear = self.base_model in models.AFFINE and self.encoder == 'addition'
    if self.decoder == 'subtraction' and self.parity_model == 'base' and fixed and not linear:
      raise InputError(f'--decoder=subtraction undoes sums of outputs, but {self.base_model} of a parity by the '
                       f'{self.encoder} encoder is none: use --parity_model=from_base, which is trained to be one, or '
                       'an affine base model (logistic) with --encoder=addition.')
    if (self.parity_model == 'backup') != (self.backup_multiply_adds is not None):
      raise InputError(f'--backup_multiply_adds={self.backup_multiply_adds} with --parity_model={self.parity_model}: a '
                       'backup needs to be told how many multiply-adds a query it may take, nothing else does.')
    if self.num_byzantine and self.decoder not in ('berrut', 'approxifer'):
      raise InputError(f'--num_byzantine={self.num_byzantine} with --decoder={self.decoder}: wrong answers are located '
                       'by the berrut and approxifer decoders alone.')
    if self.scenarios is not None and self.scenarios < 1:
      raise InputError(f'--scenarios={self.scenarios} cannot be sampled: it must be at least 1.')


@dataclasses.dataclass(frozen=True)
class RunOptions:
  """How a run is carried out: what may change when it is resumed. `stop_at` is a time.monotonic()."""

  data_dir: str | None = None
  devices: int | None = None
  max_steps: int | None = None
  save_every_s: float = 60.0
  stop_at: float | None = None

  def choose_devices(self, convolutional: bool, batch_size: int) -> list:
    devices = choose_devices(self.devices, convolutional, batch_size)
    check_batch(batch_size, devices)
    return devices


def _positive(config):
  for name in ('epochs', 'batch_size'):
    if getattr(config, name) < 1:
      raise InputError(f'--{name}={getattr(config, name)} is too small: it must be at least 1.')
  if config.seed < 0:
    raise InputError(f'--seed={config.seed} is negative: it must be 0 or more.')
  return config
