"""Checkpoints: Orbax writes the arrays, a manifest of SHA-256 sums makes sure that the same bytes come back.

Layout: `<root>/latest/<step>/` holds a whole state and the best parameters so far, enough to resume from; two of them
are kept, so that a damaged one falls back to the one before. `<root>/best/<step>/` holds the best parameters alone,
for evaluation. Each has `arrays/` (Orbax), `meta.json` and `manifest.json`, is written under a temporary name and
renamed when complete.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lcode.data.digest import sha256, sha256_of_file
from lcode.errors import InputError
from lcode.training import fingerprint
from lcode.training.loop import Best
from lcode.training.step import TrainState

KEEP = 2
_log = logging.getLogger('lcode')


class DamagedError(InputError):
  """A checkpoint whose files are not those that were written."""


def save_tree(directory: Path, tree: Any, meta: dict) -> None:
  """Writes a tree of arrays and a JSON-able `meta` as `directory`, which appears complete or not at all."""
  directory = Path(directory)
  part = directory.with_name(f'.{directory.name}.part')
  shutil.rmtree(part, ignore_errors=True)
  try:
    part.mkdir(parents=True)
    with _checkpointer() as checkpointer:
      checkpointer.save(part.resolve() / 'arrays', _filled(jax.tree.map(_to_host, tree)))
    note = part / 'arrays' / 'commit_success.txt'
    if note.exists():  # Orbax notes the path it wrote to, which is nobody else's business
      note.write_text('Checkpoint commit was successful')
    (part / 'meta.json').write_text(json.dumps(meta))
    (part / 'manifest.json').write_text(json.dumps(_manifest(part)))
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(part, directory)
  except (OSError, ValueError) as error:  # a full disk reaches us as either
    reason = str(error).strip().split('\n')[0][:200]
    raise InputError(f'the checkpoint {directory} cannot be written ({reason}): make room, or use another directory.'
                     ) from error


def load_tree(directory: Path, make_template: Callable[[dict], Any]) -> tuple[Any, dict]:
  """Reads what `save_tree` wrote, into NumPy arrays (and PRNG keys) of the structure that its meta calls for.

  Raises:
    DamagedError: if a file is missing, cut or changed.
    InputError: if the arrays are not of the template's structure and shapes.
  """
  directory = Path(directory)
  meta = load_meta(directory)
  template = make_template(meta)
  host_template = jax.tree.map(_to_host, template)
  try:
    with _checkpointer() as checkpointer:
      restored = checkpointer.restore(directory.resolve() / 'arrays', _filled(host_template))
    if not jax.tree.leaves(template):
      return template, meta
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
    present = _manifest(directory)
    if not isinstance(manifest, dict):
      raise ValueError('no dictionary')
  except FileNotFoundError as error:
    raise DamagedError(f'the checkpoint {directory} is damaged (file manifest.json is missing).') from error
  except (OSError, ValueError) as error:
    raise DamagedError(f'the checkpoint {directory} is damaged (file manifest.json is changed or cut).') from error
  for name in sorted(manifest.keys() | present.keys()):
    if manifest.get(name) != present.get(name):
      state = 'missing' if name not in present else 'not expected' if name not in manifest else 'changed or cut'
      raise DamagedError(f'the checkpoint {directory} is damaged (file {name} is {state}).')
  return json.loads((directory / 'meta.json').read_text())


def _checkpointer():
  """Orbax's, for this process alone: arrays are whole in each process, so there is nobody to wait for."""
  process = jax.process_index()
  return ocp.StandardCheckpointer(multiprocessing_options=ocp.options.MultiprocessingOptions(
      primary_host=process, active_processes={process}, barrier_sync_key_prefix=f'process_{process}'))


def _manifest(directory: Path) -> dict[str, str]:
  files = sorted(p for p in directory.rglob('*') if p.is_file() and p.name != 'manifest.json')
  return {str(p.relative_to(directory)): sha256_of_file(p) for p in files}


def _is_key(x) -> bool:
  return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_host(x):
  return np.asarray(jax.random.key_data(x) if _is_key(x) else x)


def _check_shape(value, like):
  if value.shape != like.shape or value.dtype != like.dtype:
    raise ValueError(f'{value.dtype}{list(value.shape)} where {like.dtype}{list(like.shape)} belongs')


def _filled(tree):
  """Something in place of a tree without arrays (a code without parameters), which Orbax does not write."""
  return tree if jax.tree.leaves(tree) else {'nothing': np.zeros(1)}


def _from_host(value, like):
  return jax.random.wrap_key_data(value) if _is_key(like) else value


def steps_in(directory: Path) -> list[int]:
  """The steps of the checkpoints in `directory`, ascending."""
  if not directory.is_dir():
    return []
  return sorted(int(p.name) for p in directory.iterdir() if p.name.isascii() and p.name.isdigit())


