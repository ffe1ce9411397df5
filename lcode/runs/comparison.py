"""Every code on the same work: one frozen model, the same test groups and erasures, and what each code costs."""

import dataclasses
import functools
import json
import numbers
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lcode import data, models
from lcode.coding.costs import cost
from lcode.data.digest import sha256
from lcode.errors import InputError, whole
from lcode.models.forms import check_form
from lcode.runs import base_model, records
from lcode.runs.code_run import train_code
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.parts import STUDENTS
from lcode.runs.presets import config_of, get_preset
from lcode.runs.progress import console
from lcode.runs.report import training_of
from lcode.runs.row import seconds_an_epoch
from lcode.runs.tables import MEASURES
from lcode.training.trial import checked_seconds, epochs_in

KEYS = ('dataset', 'base_model', 'scheme', 'seed', 'config', 'base_sha256', 'max_steps')


@dataclasses.dataclass(frozen=True)
class Comparison:
  """What is compared over one base model.

  Attributes:
    schemes: names, as `presets.get_preset` takes them.
    ks, rs: queries and parities per group, each with each.
    seeds: of the codes.
    epochs, recipe, loss: of every code that is trained; None for its own.
    backup_work: multiply-adds of the backups, relative to an inference by F.
    seconds_a_row: to train every row for, by as many epochs as they hold after compilation, at least one; None for its
      recipe's epochs.
    form: of every small network (`models.forms`); '' for that of F's kind.
    student_work: multiply-adds of students, relative to an inference by F; None for 1/k of its time, by work.

  Raises:
    InputError: if there is nothing to compare, or a number is not allowed.
  """

  dataset: str
  base_model: str
  schemes: tuple[str, ...]
  ks: tuple[int, ...]
  rs: tuple[int, ...]
  seeds: tuple[int, ...] = (0,)
  epochs: int | None = None
  backup_work: tuple[float, ...] = (0.05, 0.2)
  recipe: str | None = None
  loss: str | None = None
  seconds_a_row: float | None = None
  form: str = ''
  student_work: float | None = None

  def __post_init__(self):
    for name in ('schemes', 'ks', 'rs', 'seeds', 'backup_work'):
      values = getattr(self, name)
      if not isinstance(values, tuple) or not values:
        raise InputError(f'{name}={values!r} leaves nothing to compare: give a tuple of at least one.')
    for name, least in (('ks', 1), ('rs', 1), ('seeds', 0)):
      for value in getattr(self, name):
        whole(name, value, least)
    for work in self.backup_work:
      if not work >= 0:
        raise InputError(f'backup_work={work!r} is not allowed: give 0 or more, relative to an inference by F.')
    if self.student_work is not None and not (isinstance(self.student_work, numbers.Real) and self.student_work > 0):
      raise InputError(f'student_work={self.student_work!r} is not allowed: give more than 0, relative to an inference '
                       'by F, or None.')
    check_form(self.form)
    for scheme in self.schemes:
      get_preset(scheme)
    if self.seconds_a_row is not None:
      checked_seconds(self.seconds_a_row)
      if self.epochs is not None:
        raise InputError(f'epochs={self.epochs} with seconds_a_row={self.seconds_a_row:g} is not allowed: give one of '
                         'the two, the time then says how many epochs.')

  def rows(self, over: 'Over') -> Iterable[tuple[str, int, int, CodeConfig]]:
    """(scheme, k, r, config) of every row that can be; those that cannot are left out, with a line that says why."""
    for scheme in self.schemes:
      preset = get_preset(scheme)
      backups = self.backup_work if preset.parity_model == 'backup' else (0.0,)
      for seed, k, r, work in ((s, k, r, w) for s in self.seeds for k in self.ks for r in self.rs for w in backups):
        multiply_adds = int(work * over.multiply_adds)
        if preset.parity_model in STUDENTS:
          multiply_adds = None if self.student_work is None else int(self.student_work * over.multiply_adds)
        name = f'{scheme}-{work:g}' if work and over.size_known else f'{scheme}-{multiply_adds}' if work else scheme
        try:
          yield name, k, r, over.config_of(scheme, k, r, self.dataset, self.base_model, seed, self.epochs,
                                           multiply_adds, self.recipe, self.loss, self.form)
        except InputError as error:
          left_out(name, k, r, error)


