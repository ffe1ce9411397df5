"""F as the rest of lcode takes it: what it may answer, and its answers as vectors."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lcode.coding.checks import shown
from lcode.errors import InputError


def output_shape_of(base_apply: Callable, base_variables, queries) -> tuple[int, ...]:
  """The shape O of one of F's answers, found without running F.

  Args:
    base_apply: F, (variables, x [b, *S]) -> floats [b, *O].
    base_variables: F's variables, or their shapes.
    queries: [b, *S], an array or a `jax.ShapeDtypeStruct`; integers for an F that takes token ids.

  Returns:
    O; () for an F that gives one number a query, [b].

  Raises:
    InputError: if F answers anything but one array of floating-point numbers, an answer for each query.
  """
  if not callable(base_apply):
    raise InputError(f'base_apply={shown(base_apply)} is no function: give F as (variables, queries) -> answers.')
  if not getattr(queries, 'shape', ()):
    raise InputError(f'queries={shown(queries)} are no queries: give an array [b, ...] of b of them.')
  queries = jax.ShapeDtypeStruct(queries.shape, queries.dtype)
  try:
    answers = jax.eval_shape(base_apply, base_variables, queries)
  except InputError:
    raise
  except Exception as error:  # whatever a user's function comes up with
    reason = str(error).strip().split('\n')[0][:300]
    raise InputError(f'base_apply cannot answer queries {queries.dtype}{list(queries.shape)} ({type(error).__name__}: '
                     f'{reason}): give F as a JAX function of (variables, queries [b, ...]), its own variables, and '
                     'queries as it takes them.') from error
  return tuple(checked_answers(answers, queries.shape[0], 'base_apply').shape[1:])


def checked_answers(answers, count: int, who: str) -> Any:
  """Returns `answers` if they are floats [count, *O], else raises `InputError` about `who` gave them."""
  if not hasattr(answers, 'shape') or not hasattr(answers, 'dtype'):
    raise InputError(f'{who} returned a {type(answers).__name__} instead of one array: return the answers alone, '
                     '[b, ...] for b queries.')
  if not answers.shape or answers.shape[0] != count or 0 in answers.shape[1:]:
    raise InputError(f'{who} returned an array of shape {list(answers.shape)} for {count} queries: return one answer '
                     f'for each, [{count}, ...].')
  if not jnp.issubdtype(answers.dtype, jnp.floating):
    raise InputError(f'{who} returned {answers.dtype} numbers: return floating-point ones, such as the scores of the '
                     'classes instead of the class.')
  return answers


@dataclasses.dataclass(frozen=True)
class Flat:
  """F with its answers as vectors: (variables, x [b, *S]) -> floats [b, C], C = prod(O).

  Equal for the same F, so that what is compiled for it serves every scheme over it.
  """

  base_apply: Callable

  def __call__(self, variables, x):
    answers = checked_answers(self.base_apply(variables, x), x.shape[0], 'base_apply')
    return answers.reshape(answers.shape[0], math.prod(answers.shape[1:]))
