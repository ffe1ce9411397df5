"""What answers the parities: F itself, a parity model trained for the purpose (ParM), or a cheap stand-in.

"Parity Models" (Kosaian et al., SOSP 2019, arXiv:1905.00863) trains a model of F's architecture so that a code as
simple as a sum works over a non-linear F: one parity model for each of the r parities.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp

from lcode.coding.base import checked_answers
from lcode.coding.checks import shown
from lcode.coding.coders import mosaic, narrow
from lcode.errors import InputError, whole


class ParityModel(NamedTuple):
  """Pure functions that answer coded queries.

  Attributes:
    init: (key, x [1, *S], num_outputs, base_variables) -> variables, {'params': ..., other collections}; {} for
      what has nothing of its own.
    apply: (variables, base_variables, x [b, *S], train, axis_name, key=None) -> floats [b, *O], new other collections;
      `key` is what dropout draws from in training.
    shared: whether one set of variables answers every parity, or each parity has its own.
    at_frontend: whether it runs at the frontend (a backup): then it is work of the frontend, and never missing.
    takes: the `parities` of an encoder (see `lcode.coders`) it answers, such as ('copies',) for what answers queries
      themselves; None for any.
    bundled: whether its reply is k answers wide: [b, k, *O].

  >>> def half(own, base_variables, x, train, axis_name, key=None):
  ...   return apply(base_variables, x) / 2, {}
  >>> halved = lcode.ParityModel(init=lambda *_: {}, apply=half, shared=True)
  >>> lcode.make_scheme(code, apply, 'addition', 'mlp', halved).bundled
  False
  """

  init: Callable
  apply: Callable
  shared: bool = False
  at_frontend: bool = False
  takes: tuple[str, ...] | None = None
  bundled: bool = False


def base_itself(base_apply: Callable) -> ParityModel:
  """F, frozen, as in "Learning a Code": nothing to deploy but more instances of F."""

  def apply(variables, base_variables, x, train, axis_name, key=None):
    del variables, train, axis_name, key
    return base_apply(base_variables, x), {}

  return ParityModel(lambda *_: {}, apply, shared=True)


def from_module(module: nn.Module, start_from_base: bool = False, start: Callable | None = None, *,
                shared: bool = False, at_frontend: bool = False, takes: tuple[str, ...] | None = None) -> ParityModel:
  """A Flax module, called as the base models are: (x [b, *S], train=...) -> floats [b, *O], or without `train`.

  In training its dropout draws from the `key` that the training step gives, and its collections other than 'params'
  (batch statistics) are updated; in inference neither.

  Args:
    module: of F's architecture where it starts from F.
    start_from_base: start from F's variables instead of fresh ones.
    start: (base_variables, fresh variables) -> what to start from instead, where F's own do not fit.
    shared, at_frontend, takes: see `ParityModel`.

  Raises:
    InputError: if `module` is not a Flax module, `start` not a function, or both ways to start are asked for; and by
      the scheme, if the module cannot be run on the parities.

  >>> parm = lcode.make_scheme(code, apply, 'addition', 'subtraction', lcode.from_module(nn.Dense(3)))
  >>> params, _ = parm.init(jax.random.key(0), x[:2], num_outputs=3)
  >>> params['parity_model']['0']['kernel'].shape
  (6, 3)
  """
  if not isinstance(module, nn.Module):
    raise InputError(f'module={shown(module)} is no Flax module: give an instance of a flax.linen.Module, as in '
                     'from_module(MyModel()).')
  if start is not None and (start_from_base or not callable(start)):
    raise InputError(f'start={shown(start)} with start_from_base={start_from_base} is not allowed: give one of the '
                     'two, start being a function (base_variables, fresh variables) -> variables.')
  takes_train = 'train' in inspect.signature(type(module).__call__).parameters

  def init(key, x, num_outputs, base_variables):
    del num_outputs
    if start_from_base:
      return _variables(base_variables)
    fresh = module.init(key, x, **({'train': False} if takes_train else {}))
    return _variables(start(base_variables, fresh)) if start else fresh

  def apply(variables, base_variables, x, train, axis_name, key=None):
    del base_variables
    mode = {'train': train} if takes_train else {}
    others = [name for name in variables if name != 'params']
    model = module.clone(axis_name=axis_name) if hasattr(module, 'axis_name') else module
    rngs = {'dropout': key} if train and key is not None else {}
    try:
      if train and others:
        return model.apply(variables, x, rngs=rngs, mutable=others, **mode)
      return model.apply(variables, x, rngs=rngs, **mode), {name: variables[name] for name in others}
    except flax.errors.InvalidRngError as error:
      how = 'from another rng than dropout' if rngs else 'and no key'
      raise InputError(f'the parity model {type(module).__name__} draws random numbers with train={train} {how}: '
                       'let it draw from dropout, give infer a key in training, and draw none where train is False.'
                       ) from error
    except flax.errors.FlaxError as error:
      reason = str(error).split('\n')[0][:120]
      raise InputError(f'the parity model {type(module).__name__} cannot be run on {x.dtype}{list(x.shape)} ({reason})'
                       ': give it the variables of its own shapes; where it starts from others, of the same ones.'
                       ) from error

  return ParityModel(init, apply, bool(shared), bool(at_frontend), takes)


def _variables(variables):
  """Returns what a parity model starts from if it is Flax variables, else raises `InputError`."""
  if not isinstance(variables, Mapping) or 'params' not in variables:
    raise InputError(f'a parity model cannot start from a {type(variables).__name__}: give init the base_variables, a '
                     "Flax model's own, {'params': ...}, or let it start from fresh ones.")
  return variables


def students(module: nn.Module, start: Callable | None = None) -> ParityModel:
  """One small network that answers all k queries of a bundle, one by one; see `lcode.coders.bundle`.

  Args:
    module: x [b, *S] -> floats [b, *O], of 1/k of F's work; each of the r parities gets its own variables.
    start: see `from_module`.

  Raises:
    InputError: as `from_module`.

  >>> bundle = lcode.make_scheme(code, apply, 'bundle', 'bundle', lcode.students(nn.Dense(3)))
  >>> params, _ = bundle.init(jax.random.key(0), x[:2], num_outputs=3)
  >>> bundle.encode(params, x[:2]).shape    # one parity, the two queries themselves
  (1, 2, 6)
  """
  return _each(from_module(module, start=start), type(module).__name__, lambda bundles: bundles, 'bundles')


def tile_students(module: nn.Module, k: int, start: Callable | None = None) -> ParityModel:
  """One small network that answers each of the k tiles of a mosaic; see `lcode.coders.mosaic`.

  Args:
    module: x [b, *tile] -> floats [b, *O], tile being `lcode.tile_shape` of a query; each of the r parities gets its
      own variables.
    k: data units of the code.
    start: see `from_module`.

  Raises:
    InputError: as `from_module`, or if k is not a whole number of at least 1.

  >>> mosaic = lcode.make_scheme(code, apply, 'mosaic', 'bundle', lcode.tile_students(nn.Dense(3), k=2))
  >>> params, _ = mosaic.init(jax.random.key(0), x[:2], num_outputs=3)
  >>> params['parity_model']['0']['kernel'].shape    # a tile has half of a query's 6 numbers
  (3, 3)
  """
  take_apart = functools.partial(mosaic.take_apart, k=whole('k', k))
  return _each(from_module(module, start=start), type(module).__name__, take_apart, 'mosaics')


def narrow_students(module: nn.Module, k: int, start: Callable | None = None) -> ParityModel:
  """One small network that answers each of the k queries in the bits of one, rounded; see `lcode.coders.narrow`.

  Args:
    module: x [b, *S] -> floats [b, *O], of 1/k of F's work; each of the r parities gets its own variables.
    k: data units of the code, 8 at most.
    start: see `from_module`.

  Raises:
    InputError: as `from_module`, or if k is not a whole number from 1 to 8.

  >>> narrow = lcode.make_scheme(code, apply, 'narrow', 'bundle', lcode.narrow_students(nn.Dense(3), k=2))
  >>> params, _ = narrow.init(jax.random.key(0), x[:2], num_outputs=3)
  >>> narrow.encode(params, x[:2]).shape    # two queries of 16 bits a number
  (1, 6)
  """
  narrow.places(whole('k', k))
  return _each(from_module(module, start=start), type(module).__name__, functools.partial(narrow.unpack, k=k), 'packs')


def _each(one: ParityModel, name: str, take_apart: Callable, parities: str) -> ParityModel:
  """Answers each query that `take_apart`, parities -> [b, k, *S], finds in a parity."""

  def init(key, x, num_outputs, base_variables):
    queries = take_apart(x)
    return one.init(key, queries.reshape(-1, *queries.shape[2:]), num_outputs, base_variables)

  def apply(variables, base_variables, x, train, axis_name, key=None):
    queries = take_apart(x)
    b, k, *shape = queries.shape
    answers, others = one.apply(variables, base_variables, queries.reshape(b * k, *shape), train, axis_name, key)
    answers = checked_answers(answers, b * k, f'the student {name}')
    return answers.reshape(b, k, *answers.shape[1:]), others

  return ParityModel(init, apply, takes=(parities,), bundled=True)


def default_answer() -> ParityModel:
  """The same answer for whatever is missing: learned, so the mean of F's answers in the sense of the loss."""

  def init(key, x, num_outputs, base_variables):
    del key, x, base_variables
    return {'params': {'answer': jnp.zeros(num_outputs)}}

  def apply(variables, base_variables, x, train, axis_name, key=None):
    del base_variables, train, axis_name, key
    answer = variables['params']['answer']
    return jnp.broadcast_to(answer, (x.shape[0], *answer.shape)), {}

  return ParityModel(init, apply, shared=True, at_frontend=True, takes=('copies',))


