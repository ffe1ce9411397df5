"""Training from arrays: a code over a frozen model, or a base model; devices, loop and step put together."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lcode import loop, parallel, train
from lcode.code import every_scenario
from lcode.data import Arrays, epoch_order, plan_batches
from lcode.errors import InputError
from lcode.losses import get_loss
from lcode.metrics import Counts, merge, summarise
from lcode.recipes import Recipe, get_recipe
from lcode.scheme import Scheme

# Seeds of the parts of a run are split from the run's seed by these, so that one does not follow another.
_INIT, _STEPS, _ORDER = 0, 1, 2
EVALUATION_BATCH = 256  # groups a batch, about


class Codec(NamedTuple):
  """A trained code as two jitted functions over a batch of groups.

  Attributes:
    encode: f32[g, k, *S] -> parities f32[g, r, *S].
    decode: (outputs f32[g, n, C], available bool[n] or bool[g, n]) -> f32[g, k, C].
  """

  encode: Callable
  decode: Callable


class Fitted(NamedTuple):
  """A trained code: its parameters (of the best epoch), its functions and how it went."""

  scheme: Scheme
  params: Any
  model_state: Any
  codec: Codec
  result: loop.Result


def make_codec(scheme: Scheme, params) -> Codec:
  """The jitted encode and decode of a scheme with these parameters (which stay arguments of what is compiled)."""
  encode_fn = jax.jit(jax.vmap(scheme.encode, (None, 0)))
  decode_fn = jax.jit(jax.vmap(scheme.decode, (None, 0, 0)))
  params = jax.device_put(params)  # once, not with every call

  def decode(outputs, available):
    return decode_fn(params, outputs, jnp.broadcast_to(jnp.asarray(available, bool), outputs.shape[:2]))

  return Codec(lambda x: encode_fn(params, x), decode)


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


def make_evaluator(objective: Callable, fetch: Callable, split: dict, base_variables, k: int, devices: Sequence):
  """Returns (params, model_state) -> metrics.Counts over the consecutive groups of a split that lies on `devices`."""
  count = len(split['labels'])
  batch = parallel.pad_batch(min(EVALUATION_BATCH, max(count // k, 1)), devices)
  plan = plan_batches(np.arange(count), k, batch)
  on_devices = parallel.split_plan(plan, devices)
  fn = parallel.run_on(devices, lambda axis: train.make_planned_evaluation(objective, fetch, axis), 5, split=3)

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
  return parallel.replicate({'images': np.asarray(arrays.images), 'labels': np.asarray(arrays.labels, np.int32),
                             'base_outputs': base_outputs}, devices)


def fit(scheme: Scheme, base_variables, images, labels=None, *, validation: tuple | None = None, loss: str = 'kl_base',
        recipe: str | Recipe = 'onecycle', epochs: int | None = None, batch_size: int | None = None, seed: int = 0,
        scenarios: np.ndarray | None = None, preprocess: Callable = jnp.asarray, augment: bool = False,
        devices: Sequence | None = None, max_steps: int | None = None, store: loop.Store | None = None,
        save_every_s: float = 60.0, reporter: loop.Reporter | None = None) -> Fitted:
  """Trains a code over the frozen `scheme.base_apply`.

  Args:
    scheme: from `make_scheme`.
    base_variables: F's variables.
    images: [N, *S], the queries to train on; any dtype that `preprocess` takes.
    labels: int[N]; argmax F(x) stands in for them where there are none.
    validation: (images, labels or None) to choose the best epoch by, that is by reconstruction accuracy, or where
      outputs are no class scores (C = 1, or mse_base without labels) by the loss. None holds out the last tenth (at
      most 5,000).
    loss: a name in `losses.LOSSES`.
    recipe: a name in `recipes.RECIPES`, or a `Recipe`.
    epochs: None for the recipe's.
    batch_size: groups a step over all devices; None for the recipe's.
    seed: of the initial parameters, the groups and the augmentation.
    scenarios: bool[s, n] to train and validate on; None for every one of up to r missing units.
    preprocess: images -> f32[..., *S], run on the device.
    augment: random crop and flip of what is encoded; the targets stay those of the plain images.
    devices: None for all accelerators, or on CPU the first device.
    max_steps: stop early.
    store: a `checkpoint.Store` to save to and to resume from.
    save_every_s: seconds between two checkpoints.
    reporter: told of the progress.

  Raises:
    InputError: if k is larger than a split, or the batch cannot be split over the devices.
    DivergedError: if the loss is not finite.
  """
  recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
  epochs = recipe.default_epochs('') if epochs is None else epochs
  batch_size = recipe.batch_size(scheme.code.k) if batch_size is None else batch_size
  devices = parallel.default_devices() if devices is None else devices
  parallel.check_batch(batch_size, devices)
  training, held_out = split_arrays(images, labels, validation)
  plan_batches(np.arange(len(held_out)), scheme.code.k, 1)  # raises before anything is computed
  plan = plan_batches(np.arange(len(training)), scheme.code.k, batch_size)

  splits = []
  for arrays in (training, held_out):
    outputs = apply_in_batches(scheme.base_apply, base_variables, arrays.images, preprocess)
    if arrays.labels is None:
      arrays = Arrays(arrays.images, outputs.argmax(-1))
    splits.append(put_split(arrays, outputs, devices))
  base_variables = parallel.replicate(base_variables, devices)

  example = preprocess(jnp.asarray(training.images[:scheme.code.k]))
  init = jax.jit(scheme.init, static_argnums=2)
  params, model_state = init(_key(seed, _INIT), example, splits[0]['base_outputs'].shape[-1])
  tx = recipe.make_optimizer(epochs * plan.steps)
  objective = train.make_code_objective(scheme, get_loss(loss),
                                        every_scenario(scheme.code) if scenarios is None else scenarios)
  fetch = train.make_fetch(preprocess, augment)
  counts_of = make_evaluator(objective, train.make_fetch(preprocess, False), splits[1], base_variables,
                             scheme.code.k, devices)
  state = train.init_state(params, model_state, tx, _seed(seed, _STEPS))
  no_classes = splits[0]['base_outputs'].shape[-1] == 1 or (loss == 'mse_base' and labels is None)
  schedule = loop.Schedule(epochs, plan.steps, parallel.steps_per_call(devices), max_steps, save_every_s,
                           'loss' if no_classes else 'reconstruction_accuracy')
  result = _run(lambda axis: objective, tx, fetch, counts_of, base_variables, splits[0], scheme.code.k, batch_size,
                state, schedule, seed, devices, store, reporter)
  params, model_state = jax.device_get(result.best.variables)
  return Fitted(scheme, params, model_state, make_codec(scheme, params), result)


def fit_base(make_model: Callable, training: Arrays, held_out: Arrays, *, make_optimizer: Callable, epochs: int,
             batch_size: int, seed: int, preprocess: Callable, augment: bool, devices: Sequence,
             max_steps: int | None = None, store: loop.Store | None = None, save_every_s: float = 60.0,
             reporter: loop.Reporter | None = None) -> loop.Result:
  """Trains a base model by cross-entropy; `make_model` takes the axis name of the devices (None on one).

  The same loop and step as for codes, with groups of one. An incomplete last batch is left out, so that batch
  statistics are always those of whole batches. Best is by validation accuracy.
  """
  parallel.check_batch(batch_size, devices)
  plan = plan_batches(np.arange(len(training)), 1, batch_size, drop_last=True)
  splits = [put_split(arrays, None, devices) for arrays in (training, held_out)]
  variables = jax.jit(make_model(None).init)(_key(seed, _INIT), preprocess(jnp.asarray(training.images[:1])))
  params = variables.pop('params')
  tx = make_optimizer(epochs * plan.steps)
  counts_of = make_evaluator(train.make_base_objective(make_model(None)), train.make_fetch(preprocess, False),
                             splits[1], {}, 1, devices)
  state = train.init_state(params, variables, tx, _seed(seed, _STEPS))
  schedule = loop.Schedule(epochs, plan.steps, parallel.steps_per_call(devices), max_steps, save_every_s,
                           criterion='available_accuracy')
  return _run(lambda axis: train.make_base_objective(make_model(axis)), tx, train.make_fetch(preprocess, augment),
              counts_of, {}, splits[0], 1, batch_size, state, schedule, seed, devices, store, reporter,
              drop_last=True)


def _run(make_objective, tx, fetch, counts_of, base_variables, split, k, batch_size, state, schedule, seed, devices,
         store, reporter, drop_last=False):
  """Binds the arrays to the compiled step and evaluation, and trains."""

  def make_step(count):
    def make(axis):
      step = train.make_train_step(make_objective(axis), tx, axis)
      return parallel.many_steps(train.make_planned_step(step, fetch), count)
    fn = parallel.run_on(devices, make, 4, split=3, donate=(0,))
    return lambda state, plan: fn(state, base_variables, split, plan)

  def make_plan(epoch):
    order = epoch_order(len(split['labels']), _seed(seed, _ORDER), epoch)
    return parallel.split_plan(plan_batches(order, k, batch_size, drop_last), devices)

  def place(tree):
    return parallel.replicate(tree, devices)

  return loop.run(make_step, lambda *variables: summarise(counts_of(*variables)), make_plan, place(state), schedule,
                  store, reporter, place)


def split_arrays(images, labels, validation) -> tuple[Arrays, Arrays]:
  """Training and validation arrays; without `validation`, the last tenth (at most 5,000) is held out."""
  for name, pair in (('labels', (images, labels)), ('validation', validation or ((), None))):
    if pair[1] is not None and len(pair[0]) != len(pair[1]):  # a gather would read past the end without a word
      raise InputError(f'{name}: {len(pair[1])} labels for {len(pair[0])} queries: give one for each, or None.')
  if validation is not None:
    return Arrays(images, labels), Arrays(*validation)
  held_out = min(5000, math.ceil(len(images) / 10))
  cut = len(images) - held_out
  if cut < 1:
    raise InputError(f'{len(images)} queries are too few to train on: give at least 2.')
  parts = [(images[:cut], None if labels is None else labels[:cut]),
           (images[cut:], None if labels is None else labels[cut:])]
  return Arrays(*parts[0]), Arrays(*parts[1])


def _seed(seed: int, part: int) -> int:
  return int(np.random.SeedSequence([seed, part]).generate_state(1)[0])


def _key(seed: int, part: int):
  return jax.random.key(_seed(seed, part))
