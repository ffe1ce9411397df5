"""Runs in a workdir: train a base model, train a code over one, evaluate it. Resumable, and recorded.

A code's workdir holds `config.json`, `base_model/` (F's variables, so that it stands alone), `checkpoints/`,
`events/` and `records.jsonl`.
"""

import dataclasses
import hashlib
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lcode import checkpoint, coders, data, fitting, models, parallel, records
from lcode.code import Code, every_scenario
from lcode.configs import BaseConfig, CodeConfig, Sitting
from lcode.errors import InputError
from lcode.evaluate import evaluate
from lcode.progress import Progress
from lcode.recipes import BASE_RECIPES
from lcode.scheme import Scheme, make_scheme


@dataclasses.dataclass(frozen=True)
class Base:
  """A frozen base model F with the data that it was trained on."""

  dataset: data.Dataset
  variables: Any
  apply: Any
  sha256: str


@dataclasses.dataclass(frozen=True)
class Trained:
  """A code with what is needed to use it."""

  scheme: Scheme
  params: Any
  model_state: Any
  base: Base
  record: dict


def train_base(config: BaseConfig, workdir: str, sitting: Sitting = Sitting()) -> tuple[Base, dict]:
  """Trains F in `workdir`, or goes on where it stopped; returns it with the record that it appended."""
  config = config.resolved()
  records.check(Path(workdir), {'kind': 'base', **dataclasses.asdict(config)})
  dataset = data.load(config.dataset, sitting.data_dir)
  devices = sitting.choose_devices(config.base_model == 'resnet18', config.batch_size)
  data.plan_batches(np.arange(len(dataset.train)), 1, config.batch_size, drop_last=True)
  path = records.open_workdir(workdir)
  records.claim(path, {'kind': 'base', **dataclasses.asdict(config), 'data_source': dataset.source})

  def make_model(axis):
    return models.make_model(config.base_model, dataset.image_shape, dataset.num_classes, axis)

  recipe = BASE_RECIPES[config.base_model]
  preprocess = data.make_normalise(dataset.spec)
  with Progress(f'base {config.base_model}', path, ('available',)) as reporter:
    result = fitting.fit_base(
        make_model, dataset.train, dataset.validation, make_optimizer=recipe.make_optimizer, epochs=config.epochs,
        batch_size=config.batch_size, seed=config.seed, preprocess=preprocess, augment=dataset.spec.augment,
        devices=devices, max_steps=sitting.max_steps, store=checkpoint.Store(path / 'checkpoints', len(devices)),
        save_every_s=sitting.save_every_s, reporter=reporter)
  base = _base(config, dataset, *jax.device_get(result.best.variables))
  outputs = fitting.apply_in_batches(base.apply, base.variables, dataset.test.images, preprocess)
  record = {'kind': 'base', 'config': dataclasses.asdict(config), 'seed': config.seed,
            'available_accuracy': float((outputs.argmax(-1) == dataset.test.labels).mean()),
            'validation_accuracy': result.best.value, 'base_parameters': count_parameters(base.variables),
            'base_sha256': base.sha256, 'finished': sitting.max_steps is None}
  record |= _timing(result, config.batch_size) | records.environment(devices)
  records.append(path, record)
  return base, record


def train_code(config: CodeConfig, workdir: str, base_dir: str | None = None,
               sitting: Sitting = Sitting()) -> Trained:
  """Trains a code in `workdir` over the base model in `base_dir` (trained on the spot where there is none)."""
  config = config.resolved()
  path, code = Path(workdir), Code(config.k, config.r)
  every_scenario(code)
  records.check(path, {'kind': 'code', **dataclasses.asdict(config)})
  check_base_dir(path / 'base' if base_dir is None else base_dir, config)
  devices = sitting.choose_devices(config.encoder == 'conv' or config.base_model == 'resnet18', config.batch_size)
  dataset = data.load(config.dataset, sitting.data_dir)
  for split in (dataset.train, dataset.validation, dataset.test):
    data.plan_batches(np.arange(len(split)), code.k, 1)
  _check_shapes(config, code, dataset)
  records.check(path, {'data_source': dataset.source})
  base = _load_base(config, dataset, path, base_dir)
  path = records.open_workdir(workdir)
  records.claim(path, {'kind': 'code', **dataclasses.asdict(config), 'data_source': dataset.source})
  base = base or _train_base(config, path, base_dir, sitting)
  _keep_base(path, config, base)

  scheme = make_scheme(code, base.apply, config.encoder, config.decoder)
  preprocess = data.make_normalise(dataset.spec)
  with Progress(f'({code.k}, {code.r}) {config.encoder} code', path, ('reconstruction', 'degraded')) as reporter:
    fitted = fitting.fit(
        scheme, base.variables, dataset.train.images, dataset.train.labels,
        validation=(dataset.validation.images, dataset.validation.labels), loss=config.loss, recipe=config.recipe,
        epochs=config.epochs, batch_size=config.batch_size, seed=config.seed, preprocess=preprocess,
        augment=dataset.spec.augment, devices=devices, max_steps=sitting.max_steps,
        store=checkpoint.Store(path / 'checkpoints', len(devices)), save_every_s=sitting.save_every_s,
        reporter=reporter)
  record = _evaluated(config, scheme, fitted.params, fitted.model_state, base, devices)
  record |= _timing(fitted.result, config.batch_size) | records.environment(devices)
  records.append(path, record)
  return Trained(scheme, fitted.params, fitted.model_state, base, record)


