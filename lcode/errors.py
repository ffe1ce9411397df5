"""The exceptions that lcode raises, and the checks that every room shares."""

import numbers
import os
from pathlib import Path
from typing import Any


class InputError(ValueError):
  """Bad input, in one sentence: the value, what is allowed, what to do. A `ValueError`.

  >>> lcode.Code(k=0, r=1)
  Traceback (most recent call last):
  ...
  lcode.errors.InputError: k=0 is not allowed: it must be a whole number of at least 1.
  """


class UnknownNameError(InputError):
  """A name that is in no table: mistyped, or not registered yet."""


class DivergedError(InputError):
  """Training met a loss that is not finite: an `InputError`, raised after the step that met it.

  >>> issubclass(lcode.DivergedError, lcode.InputError)
  True
  """


class OutOfTime(Exception):
  """A run was saved and stopped because its time is over; the same call or command resumes it.

  >>> mlp = lcode.make_scheme(code, apply, 'mlp', 'mlp')
  >>> lcode.fit(mlp, variables, x, epochs=2, store='store', stop_at=0.0)
  Traceback (most recent call last):
  ...
  lcode.errors.OutOfTime: ...
  >>> int(lcode.fit(mlp, variables, x, epochs=2, store='store').result.state.step)
  4
  """


def one_of(kind: str, name: str, known) -> str:
  """Returns `name` if it is in `known`, else raises `UnknownNameError` that lists the known names."""
  if not isinstance(name, str) or name not in known:
    raise UnknownNameError(f'unknown {kind} {name!r}: the known ones are {", ".join(sorted(known))}.')
  return name


def whole(name: str, value: Any, least: int = 1) -> int:
  """Returns `value` as an int if it is a whole number of at least `least`, else raises `InputError`."""
  if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
    raise InputError(f'{name}={value!r} is not allowed: it must be a whole number of at least {least}.')
  return int(value)


def instance(name: str, value: Any, kind: type) -> Any:
  """Returns `value` if it is a `kind`, else raises `InputError`."""
  if not isinstance(value, kind):
    raise InputError(f'{name} is a {type(value).__name__}, which is not allowed: give a {kind.__name__}.')
  return value


def directory(name: str, value: Any) -> Path:
  """Returns `value` as a path if it names one, else raises `InputError`; whether it is there is not looked at."""
  if not isinstance(value, (str, os.PathLike)) or not str(value).strip():
    raise InputError(f'{name}={value!r} names no directory: give its path.')
  return Path(value)


def register(table: dict, kind: str, name: str, value: Any) -> None:
  """Adds `value` to a table of named parts.

  Registering the same again does nothing, so that a module may be imported twice.

  Raises:
    InputError: if the name is no identifier (dashes are allowed), or is taken by something else.
  """
  if not isinstance(name, str) or not name.replace('-', '_').isidentifier():
    raise InputError(f'the {kind} name {name!r} is not allowed: use letters, digits, dashes and underscores, as in '
                     'my-own.')
  if table.get(name, value) != value:
    raise InputError(f'the {kind} {name!r} is there already: choose another name.')
  table[name] = value
