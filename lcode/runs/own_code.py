"""A code that was trained with one's own F, kept so that it can be loaded with F and without data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn

from lcode import data
from lcode.coding.base import Flat
from lcode.errors import InputError, instance
from lcode.runs import records
from lcode.runs.base_model import zeros_like
from lcode.runs.configs import CodeConfig
from lcode.runs.own import Own
from lcode.runs.own_rows import FILE, KIND, scheme_of
from lcode.runs.row import shapes_of
from lcode.training import checkpoint, fingerprint


def load(path: Path, apply: Callable, variables: Any, module: nn.Module | None):
  """(config, scheme, best parameters and model state, F, record or None) of a code's folder; see `lcode.load`."""
  stored = records.read_config(path)
  if not stored or stored.get('kind') != KIND or not (path / FILE).is_file():
    raise InputError(f'{path} holds no code that lcode.compare has trained with a model of your own: give one of the '
                     'folders <workdir>/codes/..., or leave out apply, variables and module.')
  config = records.config_as(CodeConfig, stored, path)
  own = _own(path, apply, {} if variables is None else variables, module)
  scheme = scheme_of(own, config)
  best = checkpoint.Store(path / 'checkpoints').load_best(zeros_like(shapes_of(scheme, own)))
  evaluated = [record for record in records.read(path) if record.get('kind') == KIND]
  return config, scheme, best.variables, own, evaluated[-1] if evaluated else None


def _own(path: Path, apply, variables, module) -> Own:
  """F without data, checked to be the one that the code was trained with."""
  try:
    facts = json.loads((path / FILE).read_text())
  except (OSError, ValueError) as error:
    raise InputError(f'{path / FILE} cannot be read ({error}): run the comparison that wrote it again.') from error
  if not callable(apply):
    raise InputError(f'apply is a {type(apply).__name__}: give F as it was compared, a JAX function of (variables, '
                     'queries) or a lcode.BlackBox.')
  if module is not None:
    instance('module', module, nn.Module)
  for name, given in (('variables', fingerprint.of_tree(variables)), ('module', module and repr(module))):
    if facts[name] != given:
      raise InputError(f'the code in {path} was trained with other {name} of F: give those that it was compared with.')
  shape = tuple(facts['query_shape'])
  spec = data.Spec(0, shape, facts['num_outputs'])
  return Own(facts['name'], variables, Flat(apply), facts['variables'], spec, shape, facts['num_outputs'], None, True,
             module, facts['multiply_adds'], facts['sized_by'], dtype=facts['query_dtype'])
