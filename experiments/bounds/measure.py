"""The figures of a bound: evaluated and costed as a code is, with nothing trained."""

import dataclasses
import time
from pathlib import Path

from lcode import data
from lcode.coding.costs import extra_work, group_costs
from lcode.coding.scheme import Scheme
from lcode.errors import InputError
from lcode.models import is_convolutional
from lcode.runs import records
from lcode.runs.base_model import Base, count_parameters, kept_base, obtain
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.training.devices import choose_devices
from lcode.training.evaluate import evaluate


@dataclasses.dataclass(frozen=True)
class Measured:
  """A bound over a base model, and its record."""

  scheme: Scheme
  params: dict
  base: Base
  record: dict


def load_base(directory: str, options: RunOptions) -> Base:
  """The base model of a workdir of train_base, or the one that a workdir of train_code keeps, with its data.

  Raises:
    InputError: if the directory is neither.
  """
  config = records.read_config(Path(directory)) or {}
  if config.get('kind') not in ('base', 'code'):
    raise InputError(f'{directory} is no workdir of train_base or train_code: name one.')
  dataset = data.load(config['dataset'], options.data_dir)
  if config['kind'] == 'code':
    return kept_base(Path(directory), dataset)
  return obtain(CodeConfig(config['dataset'], config['base_model']), dataset, Path(directory), directory, options)


def measure(scheme: Scheme, params, base: Base, config: dict, options: RunOptions, began: float) -> Measured:
  """Evaluates a bound on the test split, every scenario, and counts its work.

  Args:
    config: goes into the record as it is; must have `loss`, `seed`, and what `common.show` wants.
    began: the time.monotonic() from which the record's seconds count.
  """
  devices = choose_devices(options.devices, is_convolutional(base.name))
  figures = evaluate(scheme, params, {}, base.variables, base.dataset.test, loss=config['loss'], devices=devices,
                     preprocess=base.preprocess, base_outputs=base.outputs['test'])
  costs = group_costs(scheme, params, {}, base.variables, base.query_shape, base.num_outputs)
  record = {'config': config, 'seed': config['seed']} | figures | {
      'base_parameters': count_parameters(base.variables)} | {
      f'{part}_parameters': count_parameters(params[part]) for part in params} | extra_work(scheme, costs) | {
      'costs': costs, 'base_sha256': base.sha256, 'seconds': time.monotonic() - began}
  return Measured(scheme, params, base, record | records.environment(devices))
