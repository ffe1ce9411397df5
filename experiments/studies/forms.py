"""Which small network best replaces F within its time: sizes by timing, accuracies on validation data."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lcode import models
from lcode.coding.coders.mosaic import tile_shape
from lcode.coding.timing import interleaved
from lcode.errors import InputError, whole
from lcode.models.forms import FORMS, make_form
from lcode.models.small import call_of, multiply_adds_of
from lcode.runs.base_model import Base, count_parameters
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.parts import build_scheme
from lcode.runs.presets import config_of, get_preset
from lcode.runs.progress import console
from lcode.runs.row import fit_row

# Of F's multiply-adds, times what the network may take of F's time.
SIZES = np.array([1 / 32, 1 / 16, 1 / 8, 1 / 4, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15])
ROUNDS = 31


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a small network stands in for F, and how long it may take there.

  Attributes:
    scheme: a preset with such a network.
    k: queries a group; 1 of a backup.
    time: what it may take in all for a group's parity, relative to F on one query.
  """

  scheme: str
  k: int
  time: float = 1.0

  def __post_init__(self):
    whole('k', self.k)
    if not self.time > 0:
      raise InputError(f'time={self.time!r} is not allowed: give more than 0, relative to F on one query.')
    if self.config('digits', 'mlp', 'dense', 1) is None:
      raise InputError(f'{self.scheme} has no small network: choose bundle, mosaic, backup, or a scheme whose parity '
                       'model is trained, such as parm-addition.')

  def config(self, dataset: str, base_model: str, form: str, multiply_adds: int, **others) -> CodeConfig | None:
    """What `train_code` makes there; a parity model of another form than F's starts from scratch."""
    config = config_of(self.scheme, self.k, 1, dataset, base_model, multiply_adds=multiply_adds, **others)
    parity_model = {'from_base': 'from_scratch'}.get(config.parity_model, config.parity_model)
    if parity_model not in ('students', 'tile_students', 'backup', 'from_scratch'):
      return None
    return dataclasses.replace(config, parity_model=parity_model, form=form, multiply_adds=multiply_adds)

  def queries(self, query_shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """How many queries the network answers for a group, and their shape."""
    answers = get_preset(self.scheme).parity_model
    shape = tile_shape(query_shape, self.k) if answers == 'tile_students' else query_shape
    return self.k if answers in ('students', 'tile_students') else 1, shape


def largest_within(times: Sequence[float], budget: float) -> int | None:
  """The number of the largest of sizes within a time, None if there is none.

  Args:
    times: of sizes in growing order. A smaller network takes no longer than a larger one, so that a larger one within
      the time stands for all before it, whatever a busy machine made of theirs.
    budget: the time.
  """
  return max((number for number, time in enumerate(times) if time <= budget), default=None)


def sizes_of(form: str, module, shape: tuple[int, ...], num_outputs: int, budgets: Iterable[float]) -> list:
  """(multiply-adds, network) of a form, each network once; what a dense network takes the place of is left out."""
  made = {}
  for budget in map(int, budgets):
    try:
      network = make_form(form, module, shape, num_outputs, budget)
    except InputError:
      continue
    if form == 'dense' or network != FORMS['dense'].make(module, shape, num_outputs, budget):
      made.setdefault(network, budget)
  return [(budget, network) for network, budget in made.items()]


def timed(networks: Iterable, shape, count: int, base: Base, groups: int) -> list[float]:
  """The fastest of each network's times for `count` queries of a shape, relative to F's on one, for so many groups."""
  calls = {'base': _call(models.make_model(base.name, base.query_shape, base.num_outputs), base.query_shape, groups)}
  calls |= {str(i): _call(network, tuple(shape), groups * count) for i, network in enumerate(networks)}
  return [part['fastest'] for part in list(interleaved(calls, ROUNDS).values())[1:]]


def _call(module, shape: tuple[int, ...], count: int) -> Callable:
  """The module, compiled, on so many queries of zeros, by weights of zeros."""
  _, variables, _ = call_of(module, shape)
  variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
  apply, x = jax.jit(lambda variables, x: module.apply(variables, x)), jnp.zeros((count, *shape))
  return lambda: apply(variables, x)


def study(place: Place, base: Base, forms: Sequence[str] = tuple(FORMS), groups: Sequence[int] = (64, 1),
          epochs: int | None = None, seed: int = 0, devices: Sequence | None = None) -> list[dict[str, Any]]:
  """Sizes each form by its time, trains what fits, and says how well it answers on validation data.

  Args:
    place: where the network stands.
    base: F, with its data.
    forms: names in `models.forms.FORMS`.
    groups: how many are answered at once: the first number is what the size is found by, all are timed.
    epochs: of the training; None for the recipe's.
    seed: of the training.
    devices: to train on; None for one.

  Returns:
    A record for each form that F and its queries have, the best first; those of which no network is within the time
    last, with the least time that was measured.

  Raises:
    InputError: if a name is unknown or a number not allowed.
  """
  module = models.make_model(base.name, base.query_shape, base.num_outputs)
  work, (count, shape) = multiply_adds_of(module, base.query_shape), place.queries(base.query_shape)
  sizes = {form: sizes_of(form, module, shape, base.num_outputs, SIZES * work * place.time / count) for form in forms}
  everything = [network for options in sizes.values() for _, network in options]
  times = iter(timed(everything, shape, count, base, groups[0]) if everything else [])
  times = {form: [next(times) for _ in options] for form, options in sizes.items()}
  found = {form: number for form in forms if (number := largest_within(times[form], place.time)) is not None}
  chosen = [sizes[form][number][1] for form, number in found.items()]
  alone = {n: dict(zip(found, timed(chosen, shape, count, base, n))) for n in groups[1:] if chosen}
  made = []
  for form in filter(sizes.get, forms):
    record = {'kind': 'forms', 'dataset': base.dataset.name, 'base_model': base.name, 'base_sha256': base.sha256,
              'scheme': place.scheme, 'k': place.k, 'time_budget': place.time, 'groups': list(groups), 'form': form,
              'measured': [(budget, time) for (budget, _), time in zip(sizes[form], times[form])]}
    if form in found:
      multiply_adds, network = sizes[form][found[form]]
      record |= {'multiply_adds': multiply_adds, 'network': _named(network), 'share': count * multiply_adds / work,
                 'times': {str(groups[0]): times[form][found[form]]} | {str(n): alone[n][form] for n in alone}}
      config = place.config(base.dataset.name, base.name, form, multiply_adds, epochs=epochs, seed=seed)
      record |= validated(config, base, devices)
    console.print(_line(record), highlight=False, soft_wrap=True)
    made.append(record)
  return sorted(made, key=lambda record: -record.get('validation_degraded_accuracy', -1))


def _line(record) -> str:
  said = 'no network' if 'share' not in record else (
      f'{record["share"]:.3f} of F\'s work, {100 * record["validation_degraded_accuracy"]:.2f} % of validation labels')
  return f'{record["scheme"]}, k={record["k"]}, {record["time_budget"]:g} of F\'s time, {record["form"]}: {said}'


def validated(config: CodeConfig, base: Base, devices: Sequence | None = None) -> dict[str, Any]:
  """Trains a code as `train_code` does, without a trace, and gives the best epoch's validation figures."""
  dataset, scheme = base.dataset, build_scheme(config, base.query_shape, base.num_outputs)
  fitted = fit_row(scheme, base, config, devices, RunOptions(), None, None)
  best = next(epoch for epoch in fitted.result.history if epoch['step'] == fitted.result.best.step)
  figures = {name: best[name] for name in ('validation_reconstruction_accuracy', 'validation_degraded_accuracy')}
  deployed = float((base.outputs['validation'].argmax(-1) == dataset.validation.labels).mean())
  return figures | {'validation_available_accuracy': deployed, 'config': dataclasses.asdict(config),
                    'seed': config.seed, 'parameters': count_parameters(fitted.params['parity_model']),
                    'seconds': fitted.result.seconds}


def _named(network) -> str:
  """A network in a line, without what is None."""
  return ' '.join(repr(network).replace('# attributes', '').replace('axis_name = None', '').split())
