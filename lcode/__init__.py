"""lcode: learned erasure codes for machine-learning inference, in JAX.

The public names, imported when first used: `import lcode` itself imports nothing heavy and starts no backend.
"""

import importlib

__version__ = '0.2.0'

_NAMES = {
    'Code': 'coding.code', 'every_pattern': 'coding.code', 'sampled_patterns': 'coding.code',
    'Scheme': 'coding.scheme', 'make_scheme': 'coding.scheme', 'erase': 'coding.units',
    'stack_units': 'coding.units', 'make_codec': 'coding.codec', 'Codec': 'coding.codec',
    'ParityModel': 'coding.parity_model', 'students': 'coding.parity_model',
    'narrow_students': 'coding.parity_model', 'tile_students': 'coding.parity_model',
    'tile_shape': 'coding.coders.mosaic', 'from_module': 'coding.parity_model', 'group_costs': 'coding.costs',
    'evaluate': 'training.evaluate',
    'register_encoder': 'coding.coders', 'register_decoder': 'coding.coders', 'register_model': 'models',
    'register_dataset': 'data', 'Spec': 'data',
    'fit': 'training.fit', 'Fitted': 'training.fit', 'TrainingOptions': 'training.options',
    'default_scheme': 'training.defaults',
    'make_code_objective': 'training.step', 'make_train_step': 'training.step', 'TrainState': 'training.step',
    'Batch': 'training.step',
    'kl_base': 'training.losses', 'mse_base': 'training.losses', 'xent_label': 'training.losses',
    'masked_mean': 'training.losses',
    'load': 'runs.code_run', 'Trained': 'runs.code_run', 'train_code': 'runs.code_run', 'CodeConfig': 'runs.configs',
    'BaseConfig': 'runs.configs', 'RunOptions': 'runs.configs', 'train_base': 'runs.base_model',
    'Preset': 'runs.presets', 'config_of': 'runs.presets', 'evaluate_code': 'runs.code_run',
    'register_preset': 'runs.presets', 'register_parity_model': 'runs.parts',
    'compare': 'runs.compare', 'register_function': 'runs.own', 'BlackBox': 'coding.black_box',
    'export_code': 'serving.export', 'load_export': 'serving.exported', 'Exported': 'serving.exported',
    'Recipe': 'training.recipes', 'RECIPES': 'training.recipes',
    'InputError': 'errors', 'DivergedError': 'errors', 'OutOfTime': 'errors',
}

# Modules that are reached as attributes, without an import of their own.
_MODULES = {name: name for name in ('coding', 'models', 'data', 'training', 'runs', 'serving')} | {
    'coders': 'coding.coders', 'checkpoint': 'training.checkpoint', 'losses': 'training.losses',
    'metrics': 'training.metrics', 'recipes': 'training.recipes',
}

__all__ = sorted({*_NAMES, *_MODULES})


def __getattr__(name):
  if name in _NAMES:
    return getattr(importlib.import_module(f'lcode.{_NAMES[name]}'), name)
  if name in _MODULES:
    return importlib.import_module(f'lcode.{_MODULES[name]}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
  return sorted({*globals(), *__all__})
