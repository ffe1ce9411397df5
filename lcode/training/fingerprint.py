"""What a training is of, in a few values: a store is not resumed by another training.

Arrays are known by their SHA-256. Functions have none: F, the preprocessing and the scheme are known by what they do to
the first queries, compared up to rounding, so that another machine or version of JAX may resume.
"""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lcode.coding.scheme import Scheme
from lcode.coding.units import stack_units
from lcode.data.digest import sha256
from lcode.errors import InputError

SHOWN = 64  # numbers of each
FIRST_STEPS = 20  # of an optimiser
TOLERANCE = 1e-2  # of what functions do, relative to their largest value


def of_tree(tree: Any) -> str:
  """SHA-256 of a tree of arrays, with its structure."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return sha256(*(part for path, leaf in leaves for part in (jax.tree_util.keystr(path), np.asarray(leaf))))[:16]


def of_shapes(tree: Any) -> str:
  """SHA-256 of the structure and shapes of a tree of arrays."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return sha256(*(f'{jax.tree_util.keystr(path)}{np.shape(leaf)}' for path, leaf in leaves))[:16]


def of_split(arrays) -> dict[str, Any]:
  """SHA-256 of a split's images and labels."""
  labels = None if arrays.labels is None else sha256(np.asarray(arrays.labels, np.int64))[:16]
  return {'queries': sha256(str(np.shape(arrays.images)), np.asarray(arrays.images))[:16], 'labels': labels}


def of_optimizer(tx: optax.GradientTransformation) -> list[float]:
  """What an optimiser and its schedule do in the first steps: the sums of updates of a fixed gradient."""
  params = {'weight': jnp.asarray([1.0, -0.5, 0.01])}
  gradient = {'weight': jnp.asarray([0.3, -1.0, 2.0])}

  def step(state, _):
    updates, state = tx.update(gradient, state, params)
    return state, updates['weight'].sum()

  return [float(value) for value in jax.jit(lambda: jax.lax.scan(step, tx.init(params), None, FIRST_STEPS)[1])()]


def of_answers(answers) -> list[float]:
  """The means of the first outputs over a split: what F answers off the first group, up to rounding."""
  return [float(value) for value in np.asarray(answers, np.float64).mean(0)[:SHOWN]]


def of_scheme(scheme: Scheme, params, model_state, base_variables, x) -> dict[str, list[float]]:
  """What F, the encoder and the decoder make of one group x f32[k, *S], the first query missing: some numbers each."""

  def first_group(params, model_state, base_variables, x):
    answers = scheme.base_apply(base_variables, x)
    coded = scheme.encode(params, x)
    outputs = scheme.infer(params, model_state, base_variables, coded[None])[0][0]
    if scheme.systematic:
      outputs = stack_units(answers, outputs)
    return answers, coded, scheme.decode(params, outputs, jnp.arange(scheme.code.n) > 0)

  values = jax.device_get(jax.jit(first_group)(params, model_state, base_variables, x))
  return {name: [float(number) for number in np.ravel(np.asarray(value, np.float32))[:SHOWN]]
          for name, value in zip(('base_outputs', 'parities', 'reconstructions'), values)}


def check(path: Path, fingerprint: dict[str, Any]) -> None:
  """Writes the fingerprint, or compares it to the one that is there; fields that were not written are not compared.

  Raises:
    InputError: naming the first field that differs.
  """
  stored = _read(path)
  if stored is not None:
    for name, value in fingerprint.items():
      if name in stored and not _same(stored[name], value):
        raise InputError(f'the store {path.parent} holds a training with {name}={_shown(stored[name])}, this one has '
                         f'{_shown(value)}: use another store, or the same {name}.')
    if fingerprint.keys() <= stored.keys():
      return
    fingerprint = stored | fingerprint
  if jax.process_index() == 0:
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      part = path.with_suffix('.part')
      part.write_text(json.dumps(fingerprint, indent=1) + '\n')
      os.replace(part, path)
    except OSError as error:
      raise InputError(f'the store {path.parent} cannot be written to ({error.strerror}): name another directory.'
                       ) from error


def _read(path: Path) -> dict | None:
  """The fingerprint that is there; None where there is none yet."""
  try:
    stored = json.loads(path.read_text())
    if not isinstance(stored, dict):
      raise ValueError('it holds no dictionary')
    return stored
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    raise InputError(f'{path} cannot be read ({error}): restore it, or use another store.') from error


def _same(a, b) -> bool:
  if isinstance(a, list) and isinstance(b, list):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= TOLERANCE * max(np.abs(a).max(initial=0), 1e-30)))
  return a == b


def _shown(value) -> str:
  text = '[' + ', '.join(f'{x:.4g}' for x in value[:4]) + ', ...]' if isinstance(value, list) else repr(value)
  return text if len(text) < 60 else f'{text[:57]}...'
