"""Training of a base model from arrays."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lcode.data import Arrays, plan_batches
from lcode.training import fingerprint, loop
from lcode.training.batched import make_evaluator, put_split
from lcode.training.devices import check_batch, default_devices
from lcode.training.options import TrainingOptions, with_changes
from lcode.training.problem import INIT, Problem, STEPS, as_store, key_of, schedule_of, seed_of, train
from lcode.training.recipes import BaseRecipe
from lcode.training.step import init_state, make_base_objective, make_fetch


def fit_base(make_model: Callable, training: Arrays, held_out: Arrays, recipe: BaseRecipe,
             options: TrainingOptions | None = None, *, store=None, reporter: loop.Reporter | None = None,
             **changes) -> loop.Result:
  """Trains a base model by cross-entropy.

  The same loop and step as for codes, with groups of one. An incomplete last batch is left out, so that batch
  statistics are always those of whole batches. Best is by validation accuracy.

  Args:
    make_model: axis name of the devices (None on one) -> a Flax module, (x f32[b, *S], train=False) -> f32[b, C].
    training, held_out: images and labels int32[N].
    recipe: the optimiser, and the epochs and batch size where the options do not tell.
    options: see `TrainingOptions`; loss, recipe, train_parts and scenarios are those of codes and have no effect.
    store, reporter, **changes: as for `fit`.

  Raises:
    InputError, DivergedError, OutOfTime: as `fit`.
  """
  options, store = with_changes(options, changes), as_store(store)
  options = dataclasses.replace(options, epochs=options.epochs or recipe.default_epochs(''),
                                batch_size=options.batch_size or recipe.batch_size)
  devices = default_devices() if options.devices is None else list(options.devices)
  check_batch(options.batch_size, devices)
  plan = plan_batches(np.arange(len(training)), 1, options.batch_size, drop_last=True)
  first = options.preprocess(jnp.asarray(training.images[:1]))
  variables = dict(jax.jit(make_model(None).init)(key_of(options.seed, INIT), first))
  params = variables.pop('params')
  if store:
    store.claim({'kind': 'base model', 'model': fingerprint.of_shapes((params, variables)), 'seed': options.seed,
                 'epochs': options.epochs, 'batch_size': options.batch_size,
                 **fingerprint.of_split(training)})
  splits = [put_split(arrays, None, devices) for arrays in (training, held_out)]
  tx = recipe.make_optimizer(options.epochs * plan.steps)
  counts_of = make_evaluator(lambda _: make_base_objective(make_model(None)), make_fetch(options.preprocess, False),
                             splits[1], {}, 1, devices)
  problem = Problem(lambda axis: make_base_objective(make_model(axis)), counts_of, {}, splits[0],
                    make_fetch(options.preprocess, options.augment), 1, True)
  state = init_state(params, variables, tx, seed_of(options.seed, STEPS))
  schedule = schedule_of(options, options.epochs, plan.steps, devices, 'available_accuracy')
  return train(problem, tx, state, schedule, options, devices, store, reporter)
