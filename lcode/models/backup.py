"""Approximate backups: networks much cheaper than F, distilled from it, sized by their multiply-adds.

The rival of every code: what a frontend that can afford so much work might compute instead.
"""

import math

import flax.linen as nn

from lcode.errors import InputError, whole
from lcode.models.forms import check_form, default_form, make_form
from lcode.models.resnet import ResNet, smaller
from lcode.models.small import mlp_multiply_adds, query_shape

# Of a ResNet's channels; below, a backup is the small CNN. For ResNet-20 (CIFAR-10), at 5 % of F, on validation data it
# has 70.0, a ResNet of 6 of 16 channels 67.3. By test figures, at 20 % of F the CNN has 70.7, while a ResNet of 12.5 %,
# 10 channels, has 73.7.
NARROWEST = 1 / 2


def make_backup(image_shape, num_outputs: int, multiply_adds: int, base: nn.Module | None = None,
                form: str = '') -> nn.Module:
  """The largest backup of at most `multiply_adds` a query.

  Args:
    image_shape: of a query.
    num_outputs: C.
    multiply_adds: the budget.
    base: F; None where it is unknown.
    form: a name in `forms.FORMS`; '' for a student's over the same F, but that a ResNet is made no narrower than
      `NARROWEST` of its channels, and VGG's and an unknown F's backup is the small CNN.

  Raises:
    InputError: if F has no such form, or none so small.
  """
  image_shape, multiply_adds = query_shape(image_shape), whole('multiply_adds', multiply_adds, 0)
  num_outputs, form = whole('num_outputs', num_outputs), check_form(form)
  if base is not None and not isinstance(base, nn.Module):
    raise InputError(f'base={base!r} is no Flax module: give F as make_model returns it, or None.')
  if isinstance(base, ResNet) and not form:
    if shallower := smaller(base, image_shape, multiply_adds, math.ceil(NARROWEST * base.width)):
      return shallower
  form = form or ('cnn' if base is None else default_form(base, image_shape).replace('blocks', 'cnn'))
  try:
    return make_form(form, base, image_shape, num_outputs, multiply_adds)
  except InputError as error:
    raise InputError(f'multiply_adds={multiply_adds} is too small for any backup ({str(error).split(":")[0]}): a '
                     f'dense one must be given at least {mlp_multiply_adds(image_shape, num_outputs, 1)} for queries '
                     f'of {list(image_shape)}.') from error
