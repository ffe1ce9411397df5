"""Codes in workdirs: trained over a base model, loaded, evaluated. Resumable, and recorded.

A code's workdir holds `config.json`, `base_model/` (F's variables, so that it stands alone), `checkpoints/`,
`events/` and `records.jsonl`.
"""

import contextlib
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lcode import data
from lcode.coding.code import Code, every_pattern
from lcode.coding.codec import Codec, make_codec
from lcode.coding.costs import extra_work, group_costs, wire_costs
from lcode.coding.scheme import Scheme, parts_to_train
from lcode.coding.timing import extra_time, group_times
from lcode.errors import InputError, UnknownNameError, directory, instance
from lcode.runs import base_model, records
from lcode.runs.base_model import Base, count_parameters
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.parts import build_scheme
from lcode.runs.progress import Progress
from lcode.training import checkpoint
from lcode.training.devices import choose_devices
from lcode.training.evaluate import evaluate, evaluate_byzantine
from lcode.training.fit import Fitted, fit


@dataclasses.dataclass(frozen=True)
class Trained:
  """A code with what is needed to use it.

  Attributes:
    config: what it was trained by.
    scheme: its pure functions; params, model_state: their parameters, of the best epoch.
    base: F.
    record: the figures of its last evaluation; None where it was never evaluated.
  """

  config: CodeConfig
  scheme: Scheme
  params: Any
  model_state: Any
  base: Base
  record: dict | None

  @functools.cached_property
  def codec(self) -> Codec:
    """The jitted functions over batches of groups."""
    return make_codec(self.scheme, self.params, self.model_state)

  def __repr__(self):
    return f'Trained({self.config}, over {self.base.name} {self.base.sha256[:8]})'


class _Run(NamedTuple):
  """A run of which all has been checked, and nothing written."""

  config: CodeConfig
  path: Path
  dataset: data.Dataset
  scheme: Scheme
  devices: list


def train_code(config: CodeConfig, workdir: str, base_dir: str | None = None, options: RunOptions = RunOptions(),
               base: Base | None = None) -> Trained:
  """Trains a code in `workdir` over the base model in `base_dir`, and evaluates it on the test split.

  A code that needs no training is set up and evaluated.

  Args:
    config: what to train.
    workdir: where everything goes; a run that was stopped there is resumed.
    base_dir: a workdir of `train_base`; None to use the one that the workdir keeps, or to train one there.
    options: how.
    base: F where it is loaded already.

  Raises:
    InputError: before anything is written, if the config, the workdir, the data or the devices will not do.
    DivergedError: if the loss is not finite.
    OutOfTime: if it was stopped; the same call resumes it.
  """
  run = _checked(config, directory('workdir', workdir), base_dir, options, base)
  _open(run)
  base = base or base_model.obtain(run.config, run.dataset, run.path, base_dir, options)
  base_model.keep(run.path, base)
  fitted = _fit(run, base, options)
  took = base_model.timing(fitted.result, run.config.batch_size)
  took['finished'] = took['steps'] in (0, run.config.epochs * fitted.result.steps_per_epoch)  # 0: nothing to train
  return _evaluated(run, base, fitted.params, fitted.model_state, took, options.time_costs)


def load(workdir: str | Path) -> Trained:
  """A trained code as its workdir has it: the best epoch's parameters, the base model, the record.

  Needs no data, evaluates nothing, and writes nothing.

  Raises:
    InputError: if this is no workdir of `train_code`, nothing was trained there yet, or a file is damaged.
  """
  return _load(directory('workdir', workdir))[0]


def _load(path: Path) -> tuple[Trained, checkpoint.Best]:
  config = _config_in(path)
  if not (path / 'base_model').is_dir():
    raise InputError(f'{path} keeps no base model: its training has not begun; train it first.')
  with _own_parts(path):
    base = base_model.kept_base(path)
    scheme = build_scheme(config, base.query_shape, base.num_outputs)
  best = checkpoint.Store(path / 'checkpoints').load_best(base_model.zeros_like(_shapes(scheme, base)))
  evaluated = [record for record in records.read(path) if record.get('kind') == 'code']
  return Trained(config, scheme, *best.variables, base, evaluated[-1] if evaluated else None), best


def evaluate_code(workdir: str | Path, options: RunOptions = RunOptions()) -> Trained:
  """Evaluates the best parameters of a code's workdir on the test split, and appends the record."""
  began, path = time.monotonic(), directory('workdir', workdir)
  instance('options', options, RunOptions)
  config = _config_in(path)
  with _own_parts(path):
    devices = choose_devices(options.devices, config.convolutional)
    dataset = data.load(config.dataset, options.data_dir)
  trained, best = _load(path)
  base = dataclasses.replace(trained.base, dataset=dataset)
  run = _Run(config, path, dataset, trained.scheme, devices)
  known = {name: trained.record[name] for name in ('steps', 'finished') if name in (trained.record or {})}
  return _evaluated(run, base, trained.params, trained.model_state, known | {
      'best_step': best.step, 'best_validation': best.value, 'seconds': time.monotonic() - began}, options.time_costs)


