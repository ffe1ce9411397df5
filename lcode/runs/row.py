"""A code with F and its data, trained and judged: the same whether F has a name or is one's own."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lcode.coding.code import Code, every_pattern
from lcode.coding.costs import extra_work, group_costs, wire_costs
from lcode.coding.scheme import Scheme, parts_to_train
from lcode.coding.timing import extra_time, group_times
from lcode.runs.base_model import Base, count_parameters
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.parts import build_scheme
from lcode.training import checkpoint, trial
from lcode.training.evaluate import evaluate
from lcode.training.fit import Fitted, fit


def fit_row(scheme: Scheme, base: Base, config: CodeConfig, devices, options: RunOptions, folder: Path | None,
            reporter) -> Fitted:
  """`fit` as a config says, with F and its data; checkpoints go to the folder, None for none."""
  dataset = base.dataset
  return fit(
      scheme, base.variables, dataset.train.images, dataset.train.labels,
      validation=(dataset.validation.images, dataset.validation.labels), loss=config.loss, recipe=config.recipe,
      epochs=config.epochs, batch_size=config.batch_size, seed=config.seed, train_parts=config.train_parts,
      scenarios=spare_patterns(config) if config.num_byzantine else config.scenarios, preprocess=base.preprocess,
      augment=dataset.spec.augment, devices=devices, max_steps=options.max_steps,
      store=folder and checkpoint.Store(folder, len(devices)), save_every_s=options.save_every_s,
      stop_at=options.stop_at, reporter=reporter, base_outputs=base.outputs)


def seconds_an_epoch(base: Base, config: CodeConfig, seconds: float, options: RunOptions) -> float | None:
  """What an epoch of a code's training takes here, by a trial that keeps nothing; None if there is nothing to train.

  Args:
    base: F, with its data.
    config: of the code; its epochs do not matter.
    seconds: how long it is to be trained.
    options: how.
  """
  config = config.resolved()
  return trial_of(build_scheme(config, base.query_shape, base.num_outputs), base, config, seconds,
                  options.choose_devices(config.convolutional, config.batch_size))


def trial_of(scheme: Scheme, base: Base, config: CodeConfig, seconds: float, devices) -> float | None:
  """`seconds_an_epoch` of a scheme that is made already."""
  if not parts_to_train(scheme, shapes_of(scheme, base)[0], config.train_parts):
    return None
  return trial.seconds_an_epoch(lambda epochs, reporter: fit_row(
      scheme, base, dataclasses.replace(config, epochs=epochs), devices, RunOptions(), None, reporter), seconds)


def judged(scheme: Scheme, params, model_state, base: Base, loss: str, devices, scenarios=None,
           timed: bool = True, split: str = 'test') -> dict[str, Any]:
  """What a record says of a code: its figures on a split (`evaluate`), parameters, and costs in work, bytes and time.

  `base` has its data; without `timed` nothing is measured.
  """
  figures = evaluate(scheme, params, model_state, base.variables, getattr(base.dataset, split),
                     preprocess=base.preprocess, loss=loss, devices=devices, base_outputs=base.outputs[split],
                     scenarios=scenarios)
  costs = group_costs(scheme, params, model_state, base.variables, base.query_shape, base.num_outputs,
                      base.query_dtype)
  figures |= {'base_parameters': count_parameters(base.variables)}
  figures |= {f'{part}_parameters': count_parameters(params[part]) for part in params}
  figures |= extra_work(scheme, costs) | {'costs': costs, 'base_sha256': base.sha256}
  figures |= wire_costs(scheme, params, model_state, base.variables, base.query_shape, base.num_outputs,
                        base.query_dtype)
  if timed:
    times = group_times(scheme, params, model_state, base.variables, base.query_shape,
                        query_dtype=base.query_dtype)
    figures |= extra_time(scheme, times) | {'times': times}
  return figures


def shapes_of(scheme: Scheme, base: Base):
  """Shapes of (params, model_state); raises what the parts have to say about a query's shape."""
  return jax.eval_shape(
      lambda key: scheme.init(key, np.zeros((scheme.code.k, *base.query_shape), base.query_dtype), base.num_outputs,
                              base.variables), jax.random.key(0))


def spare_patterns(config: CodeConfig) -> np.ndarray | None:
  """Where wrong answers are located: the patterns of the stragglers that the code has left for; None otherwise."""
  if not config.num_byzantine:
    return None
  code = Code(config.k, config.r)
  stragglers = code.n - 2 * (config.k + config.num_byzantine)
  intact = np.ones((1, code.n), bool)
  return every_pattern(code, stragglers, passthrough=False) if stragglers else intact
