"""What is kept on disk so that it is made once: decoded data sets, and the answers of a base model that is slow."""

import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def cache_dir() -> Path:
  """Where decoded arrays, answers of base models and compiled programs are kept: $LCODE_CACHE, else ~/.cache/lcode."""
  return Path(os.environ.get('LCODE_CACHE', '~/.cache/lcode')).expanduser()


def cache_is_writable() -> bool:
  try:
    cache_dir().mkdir(parents=True, exist_ok=True)
    return os.access(cache_dir(), os.W_OK)
  except OSError:
    return False


def cached(key: str, read: Callable, kind: str = 'data', least_seconds: float = 0,
           right: Callable | None = None) -> dict[str, np.ndarray]:
  """`read()`, kept as an .npz (its CRCs checked on reading) in the cache; without a writable cache, just `read()`.

  Args:
    key: what it is kept under, a file's name.
    read: () -> arrays by name.
    kind: the folder.
    least_seconds: what takes less time than this is not kept.
    right: arrays -> whether they are what `read` would return; None where the key says so.
  """
  path = cache_dir() / kind / f'{key}.npz'
  try:
    with np.load(path, allow_pickle=False) as stored:
      arrays = dict(stored)
    if right is None or right(arrays):
      return arrays
  except (OSError, ValueError, EOFError, zipfile.BadZipFile):
    pass  # absent or damaged: made again
  began = time.monotonic()
  arrays = read()
  if time.monotonic() - began >= least_seconds:
    try:
      write_npz(path, np.savez, arrays)
    except OSError:
      pass  # a cache is a convenience
  return arrays


def write_npz(path: Path, save: Callable, arrays: dict) -> None:
  """Under a temporary name first: `path` appears whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
    part = Path(file.name)
    try:
      save(file, **arrays)
      file.close()
      part.chmod(0o644)  # temporary files are their owner's alone
      os.replace(part, path)
    except BaseException:
      part.unlink(missing_ok=True)
      raise
