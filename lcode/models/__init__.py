"""Base models F: linen modules, x f32[b, *S] -> f32[b, C], with `train` for batch normalisation."""

from lcode.errors import InputError, one_of
from lcode.models.resnet import ResNet
from lcode.models.simple import MLP, Logistic


def _resnet18(image_shape, num_outputs, axis_name):
  if len(image_shape) != 3:
    raise InputError(f'resnet18 takes images [height, width, channels]; a query here is {list(image_shape)}.')
  stages = (2, 2, 2, 2) if min(image_shape[:2]) >= 32 else (2, 2, 2)
  return ResNet(num_outputs, stages, axis_name=axis_name)


MODELS = {
    'logistic': lambda image_shape, num_outputs, axis_name: Logistic(num_outputs),
    'mlp': lambda image_shape, num_outputs, axis_name: MLP(num_outputs),
    'resnet18': _resnet18,
}


def make_model(name: str, image_shape: tuple[int, ...], num_outputs: int, axis_name: str | None = None):
  """The base model `name` for queries of `image_shape`; `axis_name` is that of the devices it trains on."""
  return MODELS[one_of('base model', name, MODELS)](tuple(image_shape), num_outputs, axis_name)


def make_apply(model):
  """F as the rest of lcode takes it, (variables, x f32[b, *S]) -> f32[b, C], batch norm on running averages."""
  return lambda variables, x: model.apply(variables, x, train=False)
