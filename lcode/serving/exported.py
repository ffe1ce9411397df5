"""A code as exported functions: loaded and called by JAX alone, without Flax and without training code.

A directory as `export_code` writes it: `manifest.json` says what the functions take and give, and the SHA-256 of every
other file; `<function>.jax` is a program of jax.export, symbolic in the batch; `arrays.npz` holds the parameters.
Nothing in it is a pickle.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from lcode.coding.checks import available_of_groups, kind
from lcode.coding.code import Code
from lcode.coding.units import stack_units
from lcode.errors import directory as checked_directory
from lcode.errors import InputError

FORMAT = 1
OF_PARITY = 'parity_model', 'state', 'base'
# Whose parameters each takes before its arrays.
FUNCTIONS = {'preprocess': (), 'encode': ('encoder',), 'base': ('base',), 'parity': OF_PARITY, 'reply': OF_PARITY,
             'decode': ('decoder',)}


@dataclasses.dataclass(frozen=True)
class Exported:
  """A code and its base model F, as functions over any number of queries or groups.

  Attributes:
    manifest: what is known of it: `code`, `functions`, `figures`, `config`, `platforms`, `versions` and so on.
    sha256: of the manifest, and so of everything.
    calls: the functions by name, without checks.
    encoder_arrays: the encoder's parameters.

  All raise `InputError` where shapes or dtypes are wrong.

  >>> exported = lcode.export_code(trained, 'exported', platforms=('cpu',))
  >>> queries = exported.preprocess(np.zeros((4, 8, 8, 1))).reshape(2, 2, 8, 8, 1)
  >>> answers = exported.base(queries.reshape(4, 8, 8, 1)).reshape(2, 2, 10)
  >>> replies = exported.parity(exported.encode(queries))
  >>> exported.decode(exported.stack(answers, replies), np.array([False, True, True])).shape
  (2, 2, 10)
  """

  manifest: dict[str, Any]
  sha256: str
  calls: dict[str, Callable] = dataclasses.field(repr=False)
  encoder_arrays: list[Any] = dataclasses.field(repr=False, default_factory=list)

  @property
  def code(self) -> Code:
    return Code(self.manifest['code']['k'], self.manifest['code']['r'])

  def preprocess(self, stored):
    """What the data set stores (pixels, of any dtype) -> queries, as F takes them: [b, *S] -> f32[b, *S]."""
    return self._called('preprocess', np.asarray(stored, np.float32))

  def base(self, queries):
    """F's answers to queries: f32[b, *S] -> f32[b, C]."""
    return self._called('base', queries)

  def encode(self, queries):
    """Groups of queries -> their parities, f32[g, k, *S] -> f32[g, r, ...]; all coded queries where not systematic."""
    return self._called('encode', queries)

  def parity(self, parities):
    """What answers the parities: f32[g, r, ...] -> f32[g, r, C], of bundles f32[g, r, k, C]."""
    return self._called('parity', parities)

  def reply(self, parities, j: int):
    """What answers parities of number j alone, as a worker does: f32[b, ...] -> f32[b, C] or f32[b, k, C]."""
    self._check('reply', parities)
    sent = self.manifest['functions']['parity']['takes'][0]['shape'][1]
    if not 0 <= j < sent:
      raise InputError(f'j={j!r} is not allowed: a group has {sent} of them, from 0.')
    return self.calls['reply'](parities, np.int32(j))

  def decode(self, units, available):
    """(units f32[g, n, ...] as `stack` makes them, available bool[n] or bool[g, n]) -> f32[g, k, C].

    What cannot be rebuilt because too little arrived is NaN.

    Raises:
      InputError: as `lcode.Codec`.
    """
    self._check('decode', units)
    return self.calls['decode'](units, available_of_groups(available, len(units), self.code))

  def stack(self, answers, replies):
    """F's answers f32[g, k, C] over the replies to the parities, as `decode` takes them."""
    return stack_units(answers, replies, axis=1)

  def _called(self, name: str, array):
    self._check(name, array)
    return self.calls[name](array)

  def _check(self, name: str, array) -> None:
    wanted = self.manifest['functions'][name]['takes'][0]
    shape, dtype = wanted['shape'], wanted['dtype']
    if np.shape(array)[1:] != tuple(shape[1:]) or np.ndim(array) != len(shape) or array.dtype != dtype:
      raise InputError(f'{name} takes {dtype}[{", ".join(map(str, shape))}], not {kind(array)}: give such an array.')


