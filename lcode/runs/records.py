"""Results as records, one JSON object each, appended to `records.jsonl`; and the config a workdir belongs to."""

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jax

from lcode.errors import InputError

RENAMED = {'wrong': 'num_byzantine', 'passes_on': 'passthrough', 'wrong_accuracy': 'byzantine_accuracy',
           'backup_multiply_adds': 'multiply_adds'}
PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-datasets', 'numpy')


def environment(devices) -> dict[str, Any]:
  """What a figure was made with: versions, devices, machine and the commit of the code."""
  return {
      'versions': {'python': platform.python_version()} | {name: _version(name) for name in PACKAGES},
      'device': devices[0].device_kind, 'platform': devices[0].platform, 'devices': len(devices),
      'processes': jax.process_count(), 'cpu': _cpu(), 'cores': os.cpu_count(), 'commit': _commit(),
  }


def append(workdir: Path, record: dict) -> str:
  """Appends the record to `<workdir>/records.jsonl` in one write, and returns its line.

  In a new line, even where the last one was cut short.
  """
  line, path = json.dumps(record, default=float), Path(workdir) / 'records.jsonl'
  with open(path, 'a+b') as file:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - 1, 0))
    cut = end > 0 and file.read(1) != b'\n'
    file.write(b'\n' * cut + line.encode() + b'\n')  # always at the end
  return line


def read(workdir: Path, name: str = 'records.jsonl') -> list[dict]:
  """The records of a workdir; a line that a full disk or a kill cut short, or that is damaged, is passed over."""
  path, parsed = Path(workdir) / name, []
  for line in path.read_text(errors='replace').splitlines() if path.exists() else []:
    try:
      record = json.loads(line)
    except ValueError:
      continue
    if isinstance(record, dict):
      parsed.append(_renamed(record))
  return parsed


def open_workdir(workdir: str) -> Path:
  """The workdir, made if need be; raises InputError if it cannot be written to."""
  path = Path(workdir)
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path):
      pass
  except OSError as error:
    raise InputError(f'the directory {workdir} cannot be written to ({error.strerror}): name another.') from error
  return path


def check(workdir: Path, config: dict) -> None:
  """Raises InputError, naming the field, if the workdir was started with another value of a field of `config`."""
  stored = read_config(workdir)
  if stored is None:
    if (Path(workdir) / 'checkpoints').exists():
      raise InputError(f'{workdir} holds checkpoints but no config.json that says of what: restore that file, '
                       'or use another workdir.')
    return
  for name, value in config.items():
    if name not in stored or stored[name] != value:
      raise InputError(f'{workdir} was started with {name}={stored.get(name)!r}, now it is {value!r}: '
                       'use another workdir, or the same configuration.')


def claim(workdir: Path, config: dict) -> None:
  """Makes the workdir that of `config`, or checks that it is; raises as `check`."""
  check(workdir, config)
  path = workdir / 'config.json'
  if not path.exists():
    part = path.with_suffix('.part')
    part.write_text(json.dumps(config, indent=2) + '\n')
    os.replace(part, path)


def read_config(workdir: Path) -> dict | None:
  """The config of a workdir, None where there is none yet."""
  path = Path(workdir) / 'config.json'
  try:
    stored = json.loads(path.read_text()) if path.exists() else None
    if stored is not None and not isinstance(stored, dict):
      raise ValueError('it holds no dictionary')
    return stored and _renamed(stored)
  except (OSError, ValueError) as error:
    raise InputError(f'{path} cannot be read ({error}): restore it, or use another directory.') from error


def config_as(cls, stored: dict, workdir) -> Any:
  """The dataclass `cls` from a workdir's config; raises InputError on fields that are missing or of another type."""
  values = {}
  for field in dataclasses.fields(cls):
    kind = int if field.default is None else type(field.default)  # those that may be None are whole numbers
    value = stored.get(field.name, field)
    if not (isinstance(value, kind) or value is None and field.default is None):
      raise InputError(f'{workdir}/config.json has {field.name}={stored.get(field.name)!r}, which is no '
                       f'{kind.__name__}: restore it, or use another directory.')
    values[field.name] = stored[field.name]
  return cls(**values)


def _renamed(stored):
  """What was written under an older name, under today's; in a record's config too."""
  if not isinstance(stored, dict):
    return stored
  renamed = {RENAMED.get(name, name): value for name, value in stored.items()}
  if {'base_model', 'parity_model', 'recipe'} <= set(renamed):
    renamed.setdefault('form', _form_before_forms(renamed))
  return renamed | {'config': _renamed(renamed['config'])} if 'config' in renamed else renamed


def _form_before_forms(config) -> str:
  """What the small network of a code was before configs named its form: where F is no ResNet or VGG, a small CNN."""
  small = config['parity_model'] in ('students', 'backup')
  return 'cnn' if small and config['base_model'] not in ('resnet18', 'resnet20', 'vgg11') else ''


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _cpu():
  try:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    return next(line.split(':', 1)[1].strip() for line in lines if line.startswith('model name'))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def _commit():
  """The commit of the checkout that this file lies in, with + for uncommitted changes; None outside one."""
  try:
    git = ['git', '-C', str(Path(__file__).parent)]
    commit = subprocess.run([*git, 'rev-parse', '--short=12', 'HEAD'], capture_output=True, text=True, check=True)
    dirty = subprocess.run([*git, 'status', '--porcelain', '-uno'], capture_output=True, text=True, check=True)
    return commit.stdout.strip() + ('+' if dirty.stdout.strip() else '')
  except (OSError, subprocess.CalledProcessError):
    return None