def init_all(model: ParityModel, count: int, key, x, num_outputs, base_variables) -> tuple[dict, dict]:
  """(params, model_state) of the parity models of `count` parities, each under its number, '0' for a shared one."""
  params, state = {}, {}
  for j in range(1 if model.shared else count):
    variables = dict(model.init(jax.random.fold_in(key, j), x[:1], num_outputs, base_variables))
    if variables and 'params' not in variables:
      raise InputError(f'a parity model has variables {", ".join(sorted(variables))} and no params, so that nothing of '
                       'it would be trained: keep what is to be trained under \'params\'.')
    if 'params' in variables:
      params[str(j)] = variables.pop('params')
    if variables:
      state[str(j)] = variables
  return params, state


def apply_all(model: ParityModel, params, state, base_variables, parities, train, axis_name, key=None):
  """[g, m, *S] -> floats [g, m, *O] ([g, m, k, *O] of bundles), new state: each parity by its own model, or all by one.

  Raises:
    InputError: if a model answers anything but one array of floating-point numbers, an answer for each parity.
  """
  g, m, *shape = parities.shape
  batches = [parities.reshape(g * m, *shape)] if model.shared else [parities[:, j] for j in range(m)]
  answers, new_state = [], {}
  for j, x in enumerate(batches):
    answer, others = apply_one(model, params, state, base_variables, x, j, train, axis_name, key)
    answers.append(answer)
    if others:
      new_state[str(j)] = others
  answers = answers[0].reshape(g, m, *answers[0].shape[1:]) if model.shared else jnp.stack(answers, 1)
  return answers, new_state


def apply_one(model: ParityModel, params, state, base_variables, x, j: int, train=False, axis_name=None, key=None):
  """Parities of number j alone, [b, *S] -> floats [b, *O] ([b, k, *O] of bundles), others; see `apply_all`."""
  j = 0 if model.shared else j
  variables = dict(state.get(str(j), {}))
  if str(j) in params:
    variables['params'] = params[str(j)]
  own_key = None if key is None else jax.random.fold_in(key, j)
  applied = model.apply(variables, base_variables, x, train, axis_name, own_key)
  if not isinstance(applied, tuple) or len(applied) != 2:
    raise InputError(f'the apply of a parity model returned a {type(applied).__name__}: return the answers and the '
                     'new other collections, {} for none.')
  return checked_answers(applied[0], x.shape[0], 'what answers the parities'), applied[1]