def load_export(directory: str | Path, sha256: str | None = None) -> Exported:
  """Reads what `export_code` wrote, after comparing every file to the manifest.

  Args:
    directory: where it lies.
    sha256: that of manifest.json, as export printed it; None to take whatever manifest is there. Where the directory
      comes from elsewhere, this is what shows that nobody wrote another one.

  Raises:
    InputError: if it is not an exported code, a file is missing, changed or not expected, or it is not for this
      platform.

  >>> sha256 = lcode.export_code(trained, 'exported', platforms=('cpu',)).sha256
  >>> lcode.load_export('exported', sha256).code
  Code(k=2, r=1)
  """
  loaded = read_export(checked_directory('directory', directory), sha256)
  platform = {'gpu': 'cuda'}.get(jax.default_backend(), jax.default_backend())
  if platform not in loaded.manifest['platforms']:
    raise InputError(f'{directory} was exported for {", ".join(loaded.manifest["platforms"])}, this is {platform}: '
                     f'export it with --platforms={platform}.')
  return loaded


def read_export(path: Path, sha256: str | None = None) -> Exported:
  """As `load_export`, on any platform."""
  manifest, digest = _manifest(path, sha256)
  contents = {name: _content(path, name, expected) for name, expected in manifest['files'].items()}
  others = sorted({p.name for p in path.iterdir()} - {*contents, 'manifest.json'})
  if others:
    raise InputError(f'{path} holds {others[0]}, which its manifest does not know: export it again.')
  arrays = jax.device_put(_arrays(contents['arrays.npz'], manifest['arrays']))
  return Exported(manifest, digest, {name: _call(path, name, contents[f'{name}.jax'], arrays) for name in FUNCTIONS},
                  arrays['encoder'])


def _manifest(path: Path, expected: str | None) -> tuple[dict, str]:
  try:
    content = (path / 'manifest.json').read_bytes()
    manifest = json.loads(content)
  except (OSError, ValueError) as error:
    raise InputError(f'{path} is no exported code (manifest.json: {error}): name a directory that export wrote.'
                     ) from error
  digest = hashlib.sha256(content).hexdigest()
  if expected is not None and digest != expected:
    raise InputError(f'{path}/manifest.json has the SHA-256 {digest}, not {expected}: it is not the one that was '
                     'exported.')
  if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
    raise InputError(f'{path}/manifest.json is not of format {FORMAT}, which this lcode reads: export it again.')
  needed = {'arrays.npz', *(f'{name}.jax' for name in FUNCTIONS)}
  if set(manifest.get('files', ())) != needed:
    raise InputError(f'{path}/manifest.json lists other files than {", ".join(sorted(needed))}: export it again.')
  return manifest, digest


def _content(path: Path, name: str, expected: str) -> bytes:
  try:
    content = (path / name).read_bytes()
  except OSError as error:
    raise InputError(f'{path} is damaged ({name}: {error.strerror}): export it again.') from error
  if hashlib.sha256(content).hexdigest() != expected:
    raise InputError(f'{path} is damaged ({name} is not what was exported): export it again.')
  return content


def _arrays(content: bytes, kinds: dict[str, list]) -> dict[str, list]:
  """Part -> its arrays in their order; stored as bytes, since npz does not know all of JAX's types."""
  with np.load(io.BytesIO(content), allow_pickle=False) as stored:
    return {part: [stored[f'{part}.{i}'].view(jax.numpy.dtype(dtype)).reshape(shape)
                   for i, (dtype, shape) in enumerate(members)] for part, members in kinds.items()}


def _call(path: Path, name: str, program: bytes, arrays: dict[str, list]) -> Callable:
  try:
    call = jax.jit(export.deserialize(bytearray(program)).call)
  except Exception as error:  # whatever a reader of another version's bytes comes up with
    raise InputError(f'{path}/{name}.jax cannot be read by JAX {jax.__version__} ({str(error)[:100]}): export it again '
                     'with this version.') from error
  parts = [arrays[part] for part in FUNCTIONS[name]]
  return lambda *inputs: call(*parts, *inputs)
