"""Families of encoders and decoders: one file each, one entry each in the tables below.

An encoder is a Flax module over one group, floats [k, *S] -> [r, *S] (where its `systematic` is False, -> [n, *S], all
that is sent); a decoder is one over the outputs that arrived, (floats [n, C] with zeros where missing, bool[n]) ->
[k, C]. Where a parity's reply is wider than C, all rows are as wide, with zeros after the data units' C. Both are built
from a `Code` alone, compute in float32 or wider, and say by attributes what they go with; none has to be there.

An encoder:
  systematic: False if it sends n coded queries instead of the queries themselves and r parities.
  mixes: False if it takes queries as they are: where it only passes them on they may be of any dtype, such as token
    ids, else it says itself which it takes.
  parities: one word for what its parities are, such as 'sums', 'copies', 'bundles', 'mosaics' or 'packs'.
  on_host: how a service computes it in NumPy, 'weights', 'mosaic' or 'bundle' (`coding.host`), where it can.

A decoder:
  goes_with: the `parities` that it works with, where not with any.
  refuses: the `parities` that it does not work with.
  systematic: whether it takes the outputs of a systematic encoder or of another, where not of both.
  passthrough: False if its answers replace also those that arrived.
  bundled: True if it takes replies that are k answers wide.
  on_host: as of an encoder, 'weights' or 'bundle'.

Parts whose parameters are not trained by gradients have `candidates()`, the values to choose from.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from lcode.coding.checks import shown
from lcode.coding.code import Code
from lcode.coding.coders.berrut import ApproxIFERDecoder, ApproxIFEREncoder, BerrutDecoder, BerrutEncoder
from lcode.coding.coders.bundle import BundleDecoder, BundleEncoder
from lcode.coding.coders.conv import ConvEncoder
from lcode.coding.coders.features import FeaturesDecoder, FeaturesEncoder
from lcode.coding.coders.linear import (AdditionEncoder, ConcatenationEncoder, ReplicationDecoder, ReplicationEncoder,
                                        SubtractionDecoder)
from lcode.coding.coders.mlp import MLPDecoder, MLPEncoder
from lcode.coding.coders.mosaic import MosaicEncoder
from lcode.coding.coders.narrow import NarrowEncoder
from lcode.coding.coders.spline import SplineDecoder, SplineEncoder
from lcode.errors import InputError, one_of, register

ENCODERS = {
    'mlp': MLPEncoder, 'conv': ConvEncoder, 'addition': AdditionEncoder, 'concatenation': ConcatenationEncoder,
    'berrut': BerrutEncoder, 'approxifer': ApproxIFEREncoder, 'spline': SplineEncoder,
    'replication': ReplicationEncoder, 'bundle': BundleEncoder, 'mosaic': MosaicEncoder,
    'narrow': NarrowEncoder,
    'features': FeaturesEncoder,
}
DECODERS = {
    'mlp': MLPDecoder, 'subtraction': SubtractionDecoder, 'berrut': BerrutDecoder, 'approxifer': ApproxIFERDecoder,
    'spline': SplineDecoder, 'replication': ReplicationDecoder, 'bundle': BundleDecoder,
    'features': FeaturesDecoder,
}
TABLES = {'encoder': ENCODERS, 'decoder': DECODERS}


def register_encoder(name: str, module_class: Callable[[Code], nn.Module]) -> None:
  """Adds an encoder to `lcode.coders.ENCODERS`: all of lcode then takes its name. The same again does nothing.

  An encoder is a Flax module of one group: floats [k, *S] -> parities [r, *S]. Its class attributes say what it goes
  with (`lcode.coders` lists them); with `systematic = False` it returns all n coded queries, [n, *S].

  Args:
    name: letters, digits, dashes and underscores.
    module_class: a Flax module's class, or a function, that takes a `Code` alone.

  Raises:
    InputError: if the name is not allowed or taken by something else, or no Flax module can be built from a `Code`.

  >>> class Mean(nn.Module):
  ...   code: lcode.Code
  ...   def __call__(self, x):
  ...     return jnp.broadcast_to(x.mean(0), (self.code.r, *x.shape[1:]))
  >>> lcode.register_encoder('mean', Mean)
  >>> lcode.make_scheme(code, apply, 'mean', 'mlp').systematic
  True
  """
  _register('encoder', name, module_class)


def register_decoder(name: str, module_class: Callable[[Code], nn.Module]) -> None:
  """Adds a decoder to `lcode.coders.DECODERS`; errors as of `register_encoder`.

  A decoder is a Flax module of one group: (floats [n, C] with zeros where missing, available bool[n]) -> [k, C].

  Args:
    name, module_class: as of `register_encoder`.

  >>> class Mean(nn.Module):
  ...   code: lcode.Code
  ...   def __call__(self, outputs, available):
  ...     return jnp.broadcast_to(outputs.sum(0) / available.sum(), (self.code.k, outputs.shape[1]))
  >>> lcode.register_decoder('mean', Mean)
  >>> lcode.make_scheme(code, apply, 'addition', 'mean').passthrough
  True
  """
  _register('decoder', name, module_class)


def build(kind: str, part: Any, code: Code) -> nn.Module:
  """The encoder or decoder for `code`: of that name, of that class, or as it was handed over.

  Args:
    kind: 'encoder' or 'decoder'.
    part: a name in the table, what builds a Flax module from a `Code`, or a Flax module.

  Raises:
    InputError: if it is none of these, or a module that was built for another code.
  """
  table = TABLES[kind]
  built = table[one_of(kind, part, table)] if isinstance(part, str) else part
  if callable(built) and not isinstance(built, nn.Module):
    built = _made(kind, built, code)
  if not isinstance(built, nn.Module):
    raise InputError(f'{kind}={shown(part)} is not allowed: give one of {", ".join(sorted(table))}, or a Flax module '
                     'of your own.')
  if getattr(built, 'code', code) != code:
    raise InputError(f'the {kind} {type(built).__name__} is of a ({built.code.k}, {built.code.r}) code and cannot be '
                     f'part of a ({code.k}, {code.r}) one: build it from the same Code.')
  return built


def _register(kind, name, module_class):
  if not callable(module_class) or isinstance(module_class, nn.Module):
    raise InputError(f'module_class={shown(module_class)} makes no {kind}: give a class that is built from a Code.')
  _made(kind, module_class, Code(2, 2), any_code=False)
  register(TABLES[kind], kind, name, module_class)


def _made(kind, module_class, code, any_code=True):
  """The Flax module that is made of a code; with any_code=False None where it says that it takes others only."""
  name = getattr(module_class, '__name__', repr(module_class))
  try:
    made = module_class(code)
  except InputError:
    if any_code:
      raise
    return None
  except TypeError as error:
    raise InputError(f'the {kind} {name} cannot be built from a Code alone ({error}): let it have no other argument '
                     'without a default, or pass make_scheme a module that is built already.') from error
  if not isinstance(made, nn.Module):
    raise InputError(f'the {kind} {name} makes {shown(made)} of a Code, which is no Flax module: let it make one.')
  return made
