"""The one SHA-256 that data sets, checkpoints and workdirs are known by."""

import hashlib
import os

import numpy as np


def sha256(*parts) -> str:
  """Of text, bytes and arrays one after the other (an array is its bytes alone, in C order)."""
  digest = hashlib.sha256()
  for part in parts:
    if isinstance(part, str):
      part = part.encode()
    digest.update(part if isinstance(part, bytes) else np.asarray(part).tobytes())
  return digest.hexdigest()


def sha256_of_file(path: str | os.PathLike) -> str:
  """Of a file's content; raises OSError where it cannot be read."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
