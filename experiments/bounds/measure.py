"""The figures of a bound: it is evaluated and costed like a code, with nothing trained."""

import dataclasses
import time
from pathlib import Path

from lcode import data
from lcode.coding.scheme import Scheme
from lcode.errors import InputError
from lcode.models import is_convolutional
from lcode.runs import records
from lcode.runs.base_model import Base, obtain
from lcode.runs.row import judged
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.training.devices import choose_devices


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
  return obtain(CodeConfig(config['dataset'], config['base_model']), dataset, Path(directory), directory, options)


def measure(scheme: Scheme, params, base: Base, config: dict, options: RunOptions, began: float) -> Measured:
  """Evaluates a bound on the test split, every erasure pattern, and counts its work.

  Args:
    config: goes into the record as it is; must have `loss`, `seed`, and what `common.show` needs.
    began: the time.monotonic() from which the record's seconds count.
  """
  devices = choose_devices(options.devices, is_convolutional(base.name))
  record = {'config': config, 'seed': config['seed']}
  record |= judged(scheme, params, {}, base, config['loss'], devices, timed=options.time_costs)
  record['seconds'] = time.monotonic() - began
  return Measured(scheme, params, base, record | records.environment(devices))
