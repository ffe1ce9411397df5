"""lcode: learned erasure codes for machine-learning inference, in JAX.

The public names, imported when first used: `import lcode` itself imports nothing heavy and starts no backend.
"""

import importlib

__version__ = '0.1.0'

_NAMES = {
    'Code': 'code', 'every_scenario': 'code', 'sampled_scenarios': 'code',
    'Scheme': 'scheme', 'make_scheme': 'scheme', 'erase': 'scheme', 'stack_units': 'scheme',
    'make_codec': 'scheme', 'Codec': 'scheme', 'ParityModel': 'parity', 'students': 'parity',
    'fit': 'fitting', 'Fitted': 'fitting',
    'make_code_objective': 'train', 'make_train_step': 'train', 'TrainState': 'train', 'Batch': 'train',
    'kl_base': 'losses', 'mse_base': 'losses', 'xent_label': 'losses', 'masked_mean': 'losses',
    'Recipe': 'recipes', 'RECIPES': 'recipes',
    'InputError': 'errors', 'DivergedError': 'errors', 'OutOfTime': 'errors',
}

__all__ = sorted(_NAMES)


def __getattr__(name):
  if name in _NAMES:
    return getattr(importlib.import_module(f'lcode.{_NAMES[name]}'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return sorted({*globals(), *_NAMES})
