"""The exceptions that lcode raises: for input it cannot use, and when the time it was given is over."""


class InputError(ValueError):
  """Bad input, in one sentence: the value, what is allowed, what to do."""


def one_of(kind: str, name: str, known) -> str:
  """Returns `name` if it is in `known`, else raises `InputError` that lists the known names."""
  if name not in known:
    raise InputError(f'unknown {kind} {name!r}: the known ones are {", ".join(sorted(known))}.')
  return name


class DivergedError(InputError):
  """Training met a loss that is not finite."""


class OutOfTime(Exception):
  """A run was saved and stopped because its time is over; the same command goes on with it."""
