"""Named schemes: which encoder, parity model and decoder make up each published code, and how they are trained."""

import dataclasses

from lcode.coding import coders
from lcode.errors import InputError, one_of, register
from lcode.runs.configs import CodeConfig
from lcode.runs.parts import PARITY_MODELS, STUDENTS
from lcode.training.losses import get_loss
from lcode.training.recipes import get_recipe


@dataclasses.dataclass(frozen=True)
class Preset:
  """A named scheme: its parts, and how they are trained.

  Attributes:
    encoder, decoder, parity_model: names of the parts.
    loss, recipe: how they are trained, where there is anything to train.
    per_query: whether queries are answered one by one, so that k does not matter: trained and evaluated at k = 1.
    source: whose code it is.

  >>> lcode.Preset('addition', 'subtraction', 'from_base', loss='mse_base', recipe='parity').per_query
  False
  """

  encoder: str
  decoder: str = 'mlp'
  parity_model: str = 'base'
  loss: str = 'kl_base'
  recipe: str = 'onecycle'
  per_query: bool = False
  source: str = ''

  @property
  def copies(self) -> bool:
    """Whether r parities are r copies of every query: replication proper."""
    return self.per_query and self.parity_model == 'base'


LEARNED, PARM = 'Learning a Code (arXiv:1806.01259)', 'ParM (arXiv:1905.00863)'
PRESETS = {
    'learned-mlp': Preset('mlp', source=LEARNED),
    'learned-conv': Preset('conv', recipe='onecycle_conv', source=LEARNED),
    'learned-features': Preset('features', 'features', recipe='features', source='shared features, F frozen'),
    'parm-addition': Preset('addition', 'subtraction', 'from_base', 'mse_base', 'parity', source=PARM),
    'parm-concatenation': Preset('concatenation', 'subtraction', 'from_base', 'mse_base', 'parity', source=PARM),
    'concatenation-mlp': Preset('concatenation', 'mlp', 'from_base', recipe='parity',
                                source=f'{PARM}, learned decoder'),
    'learned-parity-model': Preset('mlp', 'mlp', 'from_base', source='all three parts trained'),
    'berrut': Preset('berrut', 'berrut', source='BACC (arXiv:2009.08327), systematic'),
    'approxifer': Preset('approxifer', 'approxifer', source='ApproxIFER (arXiv:2109.09868)'),
    'nercc': Preset('spline', 'spline', source='NeRCC (arXiv:2402.04377)'),
    'replication': Preset('replication', 'replication', per_query=True, source='r copies of every query'),
    'bundle': Preset('bundle', 'bundle', 'students', recipe='distil', source='k students of F at one worker'),
    'mosaic': Preset('mosaic', 'bundle', 'tile_students', recipe='distil', source='k small queries as one'),
    'narrow': Preset('narrow', 'bundle', 'narrow_students', recipe='distil', source='k queries of fewer bits as one'),
    'backup': Preset('replication', 'replication', 'backup', recipe='distil', per_query=True,
                     source='a small network distilled from F'),
    'default': Preset('replication', 'replication', 'default', recipe='distil', per_query=True,
                      source='one answer for all'),
}


def register_preset(name: str, preset: Preset) -> None:
  """Makes a scheme known by name to `config_of` and `compare`; its parts, loss and recipe must be known already.

  Args:
    name: letters, digits, dashes and underscores.
    preset: what it stands for.

  Raises:
    InputError: if the name is not allowed or taken, or a part, the loss or the recipe is unknown.

  >>> lcode.register_preset('sums', lcode.Preset('addition', 'mlp', 'from_base', recipe='parity'))
  >>> lcode.config_of('sums', k=3).encoder
  'addition'
  """
  if not isinstance(preset, Preset):
    raise InputError(f'the preset {name!r} is {preset!r}: give a Preset, as in lcode.Preset(encoder=\'mlp\').')
  one_of('encoder', preset.encoder, coders.ENCODERS)
  one_of('decoder', preset.decoder, coders.DECODERS)
  one_of('parity model', preset.parity_model, PARITY_MODELS)
  get_loss(preset.loss)
  get_recipe(preset.recipe)
  register(PRESETS, 'preset', name, preset)


def get_preset(name: str) -> Preset:
  """The preset of a name in `PRESETS`, of an encoder, or of `encoder:parity_model:decoder`.

  Raises:
    InputError: if it is none of these.
  """
  if name in PRESETS:
    return PRESETS[name]
  if name in coders.ENCODERS:  # a new encoder needs no more than its line there
    return Preset(name)
  parts = name.split(':')
  tables = coders.ENCODERS, PARITY_MODELS, coders.DECODERS
  if len(parts) == 3 and all(part in table for part, table in zip(parts, tables)):
    encoder, parity_model, decoder = parts
    trained = parity_model in ('from_base', 'from_scratch')
    return Preset(encoder, decoder, parity_model, 'mse_base' if decoder == 'subtraction' else 'kl_base',
                  'parity' if trained else 'onecycle')
  raise InputError(f'{name!r} is no scheme: choose from {", ".join(PRESETS)}, an encoder '
                   f'({", ".join(coders.ENCODERS)}), or encoder:parity_model:decoder.')


def config_of(name: str, k: int = 2, r: int = 1, dataset: str = 'digits', base_model: str = 'mlp', seed: int = 0,
              epochs: int | None = None, multiply_adds: int | None = None, recipe: str | None = None,
              loss: str | None = None, form: str = '') -> CodeConfig:
  """The resolved config of a scheme at (k, r), for `train_code`; k = 1 for a preset that answers query by query.

  Args:
    name: of a preset (`lcode.runs.presets.PRESETS`), of an encoder, or `encoder:parity_model:decoder`.
    k, r, dataset, base_model, seed: as of `CodeConfig`.
    epochs, recipe, loss: None for the scheme's own.
    multiply_adds: of a backup, or of a student, what it may take for a query; others make no use of it.
    form: of the small network, where the scheme has one; others make no use of it.

  Raises:
    InputError: if a name is unknown, or what is asked for makes no sense.

  >>> config = lcode.config_of('mosaic', k=4)
  >>> config.encoder, config.parity_model, config.decoder
  ('mosaic', 'tile_students', 'bundle')
  """
  preset = get_preset(name)
  if preset.per_query:
    k, r = 1, r if preset.copies else 1
  return CodeConfig(
      dataset, base_model, k, r, preset.encoder, preset.decoder, preset.parity_model, loss=loss or preset.loss,
      recipe=recipe or preset.recipe, epochs=epochs, seed=seed,
      multiply_adds=multiply_adds if preset.parity_model in ('backup', *STUDENTS) else None,
      form=form if PARITY_MODELS[preset.parity_model].sized else '').resolved()
