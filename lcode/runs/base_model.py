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
from lcode.errors import InputError, directory, instance
from lcode.runs import records
from lcode.runs.answers import Answers
from lcode.runs.configs import BaseConfig, CodeConfig, RunOptions
from lcode.runs.progress import Progress
from lcode.training import checkpoint
from lcode.training.fit_base import fit_base


@dataclasses.dataclass(frozen=True)
class Base:
  """A frozen base model F.

  Attributes:
    name: of the base model.
    variables: of F.
    apply: F, (variables, x f32[b, *S]) -> f32[b, C].
    sha256: of the variables.
    spec: of the data set that it answers for.
    query_shape: *S.
    num_outputs: C, numbers per answer.
    dataset: the data; None where F was loaded without them.
    finished: False where training was cut short by max_steps.
  """

  name: str
  variables: Any
  apply: Any
  sha256: str
  spec: data.Spec
  query_shape: tuple[int, ...]
  num_outputs: int
  dataset: data.Dataset | None = None
  finished: bool = True

  @property
  def preprocess(self):
    """What turns stored images into queries: [..., *S] -> f32[..., *S]."""
    return data.make_normalise(self.spec)

  @property
  def query_dtype(self):
    """Of a query, as F takes it."""
    return np.float32

  @functools.cached_property
  def outputs(self) -> dict[str, np.ndarray]:
    """F's outputs f32[N, C] by split, each computed when first asked for (`lcode.runs.answers`)."""
    if self.dataset is None:
      raise InputError('this base model was loaded without data: F\'s outputs on them are not known.')
    return Answers(self)


def train_base(config: BaseConfig, workdir: str, options: RunOptions = RunOptions(),
               dataset: data.Dataset | None = None) -> tuple[Base, dict]:
  """Trains F in `workdir`, or resumes there; returns it with the record that it appended.

  Args:
    config: what to train.
    workdir: where checkpoints and records go.
    options: how.
    dataset: the data where they are loaded already.

  Raises:
    InputError: before anything is written, if the config, the workdir, the data or the devices will not do.
    DivergedError: if the loss is not finite.
    OutOfTime: if it was stopped; the same call resumes it.

  >>> base, record = lcode.train_base(lcode.BaseConfig('digits', 'logistic', epochs=1), 'runs/base')
  >>> base.query_shape, base.num_outputs, record['steps']
  ((8, 8, 1), 10, 10)
  """
  config = instance('config', config, BaseConfig).resolved()
  instance('options', options, RunOptions)
  workdir = directory('workdir', workdir)
  records.check(workdir, {'kind': 'base', **dataclasses.asdict(config)})
  dataset = dataset or data.load(config.dataset, options.data_dir)
  devices = options.choose_devices(models.is_convolutional(config.base_model), config.batch_size)
  data.plan_batches(np.arange(len(dataset.train)), 1, config.batch_size, drop_last=True)
  make_model = functools.partial(models.make_model, config.base_model, dataset.image_shape, dataset.num_classes)
  make_model()  # raises what the model has to say about a query's shape
  path = records.open_workdir(workdir)
  records.claim(path, {'kind': 'base', **dataclasses.asdict(config), 'data_source': dataset.source})
  with Progress(f'base {config.base_model}', path, ('available',)) as reporter:
    result = fit_base(
        make_model, dataset.train, dataset.validation, config.recipe, epochs=config.epochs,
        batch_size=config.batch_size, seed=config.seed,
        preprocess=data.make_normalise(dataset.spec), augment=dataset.spec.augment, devices=devices,
        max_steps=options.max_steps, store=checkpoint.Store(path / 'checkpoints', len(devices)),
        save_every_s=options.save_every_s, stop_at=options.stop_at, reporter=reporter)
  finished = int(result.state.step) >= config.epochs * result.steps_per_epoch
  base = _assemble(config.base_model, jax.device_get(result.best.variables), dataset.spec, dataset.image_shape,
                   dataset.num_classes, dataset, finished)
  record = {'kind': 'base', 'config': dataclasses.asdict(config), 'seed': config.seed,
            'available_accuracy': float((base.outputs['test'].argmax(-1) == dataset.test.labels).mean()),
            'validation_accuracy': result.best.value, 'base_parameters': count_parameters(base.variables),
            'base_sha256': base.sha256, 'finished': finished}
  record |= timing(result, config.batch_size) | records.environment(devices)
  records.append(path, record)
  return base, record


