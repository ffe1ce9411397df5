"""A training of a code, checked and resolved before anything is compiled."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lcode.coding.base import output_shape_of
from lcode.coding.black_box import black_box_of
from lcode.coding.checks import shown
from lcode.coding.scheme import Scheme, parts_to_train
from lcode.coding.units import stack_units
from lcode.data import Arrays, Plan, plan_batches, shifted
from lcode.errors import InputError
from lcode.training.devices import check_batch
from lcode.training.inputs import check_labels, devices_to_ask, split_arrays
from lcode.training.options import TrainingOptions
from lcode.training.patterns import check_patterns
from lcode.training.recipes import Recipe, get_recipe


class Prepared(NamedTuple):
  """What `fit` needs to know beside the scheme and F.

  Attributes:
    training, held_out: the splits, that for training with the recipe's copies after the queries themselves.
    options: with the recipe's epochs and batch size filled in.
    recipe: the recipe.
    devices: where it runs.
    parts: what is trained by gradients.
    num_outputs: C.
    plan: of an epoch.
    drop_last: whether an incomplete last batch is left out.
    criterion: the validation figure by which the best epoch is chosen.
  """

  training: Arrays
  held_out: Arrays
  options: TrainingOptions
  recipe: Recipe
  devices: list
  parts: tuple[str, ...]
  num_outputs: int
  plan: Plan
  drop_last: bool
  criterion: str


def prepare(scheme: Scheme, base_variables, images, labels, validation, options: TrainingOptions) -> Prepared:
  """Checks everything that can be checked by shapes; see `fit` for the arguments and what it raises."""
  if not isinstance(scheme, Scheme):
    raise InputError(f'scheme={shown(scheme)} is no Scheme: give what make_scheme or default_scheme returns.')
  k = scheme.code.k
  training, held_out = split_arrays(images, labels, validation)
  for split in (held_out, training):
    plan_batches(np.arange(len(split)), k, 1)  # raises if there is no whole group
  if isinstance(options.scenarios, np.ndarray):
    check_patterns(scheme, options.scenarios)
  queries = queries_of(options.preprocess, images, k)
  if options.augment and len(queries.shape) != 4:
    raise InputError(f'augment=True crops and flips images [height, width, channels], and a query here is '
                     f'{list(queries.shape[1:])}: leave it out.')
  num_outputs = math.prod(output_shape_of(scheme.base_apply, base_variables, queries))
  _check_loss(options.loss, num_outputs)
  check_labels('training', training.labels, num_outputs)
  check_labels('validation', held_out.labels, num_outputs)
  shapes = jax.eval_shape(lambda key, x, v: scheme.init(key, x, num_outputs, v), jax.random.key(0), queries,
                          base_variables)
  _check_together(scheme, shapes, base_variables, queries, num_outputs)
  parts = parts_to_train(scheme, shapes[0], options.train_parts)
  recipe = _recipe_of(options.recipe, parts, scheme)
  training = _with_copies(scheme, training, recipe.copies) if parts else training
  options, plan, drop_last = _resolved(options, recipe, len(training), k, 'parity_model' in parts and bool(shapes[1]))
  _check_steps(options.epochs, plan.steps)
  if parts and not isinstance(tx := recipe.make_optimizer(options.epochs * plan.steps), optax.GradientTransformation):
    raise InputError(f'make_optimizer of a recipe returned a {type(tx).__name__}: return an optax transformation, as '
                     'in lambda steps: optax.adam(1e-3).')
  devices = devices_to_ask(scheme.base_apply, options.devices)
  check_batch(options.batch_size, devices)
  no_classes = num_outputs == 1 or options.loss == 'mse_base' and labels is None
  criterion = 'loss' if no_classes else 'reconstruction_accuracy'
  return Prepared(training, held_out, options, recipe, devices, parts, num_outputs, plan, drop_last, criterion)


def _with_copies(scheme: Scheme, arrays: Arrays, copies: int) -> Arrays:
  if not copies:
    return arrays
  if (box := black_box_of(scheme.base_apply)) and box.recorded:
    raise InputError(f'the recipe asks F {copies} shifted copies of each query, and recorded answers hold none to '
                     'those: use a recipe without copies, or give F as a function.')
  images = np.concatenate([arrays.images, *(shifted(np.asarray(arrays.images), i + 1) for i in range(copies))])
  return Arrays(images, None if arrays.labels is None else np.tile(arrays.labels, copies + 1))


def _check_together(scheme, shapes, base_variables, queries, num_outputs):
  """Raises InputError if what encoder, parity model and decoder make of a group does not fit, by shapes alone."""

  def group(params, model_state, base_variables, x):
    coded = scheme.encode(params, x)
    replies = scheme.infer(params, model_state, base_variables, coded[None])[0][0]
    wanted = num_outputs * (scheme.code.k if scheme.bundled else 1)
    if replies.shape[-1] != wanted:
      raise InputError(f'what answers the parities gives {replies.shape[-1]} numbers where {wanted} are needed: F '
                       f'answers {num_outputs}; let a parity model do so{" for each query" if scheme.bundled else ""}.')
    if scheme.systematic:
      replies = stack_units(scheme.base_apply(base_variables, x), replies)
    return scheme.decode(params, replies, jnp.arange(scheme.code.n) > 0)

  jax.eval_shape(group, *shapes, base_variables, queries)


def _check_steps(epochs: int, steps: int) -> None:
  if epochs * steps >= 2**31:  # a step's number is an int32
    raise InputError(f'epochs={epochs} of {steps} steps are more than {2**31 - 1} steps: choose fewer.')


def queries_of(preprocess, images, count: int) -> jax.ShapeDtypeStruct:
  """Shape and dtype of `count` queries after the preprocessing; raises InputError where it changes their number."""
  images = jax.ShapeDtypeStruct((count, *np.shape(images)[1:]), jax.dtypes.canonicalize_dtype(images.dtype))
  queries = jax.eval_shape(preprocess, images)
  if not hasattr(queries, 'shape') or queries.shape[:1] != (count,):
    raise InputError(f'preprocess returns {queries} for {count} images: it must return one query for each.')
  return queries


def _check_loss(loss: str, num_outputs: int) -> None:
  if num_outputs == 1 and loss != 'mse_base':
    raise InputError(f'loss={loss!r} compares classes, and F has a single output, from which it learns nothing: use '
                     'loss=\'mse_base\'.')


def _recipe_of(wanted, parts: tuple[str, ...], scheme: Scheme) -> Recipe:
  """The recipe, where none is named the one that suits what is trained."""
  if isinstance(wanted, Recipe):
    return wanted
  if wanted is not None:
    return get_recipe(wanted)
  if scheme.bundled or scheme.at_frontend:
    return get_recipe('distil')
  if parts == ('parity_model',):
    return get_recipe('parity')
  return get_recipe('onecycle')


def _resolved(options: TrainingOptions, recipe: Recipe, count: int, k: int, drop_last: bool):
  """The options with batch size and epochs, the plan of an epoch, and whether its last batch may be incomplete."""
  batch_size = recipe.batch_size(k) if options.batch_size is None else options.batch_size
  plan = plan_batches(np.arange(count), k, batch_size, drop_last)  # batch statistics are to be those of whole batches
  epochs = options.epochs
  if epochs is None:
    epochs = max(recipe.default_epochs(''), math.ceil(recipe.least_steps / plan.steps))
  return dataclasses.replace(options, epochs=epochs, batch_size=batch_size), plan, drop_last