def _checked(config, path, base_dir, options, base) -> _Run:
  """Resolves the config, loads the data and checks all that can be, without a trace."""
  instance('options', options, RunOptions)
  if base is not None:
    instance('base', base, Base)
  if base_dir is not None:
    directory('base_dir', base_dir)
  config = instance('config', config, CodeConfig).resolved()
  records.check(path, {'kind': 'code', **dataclasses.asdict(config)})
  if base is None:
    may_be_empty = base_dir is None or (path / 'base_model').is_dir()
    base_model.check_base_dir(path / 'base' if base_dir is None else base_dir, config.base_model, config.dataset,
                              may_be_empty)
  devices = options.choose_devices(config.convolutional, config.batch_size)
  dataset = base.dataset if base else data.load(config.dataset, options.data_dir)
  for name in ('train', 'validation', 'test'):
    if len(getattr(dataset, name)) < config.k:
      raise InputError(f'k={config.k} is larger than the {len(getattr(dataset, name))} examples of the {name} split: '
                       'choose a smaller k.')
  scheme = build_scheme(config, dataset.image_shape, dataset.num_classes)
  parts_to_train(scheme, _shapes(scheme, base_model.blank_base(config.base_model, dataset))[0], config.train_parts)
  records.check(path, {'data_source': dataset.source})
  return _Run(config, path, dataset, scheme, devices)


def _open(run: _Run) -> None:
  records.open_workdir(str(run.path))
  records.claim(run.path, {'kind': 'code', **dataclasses.asdict(run.config), 'data_source': run.dataset.source})


def _fit(run: _Run, base: Base, options: RunOptions) -> Fitted:
  config, dataset = run.config, run.dataset
  title = f'({config.k}, {config.r}) {config.encoder}, {config.parity_model}, {config.decoder}'
  with Progress(title, run.path, ('reconstruction', 'degraded')) as reporter:
    return fit(
        run.scheme, base.variables, dataset.train.images, dataset.train.labels,
        validation=(dataset.validation.images, dataset.validation.labels), loss=config.loss, recipe=config.recipe,
        epochs=config.epochs, batch_size=config.batch_size, seed=config.seed, train_parts=config.train_parts,
        scenarios=_spare(config) if config.num_byzantine else config.scenarios, preprocess=base.preprocess,
        augment=dataset.spec.augment, devices=run.devices, max_steps=options.max_steps,
        store=checkpoint.Store(run.path / 'checkpoints', len(run.devices)), save_every_s=options.save_every_s,
        stop_at=options.stop_at, reporter=reporter, base_outputs=base.outputs)


def _evaluated(run: _Run, base: Base, params, model_state, timing: dict, timed: bool) -> Trained:
  """Evaluates on the test split and appends the record."""
  config, scheme = run.config, run.scheme
  record = {'kind': 'code', 'config': dataclasses.asdict(config), 'seed': config.seed}
  record |= judged(scheme, params, model_state, base, config.loss, run.devices, _spare(config), timed)
  if config.num_byzantine:
    record |= evaluate_byzantine(scheme, params, model_state, base.variables, base.dataset.test,
                                 preprocess=base.preprocess, num_byzantine=config.num_byzantine)
  record |= timing | records.environment(run.devices)
  records.append(run.path, record)
  return Trained(config, scheme, params, model_state, base, record)


def judged(scheme: Scheme, params, model_state, base: Base, loss: str, devices, scenarios=None,
           timed: bool = True) -> dict[str, Any]:
  """What a record says of a code: its test figures (`evaluate`), parameters, and costs in work, bytes and time.

  `base` has its data; without `timed` nothing is measured.
  """
  figures = evaluate(scheme, params, model_state, base.variables, base.dataset.test, preprocess=base.preprocess,
                     loss=loss, devices=devices, base_outputs=base.outputs['test'], scenarios=scenarios)
  costs = group_costs(scheme, params, model_state, base.variables, base.query_shape, base.num_outputs)
  figures |= {'base_parameters': count_parameters(base.variables)}
  figures |= {f'{part}_parameters': count_parameters(params[part]) for part in params}
  figures |= extra_work(scheme, costs) | {'costs': costs, 'base_sha256': base.sha256}
  figures |= wire_costs(scheme, params, model_state, base.variables, base.query_shape, base.num_outputs)
  if timed:
    times = group_times(scheme, params, model_state, base.variables, base.query_shape)
    figures |= extra_time(scheme, times) | {'times': times}
  return figures


@contextlib.contextmanager
def _own_parts(path: Path):
  """What a name that is unknown here most likely wants."""
  try:
    yield
  except UnknownNameError as error:
    raise InputError(f'{path} was trained with parts that are not known here ({str(error).rstrip(".")}): import the '
                     'module that registers them first, for experiments by --import.') from error


def _config_in(path: Path) -> CodeConfig:
  stored = records.read_config(path)
  if stored is not None and stored.get('kind') == 'base':
    raise InputError(f'workdir={str(path)!r} holds a base model, no code: train a code over it with base_dir='
                     f'{str(path)!r}, in another workdir.')
  if stored is None or stored.get('kind') != 'code':
    raise InputError(f'workdir={str(path)!r} is no workdir of train_code: train a code there first.')
  return records.config_as(CodeConfig, stored, path)


def _spare(config: CodeConfig) -> np.ndarray | None:
  """Where wrong answers are located: the patterns of the stragglers that the code has left for; None otherwise."""
  if not config.num_byzantine:
    return None
  code = Code(config.k, config.r)
  stragglers = code.n - 2 * (config.k + config.num_byzantine)
  intact = np.ones((1, code.n), bool)
  return every_pattern(code, stragglers, passthrough=False) if stragglers else intact


def _shapes(scheme: Scheme, base):
  """Shapes of (params, model_state); raises what the parts have to say about a query's shape."""
  return jax.eval_shape(
      lambda key: scheme.init(key, np.zeros((scheme.code.k, *base.query_shape), np.float32), base.num_outputs,
                              base.variables), jax.random.key(0))
