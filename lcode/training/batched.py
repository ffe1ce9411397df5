"""A split on the devices: what F answers over it, and a scheme's counts over its consecutive groups."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lcode.data import Arrays, plan_batches
from lcode.errors import InputError, whole
from lcode.training.devices import pad_batch, replicate, run_on, split_plan
from lcode.training.metrics import Counts, merge
from lcode.training.step import make_planned_evaluation

EVALUATION_BATCH = 256  # groups a batch, about; their patterns are decoded in parts (`step.DECODED_AT_ONCE`)


def apply_in_batches(apply: Callable, variables, images, preprocess: Callable, batch_size: int = 500) -> np.ndarray:
  """F over many queries: f32[N, *O], a batch at a time (the last one padded, so that one shape is compiled).

  Raises:
    InputError: if there are no queries, `batch_size` is less than 1, or F does not answer each query.
  """
  def one(images):
    outputs = np.asarray(_apply(apply, preprocess, variables, images))
    if outputs.ndim < 2 or len(outputs) != len(images):
      raise InputError(f'F answers {len(images)} queries with an array {list(outputs.shape)}: it has to return '
                       f'[{len(images)}, ...], at least one number in a row for each query.')
    return outputs

  return in_batches(one, batch_size, images)


def in_batches(fn: Callable, batch_size: int, *arrays) -> np.ndarray:
  """A function of `batch_size` rows of each array over all of them; the last batch is padded with zeros.

  Raises:
    InputError: if there are no rows, not as many in each array, or `batch_size` is less than 1.
  """
  whole('batch_size', batch_size)
  count = len(arrays[0])
  if count == 0:
    raise InputError('there are no queries: give at least one.')
  if any(len(array) != count for array in arrays):
    raise InputError(f'arrays of {[len(array) for array in arrays]} rows do not go together: give as many of each.')
  batch_size, outputs = min(batch_size, count), []
  for start in range(0, count, batch_size):
    chunks = [np.asarray(array[start:start + batch_size]) for array in arrays]
    rows = len(chunks[0])
    padded = [np.pad(chunk, [(0, batch_size - rows)] + [(0, 0)] * (chunk.ndim - 1)) for chunk in chunks]
    outputs.append(np.asarray(fn(*padded))[:rows])
  return np.concatenate(outputs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(apply, preprocess, variables, images):
  return apply(variables, preprocess(images))


def make_evaluator(make_objective: Callable, fetch: Callable, split: dict, base_variables, k: int, devices: Sequence):
  """Returns (params, model_state) -> metrics.Counts over the consecutive groups of a split that lies on `devices`.

  `make_objective` takes the axis name of the devices (None on one). Raises InputError if the split has no whole group.
  """
  count = len(split['labels'])
  batch = pad_batch(min(EVALUATION_BATCH, max(count // k, 1)), devices)
  plan = plan_batches(np.arange(count), k, batch)
  on_devices = split_plan(plan, devices)
  fn = run_on(devices, lambda axis: make_planned_evaluation(make_objective(axis), fetch, axis), 5, split=3)

  def evaluate(params, model_state) -> Counts:
    total = None
    for row in range(plan.steps):
      # Fetched one by one: many collectives in flight deadlock on a CPU with few cores.
      counts = jax.device_get(fn((params, model_state), base_variables, split, on_devices, np.int32(row)))
      if counts.clusters is not None:  # differences of large sums are taken of these
        counts = counts.replace(clusters=np.float64(counts.clusters))
      total = counts if total is None else merge(total, counts)
    return total

  return evaluate


def put_split(arrays: Arrays, base_outputs, devices: Sequence) -> dict:
  """A split on the devices, as `step.make_fetch` takes it; raises InputError unless all have as many rows."""
  if base_outputs is not None and (np.ndim(base_outputs) != 2 or len(base_outputs) != len(arrays.images)):
    raise InputError(f'base_outputs {list(np.shape(base_outputs))} for {len(arrays.images)} queries: give F\'s outputs '
                     f'[{len(arrays.images)}, C] on the same queries.')
  if np.shape(arrays.labels) != (len(arrays.images),):
    raise InputError(f'labels {list(np.shape(arrays.labels))} for {len(arrays.images)} queries: give one for each.')
  return replicate({'images': np.asarray(arrays.images), 'labels': np.asarray(arrays.labels, np.int32),
                    'base_outputs': base_outputs}, devices)
