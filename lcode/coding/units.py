"""The units of a group as arrays: F's answers and the replies put together, what is missing zeroed."""

import math
import numbers

import jax.numpy as jnp
import numpy as np

from lcode.coding.checks import kind, shown
from lcode.errors import InputError


def erase(outputs, available):
  """Zeroes the units of a group that are not available: no value (nor NaN) of them and no gradient leaks.

  Args:
    outputs: [n, ...], the units.
    available: bool[n].

  Returns:
    [n, ...], of the same dtype.

  Raises:
    InputError: if there is not one bool for each unit.

  >>> lcode.erase(jnp.ones((3, 2)), np.array([True, False, True]))
  Array([[1., 1.],
         [0., 0.],
         [1., 1.]], dtype=float32)
  """
  if np.ndim(outputs) < 1 or np.shape(available) != np.shape(outputs)[:1] or jnp.result_type(available) != bool:
    raise InputError(f'available={shown(available)} does not fit outputs of shape {list(np.shape(outputs))}: give one '
                     'bool for each of the units, no indices.')
  return jnp.where(jnp.reshape(available, (-1,) + (1,) * (np.ndim(outputs) - 1)), outputs, 0)


def stack_units(base_outputs, replies, axis: int = -2):
  """Puts F's outputs and the replies to the parities together, as `decode` takes them.

  Args:
    base_outputs: floats [..., k, *O], F's answers to the queries.
    replies: floats [..., r, *O]; of a bundle [..., r, k, *O], or as vectors, [..., r, k * C].
    axis: that of the units in `base_outputs`: the last but one for answers that are vectors, [..., k, C], else 1 for
      what a `Codec` takes and returns, [g, k, *O].

  Returns:
    floats [..., n, *O]; of a bundle [..., n, k, *O] or [..., n, k * C], F's own answer followed by zeros.

  Raises:
    InputError: if one is not an array of floating-point numbers, or the shapes do not fit each other.

  >>> lcode.stack_units(jnp.ones((5, 2, 3)), jnp.ones((5, 1, 3))).shape       # one reply is as wide as an answer
  (5, 3, 3)
  >>> lcode.stack_units(jnp.ones((5, 2, 3)), jnp.ones((5, 1, 2, 3)), axis=1).shape    # of a bundle, k are
  (5, 3, 2, 3)
  """
  for name, array in (('base_outputs', base_outputs), ('replies', replies)):
    if not hasattr(array, 'dtype') or not jnp.issubdtype(array.dtype, jnp.floating):
      raise InputError(f'{name} must be an array of floating-point numbers, not {kind(array)}.')
  if not isinstance(axis, numbers.Integral):
    raise InputError(f'axis={axis!r} is no axis: give a whole number, 1 for [groups, k, ...].')
  shape, at = base_outputs.shape, axis % max(base_outputs.ndim, 1)
  if not -len(shape) <= axis < len(shape) or replies.ndim <= at or replies.shape[:at] != shape[:at]:
    raise InputError(f'base_outputs {list(shape)} and replies {list(replies.shape)} differ before the units, on '
                     f'axis={axis}: give that of base_outputs, 1 for [groups, k, ...].')
  k, answer, reply = shape[at], shape[at + 1:], replies.shape[at + 1:]
  if reply == answer:
    return jnp.concatenate([base_outputs, replies], axis=at)
  if reply == (k, *answer):
    base_outputs, more = jnp.expand_dims(base_outputs, at + 1), k - 1
  elif math.prod(reply) == math.prod(answer):  # vectors, as a default answer's
    return jnp.concatenate([base_outputs, replies.reshape(*replies.shape[:at + 1], *answer)], axis=at)
  elif reply == (k * math.prod(answer),) and len(answer) == 1:
    more = reply[0] - answer[0]
  else:
    raise InputError(f'a reply {list(reply)} is neither like an answer of F, {list(answer)}, nor like k={k} of them: '
                     'give what infer returned, and axis=1 where answers are no vectors.')
  padding = [(0, more if i == at + 1 else 0) for i in range(base_outputs.ndim)]
  return jnp.concatenate([jnp.pad(base_outputs, padding), replies], axis=at)
