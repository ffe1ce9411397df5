"""Runs in a workdir: train a base model, train a code over one, evaluate it. Resumable, and recorded.

A code's workdir holds `config.json`, `base_model/` (F's variables, so that it stands alone), `checkpoints/`,
`events/` and `records.jsonl`.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lcode import data, models
from lcode.coding import coders
from lcode.coding.code import Code, every_scenario
from lcode.coding.costs import extra_work, group_costs
from lcode.coding.parity_model import default_answer, from_module, students
from lcode.coding.scheme import make_scheme, parts_to_train, Scheme
from lcode.errors import InputError
from lcode.models.backup import make_backup
from lcode.models.student import make_student, start_from
from lcode.runs import records
from lcode.runs.base_model import (Base, base_template, check_base_dir, count_parameters, finish_base, keep_base,
                                   kept_base, load_base, timing, zeros_like)
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.progress import Progress
from lcode.training import checkpoint
from lcode.training.devices import choose_devices
from lcode.training.evaluate import evaluate, evaluate_byzantine
from lcode.training.fit import fit


@dataclasses.dataclass(frozen=True)
class Trained:
  """A code with what is needed to use it."""

  scheme: Scheme
  params: Any
  model_state: Any
  base: Base
  record: dict


def build_scheme(config: CodeConfig, image_shape: tuple[int, ...], num_outputs: int) -> Scheme:
  """The scheme of a config; raises InputError if its parts do not go together."""
  model = models.make_model(config.base_model, image_shape, num_outputs)
  apply = models.make_apply(model)
  parity_models = {
      'base': lambda: None,
      'from_base': lambda: from_module(model, start_from_base=True),
      'from_scratch': lambda: from_module(model),
      'backup': lambda: from_module(
          small := make_backup(image_shape, num_outputs, config.backup_multiply_adds, model),
          start=functools.partial(start_from, model, small), shared=True, at_frontend=True, per_query=True),
      'students': lambda: students(small := make_student(model, image_shape, config.k),
                                   functools.partial(start_from, model, small)),
      'default': default_answer,
  }
  code = Code(config.k, config.r)
  decoder = config.decoder
  if config.num_byzantine:
    decoder = coders.DECODERS[decoder](code, num_byzantine=config.num_byzantine)
  return make_scheme(code, apply, config.encoder, decoder, parity_models[config.parity_model]())


def train_code(config: CodeConfig, workdir: str, base_dir: str | None = None, options: RunOptions = RunOptions(),
               base: Base | None = None) -> Trained:
  """Trains a code in `workdir` over the base model in `base_dir` (trained on the spot where there is none).

  A code that needs no training is set up and evaluated. `base` is that of base_dir where it is loaded already.
  """
  config = config.resolved()
  path = Path(workdir)
  records.check(path, {'kind': 'code', **dataclasses.asdict(config)})
  check_base_dir(path / 'base' if base_dir is None else base_dir, config)
  devices = options.choose_devices(config.convolutional, config.batch_size)
  dataset = base.dataset if base else data.load(config.dataset, options.data_dir)
  for split in (dataset.train, dataset.validation, dataset.test):
    data.plan_batches(np.arange(len(split)), config.k, 1)
  scheme = build_scheme(config, dataset.image_shape, dataset.num_classes)
  parts_to_train(scheme, _template(scheme, config, dataset)[0], config.train_parts)
  records.check(path, {'data_source': dataset.source})
  base = base or load_base(config, dataset, path, base_dir)
  path = records.open_workdir(workdir)
  records.claim(path, {'kind': 'code', **dataclasses.asdict(config), 'data_source': dataset.source})
  base = base or finish_base(config, path, base_dir, options)
  keep_base(path, config, base)

  title = f'({config.k}, {config.r}) {config.encoder}, {config.parity_model}, {config.decoder}'
  with Progress(title, path, ('reconstruction', 'degraded')) as reporter:
    fitted = fit(
        scheme, base.variables, dataset.train.images, dataset.train.labels,
        validation=(dataset.validation.images, dataset.validation.labels), loss=config.loss, recipe=config.recipe,
        epochs=config.epochs, batch_size=config.batch_size, seed=config.seed, train_parts=config.train_parts,
        scenarios=_spare(config) if config.num_byzantine else config.scenarios,
        preprocess=data.make_normalise(dataset.spec),
        augment=dataset.spec.augment, devices=devices, max_steps=options.max_steps,
        store=checkpoint.Store(path / 'checkpoints', len(devices)), save_every_s=options.save_every_s,
        stop_at=options.stop_at, reporter=reporter, base_outputs=base.outputs)
  record = _evaluated(config, scheme, fitted.params, fitted.model_state, base, devices)
  record |= timing(fitted.result, config.batch_size) | records.environment(devices)
  records.append(path, record)
  return Trained(scheme, fitted.params, fitted.model_state, base, record)


def evaluate_code(workdir: str, options: RunOptions = RunOptions()) -> Trained:
  """Evaluates the best parameters of a code's workdir on the test split, and appends the record."""
  began = time.monotonic()
  config, base, scheme, best, devices = _best(workdir, options)
  record = _evaluated(config, scheme, *best.variables, base, devices)
  record |= {'best_step': best.step, 'best_validation': best.value, 'seconds': time.monotonic() - began}
  record |= records.environment(devices)
  records.append(Path(workdir), record)
  return Trained(scheme, *best.variables, base, record)


