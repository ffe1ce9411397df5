"""How a code or a base model is trained: optimiser, schedule, batch and epochs, under a name."""

import dataclasses
from collections.abc import Callable

import optax

from lcode.errors import InputError, one_of, whole


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A way to train a code.

  Attributes:
    make_optimizer: total number of steps -> optax transformation.
    batch_size: k -> groups per batch, over all devices.
    epochs: data set name -> epochs, '' for any other.
    least_steps: how many steps it needs to get anywhere: small data sets that are not named get more epochs.
    copies: how many more times the training queries are taken, shifted by some pixels (`lcode.data.shifted`), each time
      anew; F answers these too, and an epoch is over all of them.

  Raises:
    InputError: if something is not a function, or a number of epochs, steps or groups not a whole one.

  >>> recipe = lcode.Recipe(lambda steps: optax.adam(1e-3), batch_size=lambda k: 64, epochs={'digits': 60, '': 10})
  >>> recipe.default_epochs('mnist')
  10
  """

  make_optimizer: Callable[[int], optax.GradientTransformation]
  batch_size: Callable[[int], int]
  epochs: dict[str, int]
  least_steps: int = 0
  copies: int = 0

  def __post_init__(self):
    for name in ('make_optimizer', 'batch_size'):
      if not callable(getattr(self, name)):
        raise InputError(f'{name}={getattr(self, name)!r} of a recipe is no function: give (steps) -> optax '
                         'transformation, and (k) -> groups a batch.')
    if not isinstance(self.epochs, dict) or '' not in self.epochs:
      raise InputError(f'epochs={self.epochs!r} of a recipe is not allowed: give a dictionary from data set names to '
                       'epochs, with \'\' for any other.')
    whole('least_steps', self.least_steps, 0)
    whole('copies', self.copies, 0)
    for name, epochs in self.epochs.items():
      whole(f'epochs[{name!r}] of a recipe', epochs)
    whole('batch_size(2) of a recipe', self.batch_size(2))

  def default_epochs(self, dataset: str) -> int:
    """Epochs for the data set of this name."""
    return self.epochs.get(dataset, self.epochs[''])


def _paper_optimizer(total_steps):
  del total_steps
  # L2 of 1e-5 added to the gradient (not decoupled), then Adam at a constant 1e-3, over encoder and decoder alike.
  return optax.chain(optax.add_decayed_weights(1e-5), optax.adam(1e-3))


def _one_cycle(total_steps, peak=5e-3):
  return optax.adam(optax.cosine_onecycle_schedule(max(total_steps, 2), peak, pct_start=0.1, final_div_factor=1e3))


RECIPES = {
    # "Learning a Code" (arXiv:1806.01259) and the authors' published code: 64 groups at k = 2, 32 at k = 5.
    'paper': Recipe(_paper_optimizer, lambda k: 64 if k < 5 else 32, {'cifar10': 2000, '': 500}),
    # The same coders in a tenth of the epochs: one cycle of the learning rate, up to 5e-3 and down to nothing.
    'onecycle': Recipe(_one_cycle, lambda k: 64 if k < 5 else 32, {'digits': 500, 'spoken_digit': 260, '': 40}, 5000),
    # The convolutional encoder needs fewer epochs, and costs twenty times as much.
    'onecycle_conv': Recipe(lambda steps: _one_cycle(steps, 2e-3), lambda k: 64 if k < 5 else 32,
                            {'digits': 60, 'spoken_digit': 32, '': 10}, 600),
    # Features and what paints learn fastest by small steps: as many queries a step, however many make a group.
    'features': Recipe(lambda steps: _one_cycle(steps, 3e-3), lambda k: max(128 // k, 8),
                       {'digits': 150, 'spoken_digit': 160, '': 20}, 3000),
    # Parity models, which start from F.
    'parity': Recipe(lambda steps: _one_cycle(steps, 1e-3), lambda k: 64,
                     {'digits': 300, 'spoken_digit': 160, '': 30}, 3000),
    # Backups and default answers, groups of one, and bundles: as many queries a step, however many make a group.
    'distil': Recipe(lambda steps: _one_cycle(steps, 5e-3), lambda k: max(128 // k, 1),
                     {'digits': 150, 'spoken_digit': 80, '': 20}, 1500),
    # The same over four times the queries, in a fourth of the epochs: students get nearer to F's answers.
    'distil_shifted': Recipe(lambda steps: _one_cycle(steps, 3e-3), lambda k: max(128 // k, 1),
                             {'digits': 38, 'spoken_digit': 20, '': 5}, 1500, copies=3),
}


def get_recipe(name: str) -> Recipe:
  return RECIPES[one_of('recipe', name, RECIPES)]


@dataclasses.dataclass(frozen=True)
class BaseRecipe:
  """How a base model F is trained: Adam on dense models, momentum SGD with weight decay on convolutional ones."""

  make_optimizer: Callable[[int], optax.GradientTransformation]
  batch_size: int
  epochs: dict[str, int]

  default_epochs = Recipe.default_epochs


def _momentum(total_steps):
  schedule = optax.cosine_onecycle_schedule(max(total_steps, 2), 0.1, pct_start=0.15)
  return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(schedule, momentum=0.9, nesterov=True))


BASE_RECIPES = {
    'logistic': BaseRecipe(lambda steps: _one_cycle(steps, 1e-2), 128, {'digits': 60, '': 15}),
    'mlp': BaseRecipe(lambda steps: _one_cycle(steps, 3e-3), 128, {'digits': 60, '': 20}),
    'lenet5': BaseRecipe(lambda steps: _one_cycle(steps, 3e-3), 128, {'cifar10': 40, '': 20}),
    'vgg11': BaseRecipe(_momentum, 128, {'digits': 30, 'cifar10': 60, '': 10}),
    'resnet18': BaseRecipe(_momentum, 128, {'digits': 30, 'cifar10': 60, '': 10}),
    'resnet20': BaseRecipe(_momentum, 128, {'digits': 30, 'cifar10': 40, '': 10}),
}
