"""Base models in workdirs: trained, loaded, and kept beside the codes over them."""

import dataclasses
import functools
import statistics
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lcode import data, models
from lcode.data.digest import sha256
from lcode.errors import InputError
from lcode.runs import records
from lcode.runs.configs import BaseConfig, CodeConfig, RunOptions
from lcode.runs.progress import Progress
from lcode.training import checkpoint
from lcode.training.batched import apply_in_batches
from lcode.training.fit import fit_base
from lcode.training.recipes import BASE_RECIPES


@dataclasses.dataclass(frozen=True)
class Base:
  """A frozen base model F with the data that it was trained on."""

  dataset: data.Dataset
  variables: Any
  apply: Any
  sha256: str

  @functools.cached_property
  def outputs(self) -> dict[str, np.ndarray]:
    """F's outputs f32[N, C] on the splits that were asked for: many codes are trained over one F."""
    return _Outputs(self)


class _Outputs(dict):
  """Computed when first asked for."""

  def __init__(self, base: Base):
    super().__init__()
    self.base = base

  def __missing__(self, split):
    base = self.base
    images = getattr(base.dataset, split).images
    self[split] = apply_in_batches(base.apply, base.variables, images, data.make_normalise(base.dataset.spec))
    return self[split]


def train_base(config: BaseConfig, workdir: str, options: RunOptions = RunOptions()) -> tuple[Base, dict]:
  """Trains F in `workdir`, or goes on where it stopped; returns it with the record that it appended."""
  config = config.resolved()
  records.check(Path(workdir), {'kind': 'base', **dataclasses.asdict(config)})
  dataset = data.load(config.dataset, options.data_dir)
  devices = options.choose_devices(config.base_model in models.CONVOLUTIONAL, config.batch_size)
  data.plan_batches(np.arange(len(dataset.train)), 1, config.batch_size, drop_last=True)
  path = records.open_workdir(workdir)
  records.claim(path, {'kind': 'base', **dataclasses.asdict(config), 'data_source': dataset.source})

  def make_model(axis):
    return models.make_model(config.base_model, dataset.image_shape, dataset.num_classes, axis)

  recipe = BASE_RECIPES[config.base_model]
  with Progress(f'base {config.base_model}', path, ('available',)) as reporter:
    result = fit_base(
        make_model, dataset.train, dataset.validation, make_optimizer=recipe.make_optimizer, epochs=config.epochs,
        batch_size=config.batch_size, seed=config.seed, preprocess=data.make_normalise(dataset.spec),
        augment=dataset.spec.augment, devices=devices, max_steps=options.max_steps,
        store=checkpoint.Store(path / 'checkpoints', len(devices)), save_every_s=options.save_every_s,
        stop_at=options.stop_at, reporter=reporter)
  base = _base(config, dataset, *jax.device_get(result.best.variables))
  record = {'kind': 'base', 'config': dataclasses.asdict(config), 'seed': config.seed,
            'available_accuracy': float((base.outputs['test'].argmax(-1) == dataset.test.labels).mean()),
            'validation_accuracy': result.best.value, 'base_parameters': count_parameters(base.variables),
            'base_sha256': base.sha256, 'finished': options.max_steps is None}
  record |= timing(result, config.batch_size) | records.environment(devices)
  records.append(path, record)
  return base, record


def check_base_dir(base_dir, config: CodeConfig) -> None:
  """Raises InputError if a base_dir is of another data set or model, or holds something else than a base model."""
  found = records.read_config(Path(base_dir))
  if found is None:
    if Path(base_dir).is_dir() and any(Path(base_dir).iterdir()) or Path(base_dir).is_file():
      raise InputError(f'--base_dir={base_dir} holds something, but no base model: name an empty or new directory, '
                       'or a workdir of train_base.')
    return
  if found.get('kind') != 'base':
    raise InputError(f'--base_dir={base_dir} is no workdir of train_base: name one, or leave the flag out.')
  for name in ('dataset', 'base_model'):
    if found.get(name) != getattr(config, name):
      raise InputError(f'--base_dir={base_dir} was trained with {name}={found.get(name)!r}, this run has '
                       f'{getattr(config, name)!r}: use a matching base_dir, or change --{name}.')


