"""An F that JAX cannot look into: a Python callable on NumPy arrays, such as an ONNX or PyTorch model."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lcode.coding.base import checked_answers, Flat
from lcode.coding.checks import shown
from lcode.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class BlackBox:
  """F as lcode takes it, (variables, x [b, *S]) -> f32[b, *O], of a function that is asked on the host.

  It has no gradient, so that codes trained through F cannot be made of it, and runs on one device at a time. To learn
  the shape of its answers it is asked once, a query of zeros. An F in JAX needs no such thing: give it as it is.

  Attributes:
    answer: NumPy [b, *S] -> floats [b, *O]; for any b.
    multiply_adds: of an inference, where they are known.
    seconds: of an inference, where it cannot be timed here.
    recorded: whether it knows nothing but the answers to some queries.
    shapes: those of answers that are known already, by shape and dtype of a query.

  Raises:
    InputError: if `answer` is not a function, or a cost is not above 0; and when it is asked, if it does not answer
      one array of floating-point numbers, one row for each query.

  >>> box = lcode.BlackBox(lambda queries: queries @ variables['w'], multiply_adds=18)
  >>> box({}, x[:5]).shape
  (5, 3)
  """

  answer: Callable
  multiply_adds: float | None = None
  seconds: float | None = None
  recorded: bool = False
  shapes: dict = dataclasses.field(default_factory=dict, repr=False)  # of answers, by shape and dtype of a query

  def __post_init__(self):
    if not callable(self.answer):
      raise InputError(f'answer={shown(self.answer)} is no function: give one from NumPy queries [b, ...] to answers '
                       '[b, ...].')
    for name in ('multiply_adds', 'seconds'):
      value = getattr(self, name)
      if value is not None and not 0 < value < np.inf:
        raise InputError(f'{name}={value!r} is not allowed: give what an inference by F takes, or None.')

  def __call__(self, variables, x):
    del variables
    answer = jax.ShapeDtypeStruct((x.shape[0], *self.output_shape(x.shape[1:], x.dtype)), np.float32)
    return jax.pure_callback(self.answers, answer, x, vmap_method='sequential')

  def answers(self, x) -> np.ndarray:
    """What F answers NumPy queries [b, *S]: f32[b, *O]."""
    x = np.asarray(x)
    return np.asarray(checked_answers(np.asarray(self.answer(x)), len(x), 'the black box'), np.float32)

  def output_shape(self, query_shape, dtype) -> tuple[int, ...]:
    """O, of queries of this shape and dtype."""
    key = tuple(query_shape), np.dtype(dtype)
    if key not in self.shapes:
      self.shapes[key] = self.answers(np.zeros((1, *query_shape), dtype)).shape[1:]
    return self.shapes[key]


def recorded_answers(queries, answers, multiply_adds: float | None = None, seconds: float | None = None) -> BlackBox:
  """An F of which nothing is known but some answers; to other queries it answers NaN.

  Args:
    queries: [N, *S].
    answers: floats [N, *O], F's.
    multiply_adds, seconds: of an inference by F, where they are known.

  Raises:
    InputError: if there is not an answer for each query.
  """
  queries, answers = np.asarray(queries), np.asarray(answers)
  queries = queries.astype(jax.dtypes.canonicalize_dtype(queries.dtype), copy=False)
  checked_answers(answers, len(queries), 'recorded_answers')
  unknown = np.full(answers.shape[1:], np.nan, np.float32)

  @functools.cache
  def index():
    return {_digest(query): i for i, query in enumerate(queries)}

  def answer(x):
    places = [index().get(_digest(query)) for query in np.asarray(x)]
    return np.stack([unknown if place is None else answers[place].astype(np.float32) for place in places])

  box = BlackBox(answer, multiply_adds, seconds, recorded=True)
  box.shapes[queries.shape[1:], queries.dtype] = answers.shape[1:]
  return box


def _digest(query) -> bytes:
  return hashlib.blake2b(np.ascontiguousarray(query), digest_size=16).digest()


def black_box_of(base_apply: Callable) -> BlackBox | None:
  """The black box that F is, as itself or in a scheme; None for a function of JAX's."""
  inner = base_apply.base_apply if isinstance(base_apply, Flat) else base_apply
  return inner if isinstance(inner, BlackBox) else None


def queries_asked(fn: Callable, *args: Any) -> int:
  """How many queries a function asks a black box, by its traced program."""
  return _asked(jax.make_jaxpr(fn)(*args).jaxpr)


def _asked(jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'pure_callback':
      total += equation.outvars[0].aval.shape[0]
    for value in equation.params.values():
      if hasattr(value, 'jaxpr') or hasattr(value, 'eqns'):
        total += _asked(getattr(value, 'jaxpr', value))
  return total
