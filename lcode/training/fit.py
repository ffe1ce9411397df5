"""Training of a code from arrays: devices, loop and step put together."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lcode.coding.checks import kind
from lcode.coding.codec import Codec, make_codec
from lcode.coding.scheme import PARTS, Scheme
from lcode.data import Arrays
from lcode.errors import InputError
from lcode.training import fingerprint, loop
from lcode.training.batched import apply_in_batches, make_evaluator, put_split
from lcode.training.devices import replicate
from lcode.training.evaluate import evaluate
from lcode.training.inputs import check_outputs
from lcode.training.losses import get_loss
from lcode.training.metrics import summarise
from lcode.training.options import TrainingOptions, with_changes
from lcode.training.patterns import patterns_of
from lcode.training.prepare import Prepared, prepare
from lcode.training.problem import (INIT, PATTERNS, Problem, STEPS, as_store, check_reporter, key_of, schedule_of,
                                    seed_of, train)
from lcode.training.step import init_state, make_code_objective, make_fetch

NEAR_DEFAULT = 0.1  # of the way from the default answer's accuracy to 1: a code below that has hardly learned
_log = logging.getLogger('lcode')


class Fitted(NamedTuple):
  """A trained code: its parameters (of the best epoch), its functions and how it went.

  Attributes:
    scheme: the pure functions.
    params, model_state: their parameters and state, NumPy arrays.
    codec: the jitted functions, with these parameters.
    result: the last state, the best epoch, the history of losses and figures, and the seconds.

  >>> fitted = lcode.fit(scheme, variables, x)     # nothing to train here: it is only judged
  >>> fitted.codec.encode(x.reshape(100, 2, 6)).shape, fitted.result.best.step
  ((100, 1, 6), 0)
  """

  scheme: Scheme
  params: Any
  model_state: Any
  codec: Codec
  result: loop.Result

  def evaluate(self, base_variables, images, labels=None, **options) -> dict[str, Any]:
    """Figures on images [N, *I] and labels int[N] that were not trained on; see `lcode.evaluate` for the rest."""
    return evaluate(self.scheme, self.params, self.model_state, base_variables, Arrays(images, labels), **options)

  def __repr__(self):
    best = self.result.best
    return (f'Fitted(k={self.scheme.code.k}, r={self.scheme.code.r}, steps={int(self.result.state.step)}, '
            f'best_step={best.step}, best_validation={best.value:.4g})')


def fit(scheme: Scheme, base_variables, images, labels=None, options: TrainingOptions | None = None, *,
        validation: tuple | None = None, store=None, reporter: loop.Reporter | None = None,
        base_outputs: Mapping[str, np.ndarray] | None = None, **changes) -> Fitted:
  """Trains a code with F, `scheme.base_apply`, frozen.

  A code that needs no training is judged on `validation`, by which its smoothing parameters, if any, are chosen.

  Args:
    scheme: from `make_scheme` or `default_scheme`.
    base_variables: F's variables.
    images: [N, *I], what to train on; any dtype that `options.preprocess` turns into queries.
    labels: int[N], for the accuracies that are reported and for xent_label; None for argmax F(x).
    options: see `TrainingOptions`.
    validation: (images, labels or None) to choose the best epoch by, that is by reconstruction accuracy, or where
      outputs are not class scores (C = 1, or mse_base without labels) by the loss. None holds out the last tenth (at
      most 5,000).
    store: a `lcode.checkpoint.Store` or a directory to save to and to resume from; only the same training is resumed.
    reporter: told of the progress; None for lines at a terminal.
    base_outputs: F's outputs f32[N, C] under 'train' and 'validation', where they are known already; under
      'train copy 1' and so on those to the copies of the recipe.
    **changes: fields of the options, as in `fit(scheme, variables, x, epochs=5)`.

  Returns:
    the parameters of the best epoch, and how it went.

  Raises:
    InputError: before anything is compiled, if arrays, options or F will not do, or if the store holds another
      training.
    DivergedError: if the loss is not finite.
    OutOfTime: if `stop_at` is over; the same call resumes it where there is a store.

  >>> mlp = lcode.make_scheme(code, apply, 'mlp', 'mlp')
  >>> fitted = lcode.fit(mlp, variables, x, y, epochs=2, batch_size=30)
  >>> int(fitted.result.state.step), fitted.codec.encode(x.reshape(100, 2, 6)).shape
  (6, (100, 1, 6))
  """
  store, base_outputs = as_store(store), _checked_known(base_outputs)
  check_reporter(reporter)
  ready = prepare(scheme, base_variables, images, labels, validation, with_changes(options, changes))
  options, devices, code = ready.options, ready.devices, scheme.code
  outputs = {'validation': _outputs(scheme, base_variables, ready.held_out, 'validation', 0, options, base_outputs)}
  if ready.parts:
    outputs['train'] = _outputs(scheme, base_variables, ready.training, 'train', ready.recipe.copies, options,
                                base_outputs)
  first = options.preprocess(jnp.asarray(ready.training.images[:code.k]))
  params, model_state = jax.jit(scheme.init, static_argnums=2)(key_of(options.seed, INIT), first, ready.num_outputs,
                                                               base_variables)
  if store:
    store.claim(_fingerprint(scheme, params, model_state, base_variables, first, ready) |
                {f'{name}_answers': fingerprint.of_answers(outputs[name]) for name in outputs})
  base_variables = replicate(base_variables, devices)
  sample, validated = patterns_of(scheme, options.scenarios, seed_of(options.seed, PATTERNS))
  splits = {name: _put(getattr(ready, {'validation': 'held_out', 'train': 'training'}[name]), outputs[name], devices)
            for name in outputs}

  def make_objective(axis, own_model=True):
    return make_code_objective(scheme, get_loss(options.loss), validated, axis, own_model)

  def evaluator(wrap):
    return make_evaluator(lambda axis: wrap(make_objective(axis)), make_fetch(options.preprocess, False),
                          splits['validation'], base_variables, code.k, devices)

  epochs = options.epochs
  if not ready.parts:
    counts_of_all = evaluator(_over_decoders)
    params, epochs = _choose(scheme, params, lambda params: counts_of_all(params, model_state), ready.criterion), 0
  augment = options.augment and not ready.recipe.copies  # F has answered each copy as it is
  tx = _only(ready.parts, ready.recipe.make_optimizer(epochs * ready.plan.steps), params)
  problem = Problem(
      lambda axis: make_objective(axis, 'parity_model' in ready.parts), evaluator(lambda objective: objective),
      base_variables, splits.get('train', splits['validation']), make_fetch(options.preprocess, augment),
      code.k, ready.drop_last, sample)
  state = init_state(params, model_state, tx, seed_of(options.seed, STEPS))
  schedule = schedule_of(options, epochs, ready.plan.steps, devices, ready.criterion)
  result = train(problem, tx, state, schedule, options, devices, store, reporter)
  if ready.parts and ready.criterion != 'loss':
    _warn_if_it_hardly_learned(result.best.value, outputs['validation'])
  params, model_state = jax.device_get(result.best.variables)
  return Fitted(scheme, params, model_state, make_codec(scheme, params, model_state), result)


def _checked_known(base_outputs) -> dict:
  """F's outputs that are known already; raises InputError if they are not given by the names of splits."""
  if base_outputs is None:
    return {}
  if not isinstance(base_outputs, Mapping):
    raise InputError(f'base_outputs is a {type(base_outputs).__name__}: give a dictionary of arrays under \'train\' '
                     'and \'validation\', or None.')
  return base_outputs


