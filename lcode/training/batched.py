"""A split on the devices: what F answers over it, and a scheme's counts over its consecutive groups."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from lcode.data import Arrays, plan_batches
from lcode.training.devices import pad_batch, replicate, run_on, split_plan
from lcode.training.metrics import Counts, merge
from lcode.training.step import make_planned_evaluation

EVALUATION_BATCH = 256  # groups a batch, about


def apply_in_batches(apply: Callable, variables, images, preprocess: Callable, batch_size: int = 500) -> np.ndarray:
  """F over many queries: f32[N, C], a batch at a time (the last one padded, so that one shape is compiled)."""
  batch_size = min(batch_size, len(images))
  outputs = []
  for start in range(0, len(images), batch_size):
    chunk = np.asarray(images[start:start + batch_size])
    padding = [(0, batch_size - len(chunk))] + [(0, 0)] * (chunk.ndim - 1)
    outputs.append(np.asarray(_apply(apply, preprocess, variables, np.pad(chunk, padding)))[:len(chunk)])
  return np.concatenate(outputs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _apply(apply, preprocess, variables, images):
  return apply(variables, preprocess(images))


def make_evaluator(make_objective: Callable, fetch: Callable, split: dict, base_variables, k: int, devices: Sequence):
  """Returns (params, model_state) -> metrics.Counts over the consecutive groups of a split that lies on `devices`.

  `make_objective` takes the axis name of the devices (None on one).
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
      total = counts if total is None else merge(total, counts)
    return total

  return evaluate


def put_split(arrays: Arrays, base_outputs, devices: Sequence) -> dict:
  """A split on the devices, as `train.make_fetch` takes it."""
  return replicate({'images': np.asarray(arrays.images), 'labels': np.asarray(arrays.labels, np.int32),
                    'base_outputs': base_outputs}, devices)
