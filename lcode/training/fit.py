"""Training from arrays: a code over a frozen model, or a base model; devices, loop and step put together."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lcode.coding.code import every_pattern, MAX_PATTERNS, num_patterns, sampled_patterns
from lcode.coding.scheme import Codec, make_codec, PARTS, parts_to_train, Scheme
from lcode.data import Arrays, epoch_order, plan_batches
from lcode.errors import InputError
from lcode.training import loop
from lcode.training.batched import apply_in_batches, make_evaluator, put_split
from lcode.training.devices import (check_batch, default_devices, many_steps, replicate, run_on, split_plan,
                                    steps_per_call)
from lcode.training.losses import get_loss
from lcode.training.metrics import summarise
from lcode.training.recipes import get_recipe, Recipe
from lcode.training.step import (init_state, make_base_objective, make_code_objective, make_fetch, make_planned_step,
                                 make_train_step)

# Seeds of the parts of a run are split from the run's seed by these, so that one does not follow another.
_INIT, _STEPS, _ORDER, _SCENARIOS = 0, 1, 2, 3
SCENARIOS_A_STEP = 64  # of more than that, so many are sampled for each step


class Fitted(NamedTuple):
  """A trained code: its parameters (of the best epoch), its functions and how it went."""

  scheme: Scheme
  params: Any
  model_state: Any
  codec: Codec
  result: loop.Result


def fit(scheme: Scheme, base_variables, images, labels=None, *, validation: tuple | None = None, loss: str = 'kl_base',
        recipe: str | Recipe = 'onecycle', epochs: int | None = None, batch_size: int | None = None, seed: int = 0,
        train_parts: Sequence[str] | None = None, scenarios: np.ndarray | int | None = None,
        preprocess: Callable = jnp.asarray, augment: bool = False, devices: Sequence | None = None,
        max_steps: int | None = None, store: loop.Store | None = None, save_every_s: float = 60.0,
        stop_at: float | None = None, reporter: loop.Reporter | None = None,
        base_outputs: Mapping[str, np.ndarray] | None = None) -> Fitted:
  """Trains a code over the frozen `scheme.base_apply`; one that needs no training is only chosen on `validation`.

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
    train_parts: which of 'encoder', 'parity_model', 'decoder' to train, the others stay as they start; None for all
      that have parameters.
    scenarios: bool[s, n] to train and validate on; or how many to sample for each step from those of up to r missing
      units; None for all of them, or `SCENARIOS_A_STEP` a step where there are more.
    preprocess: images -> f32[..., *S], run on the device.
    augment: random crop and flip of what is encoded; the targets stay those of the plain images.
    devices: None for all accelerators, or on CPU the first device.
    max_steps: stop early.
    store: a `checkpoint.Store` to save to and to resume from.
    save_every_s: seconds between two checkpoints.
    stop_at: time.monotonic() after which the run is stopped, the store holding all of it.
    reporter: told of the progress.
    base_outputs: F's outputs f32[N, C] on the queries under 'train' and 'validation', where they are known already.

  Raises:
    InputError: if k is larger than a split, the batch cannot be split over the devices, or a part cannot be trained.
    DivergedError: if the loss is not finite.
    OutOfTime: if it was stopped.
  """
  recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
  epochs = recipe.default_epochs('') if epochs is None else epochs
  batch_size = recipe.batch_size(scheme.code.k) if batch_size is None else batch_size
  devices = default_devices() if devices is None else devices
  check_batch(batch_size, devices)
  training, held_out = split_arrays(images, labels, validation)
  plan_batches(np.arange(len(held_out)), scheme.code.k, 1)  # raises before anything is computed
  plan = plan_batches(np.arange(len(training)), scheme.code.k, batch_size)

  def put(arrays, outputs):
    if outputs is None:
      outputs = apply_in_batches(scheme.base_apply, base_variables, arrays.images, preprocess)
    labels = outputs.argmax(-1) if arrays.labels is None else arrays.labels
    return put_split(Arrays(arrays.images, labels), outputs, devices)

  known = {'train': None, 'validation': None} if base_outputs is None else base_outputs
  split = put(held_out, known['validation'])
  num_outputs = split['base_outputs'].shape[-1]
  params, model_state = jax.jit(scheme.init, static_argnums=2)(
      _key(seed, _INIT), preprocess(jnp.asarray(training.images[:scheme.code.k])), num_outputs, base_variables)
  base_variables = replicate(base_variables, devices)
  parts = parts_to_train(scheme, params, train_parts)

  own_model = 'parity_model' in parts
  if drop_last := own_model and bool(model_state):  # batch statistics are to be those of whole batches
    plan = plan_batches(np.arange(len(training)), scheme.code.k, batch_size, drop_last)
  sample, validated = _scenarios(scheme, scenarios, seed)
  counts_of = make_evaluator(lambda axis: make_code_objective(scheme, get_loss(loss), validated, axis),
                             make_fetch(preprocess, False), split, base_variables, scheme.code.k, devices)
  no_classes = num_outputs == 1 or (loss == 'mse_base' and labels is None)
  criterion = 'loss' if no_classes else 'reconstruction_accuracy'
  if not parts:
    counts_of_all = make_evaluator(
        lambda axis: _over_decoders(make_code_objective(scheme, get_loss(loss), validated, axis)),
        make_fetch(preprocess, False), split, base_variables, scheme.code.k, devices)
    params, epochs = _choose(scheme, params, lambda params: counts_of_all(params, model_state), criterion), 0
  else:
    split = put(training, known['train'])

  tx = _only(parts, recipe.make_optimizer(epochs * plan.steps), params)
  schedule = loop.Schedule(epochs, plan.steps, steps_per_call(devices), max_steps, save_every_s, stop_at,
                           criterion)
  result = _run(lambda axis: make_code_objective(scheme, get_loss(loss), validated, axis, own_model), tx,
                make_fetch(preprocess, augment), counts_of, base_variables, split, scheme.code.k, batch_size,
                init_state(params, model_state, tx, _seed(seed, _STEPS)), schedule, seed, devices, store,
                reporter, drop_last, sample)
  params, model_state = jax.device_get(result.best.variables)
  return Fitted(scheme, params, model_state, make_codec(scheme, params, model_state), result)


def _scenarios(scheme: Scheme, wanted, seed: int) -> tuple[Callable | None, np.ndarray]:
  """(epoch, steps) -> bool[steps, s, n] where each step samples its own, else None; and validation's, bool[s, n]."""
  code, kind = scheme.code, (not scheme.at_frontend, scheme.passthrough)
  if isinstance(wanted, np.ndarray):
    return None, wanted
  count = SCENARIOS_A_STEP if wanted is None else wanted
  fixed = sampled_patterns(code, 4 * count, _seed(seed, _SCENARIOS), None, *kind)
  total = num_patterns(code, None, *kind)
  if total <= count:
    return None, fixed
  listed = every_pattern(code, None, *kind) if total <= MAX_PATTERNS else None

  def sample(epoch, steps):
    rng = np.random.default_rng([_seed(seed, _SCENARIOS), epoch])
    if listed is not None:
      return np.stack([listed[rng.choice(total, count, replace=False)] for _ in range(steps)])
    seeds = rng.integers(2**31, size=steps).tolist()
    return np.stack([sampled_patterns(code, count, step_seed, None, *kind) for step_seed in seeds])

  return sample, fixed


