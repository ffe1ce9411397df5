"""The files of this machine as Magika's queries: the bytes of their beginning and end as tokens, 256 for none."""

import collections
import hashlib
import os
import random
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from examples.magika.model import Config, SPLITS
from lcode.errors import InputError

ENDS = dict(zip(SPLITS, (0.7, 0.85, 1.0)))  # of the directories


def default_roots() -> list[str]:
  """Where files lie on any machine with Python: its library, what is installed for it, and the system's."""
  roots = [sysconfig.get_path('stdlib'), sysconfig.get_path('purelib'), '/usr']
  return [root for root in roots if os.path.isdir(root)]


def tokens_of(path: str | Path, config: Config) -> np.ndarray | None:
  """A file as Magika takes it, uint16[tokens]; None for one too short for the model.

  Of its first and last `block_size` bytes, without the white space around them, the first `beg_size` and the last
  `end_size`.
  """
  with open(path, 'rb') as file:
    size = os.fstat(file.fileno()).st_size
    start = file.read(config.block_size)
    file.seek(max(size - config.block_size, 0))
    end = file.read(config.block_size)
  first = np.frombuffer(start.lstrip()[:config.beg_size], np.uint8)
  last = np.frombuffer(end.rstrip()[-config.end_size:], np.uint8)
  if len(first) < config.min_file_size_for_dl:
    return None
  tokens = np.full(config.tokens, config.padding_token, np.uint16)
  tokens[:len(first)] = first
  tokens[config.tokens - len(last):] = last
  return tokens


def collect(roots: Sequence[str], config: Config, per_suffix: int, seed: int) -> dict[str, np.ndarray]:
  """Tokens uint16[N, tokens] of files below `roots`, by split: no two the same, at most so many of a suffix.

  Those of a suffix are from as many directories as there are, since neighbours are much alike. All of a directory are
  in the same split, so that what is tested is not next to what was trained on.

  Raises:
    InputError: if a root is no directory, or a split is left without files.
  """
  by_suffix: dict[str, list[str]] = {}
  for path in _walk(roots):
    by_suffix.setdefault(os.path.splitext(path)[1].lower(), []).append(path)
  rng = random.Random(seed)
  chosen = [path for _, paths in sorted(by_suffix.items()) for path in _spread(sorted(paths), rng)[:per_suffix]]
  rng.shuffle(chosen)
  splits: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
  known = set()
  for path in chosen:
    try:
      tokens = tokens_of(path, config)
    except OSError:  # no right to read it, or it has just gone
      continue
    if tokens is not None and tokens.tobytes() not in known:
      known.add(tokens.tobytes())
      splits[_split_of(path)].append(tokens)
  for split, found in splits.items():
    if not found:
      raise InputError(f'--roots={",".join(roots)} have no files for {split}: name directories with more of them.')
  return {split: np.stack(found) for split, found in splits.items()}


def _spread(paths: list[str], rng: random.Random) -> list[str]:
  """The paths in random order, but one of each directory before a second one of any."""
  rng.shuffle(paths)
  turns: collections.Counter[str] = collections.Counter()
  turn_of = {}
  for path in paths:
    turn_of[path] = turns[os.path.dirname(path)]
    turns[os.path.dirname(path)] += 1
  return sorted(paths, key=turn_of.get)


def _walk(roots: Sequence[str]) -> Iterator[str]:
  """Every file below the roots once; links are not followed."""
  seen = set()
  for root in roots:
    if not os.path.isdir(root):
      raise InputError(f'--roots={root} is no directory: name some with files in them.')
    for folder, _, names in os.walk(os.path.realpath(root)):
      if folder not in seen:
        seen.add(folder)
        yield from (path for path in (os.path.join(folder, name) for name in names)
                    if os.path.isfile(path) and not os.path.islink(path))


def _split_of(path: str) -> str:
  share = int.from_bytes(hashlib.sha256(os.fsencode(os.path.dirname(path))).digest()[:4], 'big') / 2**32
  return next(split for split, end in ENDS.items() if share < end)
