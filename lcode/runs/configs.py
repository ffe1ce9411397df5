"""What a run is configured by: frozen, checked, and with the recipe's choices filled in."""

import dataclasses
import numbers

from lcode import data, models
from lcode.coding import coders
from lcode.coding.code import Code
from lcode.errors import InputError, directory, one_of, whole
from lcode.models.forms import check_form
from lcode.runs.parts import PARITY_MODELS
from lcode.training.devices import check_batch, choose_devices
from lcode.training.losses import get_loss
from lcode.training.recipes import BASE_RECIPES, BaseRecipe, get_recipe


@dataclasses.dataclass(frozen=True)
class BaseConfig:
  """What a base model is trained by; None stands for the recipe's choice.

  Attributes:
    dataset: a name in `lcode.data.SPECS`.
    base_model: a name in `lcode.models.MODELS`.
    epochs, batch_size: None for those of the model's recipe.
    seed: of the initial parameters, the batches and the augmentation.

  >>> lcode.BaseConfig('digits', 'logistic').resolved()
  BaseConfig(dataset='digits', base_model='logistic', epochs=60, batch_size=128, seed=0)
  """

  dataset: str = 'digits'
  base_model: str = 'mlp'
  epochs: int | None = None
  batch_size: int | None = None
  seed: int = 0

  def resolved(self) -> 'BaseConfig':
    """With the recipe's choices filled in; raises InputError on unknown names and useless numbers."""
    one_of('data set', self.dataset, data.SPECS)
    recipe = self.recipe
    return _checked(dataclasses.replace(
        self, epochs=recipe.default_epochs(self.dataset) if self.epochs is None else self.epochs,
        batch_size=recipe.batch_size if self.batch_size is None else self.batch_size))

  @property
  def recipe(self) -> BaseRecipe:
    """The model's own; of a registered model that of Base-MLP, or where it is convolutional of ResNet-18."""
    one_of('base model', self.base_model, models.MODELS)
    like = 'resnet18' if models.is_convolutional(self.base_model) else 'mlp'
    return BASE_RECIPES.get(self.base_model, BASE_RECIPES[like])


