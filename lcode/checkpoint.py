"""Checkpoints: Orbax writes the arrays, a manifest of SHA-256 sums makes sure that the same bytes come back.

Layout: `<root>/latest/<step>/` and `<root>/best/<step>/`, each with `arrays/` (Orbax), `meta.json` and
`manifest.json`, written under a temporary name and renamed when complete. Two of each are kept, so that a damaged
newest one falls back to the one before, whose best is still there.
"""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lcode.errors import InputError
from lcode.loop import Best
from lcode.train import TrainState

KEEP = 2
_log = logging.getLogger('lcode')


class DamagedError(InputError):
  """A checkpoint whose files are not those that were written."""


def save_tree(directory: Path, tree: Any, meta: dict) -> None:
  """Writes a tree of arrays and a JSON-able `meta` as `directory`, which appears complete or not at all."""
  part = directory.with_name(f'.{directory.name}.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  with _checkpointer() as checkpointer:
    checkpointer.save(part.resolve() / 'arrays', jax.tree.map(_to_host, tree))
  (part / 'meta.json').write_text(json.dumps(meta))
  (part / 'manifest.json').write_text(json.dumps(_manifest(part)))
  shutil.rmtree(directory, ignore_errors=True)
  os.replace(part, directory)


def load_tree(directory: Path, template: Any) -> tuple[Any, dict]:
  """Reads what `save_tree` wrote, into NumPy arrays (and PRNG keys) of the template's structure.

  Raises:
    DamagedError: if a file is missing, cut or changed.
    InputError: if the arrays are not of the template's structure and shapes.
  """
  meta = load_meta(directory)
  host_template = jax.tree.map(_to_host, template)
  try:
    with _checkpointer() as checkpointer:
      restored = checkpointer.restore(directory.resolve() / 'arrays', host_template)
    # Orbax checks the structure, but returns another shape than the template's without a word.
    jax.tree.map(_check_shape, restored, host_template)
  except (ValueError, KeyError, TypeError) as error:
    reason = str(error).strip().split('\n')[0][:200]
    raise InputError(f'the checkpoint {directory} holds other arrays than this run has ({reason}): '
                     'use the configuration it was written with, or another workdir.') from error
  return jax.tree.map(_from_host, restored, template), meta


def load_meta(directory: Path) -> dict:
  """The `meta` of a checkpoint, after comparing all its files to the manifest; raises DamagedError."""
  try:
    manifest = json.loads((directory / 'manifest.json').read_text())
    found = _manifest(directory)
  except FileNotFoundError as error:
    raise DamagedError(f'the checkpoint {directory} is damaged (file manifest.json is missing).') from error
  except (OSError, ValueError) as error:
    raise DamagedError(f'the checkpoint {directory} is damaged (file manifest.json is changed or cut).') from error
  for name in sorted(manifest.keys() | found.keys()):
    if manifest.get(name) != found.get(name):
      state = 'missing' if name not in found else 'not expected' if name not in manifest else 'changed or cut'
      raise DamagedError(f'the checkpoint {directory} is damaged (file {name} is {state}).')
  return json.loads((directory / 'meta.json').read_text())


def _checkpointer():
  """Orbax's, for this process alone: arrays are whole in each process, so there is nobody to wait for."""
  process = jax.process_index()
  return ocp.StandardCheckpointer(multiprocessing_options=ocp.options.MultiprocessingOptions(
      primary_host=process, active_processes={process}, barrier_sync_key_prefix=f'process_{process}'))


def _manifest(directory: Path) -> dict[str, str]:
  files = sorted(p for p in directory.rglob('*') if p.is_file() and p.name != 'manifest.json')
  return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _is_key(x) -> bool:
  return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_host(x):
  return np.asarray(jax.random.key_data(x) if _is_key(x) else x)


def _check_shape(value, like):
  if value.shape != like.shape or value.dtype != like.dtype:
    raise ValueError(f'{value.dtype}{list(value.shape)} where {like.dtype}{list(like.shape)} belongs')


def _from_host(value, like):
  return jax.random.wrap_key_data(value) if _is_key(like) else value


def steps_in(directory: Path) -> list[int]:
  """The steps of the checkpoints in `directory`, ascending."""
  if not directory.is_dir():
    return []
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit())


class Store:
  """The checkpoints of one run: latest (whole states) and best (params and model_state)."""

  def __init__(self, root: Path, devices: int = 1):
    self.root = Path(root)
    self.devices = devices
    self._best_on_disk = None  # its step; of this timeline, whatever else lies in best/

  def save(self, state: TrainState, best: Best | None, seconds: float) -> None:
    """Saves the best first: whichever latest is found later, the best that it speaks of is there.

    Of several processes, which all hold the same, the first one writes.
    """
    if jax.process_index() > 0:
      return
    step = int(state.step)
    meta = {'step': step, 'seconds': seconds, 'devices': self.devices, 'best': None}
    if best is not None:
      meta['best'] = {'step': best.step, 'value': best.value}
      if self._best_on_disk != best.step:
        save_tree(self.root / 'best' / str(best.step), best.variables, meta['best'])
        self._best_on_disk = best.step
    save_tree(self.root / 'latest' / str(step), state, meta)
    for kind in ('latest', 'best'):
      self._remove([s for s in steps_in(self.root / kind) if s > step], kind)  # of a timeline that was left
      self._remove(steps_in(self.root / kind)[:-KEEP], kind)

  def restore(self, state: TrainState) -> tuple[TrainState, Best | None, float] | None:
    """The newest latest that is whole, its best, and the seconds so far; None if there is none at all.

    Raises:
      InputError: if there are checkpoints but none is whole.
    """
    steps = steps_in(self.root / 'latest')[::-1]
    for position, step in enumerate(steps):
      try:
        restored, meta = load_tree(self.root / 'latest' / str(step), state)
        best = meta['best'] and self._load_best(meta['best'], (state.params, state.model_state))
      except DamagedError as error:
        before = f'falling back to step {steps[position + 1]}' if steps[position + 1:] else 'there is none before it'
        _log.warning('%s %s.', error, before)
        continue
      if meta['devices'] != self.devices:
        _log.warning('step %d was written on %d device(s), this run goes on with %d: the same to float rounding, '
                     'not bit for bit.', step, meta['devices'], self.devices)
      return restored, best, meta['seconds']
    if steps:
      raise InputError(f'no checkpoint in {self.root / "latest"} can be read: remove {self.root} to start again, '
                       'or restore its files.')
    return None

  def describe_latest(self) -> str:
    steps = steps_in(self.root / 'latest')
    return f'step {steps[-1]} in {self.root / "latest"}' if steps else 'none yet'

  def load_best(self, variables: Any) -> Best:
    """The best of the newest whole checkpoint, with NumPy arrays; `variables` is (params, model_state) to go by.

    Raises:
      InputError: if there is none, or none is whole.
    """
    steps = steps_in(self.root / 'latest')[::-1]
    for step in steps:
      try:
        best = load_meta(self.root / 'latest' / str(step))['best']
        return self._load_best(best, variables)
      except DamagedError as error:
        _log.warning('%s', error)
    if steps:
      raise InputError(f'no checkpoint in {self.root} can be read: restore its files, or train again elsewhere.')
    raise InputError(f'{self.root} holds no trained parameters: train first, or name another directory.')

  def _load_best(self, best, variables):
    variables, _ = load_tree(self.root / 'best' / str(best['step']), variables)
    self._best_on_disk = best['step']
    return Best(best['step'], best['value'], variables)

  def _remove(self, steps, kind):
    for step in steps:
      shutil.rmtree(self.root / kind / str(step), ignore_errors=True)
