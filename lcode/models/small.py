"""Small networks that stand in for F, and the largest of each kind within so many multiply-adds a query."""

import bisect
import itertools
import math
import operator
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lcode.errors import InputError, whole
from lcode.models.fast_conv import Conv
from lcode.models.mlp import MLP

LEAST_SIDE = 16  # pixels of what counts as an image here: smaller ones are read whole, by dense layers
LAST_SIDE = 8  # pixels, at most, of what the dense layers of a CNN see
HIDDEN_A_CHANNEL = 8  # hidden features that every further channel of the first convolution has to leave
FINE_SIDE = 4  # pixels, at most, of what the dense layers of a fine CNN see
FINE_HIDDEN = 8  # its hidden features for each channel of the first convolution


def query_shape(shape) -> tuple[int, ...]:
  """`shape` as a tuple; raises InputError unless it is the shape of a query, of at least one number."""
  try:
    sides = tuple(map(operator.index, shape))
  except TypeError:
    sides = ()
  if not sides or min(sides) < 1:
    raise InputError(f'image_shape={shape!r} is not allowed: give the shape of one query, whole numbers of at least 1, '
                     'as in (28, 28, 1).')
  return sides


def is_image(shape: tuple[int, ...]) -> bool:
  """Whether a query's shape is [height, width, channels] of at least 16x16 pixels."""
  return len(shape) == 3 and min(shape[:2]) >= LEAST_SIDE


class SmallCNN(nn.Module):
  """x f32[b, H, W, c] -> f32[b, num_outputs]: 3x3 convolutions of stride 2 until sides are 8 or less, two dense layers.

  The i-th of them, of at least two, has width * 2**i channels; the dense layer between has `hidden` features.
  """

  num_outputs: int
  width: int
  hidden: int

  @nn.compact
  def __call__(self, x, train: bool = False):
    del train
    for i in range(_convolutions(x.shape[-3:])):
      x = nn.relu(Conv(self.width * 2**i, (3, 3), 2)(x))
    x = nn.relu(nn.Dense(self.hidden)(x.reshape(*x.shape[:-3], -1)))
    return nn.Dense(self.num_outputs)(x)


class FineCNN(nn.Module):
  """x f32[b, H, W, c] -> f32[b, num_outputs]: a 3x3 convolution that keeps every pixel, then as `SmallCNN`.

  The first has `width` channels and stride 1, the i-th of the others width * 2**i and stride 2, until sides are 4 or
  less; then two dense layers, the first of 8 * width features. For queries of few pixels, of which a stride of 2 at
  once would leave too little, and for F's that take such work anyway.
  """

  num_outputs: int
  width: int

  @nn.compact
  def __call__(self, x, train: bool = False):
    del train
    for i in range(_fine_convolutions(x.shape[-3:])):
      x = nn.relu(Conv(self.width * 2**i, (3, 3), 2 if i else 1, padding=1)(x))
    x = nn.relu(nn.Dense(FINE_HIDDEN * self.width)(x.reshape(*x.shape[:-3], -1)))
    return nn.Dense(self.num_outputs)(x)


class LowResolution(nn.Module):
  """x f32[b, H, W, c] -> what `network` answers to x at half the resolution, an odd side being one zero longer.

  Each pixel there is a sum of four with weights of its own, which are learned and start as their mean. By strided
  slices: a window's reduction takes several times as long on processors.
  """

  network: nn.Module
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train: bool = False):
    x = jnp.pad(x, [(0, 0), *((0, side % 2) for side in x.shape[1:3]), (0, 0)])
    quarters = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
    reading = self.param('reading', nn.initializers.constant(1 / 4), (4, 1, *quarters[0].shape[1:]))
    network = self.network.clone(parent=self, name='small', **(
        {'axis_name': self.axis_name} if hasattr(self.network, 'axis_name') else {}))
    return network(sum(weights * quarter for weights, quarter in zip(reading, quarters)), train=train)