class Over(NamedTuple):
  """How the rows with one F are made.

  Attributes:
    sha256: of F, by which a workdir's rows are known.
    multiply_adds: of an inference by F, by which backups are sized.
    config_of: as `presets.config_of`.
    train: (config, folder or None, options) -> the record of the trained and evaluated code.
    seconds_an_epoch: (config, seconds, options) -> float, measured in a trial; None where there is nothing to train.
    size_known: whether F really takes these multiply-adds, or time that is worth as much.
    judged_by: the figure by which rows are compared.
  """

  sha256: str
  multiply_adds: float
  config_of: Callable
  train: Callable
  seconds_an_epoch: Callable
  size_known: bool = True
  judged_by: str = 'degraded_accuracy'


def compare(comparison: Comparison, workdir: str, base_dir: str | None, options: RunOptions,
            base: base_model.Base | None = None) -> list[dict]:
  """Trains what needs training over a named base model, and evaluates all; see `compare_over`."""
  if base is None:
    base = obtain_base(comparison, Path(workdir), base_dir, options)
  return compare_over(over_named(base), comparison, workdir, options)


def over_named(base: base_model.Base) -> Over:
  """How rows with a base model that `make_model` knows are made: each by `train_code`, in a workdir of its own."""

  def train(config, folder, options):
    trained = train_code(config, str(folder), None, options, base)
    return trained.record | {'passthrough': trained.scheme.passthrough, 'at_frontend': trained.scheme.at_frontend}

  return Over(base.sha256, _multiply_adds(base), config_of, train, functools.partial(seconds_an_epoch, base))


def compare_over(over: Over, comparison: Comparison, workdir: str | None, options: RunOptions) -> list[dict]:
  """The records of the rows, in their order; each is appended to the workdir's where there is one.

  What is done, by the records in the workdir, is not done again; what was stopped is resumed.
  """
  path = None if workdir is None else records.open_workdir(workdir)
  stored = [] if path is None else records.read(path)
  done = {}  # by what a row's figures depend on: those of a per-query preset are the same for every k and r
  for record in stored:
    if record.get('kind') == 'comparison':
      done.setdefault(_key(record), {})[record['k'], record['r']] = record
  plans = {record['of']: record for record in stored if record.get('kind') == 'training_plan'}
  rows = []
  for scheme, k, r, config in comparison.rows(over):
    try:
      config, planned = _planned(over, comparison, config, plans, path, options)
      row = {'kind': 'comparison', 'dataset': config.dataset, 'base_model': config.base_model, 'scheme': scheme, 'k': k,
             'r': r, 'seed': config.seed, 'config': dataclasses.asdict(config), 'base_sha256': over.sha256,
             'max_steps': options.max_steps, 'split': options.split, 'judged_by': over.judged_by, **planned}
      same = done.setdefault(_key(row), {})
      if (k, r) not in same:
        folder = None if path is None else path / 'codes' / folder_of(config, over.sha256)
        row['code_dir'] = folder and str(folder)
        same[k, r] = (next(iter(same.values())) if same else over.train(config, folder, options)) | row
        if path is not None:
          records.append(path, same[k, r])
        console.print(f'{scheme}, k={k}, r={r}: {_shown(same[k, r])}', highlight=False, markup=False)
    except InputError as error:
      left_out(scheme, k, r, error)
      continue
    rows.append(same[k, r])
  return rows


def left_out(scheme: str, k: int, r: int, error: InputError) -> None:
  """Says that a row cannot be, and why."""
  console.print(f'{scheme}, k={k}, r={r}: left out: {error}', highlight=False, markup=False, soft_wrap=True)


