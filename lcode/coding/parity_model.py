"""What answers the parities: F itself, a parity model trained for the purpose (ParM), or a cheap stand-in.

"Parity Models" (Kosaian et al., SOSP 2019, arXiv:1905.00863) trains a model of F's architecture so that a code as
simple as a sum works over a non-linear F: one parity model for each of the r parities.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp


class ParityModel(NamedTuple):
  """Pure functions that answer coded queries.

  Attributes:
    init: (key, x f32[1, *S], num_outputs, base_variables) -> variables, {'params': ..., other collections}; {} for
      what has nothing of its own.
    apply: (variables, base_variables, x f32[b, *S], train, axis_name, key=None) -> f32[b, C], new other collections;
      `key` is what dropout draws from in training.
    shared: whether one set of variables answers every parity, or each parity has its own.
    at_frontend: whether it runs at the frontend (a backup): then it is work of the frontend, and never missing.
    per_query: whether it answers queries, not parities: it goes with replication alone.
    bundled: whether it answers bundles of k queries, f32[b, k, *S] -> f32[b, k * C].
  """

  init: Callable
  apply: Callable
  shared: bool = False
  at_frontend: bool = False
  per_query: bool = False
  bundled: bool = False


def base_itself(base_apply: Callable) -> ParityModel:
  """F, frozen, as in "Learning a Code": nothing to deploy but more instances of F."""

  def apply(variables, base_variables, x, train, axis_name, key=None):
    del variables, train, axis_name, key
    return base_apply(base_variables, x), {}

  return ParityModel(lambda *_: {}, apply, shared=True)


def from_module(module: nn.Module, start_from_base: bool = False, start: Callable | None = None,
                **kind) -> ParityModel:
  """A Flax module, called as the base models are: (x f32[b, *S], train=...) -> f32[b, C], or without `train`.

  Args:
    module: of F's architecture where it starts from F.
    start_from_base: start from F's variables instead of fresh ones.
    start: (base_variables, fresh variables) -> what to start from instead, where F's own do not fit.
    **kind: `shared`, `at_frontend`, `per_query` of `ParityModel`.
  """

  def init(key, x, num_outputs, base_variables):
    del num_outputs
    if start_from_base:
      return base_variables
    fresh = module.init(key, x)
    return start(base_variables, fresh) if start else fresh

  takes_train = 'train' in inspect.signature(type(module).__call__).parameters

  def apply(variables, base_variables, x, train, axis_name, key=None):
    del base_variables
    mode = {'train': train} if takes_train else {}
    others = [name for name in variables if name != 'params']
    model = module.clone(axis_name=axis_name) if hasattr(module, 'axis_name') else module
    rngs = {'dropout': key} if train and key is not None else {}
    if train and others:
      return model.apply(variables, x, rngs=rngs, mutable=others, **mode)
    return model.apply(variables, x, rngs=rngs, **mode), {name: variables[name] for name in others}

  return ParityModel(init, apply, **kind)


def students(module: nn.Module, start: Callable | None = None) -> ParityModel:
  """One small network that answers all k queries of a bundle, each for itself; see `coders.bundle`.

  Args:
    module: x f32[b, *S] -> f32[b, C], of 1/k of F's work; each of the r parities gets its own variables.
    start: see `from_module`.
  """
  one = from_module(module, start=start)

  def init(key, x, num_outputs, base_variables):
    return one.init(key, x.reshape(-1, *x.shape[2:]), num_outputs, base_variables)

  def apply(variables, base_variables, x, train, axis_name, key=None):
    answers, others = one.apply(variables, base_variables, x.reshape(-1, *x.shape[2:]), train, axis_name, key)
    return answers.reshape(len(x), -1), others

  return ParityModel(init, apply, bundled=True)


def default_answer() -> ParityModel:
  """The same answer for whatever is missing: learned, so the mean of F's answers in the sense of the loss."""

  def init(key, x, num_outputs, base_variables):
    del key, x, base_variables
    return {'params': {'answer': jnp.zeros(num_outputs)}}

  def apply(variables, base_variables, x, train, axis_name, key=None):
    del base_variables, train, axis_name, key
    answer = variables['params']['answer']
    return jnp.broadcast_to(answer, (len(x), *answer.shape)), {}

  return ParityModel(init, apply, shared=True, at_frontend=True, per_query=True)


def init_all(model: ParityModel, count: int, key, x, num_outputs, base_variables) -> tuple[dict, dict]:
  """(params, model_state) of the parity models of `count` parities, each under its number, '0' for a shared one."""
  params, state = {}, {}
  for j in range(1 if model.shared else count):
    variables = dict(model.init(jax.random.fold_in(key, j), x[:1], num_outputs, base_variables))
    if 'params' in variables:
      params[str(j)] = variables.pop('params')
    if variables:
      state[str(j)] = variables
  return params, state


def apply_all(model: ParityModel, params, state, base_variables, parities, train, axis_name, key=None):
  """f32[g, m, *S] -> f32[g, m, C], new state: each parity by its own model, or all by the shared one."""
  shape, outputs, new_state = parities.shape, [], {}
  batches = [parities.reshape(-1, *shape[2:])] if model.shared else [parities[:, j] for j in range(shape[1])]
  for j, x in enumerate(batches):
    variables = dict(state.get(str(j), {}))
    if str(j) in params:
      variables['params'] = params[str(j)]
    own_key = None if key is None else jax.random.fold_in(key, j)
    answer, others = model.apply(variables, base_variables, x, train, axis_name, own_key)
    outputs.append(answer)
    if others:
      new_state[str(j)] = others
  outputs = outputs[0] if model.shared else jnp.stack(outputs, 1)
  return outputs.reshape(*shape[:2], -1), new_state
