"""Base models F: linen modules, x f32[b, *S] -> f32[b, C], with `train` for batch normalisation."""

import dataclasses
import inspect
from collections.abc import Callable

import flax.linen as nn

from lcode.errors import InputError, one_of, register, whole
from lcode.models.lenet import LeNet5
from lcode.models.mlp import Logistic, MLP
from lcode.models.resnet import ResNet
from lcode.models.small import query_shape
from lcode.models.vgg import VGG


def _lenet5(image_shape, num_outputs, axis_name):
  del axis_name
  _check_image('lenet5', image_shape, 12)
  return LeNet5(num_outputs)


def _resnet18(image_shape, num_outputs, axis_name):
  _check_image('resnet18', image_shape)
  stages = (2, 2, 2, 2) if min(image_shape[:2]) >= 32 else (2, 2, 2)
  return ResNet(num_outputs, stages, axis_name=axis_name)


def _resnet20(image_shape, num_outputs, axis_name):
  _check_image('resnet20', image_shape)
  return ResNet(num_outputs, stages=(3, 3, 3), width=16, axis_name=axis_name)  # 272,474 parameters on CIFAR-10


def _vgg11(image_shape, num_outputs, axis_name):
  _check_image('vgg11', image_shape)
  return VGG(num_outputs, axis_name=axis_name)


@dataclasses.dataclass(frozen=True)
class Entry:
  """A base model as `register_model` takes it."""

  make: Callable
  affine: bool = False
  convolutional: bool = False


MODELS: dict[str, Entry] = {}


def register_model(name: str, make: Callable, *, affine: bool = False, convolutional: bool = False) -> None:
  """Adds a base model F to `lcode.models.MODELS`: all of lcode then takes its name. The same again does nothing.

  Args:
    name: letters, digits, dashes and underscores.
    make: (image_shape, num_outputs, axis_name) -> a Flax module, (x f32[b, *S], train=False) -> f32[b, C]. image_shape
      is S, a tuple; axis_name that of the devices it trains on, or None, for batch statistics.
    affine: whether it is affine in its query, so that a sum of queries, with weights that add up to 1, is answered by
      the same sum of its answers.
    convolutional: whether most of its work is in large convolutions, which profit from several CPU devices.

  Raises:
    InputError: if the name is not allowed or taken by another model, or `make` is not a function; and when it is made,
      if it is not a Flax module that takes `train`.

  >>> class Linear(nn.Module):
  ...   num_outputs: int
  ...   @nn.compact
  ...   def __call__(self, x, train=False):
  ...     return nn.Dense(self.num_outputs)(x.reshape(len(x), -1))
  >>> lcode.register_model('linear', lambda image_shape, num_outputs, axis_name: Linear(num_outputs), affine=True)
  >>> lcode.CodeConfig(base_model='linear', encoder='addition', decoder='subtraction').resolved().base_model
  'linear'
  """
  if not callable(make):
    raise InputError(f'make={make!r} is no function: give (image_shape, num_outputs, axis_name) -> a Flax module.')
  entry = Entry(make, bool(affine), bool(convolutional))
  register(MODELS, 'model', name, MODELS[name] if MODELS.get(name) == entry else entry)


def is_affine(name: str) -> bool:
  """Whether the base model `name` is registered as affine."""
  return MODELS[one_of('base model', name, MODELS)].affine


def is_convolutional(name: str) -> bool:
  """Whether the base model `name` is registered as mostly convolutions."""
  return MODELS[one_of('base model', name, MODELS)].convolutional


register_model('logistic', lambda image_shape, num_outputs, axis_name: Logistic(num_outputs), affine=True)
register_model('mlp', lambda image_shape, num_outputs, axis_name: MLP(num_outputs))
register_model('lenet5', _lenet5)
register_model('vgg11', _vgg11, convolutional=True)
register_model('resnet18', _resnet18, convolutional=True)
register_model('resnet20', _resnet20, convolutional=True)


def make_model(name: str, image_shape: tuple[int, ...], num_outputs: int, axis_name: str | None = None) -> nn.Module:
  """The base model `name` for queries of `image_shape`; `axis_name` is that of the devices it trains on.

  Raises:
    InputError: if the name is unknown, the model takes no such queries, or what was registered makes no Flax module
      that takes `train`.
  """
  make = MODELS[one_of('base model', name, MODELS)].make
  if axis_name is not None and not isinstance(axis_name, str):
    raise InputError(f'axis_name={axis_name!r} is not allowed: give the name of the devices\' axis, or None.')
  model = make(query_shape(image_shape), whole('num_outputs', num_outputs), axis_name)
  if not isinstance(model, nn.Module) or 'train' not in inspect.signature(type(model).__call__).parameters:
    raise InputError(f'the base model {name!r} was registered with what makes a {type(model).__name__}: it has to make '
                     'a Flax module whose __call__ takes (x, train=False).')
  return model


def make_apply(model: nn.Module) -> Callable:
  """F as the rest of lcode takes it, (variables, x f32[b, *S]) -> f32[b, C], batch norm on running averages."""
  if not isinstance(model, nn.Module):
    raise InputError(f'model={model!r} is no Flax module: give one, as make_model returns.')
  return lambda variables, x: model.apply(variables, x, train=False)


def _check_image(name, shape, smallest=1):
  if len(shape) != 3 or min(shape[:2]) < smallest:
    raise InputError(f'{name} takes images [height, width, channels]' +
                     (f' of at least {smallest} pixels a side' if smallest > 1 else '') +
                     f'; a query here is {list(shape)}.')
