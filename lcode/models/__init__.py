"""Base models F: linen modules, x f32[b, *S] -> f32[b, C], with `train` for batch normalisation."""

from lcode.errors import InputError, one_of
from lcode.models.lenet import LeNet5
from lcode.models.mlp import Logistic, MLP
from lcode.models.resnet import ResNet
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


MODELS = {
    'logistic': lambda image_shape, num_outputs, axis_name: Logistic(num_outputs),
    'mlp': lambda image_shape, num_outputs, axis_name: MLP(num_outputs),
    'lenet5': _lenet5,
    'vgg11': _vgg11,
    'resnet18': _resnet18,
    'resnet20': _resnet20,
}
AFFINE = ('logistic',)                           # F(sum of weights that add up to 1) is the same sum of F
CONVOLUTIONAL = ('vgg11', 'resnet18', 'resnet20')  # most of their work is in large ones


def make_model(name: str, image_shape: tuple[int, ...], num_outputs: int, axis_name: str | None = None):
  """The base model `name` for queries of `image_shape`; `axis_name` is that of the devices it trains on."""
  return MODELS[one_of('base model', name, MODELS)](tuple(image_shape), num_outputs, axis_name)


def make_apply(model):
  """F as the rest of lcode takes it, (variables, x f32[b, *S]) -> f32[b, C], batch norm on running averages."""
  return lambda variables, x: model.apply(variables, x, train=False)


def _check_image(name, shape, smallest=1):
  if len(shape) != 3 or min(shape[:2]) < smallest:
    raise InputError(f'{name} takes images [height, width, channels]' +
                     (f' of at least {smallest} pixels a side' if smallest > 1 else '') +
                     f'; a query here is {list(shape)}.')