def _best(workdir, options):
  """(config, base, scheme, best, devices) of a code's workdir."""
  path = Path(workdir)
  config = records.read_config(path)
  if config is None or config.get('kind') != 'code':
    raise InputError(f'--workdir={workdir} is no workdir of train_code: train a code there first.')
  config = records.config_as(CodeConfig, config, workdir).resolved()
  devices = choose_devices(options.devices, config.convolutional)
  dataset = data.load(config.dataset, options.data_dir)
  base = kept_base(path, config, dataset)
  scheme = build_scheme(config, dataset.image_shape, dataset.num_classes)
  best = checkpoint.Store(path / 'checkpoints').load_best(zeros_like(_template(scheme, config, dataset)))
  return config, base, scheme, best, devices


def _spare(config: CodeConfig) -> np.ndarray | None:
  """Where wrong answers are located: the scenarios of the stragglers that the code has left for; None otherwise."""
  if not config.num_byzantine:
    return None
  code = Code(config.k, config.r)
  stragglers = code.n - 2 * (config.k + config.num_byzantine)
  intact = np.ones((1, code.n), bool)
  return every_scenario(code, stragglers, passthrough=False) if stragglers else intact


def _template(scheme, config, dataset):
  """Shapes of (params, model_state); raises what the parts have to say about a query's shape."""
  params, model_state = base_template(config, dataset)
  return jax.eval_shape(
      lambda key: scheme.init(key, np.zeros((config.k, *dataset.image_shape), np.float32), dataset.num_classes,
                              {'params': params, **model_state}), jax.random.key(0))


def _evaluated(config, scheme, params, model_state, base, devices) -> dict:
  preprocess = data.make_normalise(base.dataset.spec)
  figures = evaluate(scheme, params, model_state, base.variables, base.dataset.test, preprocess=preprocess,
                     loss=config.loss, devices=devices, base_outputs=base.outputs['test'],
                     scenarios=_spare(config))
  if config.num_byzantine:
    figures |= evaluate_byzantine(scheme, params, model_state, base.variables, base.dataset.test, preprocess=preprocess,
                                  num_byzantine=config.num_byzantine)
  costs = group_costs(scheme, params, model_state, base.variables, base.dataset.image_shape, base.dataset.num_classes)
  return {'kind': 'code', 'config': dataclasses.asdict(config), 'seed': config.seed} | figures | {
      'base_parameters': count_parameters(base.variables)} | {
      f'{part}_parameters': count_parameters(params[part]) for part in params} | extra_work(scheme, costs) | {
      'costs': costs, 'base_sha256': base.sha256}