def check_base_dir(base_dir: str | Path, base_model: str, dataset: str, may_be_empty: bool = False) -> None:
  """Raises InputError if a base_dir has no base model, one of another data set or model, or something else.

  Args:
    base_dir: the directory.
    base_model, dataset: names of what it is to hold.
    may_be_empty: whether a base model may yet be trained there.
  """
  stored = records.read_config(Path(base_dir))
  if stored is None:
    if Path(base_dir).is_dir() and any(Path(base_dir).iterdir()) or Path(base_dir).is_file():
      raise InputError(f'base_dir={str(base_dir)!r} holds something, but no base model: name a workdir of train_base.')
    if not may_be_empty:
      raise InputError(f'base_dir={str(base_dir)!r} holds no base model: train one there with train_base first, or '
                       'leave base_dir out to have one trained in the workdir.')
    return
  if stored.get('kind') not in ('base', 'code'):
    raise InputError(f'base_dir={str(base_dir)!r} is no workdir of train_base or train_code: name one, or leave '
                     'base_dir out.')
  for name, value in (('dataset', dataset), ('base_model', base_model)):
    if stored.get(name) != value:
      raise InputError(f'base_dir={str(base_dir)!r} was trained with {name}={stored.get(name)!r}, this run has '
                       f'{value!r}: use a matching base_dir, or change {name}.')


def obtain(config: CodeConfig, dataset: data.Dataset, path: Path, base_dir: str | Path | None = None,
           options: RunOptions = RunOptions(), own: Path | None = None) -> Base:
  """F for a code: the one in base_dir, else the one that the workdir keeps, else one that is trained on the spot.

  Args:
    config: names the base model, and with it the seed of one that is trained here.
    dataset: the data.
    path: the code's workdir.
    base_dir: a workdir of `train_base`, where what is not finished is finished; or one of `train_code`, for the F that
      it keeps.
    options: how to train it; max_steps counts here too.
    own: where F is trained if no base_dir is given; None for <path>/base.

  Raises:
    InputError: if what is there is damaged, or was cut short by max_steps and this run is not.
  """
  source = Path(base_dir) if base_dir is not None else own or path / 'base'
  stored = records.read_config(source)
  if stored is not None and stored.get('kind') == 'code':
    return kept_base(source, dataset)
  kept = kept_base(path, dataset) if (path / 'base_model').is_dir() else None
  finished = stored is not None and any(record.get('finished') for record in records.read(source))
  if kept and (base_dir is None or not finished):
    if not kept.finished and options.max_steps is None:
      raise InputError(f'{path} was started with max_steps, over a base model that is not finished: use another '
                       'workdir to train in earnest, or give max_steps again.')
    return kept
  if finished:
    make_template = functools.partial(_template, config.base_model, dataset.image_shape, dataset.num_classes)
    best = checkpoint.Store(source / 'checkpoints').load_best(make_template())
    return _assemble(config.base_model, best.variables, dataset.spec, dataset.image_shape, dataset.num_classes, dataset)
  base_config = BaseConfig(config.dataset, config.base_model, seed=config.seed)
  if stored is not None:
    base_config = records.config_as(BaseConfig, stored, source)
  return train_base(base_config, str(source), dataclasses.replace(options, devices=None), dataset)[0]


def keep(path: Path, base: Base) -> None:
  """Writes F into a code's workdir, so that it can be moved; raises InputError where another F lies there."""
  if (path / 'base_model').is_dir():
    kept = kept_base(path, base.dataset).sha256
    if kept != base.sha256:
      raise InputError(f'{path} was started with base_sha256={kept!r}, that of the base model given is '
                       f'{base.sha256!r}: use another workdir, or the base_dir it was started with.')
    return
  params = base.variables['params']
  model_state = {name: value for name, value in base.variables.items() if name != 'params'}
  meta = {'dataset': base.dataset.name, 'base_model': base.name, 'sha256': base.sha256, 'finished': base.finished,
          'query_shape': list(base.query_shape), 'num_outputs': base.num_outputs,
          'spec': dataclasses.asdict(base.spec)}
  checkpoint.save_tree(path / 'base_model', (params, model_state), meta)


