"""Students: smaller networks than F, so that k of them together cost about what F does."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.errors import InputError, whole
from lcode.models.forms import check_form, default_form, make_form, ROUNDING, share_of
from lcode.models.resnet import part_of, ResNet, resnet_multiply_adds
from lcode.models.small import LowResolution, multiply_adds_of, outputs_of, query_shape


def make_student(model: nn.Module, image_shape: tuple[int, ...], share: int, form: str = '',
                 multiply_adds: int | None = None) -> nn.Module:
  """A network that answers a query in about 1/share of the base model's time.

  Args:
    model: F.
    image_shape: S, of a query f32[b, *S].
    share: k, of a bundle.
    form: a name in `FORMS`; '' for that of F's kind (`default_form`).
    multiply_adds: what it may take for a query; None for 1/share of F's, times the form's own share.

  Raises:
    InputError: if F has no such form, or none so small.
  """
  return _student(model, query_shape(image_shape), query_shape(image_shape), share, form, multiply_adds)


def make_tile_student(model: nn.Module, image_shape: tuple[int, ...], tile: tuple[int, ...], share: int,
                      form: str = '', multiply_adds: int | None = None) -> nn.Module:
  """As `make_student`, for queries of the shape `tile`: a dense F's is dense, a ResNet's itself where that is enough.

  Raises:
    InputError: as `make_student`.
  """
  image_shape, tile = query_shape(image_shape), query_shape(tile)
  if not form and default_form(model, image_shape) == 'resolution':
    form = 'dense'  # a tile is an image at a lower resolution
  return _student(model, image_shape, tile, share, form, multiply_adds)


def _student(model, image_shape, answers, share, form, multiply_adds):
  """For queries of the shape `answers`, sized by F's work for those of `image_shape`."""
  share, form = whole('share', share), check_form(form)
  work = multiply_adds_of(model, image_shape)
  form = form or default_form(model, image_shape)
  budget = share_of(form, model) * work / share if multiply_adds is None else whole('multiply_adds', multiply_adds)
  if form == 'blocks' and isinstance(model, ResNet) and resnet_multiply_adds(model, answers) <= ROUNDING * budget:
    return model
  try:
    return make_form(form, model, answers, outputs_of(model, image_shape), budget)
  except InputError as error:
    raise InputError(f'share={share}: a {type(model).__name__} has no student of 1/{share} of its work '
                     f'({str(error).split(":")[0]}): use fewer queries a group, another form, or parity models that '
                     'start from F (parity_model=\'from_base\').') from error


def start_from(model: nn.Module, student: nn.Module, base_variables, fresh) -> Any:
  """First variables of a student or backup: what it has of a ResNet's, else its own fresh ones.

  The last layer is the sum of both: the students of several parities would be one and the same otherwise.
  """
  if isinstance(student, LowResolution):
    inner = start_from(model, student.network, base_variables, {kind: tree['small'] for kind, tree in fresh.items()})
    return {kind: fresh[kind] | {'small': tree} for kind, tree in inner.items()}
  if not (isinstance(model, ResNet) and isinstance(student, ResNet)):
    return fresh
  variables = part_of(model, student, base_variables)
  variables['params']['Dense_0'] = jax.tree.map(jnp.add, variables['params']['Dense_0'], fresh['params']['Dense_0'])
  return variables