def evaluate_code(workdir: str, sitting: Sitting = Sitting()) -> Trained:
  """Evaluates the best parameters of a code's workdir on the test split, and appends the record."""
  began = time.monotonic()
  path = Path(workdir)
  config = records.read_config(path)
  if config is None or config.get('kind') != 'code':
    raise InputError(f'--workdir={workdir} is no workdir of train_code: train a code there first.')
  config = records.config_as(CodeConfig, config, workdir).resolved()
  devices = parallel.choose_devices(sitting.devices, config.encoder == 'conv' or config.base_model == 'resnet18')
  dataset = data.load(config.dataset, sitting.data_dir)
  base = _kept_base(path, config, dataset)
  code = Code(config.k, config.r)
  scheme = make_scheme(code, base.apply, config.encoder, config.decoder)
  template = jax.eval_shape(lambda key: scheme.init(key, np.zeros((code.k, *dataset.image_shape), np.float32),
                                                    dataset.num_classes), jax.random.key(0))
  best = checkpoint.Store(path / 'checkpoints').load_best(zeros_like(template))
  record = _evaluated(config, scheme, *best.variables, base, devices)
  record |= {'best_step': best.step, 'best_validation': best.value, 'seconds': time.monotonic() - began}
  record |= records.environment(devices)
  records.append(path, record)
  return Trained(scheme, *best.variables, base, record)


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


def _load_base(config, dataset, path, base_dir) -> Base | None:
  """The base model that is there already, finished: in base_dir, or the one that the workdir keeps; else None.

  Raises:
    InputError: if they are two different ones.
  """
  kept = _kept_base(path, config, dataset) if (path / 'base_model').is_dir() else None
  found = records.read_config(path / 'base' if base_dir is None else Path(base_dir))
  if found is None or base_dir is None and kept:
    return kept
  base_dir = path / 'base' if base_dir is None else Path(base_dir)
  if not any(record.get('finished') for record in records.read(base_dir)):
    return kept
  best = checkpoint.Store(base_dir / 'checkpoints').load_best(_base_template(config, dataset))
  base = _base(config, dataset, *best.variables)
  if kept and kept.sha256 != base.sha256:
    raise InputError(f'{path} was started with base_sha256={kept.sha256!r}, that of {base_dir} is {base.sha256!r}: '
                     'use another --workdir, or the base_dir it was started with.')
  return base


def _train_base(config, path, base_dir, sitting) -> Base:
  """Trains the base model on the spot, or finishes it."""
  base_dir = path / 'base' if base_dir is None else Path(base_dir)
  found = records.read_config(base_dir)
  base_config = BaseConfig(config.dataset, config.base_model, seed=config.seed)
  if found is not None:
    base_config = records.config_as(BaseConfig, found, base_dir)
  return train_base(base_config, str(base_dir), dataclasses.replace(sitting, max_steps=None, devices=None))[0]


def _keep_base(path, config, base):
  if not (path / 'base_model').is_dir():
    params = base.variables['params']
    model_state = {name: value for name, value in base.variables.items() if name != 'params'}
    meta = {'dataset': config.dataset, 'base_model': config.base_model, 'sha256': base.sha256}
    checkpoint.save_tree(path / 'base_model', (params, model_state), meta)


def _kept_base(path, config, dataset) -> Base:
  variables, _ = checkpoint.load_tree(path / 'base_model', lambda _: _base_template(config, dataset))
  return _base(config, dataset, *variables)


def _base_template(config, dataset):
  model = models.make_model(config.base_model, dataset.image_shape, dataset.num_classes)
  variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *dataset.image_shape), np.float32))
  variables = zeros_like(variables)
  return variables.pop('params'), variables


def _base(config, dataset, params, model_state) -> Base:
  digest = hashlib.sha256()
  for path, value in jax.tree_util.tree_leaves_with_path((params, model_state)):
    digest.update(jax.tree_util.keystr(path).encode() + np.asarray(value).tobytes())
  model = models.make_model(config.base_model, dataset.image_shape, dataset.num_classes)
  return Base(dataset, {'params': params, **model_state}, models.make_apply(model), digest.hexdigest())


def _check_shapes(config, code, dataset):
  """Raises the encoder's own InputError about a query's shape before anything is written."""
  encoder = coders.ENCODERS[config.encoder](code)
  jax.eval_shape(encoder.init, jax.random.key(0), np.zeros((code.k, *dataset.image_shape), np.float32))


def _evaluated(config, scheme, params, model_state, base, devices) -> dict:
  figures = evaluate(scheme, params, model_state, base.variables, base.dataset.test,
                     preprocess=data.make_normalise(base.dataset.spec), loss=config.loss, devices=devices)
  return {'kind': 'code', 'config': dataclasses.asdict(config), 'seed': config.seed} | figures | {
      'base_parameters': count_parameters(base.variables), 'encoder_parameters': count_parameters(params['encoder']),
      'decoder_parameters': count_parameters(params['decoder']), 'base_sha256': base.sha256}


def _timing(result, batch_size) -> dict:
  """Seconds; rates are of the median epoch, so that compilation (in the first) does not count; None if none was run."""
  epochs = result.history[1:] or result.history
  seconds_a_step = statistics.median(epoch['seconds'] / epoch['steps'] for epoch in epochs) if epochs else None
  return {'steps': int(result.state.step), 'seconds': result.seconds, 'best_step': result.best.step,
          'best_validation': result.best.value,
          'seconds_an_epoch': epochs and seconds_a_step * result.steps_per_epoch or None,
          'groups_per_second': epochs and batch_size / seconds_a_step or None}