def _choose(scheme: Scheme, params, counts_of: Callable, criterion: str):
  """Of the candidates of each part, in all combinations, those that are best on the validation groups."""
  if not scheme.candidates:
    return params
  better = -1 if criterion == 'loss' else 1
  encoders, decoders = (scheme.candidates.get(part, [params[part]]) for part in ('encoder', 'decoder'))
  together = np.arange(len(decoders)), jax.tree.map(lambda *values: np.stack(values), *decoders)
  options, values = [], []
  for encoder in encoders:
    counts = jax.device_get(counts_of(params | {'encoder': encoder, 'decoder': together}))
    for i, decoder in enumerate(decoders):
      options.append(params | {'encoder': encoder, 'decoder': decoder})
      values.append(better * summarise(jax.tree.map(lambda x: x[i], counts))[criterion])
  return options[int(np.argmax(np.nan_to_num(values, nan=-np.inf)))]


def _over_decoders(objective: Callable) -> Callable:
  """An objective of many decoders over the same answers: encoding and inference, which cost most, happen once."""

  def over_decoders(params, *rest):
    numbers, decoders = params['decoder']
    return jax.vmap(lambda i: objective(
        params | {'decoder': jax.tree.map(lambda x: jnp.asarray(x)[i], decoders)}, *rest))(numbers)

  return over_decoders