def _planned(over: Over, comparison: Comparison, config: CodeConfig, plans: dict, path, options) -> tuple:
  """The config with the epochs that the time of a row holds, and what the record says of them.

  A plan is kept: a row that is resumed, or made with another seed, is trained for as many epochs.
  """
  seconds = comparison.seconds_a_row
  if seconds is None:
    return config, {}
  alike = dataclasses.asdict(dataclasses.replace(config, seed=0, epochs=None))
  of = json.dumps([alike, over.sha256, seconds], sort_keys=True)
  if of not in plans:
    an_epoch = over.seconds_an_epoch(config, seconds, options)
    epochs = None if an_epoch is None else epochs_in(seconds, an_epoch)
    plans[of] = {'kind': 'training_plan', 'of': of, 'epochs': epochs, 'trial_seconds_an_epoch': an_epoch}
    if path is not None:
      records.append(path, plans[of])
  plan = plans[of]
  if plan['epochs'] is None:
    return config, {}
  return dataclasses.replace(config, epochs=plan['epochs']), {
      'seconds_a_row': seconds, 'planned_seconds': plan['epochs'] * plan['trial_seconds_an_epoch']}


def _shown(row) -> str:
  measure = MEASURES[row['judged_by']]
  return f'{measure.short} {measure.shown(row[row["judged_by"]])}'


def latest(workdir: Path, like: dict) -> list[dict]:
  """The rows that a workdir has with the base model of the record `like`: of each scheme, k, r and seed the newest.

  Seeds that were trained for another number of epochs or steps than the newest row of their scheme, k and r are left
  out: their mean would be of neither.
  """
  same = {name: like[name] for name in ('kind', 'dataset', 'base_model', 'base_sha256')}
  newest, trainings, split = {}, {}, like.get('split') or 'test'
  for record in records.read(workdir):
    if all(record.get(name) == value for name, value in same.items()) and (record.get('split') or 'test') == split:
      row = record['scheme'], record['k'], record['r']
      newest[*row, record['seed']] = record
      trainings[row] = training_of(record)
  return [record for (*row, _), record in newest.items() if training_of(record) == trainings[tuple(row)]]


def folder_of(config: CodeConfig, base_sha256: str) -> str:
  """The name of the folder of a row's code, under <workdir>/codes."""
  what = json.dumps([dataclasses.asdict(config), base_sha256], sort_keys=True)
  return f'{config.encoder}-{config.parity_model}-{config.decoder}-k{config.k}-r{config.r}-{sha256(what)[:8]}'


def obtain_base(comparison: Comparison, path: Path, base_dir: str | Path | None, options: RunOptions,
                own: Path | None = None) -> base_model.Base:
  """The base model, loaded or trained: that of the first seed, whatever the codes' seeds.

  Args:
    comparison: names it.
    path: the workdir.
    base_dir: a workdir of `train_base`; None for `own`.
    options: how to train it.
    own: where it lies, or is trained where there is none; None for <path>/base.

  Raises:
    InputError: before anything is written, if base_dir holds no such base model, or the data are not to be had.
  """
  own = own or path / 'base'
  base_model.check_base_dir(base_dir or own, comparison.base_model, comparison.dataset, may_be_empty=base_dir is None)
  options.choose_devices(models.is_convolutional(comparison.base_model), 64)
  config = CodeConfig(comparison.dataset, comparison.base_model).resolved()
  dataset = data.load(comparison.dataset, options.data_dir)
  return base_model.obtain(config, dataset, path, base_dir, options, own)


def _multiply_adds(base) -> float:
  """Of one inference by F: half of XLA's FLOPs."""
  return cost(base.apply, base.variables, np.zeros((1, *base.dataset.image_shape), np.float32))['flops'] / 2


def _key(record) -> str:
  values = [record.get(name) for name in KEYS]
  return json.dumps([*values, record.get('seconds_a_row'), record.get('split') or 'test'], sort_keys=True)
