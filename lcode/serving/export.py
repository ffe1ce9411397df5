"""A trained code as functions of jax.export, for services that have neither Flax nor its training code."""

import dataclasses
import functools
import io
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from lcode.coding.codec import decode_groups
from lcode.coding.units import stack_units
from lcode.data.digest import sha256
from lcode.errors import InputError, directory, instance, one_of
from lcode.runs import records
from lcode.runs.code_run import Trained
from lcode.serving.exported import Exported, FORMAT, FUNCTIONS, read_export

PLATFORMS = ('cpu', 'cuda', 'tpu')
FIGURES = ('available_accuracy', 'degraded_accuracy', 'reconstruction_accuracy', 'default_accuracy')


def export_code(trained: Trained, out: str | Path, platforms: Sequence[str] = PLATFORMS) -> Exported:
  """Writes encoder, F, what answers parities, and decoder to `out`, and returns them as loaded from there.

  The directory appears whole or not at all.

  Args:
    trained: a code, as `lcode.load` and `train_code` return it.
    out: a directory that is not there yet, or empty.
    platforms: what it is compiled for: cpu, cuda, tpu; the machine that exports need have none of them.

  Raises:
    InputError: if `trained` is not such a code, `out` is taken, or a platform is unknown.

  >>> exported = lcode.export_code(trained, 'exported', platforms=('cpu',))
  >>> exported.code, len(exported.sha256)
  (Code(k=2, r=1), 64)
  """
  instance('trained', trained, Trained)
  path, platforms = directory('out', out), _platforms(platforms)
  if path.exists() and (not path.is_dir() or any(path.iterdir())):
    raise InputError(f'out={str(path)!r} holds something: name a directory that is not there yet.')
  arrays = _arrays(trained)
  files, functions = {}, {}
  for name, (function, inputs) in _functions(trained).items():
    of_parts = [[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays[part]] for part in FUNCTIONS[name]]
    program = export.export(jax.jit(function), platforms=platforms)(*of_parts, *inputs)
    files[f'{name}.jax'] = bytes(program.serialize())
    functions[name] = {'takes': [_kind(i) for i in inputs], 'gives': _kind(program.out_avals[0])}
  stored = io.BytesIO()
  np.savez(stored, **{f'{part}.{i}': np.frombuffer(a.tobytes(), np.uint8)
                      for part, members in arrays.items() for i, a in enumerate(members)})
  files['arrays.npz'] = stored.getvalue()
  manifest = _manifest(trained, platforms) | {
      'functions': functions, 'files': {name: sha256(content) for name, content in files.items()},
      'arrays': {part: [[str(a.dtype), a.shape] for a in members] for part, members in arrays.items()}}
  _write(path, files | {'manifest.json': (json.dumps(manifest, indent=1) + '\n').encode()})
  return read_export(path)


def _platforms(platforms) -> tuple[str, ...]:
  if isinstance(platforms, str) or not platforms:
    raise InputError(f'platforms={platforms!r} is not allowed: give a tuple of some of {", ".join(PLATFORMS)}.')
  return tuple(one_of('platform', platform, PLATFORMS) for platform in platforms)


def _trees(trained: Trained) -> dict:
  return {'encoder': trained.params['encoder'], 'parity_model': trained.params['parity_model'],
          'decoder': trained.params['decoder'], 'state': trained.model_state, 'base': trained.base.variables}


def _arrays(trained: Trained) -> dict[str, list[np.ndarray]]:
  return {part: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for part, tree in _trees(trained).items()}


def _functions(trained: Trained) -> dict:
  """name -> (function of its parts' arrays, as lists, and its inputs; those inputs, symbolic in the batch)."""
  scheme, base, code = trained.scheme, trained.base, trained.scheme.code
  whole = {part: jax.tree.structure(tree).unflatten for part, tree in _trees(trained).items()}
  groups, count = export.symbolic_shape('g')[0], export.symbolic_shape('b')[0]

  def params(part, arrays):
    return {'encoder': {}, 'parity_model': {}, 'decoder': {}} | {part: whole[part](arrays)}

  def encode(arrays, x):
    return jax.vmap(scheme.encode, (None, 0))(params('encoder', arrays), x)

  def answer(arrays, x):
    return base.apply(whole['base'](arrays), x)

  def parity(arrays, state, variables, x):
    return scheme.infer(params('parity_model', arrays), whole['state'](state), whole['base'](variables), x,
                        flat=False)[0]

  def reply(arrays, state, variables, x, j):
    state, variables = whole['state'](state), whole['base'](variables)
    branches = [functools.partial(scheme.reply, params('parity_model', arrays), state, variables, j=i)
                for i in range(sent)]
    return jax.lax.switch(j, branches, x)

  def decode(arrays, units, available):
    return decode_groups(scheme, params('decoder', arrays), units, available)

  x = jax.ShapeDtypeStruct((count, *base.query_shape), jnp.float32)
  queries = jax.ShapeDtypeStruct((groups, code.k, *base.query_shape), jnp.float32)
  of = {part: [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in members] for part, members in _arrays(trained).items()}
  sent = code.r if scheme.systematic else code.n
  parities = jax.eval_shape(encode, of['encoder'], _with(queries, 0, 1))
  replies = jax.eval_shape(parity, of['parity_model'], of['state'], of['base'], parities)
  units = replies
  if scheme.systematic:
    answers = jax.eval_shape(answer, of['base'], _with(x, 0, code.k))
    own = jax.ShapeDtypeStruct((1, *answers.shape), answers.dtype)
    units = jax.eval_shape(functools.partial(stack_units, axis=1), own, replies)
  return {'preprocess': (base.preprocess, [x]), 'encode': (encode, [queries]), 'base': (answer, [x]),
          'parity': (parity, [_with(parities, 0, groups)]),
          'reply': (reply, [jax.ShapeDtypeStruct((count, *parities.shape[2:]), parities.dtype),
                            jax.ShapeDtypeStruct((), jnp.int32)]),
          'decode': (decode, [_with(units, 0, groups), jax.ShapeDtypeStruct((groups, code.n), bool)])}


def _with(struct, axis: int, size) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((*struct.shape[:axis], size, *struct.shape[axis + 1:]), struct.dtype)


def _kind(aval) -> dict:
  return {'shape': [d if isinstance(d, int) else str(d) for d in aval.shape], 'dtype': str(aval.dtype)}


def _manifest(trained: Trained, platforms) -> dict:
  scheme, base, record = trained.scheme, trained.base, trained.record or {}
  return {
      'format': FORMAT, 'code': {'k': scheme.code.k, 'r': scheme.code.r}, 'systematic': scheme.systematic,
      'passthrough': scheme.passthrough, 'bundled': scheme.bundled, 'at_frontend': scheme.at_frontend,
      'on_host': scheme.on_host,
      'base_model': base.name, 'base_sha256': base.sha256, 'config': dataclasses.asdict(trained.config),
      'figures': {name: record[name] for name in FIGURES if name in record}, 'platforms': list(platforms),
      'versions': records.environment(jax.devices())['versions']}


def _write(path: Path, files: dict[str, bytes]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  part = Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
  try:
    for name, content in files.items():
      (part / name).write_bytes(content)
    part.chmod(0o755)  # mkdtemp's is for its owner alone
    os.replace(part, path)  # over an empty directory too
  except OSError as error:
    shutil.rmtree(part, ignore_errors=True)
    raise InputError(f'out={str(path)!r} cannot be written ({error.strerror}): name another directory.') from error