def _only(parts, tx, params):
  """`tx` on these parts alone; the others get neither updates nor optimiser state, and XLA drops their gradients."""
  if not parts or all(part in parts or not jax.tree.leaves(params[part]) for part in PARTS):
    return tx
  return optax.partition({True: tx, False: optax.set_to_zero()}, {part: part in parts for part in PARTS})


def fit_base(make_model: Callable, training: Arrays, held_out: Arrays, *, make_optimizer: Callable, epochs: int,
             batch_size: int, seed: int, preprocess: Callable, augment: bool, devices: Sequence,
             max_steps: int | None = None, store: loop.Store | None = None, save_every_s: float = 60.0,
             stop_at: float | None = None, reporter: loop.Reporter | None = None) -> loop.Result:
  """Trains a base model by cross-entropy; `make_model` takes the axis name of the devices (None on one).

  The same loop and step as for codes, with groups of one. An incomplete last batch is left out, so that batch
  statistics are always those of whole batches. Best is by validation accuracy.
  """
  check_batch(batch_size, devices)
  plan = plan_batches(np.arange(len(training)), 1, batch_size, drop_last=True)
  splits = [put_split(arrays, None, devices) for arrays in (training, held_out)]
  variables = jax.jit(make_model(None).init)(_key(seed, _INIT), preprocess(jnp.asarray(training.images[:1])))
  params = variables.pop('params')
  tx = make_optimizer(epochs * plan.steps)
  counts_of = make_evaluator(lambda _: make_base_objective(make_model(None)), make_fetch(preprocess, False),
                             splits[1], {}, 1, devices)
  state = init_state(params, variables, tx, _seed(seed, _STEPS))
  schedule = loop.Schedule(epochs, plan.steps, steps_per_call(devices), max_steps, save_every_s,
                           stop_at, 'available_accuracy')
  return _run(lambda axis: make_base_objective(make_model(axis)), tx, make_fetch(preprocess, augment),
              counts_of, {}, splits[0], 1, batch_size, state, schedule, seed, devices, store, reporter,
              drop_last=True)


def _run(make_objective, tx, fetch, counts_of, base_variables, split, k, batch_size, state, schedule, seed, devices,
         store, reporter, drop_last=False, sample=None):
  """Binds the arrays to the compiled step and evaluation, and trains."""

  def make_step(count):
    def make(axis):
      step = make_train_step(make_objective(axis), tx, axis)
      return many_steps(make_planned_step(step, fetch), count)
    fn = run_on(devices, make, 4, split=3, donate=(0,))
    return lambda state, plan: fn(state, base_variables, split, plan)

  def make_plan(epoch):
    plan = plan_batches(epoch_order(len(split['labels']), _seed(seed, _ORDER), epoch), k, batch_size, drop_last)
    if sample is not None:
      plan = dataclasses.replace(plan, available=sample(epoch, plan.steps))
    return split_plan(plan, devices)

  def place(tree):
    return replicate(tree, devices)

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