class Store:
  """The checkpoints of one run: `latest/<step>/` to resume from, `best/<step>/` to use, each with SHA-256 sums.

  Args:
    root: the directory; it need not be there yet.
    devices: how many the run is on; it is noted, and told when another number resumes it.

  >>> mlp = lcode.make_scheme(code, apply, 'mlp', 'mlp')
  >>> store = lcode.checkpoint.Store('store')
  >>> fitted = lcode.fit(mlp, variables, x, epochs=1, store=store)
  >>> store.load_best((fitted.params, fitted.model_state)).step
  2
  """

  def __init__(self, root: Path, devices: int = 1):
    self.root = Path(root)
    self.devices = devices

  def claim(self, values: dict[str, Any]) -> None:
    """Makes this the store of the training with these values; raises InputError if it is another's (`fingerprint`)."""
    fingerprint.check(self.root / 'fingerprint.json', values)

  def save(self, state: TrainState, best: Best | None, seconds: float) -> None:
    """Saves both kinds, the best before the latest, so that a finished run has its best on disk.

    Of several processes, which all hold the same, the first one writes.
    """
    if jax.process_index() > 0:
      return
    step = int(state.step)
    meta = {'step': step, 'seconds': seconds, 'devices': self.devices, 'best': None}
    if best is not None:
      meta['best'] = {'step': best.step, 'value': best.value, 'partial': best.partial}
      self._write_best(best, meta['best'])
    save_tree(self.root / 'latest' / str(step), (state, best and best.variables), meta)
    # Steps past this one are of a timeline that was left, when a damaged checkpoint fell back to one before.
    self._remove('latest', [s for s in steps_in(self.root / 'latest') if s > step])
    self._remove('latest', steps_in(self.root / 'latest')[:-KEEP])
    self._remove('best', [s for s in steps_in(self.root / 'best') if best is None or s != best.step])

  def restore(self, state: TrainState) -> tuple[TrainState, Best | None, float] | None:
    """The newest latest that is whole, the best as of then, and the seconds so far; None if there is none at all.

    Raises:
      InputError: if there are checkpoints but none is whole.
    """
    variables = state.params, state.model_state
    steps = steps_in(self.root / 'latest')[::-1]
    for position, step in enumerate(steps):
      try:
        (restored, best), meta = load_tree(self.root / 'latest' / str(step),
                                           lambda meta: (state, variables if meta['best'] else None))
      except DamagedError as error:
        before = f'Falling back to step {steps[position + 1]}' if steps[position + 1:] else 'There is none before it'
        _log.warning('%s %s.', error, before)
        continue
      if meta['devices'] != self.devices:
        _log.warning('step %d was written on %d device(s), this run resumes it on %d: the same to float rounding, '
                     'not bit for bit.', step, meta['devices'], self.devices)
      if meta['best']:
        best = Best(meta['best']['step'], meta['best']['value'], best, meta['best']['partial'])
        if jax.process_index() == 0:
          self._write_best(best, meta['best'])
      return restored, best, meta['seconds']
    if steps:
      kept = f' ({self.root / "best"} still has the best parameters so far)' if self._best_is_whole() else ''
      raise InputError(f'no checkpoint in {self.root / "latest"} can be read: restore its files, or remove that '
                       f'directory to train again from the start{kept}.')
    return None

  def load_best(self, variables: Any) -> Best:
    """The best parameters, with NumPy arrays; `variables` is (params, model_state) to go by.

    Raises:
      InputError: if there is none, or it is damaged.
    """
    steps = steps_in(self.root / 'best')
    if not steps:
      raise InputError(f'{self.root} holds no trained parameters: train first, or name another directory.')
    try:
      variables, meta = load_tree(self.root / 'best' / str(steps[-1]), lambda _: variables)
    except DamagedError as error:
      raise InputError(f'{str(error).rstrip(".")}: the command that trained it writes it anew, from what is whole in '
                       f'{self.root / "latest"}.') from error
    return Best(meta['step'], meta['value'], variables, meta['partial'])

  def _best_is_whole(self) -> bool:
    try:
      return any(load_meta(self.root / 'best' / str(step)) for step in steps_in(self.root / 'best'))
    except DamagedError:
      return False

  def describe_latest(self) -> str:
    steps = steps_in(self.root / 'latest')
    return f'step {steps[-1]} in {self.root / "latest"}' if steps else 'none yet'

  def _write_best(self, best: Best, meta: dict) -> None:
    """Writes the best unless it is there, whole: a step's number alone may be of a timeline that was left."""
    directory = self.root / 'best' / str(best.step)
    meta = {**meta, 'sha256': sha256(*map(_to_host, jax.tree.leaves(best.variables)))}
    try:
      if load_meta(directory) == meta:
        return
    except DamagedError:
      pass
    save_tree(directory, best.variables, meta)

  def _remove(self, kind, steps):
    for step in steps:
      shutil.rmtree(self.root / kind / str(step), ignore_errors=True)