@dataclasses.dataclass(frozen=True)
class CodeConfig:
  """What a code is trained by; None stands for the recipe's choice.

  Attributes:
    dataset, base_model: names in `lcode.data.SPECS` and `lcode.models.MODELS`.
    k, r: data units and parities per group.
    encoder, decoder, parity_model: names in `lcode.coders.ENCODERS` and `DECODERS`, `lcode.runs.parts.PARITY_MODELS`.
    train: what to train, names with commas between; '' for all that can be trained.
    loss, recipe: names in `lcode.losses.LOSSES` and `lcode.RECIPES`.
    epochs, batch_size: None for the recipe's; a batch is of groups.
    seed: of the initial parameters, the groups and the augmentation.
    scenarios: how many erasure patterns to sample for each step; None for all, or 64 where there are more.
    num_byzantine: wrong answers per group that the decoder locates.
    form, multiply_adds: what small network a backup, a student or a parity model from scratch is
      (`lcode.models.forms`): '' for that of F's kind, and multiply-adds per query, None for a student's share of F's.

  >>> lcode.CodeConfig(k=3, encoder='addition', decoder='subtraction', parity_model='from_base').resolved().epochs
  500
  """

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
  multiply_adds: int | None = None
  num_byzantine: int = 0
  form: str = ''

  def resolved(self) -> 'CodeConfig':
    """With the recipe's choices filled in; raises InputError on unknown names and what makes no sense."""
    one_of('data set', self.dataset, data.SPECS)
    one_of('base model', self.base_model, models.MODELS)
    one_of('encoder', self.encoder, coders.ENCODERS)
    one_of('decoder', self.decoder, coders.DECODERS)
    one_of('parity model', self.parity_model, PARITY_MODELS)
    get_loss(self.loss)
    if not isinstance(self.train, str):
      raise InputError(f'train={self.train!r} is not allowed: give names with commas between, as in '
                       '\'encoder,decoder\', or \'\' for all that can be trained.')
    Code(self.k, self.r)
    self._check_combination()
    recipe = get_recipe(self.recipe)
    return _checked(dataclasses.replace(
        self, epochs=recipe.default_epochs(self.dataset) if self.epochs is None else self.epochs,
        batch_size=recipe.batch_size(self.k) if self.batch_size is None else self.batch_size))

  @property
  def train_parts(self) -> tuple[str, ...] | None:
    return tuple(self.train.split(',')) if self.train else None

  @property
  def convolutional(self) -> bool:
    """Whether the work is mostly convolutions."""
    return self.encoder == 'conv' or models.is_convolutional(self.base_model)

  def _check_combination(self):
    fixed = self.encoder in ('addition', 'concatenation', 'berrut')
    linear = models.is_affine(self.base_model) and self.encoder == 'addition'
    if self.decoder == 'subtraction' and self.parity_model == 'base' and fixed and not linear:
      raise InputError(f'decoder=\'subtraction\' undoes sums of outputs, but {self.base_model} of a parity by the '
                       f'{self.encoder} encoder is none: use parity_model=\'from_base\', which is trained to be one, '
                       'or an affine base model (logistic) with encoder=\'addition\'.')
    self._check_form()
    whole('num_byzantine', self.num_byzantine, 0)
    if self.num_byzantine and not hasattr(coders.DECODERS[self.decoder], 'num_byzantine'):
      able = sorted(name for name, decoder in coders.DECODERS.items() if hasattr(decoder, 'num_byzantine'))
      raise InputError(f'num_byzantine={self.num_byzantine} with decoder={self.decoder!r}: wrong answers are located '
                       f'by these decoders alone: {", ".join(able)}.')
    if self.scenarios is not None:
      whole('scenarios', self.scenarios)

  def _check_form(self):
    check_form(self.form)
    if self.multiply_adds is not None:
      whole('multiply_adds', self.multiply_adds)
    elif self.parity_model == 'backup':
      raise InputError('multiply_adds=None with parity_model=\'backup\': a backup has to be told how many '
                       'multiply-adds a query it may take.')
    named = self.form != '' or self.multiply_adds is not None
    if named and not PARITY_MODELS[self.parity_model].sized:
      raise InputError(f'form={self.form!r}, multiply_adds={self.multiply_adds} with parity_model={self.parity_model!r}'
                       f': that is no small network; use {", ".join(n for n, a in PARITY_MODELS.items() if a.sized)}.')
    if self.parity_model == 'from_scratch' and self.multiply_adds is not None and not self.form:
      raise InputError(f'multiply_adds={self.multiply_adds} with parity_model=\'from_scratch\' is of F\'s '
                       'architecture: name a form too, as in form=\'cnn\', or leave it out.')


@dataclasses.dataclass(frozen=True)
class RunOptions:
  """How a run is carried out: what may change when it is resumed.

  Attributes:
    data_dir: where data sets lie; None for TFDS's usual place.
    devices: how many; None for all accelerators, or as many as suit a CPU.
    max_steps: of every training in the run, to stop early; None for not.
    save_every_s: seconds between two checkpoints.
    stop_at: time.monotonic() after which the run is saved and stopped; None for never.
    time_costs: whether an evaluation measures how long a group takes (`lcode.coding.timing`), in some seconds.
    split: what codes are evaluated on: 'test', or 'validation' where one of them is yet to be chosen.

  Raises:
    InputError: if a value is not allowed.

  >>> lcode.RunOptions(max_steps=10, split='validation').devices is None
  True
  """

  data_dir: str | None = None
  devices: int | None = None
  max_steps: int | None = None
  save_every_s: float = 60.0
  stop_at: float | None = None
  time_costs: bool = False
  split: str = 'test'

  def __post_init__(self):
    for name in ('devices', 'max_steps'):
      if getattr(self, name) is not None:
        whole(name, getattr(self, name))
    if not isinstance(self.save_every_s, numbers.Real) or not self.save_every_s >= 0:
      raise InputError(f'save_every_s={self.save_every_s!r} is not allowed: it must be seconds, 0 or more.')
    if self.data_dir is not None:
      directory('data_dir', self.data_dir)
    one_of('split to evaluate on', self.split, ('test', 'validation'))

  def choose_devices(self, convolutional: bool, batch_size: int) -> list:
    devices = choose_devices(self.devices, convolutional, batch_size)
    check_batch(batch_size, devices)
    return devices


def _checked(config):
  for name in ('epochs', 'batch_size'):
    whole(name, getattr(config, name))
  whole('seed', config.seed, 0)
  return config