def half_shape(image_shape: tuple[int, ...]) -> tuple[int, ...]:
  """The shape of a query at half the resolution."""
  height, wide, channels = image_shape
  return -(-height // 2), -(-wide // 2), channels


def mlp_multiply_adds(image_shape, num_outputs: int, width: int) -> int:
  """Multiply-adds of d -> width -> width / 2 -> C for one query."""
  half = max(width // 2, 1)
  return int(np.prod(image_shape)) * width + width * half + half * num_outputs


def cnn_multiply_adds(image_shape, num_outputs: int, width: int, hidden: int) -> int:
  """Multiply-adds of `SmallCNN` for one query."""
  height, wide, channels = image_shape
  total = 0
  for i in range(_convolutions(image_shape)):
    height, wide = -(-height // 2), -(-wide // 2)
    total += height * wide * 9 * channels * width * 2**i
    channels = width * 2**i
  return total + (height * wide * channels + num_outputs) * hidden


def dense_network(image_shape, num_outputs: int, multiply_adds: int) -> MLP | None:
  """The widest d -> width -> width / 2 -> C of at most `multiply_adds` for a query; None if none fits."""
  image_shape, num_outputs, multiply_adds = _checked(image_shape, num_outputs, multiply_adds)
  width = _widest(mlp_multiply_adds, image_shape, num_outputs, multiply_adds)
  return MLP(num_outputs, (width, max(width // 2, 1))) if width else None


def cnn_network(image_shape, num_outputs: int, multiply_adds: int) -> SmallCNN | None:
  """The widest `SmallCNN` of at most `multiply_adds` for a query; None if none fits, or a query is no image."""
  image_shape, num_outputs, multiply_adds = _checked(image_shape, num_outputs, multiply_adds)
  widest = None
  for width in itertools.count(1) if is_image(image_shape) else ():
    convolutions, with_one = (cnn_multiply_adds(image_shape, num_outputs, width, hidden) for hidden in (0, 1))
    hidden = (multiply_adds - convolutions) // (with_one - convolutions)  # what is left goes to the dense layer
    if hidden < max(HIDDEN_A_CHANNEL * (width - 1), 1):
      return widest
    widest = SmallCNN(num_outputs, width, hidden)


def fine_multiply_adds(image_shape, num_outputs: int, width: int) -> int:
  """Multiply-adds of `FineCNN` for one query."""
  height, wide, channels = image_shape
  total = 0
  for i in range(_fine_convolutions(image_shape)):
    if i:
      height, wide = -(-height // 2), -(-wide // 2)
    total += height * wide * 9 * channels * width * 2**i
    channels = width * 2**i
  return total + (height * wide * channels + num_outputs) * FINE_HIDDEN * width


def fine_network(image_shape, num_outputs: int, multiply_adds: int) -> FineCNN | None:
  """The widest `FineCNN` of at most `multiply_adds` for a query; None if none fits, or a query is no image."""
  image_shape, num_outputs, multiply_adds = _checked(image_shape, num_outputs, multiply_adds)
  if len(image_shape) != 3:
    return None
  width = _widest(fine_multiply_adds, image_shape, num_outputs, multiply_adds)
  return FineCNN(num_outputs, width) if width else None


def multiply_adds_of(model: nn.Module, image_shape) -> int:
  """Multiply-adds of a Flax module for one query: of each product in its trace, entries times terms of each."""
  return sum(_multiply_adds(equation) for equation in _equations(*call_of(model, image_shape)))


def outputs_of(model: nn.Module, image_shape) -> int:
  """C, how many numbers a Flax module answers a query of this shape."""
  return math.prod(jax.eval_shape(*call_of(model, image_shape)).shape[1:])


def call_of(model: nn.Module, image_shape) -> tuple:
  """(apply, variables, one query) of a Flax module, the last two as shapes; raises InputError if it is none."""
  if not isinstance(model, nn.Module):
    raise InputError(f'model={model!r} is no Flax module: give the base model as make_model returns it.')
  x = jax.ShapeDtypeStruct((1, *query_shape(image_shape)), jnp.float32)
  return model.apply, jax.eval_shape(model.init, jax.random.key(0), x), x


def convolves(apply: Callable, variables, x) -> bool:
  """Whether F, (variables, x) -> floats, has convolutions; the arguments may be shapes."""
  return any(equation.primitive.name == 'conv_general_dilated' for equation in _equations(apply, variables, x))


def _equations(fn, *args):
  """Every equation that a function of these arguments is traced to, of its inner functions too."""
  todo = [jax.make_jaxpr(fn)(*args).jaxpr]
  while todo:
    for equation in todo.pop().eqns:
      todo += [getattr(inner, 'jaxpr', inner) for inner in jax.tree.leaves(
          list(equation.params.values()), is_leaf=lambda value: hasattr(value, 'eqns')) if hasattr(inner, 'eqns')]
      yield equation


def _multiply_adds(equation) -> int:
  if equation.primitive.name == 'dot_general':
    (contracted, _), _ = equation.params['dimension_numbers']
    terms = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
  elif equation.primitive.name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    terms = math.prod(kernel) // kernel[equation.params['dimension_numbers'].rhs_spec[0]]
  else:
    return 0
  return equation.outvars[0].aval.size * terms


def _convolutions(image_shape) -> int:
  return max(2, int(np.ceil(np.log2(max(image_shape[:2]) / LAST_SIDE))))


def _fine_convolutions(image_shape) -> int:
  return 1 + max(1, math.ceil(math.log2(max(image_shape[:2]) / FINE_SIDE)))


def _widest(work_of, image_shape, num_outputs, multiply_adds) -> int:
  """The largest width within the budget, 0 for none: the work grows with it, so that it is found by halving."""
  return bisect.bisect_right(range(1, multiply_adds + 1), multiply_adds,
                             key=lambda width: work_of(image_shape, num_outputs, width))


def _checked(image_shape, num_outputs, multiply_adds):
  return query_shape(image_shape), whole('num_outputs', num_outputs), whole('multiply_adds', multiply_adds, 0)
