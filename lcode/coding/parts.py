"""Which parts go together, by what they declare: a subclass, or a part of one's own, goes with what it says it does.

`coders` lists what encoders and decoders declare, `ParityModel` what is known of what answers the parities.
"""

from typing import Any

import flax.linen as nn

from lcode.coding import coders
from lcode.coding.checks import shown
from lcode.coding.parity_model import ParityModel
from lcode.errors import InputError


def check_parity_model(model: Any) -> None:
  """Raises InputError if `model` is no parity model."""
  if isinstance(model, nn.Module):
    raise InputError(f'parity_model={type(model).__name__} is a bare Flax module: wrap it, as in '
                     'lcode.coding.parity_model.from_module(module).')
  if not isinstance(model, ParityModel):
    raise InputError(f'parity_model={shown(model)} is no ParityModel: make one by from_module, students or '
                     'default_answer of lcode.coding.parity_model, or leave it out for F itself.')


def check_together(encoder, decoder, model: ParityModel) -> None:
  """Raises InputError if an encoder, a decoder and what answers the parities do not go together."""
  _check_coders(encoder, decoder)
  name, parities = type(encoder).__name__, declared(encoder, 'parities')
  if not declared(encoder, 'systematic', True) and not model.shared:
    raise InputError(f'{name} sends coded queries to every worker, so that there are no parities for a parity model: '
                     'leave parity_model out, F itself.')
  if model.bundled != declared(decoder, 'bundled', False) or model.takes is not None and parities not in model.takes:
    wanted = next((kind for kind in (*(model.takes or ()), parities) if kind in TOGETHER), 'bundles')
    raise InputError(f'{name}, {type(decoder).__name__} and a parity model that {_said(model)} do not go together: '
                     f'take {TOGETHER[wanted]}.')


TOGETHER = {'bundles': "encoder='bundle', parity_model=students(...) and decoder='bundle'",
            'mosaics': "encoder='mosaic', parity_model=tile_students(...) and decoder='bundle'",
            'packs': "encoder='narrow', parity_model=narrow_students(...) and decoder='bundle'",
            'copies': "encoder='replication'"}


def _said(model: ParityModel) -> str:
  takes = 'any parities' if model.takes is None else ' or '.join(model.takes)
  return f'answers {takes} by {"k answers" if model.bundled else "one answer"}'


def _check_coders(encoder, decoder):
  name, parities = type(encoder).__name__, declared(encoder, 'parities')
  wanted, systematic = declared(decoder, 'goes_with'), declared(encoder, 'systematic', True)
  problem = None
  if wanted is not None and parities not in wanted:
    problem = f'goes with parities={" or ".join(map(repr, wanted))} alone, and {name} declares {parities!r}'
  elif parities in declared(decoder, 'refuses', ()):
    problem = f'cannot undo parities={parities!r}, which {name} makes'
  elif declared(decoder, 'systematic', systematic) != systematic:
    kinds = 'the queries themselves', 'coded queries alone'
    problem = f'takes answers to {kinds[systematic]}, and {name} sends {kinds[not systematic]}'
  if problem:
    fitting = [repr(known) for known, encoder in coders.ENCODERS.items() if _fits(encoder, decoder)]
    raise InputError(f'the {type(decoder).__name__} {problem}: use encoder={" or ".join(fitting)}.' if fitting else
                     f'the {type(decoder).__name__} {problem}: use the encoder that it was written for.')


def _fits(encoder, decoder) -> bool:
  parities, systematic = declared(encoder, 'parities'), declared(encoder, 'systematic', True)
  wanted = declared(decoder, 'goes_with')
  return ((wanted is None or parities in wanted) and parities not in declared(decoder, 'refuses', ()) and
          declared(decoder, 'systematic', systematic) == systematic)


def declared(part, name: str, default: Any = None) -> Any:
  """What a part, or its class, says of itself; see `coders`."""
  return getattr(part, name, default)