def count_parameters(tree) -> int:
  """How many trained numbers a tree of variables holds (batch statistics are not trained)."""
  tree = tree['params'] if isinstance(tree, dict) and 'params' in tree else tree
  return sum(x.size for x in jax.tree.leaves(tree))


def zeros_like(shapes):
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def load_base(config, dataset, path, base_dir) -> Base | None:
  """The base model that is there already, finished: in base_dir, or the one that the workdir keeps; else None."""
  kept = kept_base(path, config, dataset) if (path / 'base_model').is_dir() else None
  found = records.read_config(path / 'base' if base_dir is None else Path(base_dir))
  if found is None or base_dir is None and kept:
    return kept
  base_dir = path / 'base' if base_dir is None else Path(base_dir)
  if not any(record.get('finished') for record in records.read(base_dir)):
    return kept
  best = checkpoint.Store(base_dir / 'checkpoints').load_best(base_template(config, dataset))
  return _base(config, dataset, *best.variables)


def finish_base(config, path, base_dir, options) -> Base:
  """Trains the base model on the spot, or finishes it."""
  base_dir = path / 'base' if base_dir is None else Path(base_dir)
  found = records.read_config(base_dir)
  base_config = BaseConfig(config.dataset, config.base_model, seed=config.seed)
  if found is not None:
    base_config = records.config_as(BaseConfig, found, base_dir)
  return train_base(base_config, str(base_dir), dataclasses.replace(options, max_steps=None, devices=None))[0]


def keep_base(path, config, base):
  """Writes F's variables into a code's workdir; raises InputError where another F lies there."""
  if (path / 'base_model').is_dir():
    found = kept_base(path, config, base.dataset).sha256
    if found != base.sha256:
      raise InputError(f'{path} was started with base_sha256={found!r}, that of the base model given is '
                       f'{base.sha256!r}: use another --workdir, or the base_dir it was started with.')
  else:
    params = base.variables['params']
    model_state = {name: value for name, value in base.variables.items() if name != 'params'}
    meta = {'dataset': config.dataset, 'base_model': config.base_model, 'sha256': base.sha256}
    checkpoint.save_tree(path / 'base_model', (params, model_state), meta)


def kept_base(path, config, dataset) -> Base:
  variables, _ = checkpoint.load_tree(path / 'base_model', lambda _: base_template(config, dataset))
  return _base(config, dataset, *variables)


def base_template(config, dataset) -> tuple[Any, dict]:
  """(params, other collections) of F as zeros."""
  model = models.make_model(config.base_model, dataset.image_shape, dataset.num_classes)
  variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *dataset.image_shape), np.float32))
  variables = zeros_like(variables)
  return variables.pop('params'), variables


def _base(config, dataset, params, model_state) -> Base:
  leaves = jax.tree_util.tree_leaves_with_path((params, model_state))
  digest = sha256(*(part for path, value in leaves for part in (jax.tree_util.keystr(path), value)))
  model = models.make_model(config.base_model, dataset.image_shape, dataset.num_classes)
  return Base(dataset, {'params': params, **model_state}, models.make_apply(model), digest)


def timing(result, batch_size) -> dict:
  """Seconds; rates are of the median epoch, so that compilation (in the first) does not count; None if none was run."""
  epochs = result.history[1:] or result.history
  seconds_a_step = statistics.median(epoch['seconds'] / epoch['steps'] for epoch in epochs) if epochs else None
  return {'steps': int(result.state.step), 'seconds': result.seconds, 'best_step': result.best.step,
          'best_validation': result.best.value,
          'seconds_an_epoch': epochs and seconds_a_step * result.steps_per_epoch or None,
          'groups_per_second': epochs and batch_size / seconds_a_step or None}