def kept_base(path: Path, dataset: data.Dataset | None = None) -> Base:
  """The base model that a code's workdir keeps; raises InputError if there is none, or it is damaged."""
  where = Path(path) / 'base_model'
  try:
    meta = _completed(checkpoint.load_meta(where), dataset)
    variables, _ = checkpoint.load_tree(
        where, lambda _: _template(meta['base_model'], meta['query_shape'], meta['num_outputs']))
  except checkpoint.DamagedError as error:
    raise InputError(f'{str(error).rstrip(".")}: remove {where} and run the command that trained the code again, which '
                     'writes it anew from the base model it was trained over, or copy it from a backup.') from error
  return _assemble(meta['base_model'], variables, meta['spec'], meta['query_shape'], meta['num_outputs'], dataset,
                   meta.get('finished', True))


def blank_base(name: str, dataset: data.Dataset) -> Base:
  """F with zeros for variables: to check shapes by before F is there."""
  variables = _template(name, dataset.image_shape, dataset.num_classes)
  return _assemble(name, variables, dataset.spec, dataset.image_shape, dataset.num_classes, dataset, False)


def _completed(meta: dict, dataset) -> dict:
  """The meta of a kept F with its spec and shapes, which were not written before: then those of the data set."""
  if 'spec' in meta:
    spec = data.Spec(**{name: tuple(value) if isinstance(value, list) else value
                        for name, value in meta['spec'].items()})
    return meta | {'spec': spec, 'query_shape': tuple(meta['query_shape'])}
  spec = dataset.spec if dataset else data.SPECS.get(meta['dataset'])
  shape, outputs = ((dataset.image_shape, dataset.num_classes) if dataset else
                    (spec and spec.image_shape, spec and spec.num_classes))
  if shape is None:
    raise InputError(f'the base model was kept without its queries\' shape, and the data set {meta["dataset"]!r} does '
                     'not tell it: give the data set.')
  return meta | {'spec': spec, 'query_shape': shape, 'num_outputs': outputs}


def _template(name: str, query_shape, num_outputs: int) -> tuple[Any, dict]:
  """(params, other collections) of F as zeros."""
  model = models.make_model(name, query_shape, num_outputs)
  variables = dict(zeros_like(jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *query_shape), np.float32))))
  return variables.pop('params'), variables


def _assemble(name, variables, spec, query_shape, num_outputs, dataset=None, finished=True) -> Base:
  params, model_state = variables
  leaves = jax.tree_util.tree_leaves_with_path((params, model_state))
  digest = sha256(*(part for path, value in leaves for part in (jax.tree_util.keystr(path), value)))
  apply = models.make_apply(models.make_model(name, query_shape, num_outputs))
  return Base(name, {'params': params, **model_state}, apply, digest, spec, tuple(query_shape), num_outputs, dataset,
              finished)


def count_parameters(tree) -> int:
  """How many trained numbers a tree of variables holds (batch statistics are not trained)."""
  tree = tree['params'] if isinstance(tree, dict) and 'params' in tree else tree
  return sum(x.size for x in jax.tree.leaves(tree))


def zeros_like(shapes):
  """A tree of NumPy zeros of the shapes and dtypes of another."""
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def timing(result, batch_size) -> dict:
  """Seconds; rates are of the median epoch, so that compilation (in the first) does not count; None if none was run."""
  epochs = result.history[1:] or result.history
  seconds_a_step = statistics.median(epoch['seconds'] / epoch['steps'] for epoch in epochs) if epochs else None
  return {'steps': int(result.state.step), 'seconds': result.seconds, 'best_step': result.best.step,
          'best_validation': result.best.value,
          'seconds_an_epoch': epochs and seconds_a_step * result.steps_per_epoch or None,
          'groups_per_second': epochs and batch_size / seconds_a_step or None}
