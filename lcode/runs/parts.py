"""The parts that a config names, made: what answers the parities, and the whole scheme with a base model."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from lcode import models
from lcode.coding import coders
from lcode.coding.code import Code
from lcode.coding.coders.mosaic import tile_shape
from lcode.coding.parity_model import default_answer, from_module, narrow_students, students, tile_students
from lcode.coding.scheme import Scheme, make_scheme
from lcode.errors import InputError, one_of, register
from lcode.models.backup import make_backup
from lcode.models.forms import make_parity_network
from lcode.models.student import make_student, make_tile_student, start_from


@dataclasses.dataclass(frozen=True)
class Answerer:
  """What can answer parities, under a name.

  Attributes:
    text: a line on it.
    make: (F's module, query shape, num_outputs, config) -> `ParityModel`, or None for F itself.
    sized: whether config.form and config.multiply_adds say what it is.
  """

  text: str
  make: Callable[[Any, tuple[int, ...], int, Any], Any]
  sized: bool = True


STUDENTS = 'students', 'tile_students', 'narrow_students'  # small networks that answer k queries for one parity


def _backup(module, query_shape, num_outputs, config):
  small = make_backup(query_shape, num_outputs, config.multiply_adds, module, config.form)
  return from_module(small, start=functools.partial(start_from, module, small), shared=True, at_frontend=True,
                     takes=('copies',))


def _students(module, query_shape, num_outputs, config):
  del num_outputs
  small = make_student(module, query_shape, config.k, config.form, config.multiply_adds)
  return students(small, functools.partial(start_from, module, small))


def _tile_students(module, query_shape, num_outputs, config):
  del num_outputs
  tile = tile_shape(query_shape, config.k)
  small = make_tile_student(module, query_shape, tile, config.k, config.form, config.multiply_adds)
  return tile_students(small, config.k, functools.partial(start_from, module, small))


def _narrow_students(module, query_shape, num_outputs, config):
  del num_outputs
  small = make_student(module, query_shape, config.k, config.form, config.multiply_adds)
  return narrow_students(small, config.k, functools.partial(start_from, module, small))


def _from_scratch(module, query_shape, num_outputs, config):
  del num_outputs
  return from_module(make_parity_network(module, query_shape, config.form, config.multiply_adds) if config.form
                     else module)


PARITY_MODELS = {
    'base': Answerer('F itself, frozen, as in "Learning a Code"', lambda *_: None, sized=False),
    'from_base': Answerer('of F\'s architecture, trained, starting from F: a parity model (ParM)',
                          lambda module, *_: from_module(module, start_from_base=True), sized=False),
    'from_scratch': Answerer('of F\'s architecture, or a form that is named, trained from fresh weights',
                             _from_scratch),
    'backup': Answerer('a small network distilled from F, at the frontend; goes with replication', _backup),
    'students': Answerer('a network of 1/k of F\'s time, answering every query of a bundle', _students),
    'tile_students': Answerer('a network of F\'s kind, of 1/k of its time, answering every tile of a mosaic',
                              _tile_students),
    'narrow_students': Answerer('students as of a bundle, answering the k rounded queries in the bits of one',
                                _narrow_students),
    'default': Answerer('the same answer for every query, at the frontend; goes with replication',
                        lambda *_: default_answer(), sized=False),
}


def register_parity_model(name: str, make: Callable, text: str = '') -> None:
  """Makes a parity model known by name, to configs, presets and `encoder:parity_model:decoder`.

  Args:
    name: letters, digits, dashes and underscores.
    make: (F's Flax module, query shape, num_outputs, config) -> `lcode.ParityModel`; see `lcode.from_module`.
    text: a line on it, for help.

  Raises:
    InputError: if the name is not allowed or taken, or `make` is not a function.

  >>> lcode.register_parity_model('again', lambda module, shape, num_outputs, config: lcode.from_module(module))
  >>> lcode.config_of('addition:again:mlp').parity_model
  'again'
  """
  if not callable(make):
    raise InputError(f'the parity model {name!r} is {make!r}: give a function (module, query shape, num_outputs, '
                     'config) that returns a ParityModel.')
  register(PARITY_MODELS, 'parity model', name, Answerer(text, make))


def build_scheme(config, query_shape: tuple[int, ...], num_outputs: int) -> Scheme:
  """The scheme of a resolved `CodeConfig`; raises InputError if its parts do not go together."""
  one_of('parity model', config.parity_model, PARITY_MODELS)
  module = models.make_model(config.base_model, query_shape, num_outputs)
  decoder = config.decoder
  if config.num_byzantine:
    decoder = coders.DECODERS[decoder](Code(config.k, config.r), num_byzantine=config.num_byzantine)
  answers = PARITY_MODELS[config.parity_model].make(module, query_shape, num_outputs, config)
  return make_scheme(Code(config.k, config.r), models.make_apply(module), config.encoder, decoder, answers)
