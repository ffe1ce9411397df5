"""Forms of small networks: what may stand in for F as a student, a backup or a parity model, by name and size.

A form and a number of multiply-adds say what network it is, so that the same config always makes the same one. Equal
multiply-adds are not equal time: `experiments.forms` measures which form, of which size, is within a time and answers
best.
"""

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn

from lcode.errors import InputError, one_of
from lcode.models.resnet import ResNet, resnet_multiply_adds, smaller
from lcode.models.small import (call_of, cnn_network, convolves, dense_network, fine_network, half_shape, is_image,
                                LowResolution, multiply_adds_of, outputs_of, query_shape)
from lcode.models.vgg import VGG

ROUNDING = 1.02  # of a budget: what rounding up the sides of a smaller query may add to a ResNet's work


@dataclasses.dataclass(frozen=True)
class Form:
  """A kind of small network.

  Attributes:
    text: a line on it.
    make: (F's module or None, query shape, num_outputs, multiply_adds) -> the largest Flax module within the budget,
      None if there is none.
    share: of a dense F's multiply-adds that a student may take for its k-th of F's time: several small products take
      longer than a large one.
  """

  text: str
  make: Callable[[nn.Module | None, tuple[int, ...], int, float], nn.Module | None]
  share: float = 1.0


def _dense(model, shape, num_outputs, multiply_adds):
  del model
  return dense_network(shape, num_outputs, int(multiply_adds))


def _or_dense(network: Callable) -> Callable:
  """What makes a network, or a dense one where it makes none."""

  def make(model, shape, num_outputs, multiply_adds):
    return network(shape, num_outputs, int(multiply_adds)) or _dense(model, shape, num_outputs, multiply_adds)

  return make


def _blocks(model, shape, num_outputs, multiply_adds):
  del num_outputs
  if isinstance(model, ResNet):
    return smaller(model, shape, multiply_adds)
  if isinstance(model, VGG):  # a convolution's work grows with the square of its channels
    scale = min(math.sqrt(multiply_adds / multiply_adds_of(model, shape)), 1)
    if min(filter(None, model.channels)) * scale >= 1:
      return model.clone(channels=tuple(channels and int(channels * scale) for channels in model.channels))
  return None


def _resolution(model, shape, num_outputs, multiply_adds):
  if not is_image(shape):
    return None
  half = half_shape(shape)
  multiply_adds -= 4 * math.prod(half)  # the means, whose weights are learned
  network = _own_kind(model, half, multiply_adds) or dense_network(half, num_outputs, max(int(multiply_adds), 0))
  return network and LowResolution(network)


def _own_kind(model, shape, multiply_adds):
  """F itself where it fits, up to what rounding the sides adds, else less of it; None if F is no ResNet."""
  if isinstance(model, ResNet) and resnet_multiply_adds(model, shape) <= ROUNDING * multiply_adds:
    return model
  return _blocks(model, shape, None, multiply_adds)


# The shares by measurement over Base-MLP, two cores, 64 groups (docs/results/forms.md).
FORMS = {
    'dense': Form('two hidden layers, the second half as wide', _dense, 0.7),
    'cnn': Form('3x3 convolutions of stride 2 and a dense layer; over queries that are no images of 16x16 pixels or '
                'more, and where no channel fits, dense', _or_dense(cnn_network)),
    'fine': Form('3x3 convolutions, the first of stride 1, the others of stride 2, and a dense layer; over queries '
                 'that are no images, and where no channel fits, dense', _or_dense(fine_network)),
    'blocks': Form('F with fewer residual blocks, and channels where that is not enough: ResNets, and VGG by channels '
                   'alone', _blocks),
    'resolution': Form('over images, of learned means of 2x2 pixels: of ResNets F itself, or less of it, else dense',
                       _resolution, 0.5),
}


def check_form(form: str) -> str:
  """Returns the name of a form, or '' for the default; raises InputError if it is neither."""
  return form if form == '' else one_of('form', form, FORMS)


def default_form(model: nn.Module, image_shape: tuple[int, ...]) -> str:
  """The form that is taken where none is named: of F's own kind, so that equal work takes about equal time."""
  if isinstance(model, (ResNet, VGG)):
    return 'blocks'
  return form_over(convolves(*call_of(model, image_shape)), image_shape)


def form_over(convolutional: bool, image_shape: tuple[int, ...]) -> str:
  """The default form over an F that is known by whether it has convolutions alone."""
  if convolutional:
    return 'cnn'
  return 'resolution' if is_image(image_shape) else 'dense'


def share_of(form: str, model: nn.Module | None) -> float:
  """The share of F's multiply-adds, times 1/k, that a student of this form may take: all of it over a ResNet or VGG."""
  return 1.0 if isinstance(model, (ResNet, VGG)) else FORMS[one_of('form', form, FORMS)].share


def make_form(form: str, model: nn.Module | None, image_shape: tuple[int, ...], num_outputs: int,
              multiply_adds: float) -> nn.Module:
  """The largest network of a form within a number of multiply-adds a query.

  Args:
    form: a name in `FORMS`.
    model: F; None where it is unknown.
    image_shape: S, of a query of the network, f32[b, *S].
    num_outputs: C.
    multiply_adds: the budget.

  Raises:
    InputError: if the form is unknown, is not for such an F or such queries, or has no network so small.
  """
  image_shape = query_shape(image_shape)
  small = FORMS[one_of('form', form, FORMS)].make(model, image_shape, num_outputs, multiply_adds)
  if small is None:
    raise InputError(f'form={form!r} has no network of at most {int(multiply_adds)} multiply-adds for queries of '
                     f'{list(image_shape)}' + (f' over a {type(model).__name__}' if model else '') +
                     ': allow more, or name another form ' + f'({", ".join(FORMS)}).')
  return small


def make_parity_network(model: nn.Module, image_shape: tuple[int, ...], form: str,
                        multiply_adds: int | None = None) -> nn.Module:
  """A parity model that is not of F's architecture: of a form, and F's multiply-adds unless others are given."""
  budget = multiply_adds_of(model, image_shape) if multiply_adds is None else multiply_adds
  return make_form(form, model, image_shape, outputs_of(model, image_shape), budget)
