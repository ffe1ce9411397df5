"""What a scheme checks of the arrays it is handed: shapes and dtypes, known before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np

from lcode.coding.code import Code
from lcode.errors import InputError


def shown(value) -> str:
  """A value in a sentence: its repr on one line, or what kind of thing it is where that is long."""
  text = ' '.join(repr(value).split())
  return text if len(text) <= 60 else f'a {type(value).__name__}'


def wide(x):
  """x as float32, or as it is where it is as wide: sums of lower precision would not be undone."""
  return x.astype(jnp.float32) if x.dtype.itemsize < 4 or not jnp.issubdtype(x.dtype, jnp.inexact) else x


def kind(array) -> str:
  """What something is, for a sentence: float32[3, 4], a list."""
  return f'{array.dtype}{list(array.shape)}' if hasattr(array, 'dtype') else f'a {type(array).__name__}'


def check_units(name: str, array, axis: int, count: int) -> None:
  """Raises InputError unless `array` has `count` units on its axis, 0 of one group or 1 of many."""
  if not hasattr(array, 'shape') or array.ndim <= axis or array.shape[axis] != count:
    wanted = ', '.join(['groups'] * axis + [str(count), '...'])
    raise InputError(f'{name} must be an array [{wanted}], not {kind(array)}.')
  if array.dtype.kind in 'OSUMm':
    raise InputError(f'{name} must be an array of numbers, not {kind(array)}.')


def checked_queries(x, encoder, mixes: bool, code: Code):
  """A group's queries [k, *S] as an array; raises InputError if there are not k, or they cannot be mixed."""
  x = x if hasattr(x, 'dtype') else np.asarray(x)
  check_units('the queries of a group', x, 0, code.k)
  x = jnp.asarray(x)
  if mixes and not jnp.issubdtype(x.dtype, jnp.floating):
    raise InputError(f'{type(encoder).__name__} mixes queries, which cannot be done to {x.dtype}: convert pixels to '
                     "float32 first, or for token ids use a code that does not mix, encoder='replication' or 'bundle'.")
  return x


def checked_outputs(outputs, available, code: Code):
  """A group's outputs [n, C] and what of them is available, bool[n]; raises InputError if they are not such."""
  if outputs.ndim != 2 or len(outputs) != code.n or not jnp.issubdtype(outputs.dtype, jnp.floating):
    raise InputError(f'the outputs of a group must be floating-point numbers [{code.n}, C], not {kind(outputs)}: '
                     'answers that are no vectors are made such by a Codec.')
  if available.shape != (code.n,) or available.dtype != bool:
    raise InputError(f'available must be bool[{code.n}] for a ({code.k}, {code.r}) code, not {kind(available)}: '
                     'True where a unit arrived, data units first.')
  return outputs, available


def available_of_groups(available, groups: int, code: Code):
  """bool[n] or bool[g, n] as bool[g, n]; raises InputError if it is neither, or on the host where too few arrived."""
  on_host = not isinstance(available, jax.Array)
  if on_host:
    available = _on_host(available)
  if available.dtype != bool or available.shape not in ((code.n,), (groups, code.n)):
    raise InputError(f'available must be bool[{code.n}] or bool[{groups}, {code.n}] for these {groups} groups, not '
                     f'{kind(available)}: True where a unit arrived, data units first, and no indices.')
  if not on_host:
    return jnp.broadcast_to(available, (groups, code.n))
  # For a group alone a dispatch costs more than the arithmetic, so what is on the host is prepared there.
  missing = code.n - np.count_nonzero(available, axis=-1)
  if np.any(missing > code.r):
    group = int(np.argmax(missing > code.r)) if available.ndim == 2 else 0
    raise InputError(f'{missing if available.ndim == 1 else missing[group]} units of group {group} are missing: a '
                     f'({code.k}, {code.r}) code rebuilds what at most {code.r} missing ones said; wait for more of '
                     'them, or leave that group out.')
  return np.broadcast_to(available, (groups, code.n))


def _on_host(available) -> np.ndarray:
  try:
    return np.asarray(available)
  except ValueError as error:  # rows of different lengths
    raise InputError(f'available={available!r} is no array: give bool[n] or bool[g, n].') from error
