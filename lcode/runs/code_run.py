"""Codes in workdirs: trained with a base model, loaded, evaluated. Resumable, and recorded.

A code's workdir holds `config.json`, `base_model/` (F's variables, so that it stands alone), `checkpoints/`,
`events/` and `records.jsonl`.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lcode import data
from lcode.coding.codec import Codec, make_codec
from lcode.coding.scheme import Scheme, parts_to_train
from lcode.errors import InputError, UnknownNameError, directory, instance
from lcode.runs import base_model, records
from lcode.runs.base_model import Base
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.parts import build_scheme
from lcode.runs.progress import Progress
from lcode.runs.row import fit_row, judged, shapes_of, spare_patterns
from lcode.training import checkpoint
from lcode.training.devices import choose_devices
from lcode.training.evaluate import evaluate_byzantine
from lcode.training.fit import Fitted


@dataclasses.dataclass(frozen=True)
class Trained:
  """A code with what is needed to use it.

  Attributes:
    config: what it was trained by.
    scheme: its pure functions.
    params, model_state: their parameters and state, of the best epoch.
    base: F, with its variables.
    record: the figures of its last evaluation; None where it was never evaluated.
    codec: the jitted functions.

  >>> trained.codec.encode(np.zeros((5, 2, 8, 8, 1), 'float32')).shape
  (5, 1, 8, 8, 1)
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
  """Trains a code in `workdir` with the base model of `base_dir`, and evaluates it on the options' split.

  A code that needs no training is set up and evaluated.

  Args:
    config: what to train.
    workdir: where everything goes; a run that was stopped there is resumed.
    base_dir: a workdir of `train_base`; None to use the one that the workdir keeps, or to train one there.
    options: how.
    base: F where it is loaded already.

  Returns:
    the code of the best epoch, with the record that was appended to `<workdir>/records.jsonl`.

  Raises:
    InputError: before anything is written, if the config, the workdir, the data or the devices will not do.
    DivergedError: if the loss is not finite.
    OutOfTime: if it was stopped; the same call resumes it.

  >>> copies = lcode.train_code(lcode.config_of('replication'), 'runs/copies', 'checkpoints/digits-mlp-k2-r1')
  >>> copies.record['degraded_accuracy'] == copies.record['available_accuracy']
  True
  """
  run = _checked(config, directory('workdir', workdir), base_dir, options, base)
  _open(run)
  base = base or base_model.obtain(run.config, run.dataset, run.path, base_dir, options)
  base_model.keep(run.path, base)
  fitted = _fit(run, base, options)
  took = base_model.timing(fitted.result, run.config.batch_size)
  took['finished'] = took['steps'] in (0, run.config.epochs * fitted.result.steps_per_epoch)  # 0: nothing to train
  return _evaluated(run, base, fitted.params, fitted.model_state, took, options)


def load(workdir: str | Path, apply: Callable | None = None, variables: Any = None, module=None) -> Trained:
  """A trained code as its workdir has it: the best epoch's parameters, the base model, the record.

  Needs no data, evaluates nothing, and writes nothing.

  Args:
    workdir: of `train_code`; or the folder of a code that `lcode.compare` trained with a model of your own
      (<workdir>/codes/..., `code_dir` of its row), which keeps the code and not the model.
    apply, variables, module: that model, as it was compared.

  Raises:
    InputError: if this is not such a directory, nothing was trained there yet, a file is damaged, or the model is
      another.

  >>> lcode.load('checkpoints/digits-mlp-k2-r1').scheme.code
  Code(k=2, r=1)
  """
  path = directory('workdir', workdir)
  if apply is None:
    return _load(path)[0]
  from lcode.runs import own_code  # knows comparisons, which know this file
  config, scheme, variables, own, record = own_code.load(path, apply, variables, module)
  return Trained(config, scheme, *variables, own, record)


def _load(path: Path) -> tuple[Trained, checkpoint.Best]:
  config = _config_in(path)
  if not (path / 'base_model').is_dir():
    raise InputError(f'{path} keeps no base model: its training has not begun; train it first.')
  with _own_parts(path):
    base = base_model.kept_base(path)
    scheme = build_scheme(config, base.query_shape, base.num_outputs)
  best = checkpoint.Store(path / 'checkpoints').load_best(base_model.zeros_like(shapes_of(scheme, base)))
  evaluated = [record for record in records.read(path) if record.get('kind') == 'code']
  return Trained(config, scheme, *best.variables, base, evaluated[-1] if evaluated else None), best


def evaluate_code(workdir: str | Path, options: RunOptions = RunOptions()) -> Trained:
  """Evaluates the best parameters of a code's workdir on the split of the options, and appends the record.

  Args:
    workdir: of `train_code`.
    options: the split, where the data lie, the devices.

  Returns:
    the code with its new record.

  Raises:
    InputError: as `load`, or if the options or the data will not do.

  >>> import shutil
  >>> _ = shutil.copytree('checkpoints/digits-mlp-k2-r1', 'runs/evaluated')
  >>> lcode.evaluate_code('runs/evaluated', lcode.RunOptions(split='validation')).record['split']
  'validation'
  """
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
      'best_step': best.step, 'best_validation': best.value, 'seconds': time.monotonic() - began}, options)


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
  parts_to_train(scheme, shapes_of(scheme, base_model.blank_base(config.base_model, dataset))[0], config.train_parts)
  records.check(path, {'data_source': dataset.source})
  return _Run(config, path, dataset, scheme, devices)


def _open(run: _Run) -> None:
  records.open_workdir(str(run.path))
  records.claim(run.path, {'kind': 'code', **dataclasses.asdict(run.config), 'data_source': run.dataset.source})


def _fit(run: _Run, base: Base, options: RunOptions) -> Fitted:
  config = run.config
  title = f'({config.k}, {config.r}) {config.encoder}, {config.parity_model}, {config.decoder}'
  with Progress(title, run.path, ('reconstruction', 'degraded')) as reporter:
    return fit_row(run.scheme, base, config, run.devices, options, run.path / 'checkpoints', reporter)


def _evaluated(run: _Run, base: Base, params, model_state, timing: dict, options: RunOptions) -> Trained:
  """Evaluates on the split of the options and appends the record."""
  config, scheme = run.config, run.scheme
  record = {'kind': 'code', 'config': dataclasses.asdict(config), 'seed': config.seed, 'split': options.split}
  record |= judged(scheme, params, model_state, base, config.loss, run.devices, spare_patterns(config),
                   options.time_costs, options.split)
  if config.num_byzantine:
    record |= evaluate_byzantine(scheme, params, model_state, base.variables, getattr(base.dataset, options.split),
                                 preprocess=base.preprocess, num_byzantine=config.num_byzantine)
  record |= timing | records.environment(run.devices)
  records.append(run.path, record)
  return Trained(config, scheme, params, model_state, base, record)


@contextlib.contextmanager
def _own_parts(path: Path):
  """Says what a name that is unknown here most likely lacks."""
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
  if stored is not None and stored.get('kind') == 'own code':
    raise InputError(f'workdir={str(path)!r} holds a code for a model of your own, which it does not keep: give apply= '
                     'and variables= as it was compared with.')
  if stored is None or stored.get('kind') != 'code':
    raise InputError(f'workdir={str(path)!r} is no workdir of train_code: train a code there first.')
  return records.config_as(CodeConfig, stored, path)