def _outputs(scheme, base_variables, arrays, name, copies, options, known) -> np.ndarray:
  """F's outputs f32[N, C] on a split and its copies, finite ones."""
  parts, names = [], [name, *(f'{name} copy {i + 1}' for i in range(copies))]
  for part, images in zip(names, np.split(np.asarray(arrays.images), copies + 1)):
    if part in known:
      outputs = known[part]
      if not hasattr(outputs, 'dtype') or np.ndim(outputs) != 2 or len(outputs) != len(images):
        raise InputError(f'base_outputs[{part!r}] is {kind(outputs)} for {len(images)} queries: give F\'s outputs '
                         f'f32[{len(images)}, C].')
    else:
      outputs = apply_in_batches(scheme.base_apply, base_variables, images, options.preprocess)
    check_outputs({'train': 'training'}.get(part, part), outputs)
    parts.append(outputs)
  return np.concatenate(parts) if copies else parts[0]


def _put(arrays: Arrays, outputs, devices) -> dict:
  labels = outputs.argmax(-1) if arrays.labels is None else arrays.labels
  return put_split(Arrays(arrays.images, labels), outputs, devices)


def _fingerprint(scheme, params, model_state, base_variables, first, ready: Prepared) -> dict[str, Any]:
  options, code = ready.options, scheme.code
  scenarios = options.scenarios
  if isinstance(scenarios, np.ndarray):
    scenarios = fingerprint.of_tree(scenarios)
  held_out = {f'validation_{name}': value for name, value in fingerprint.of_split(ready.held_out).items()}
  return {
      'kind': 'code', 'code': f'({code.k}, {code.r})', 'base_variables': fingerprint.of_tree(base_variables),
      **fingerprint.of_split(ready.training), **held_out, 'seed': options.seed, 'loss': options.loss,
      'epochs': options.epochs, 'batch_size': options.batch_size, 'augment': bool(options.augment),
      'optimizer': fingerprint.of_optimizer(
          ready.recipe.make_optimizer(options.epochs * ready.plan.steps)) if ready.parts else None,
      'train_parts': ', '.join(ready.parts), 'scenarios': scenarios,
      'parameters': fingerprint.of_shapes((params, model_state)),
      **fingerprint.of_scheme(scheme, params, model_state, base_variables, first)}


def _warn_if_it_hardly_learned(accuracy: float, base_outputs: np.ndarray) -> None:
  guesses = base_outputs.argmax(-1)
  default = np.bincount(guesses).max() / len(guesses)
  if accuracy < default + NEAR_DEFAULT * (1 - default):
    _log.warning(
        'validation reconstruction accuracy is %.1f %%, and always answering F\'s most frequent class has %.1f %%: the '
        'code has hardly learned; train for more epochs, or take lcode.default_scheme.', 100 * accuracy, 100 * default)


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
