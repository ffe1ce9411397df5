"""The rows of a comparison with one's own F: configs, schemes and trainings without a name in any table."""

import dataclasses
import math
from pathlib import Path

import jax
import numpy as np

from lcode import data
from lcode.coding import coders
from lcode.coding.black_box import black_box_of
from lcode.coding.code import Code
from lcode.coding.parts import declared
from lcode.coding.scheme import make_scheme, parts_to_train, Scheme
from lcode.errors import InputError, one_of
from lcode.models.forms import form_over
from lcode.models.small import convolves, dense_network
from lcode.runs import records
from lcode.runs.base_model import timing
from lcode.runs.comparison import Over
from lcode.runs.configs import CodeConfig, RunOptions
from lcode.runs.own import Own
from lcode.runs.parts import PARITY_MODELS, STUDENTS
from lcode.runs.presets import get_preset
from lcode.runs.progress import Progress
from lcode.runs.row import fit_row, judged, trial_of
from lcode.training import fingerprint
from lcode.training.devices import choose_devices
from lcode.training.recipes import get_recipe
from lcode.training.reporters import default_reporter

KIND = 'own code'  # of its config and records
FILE = 'own_model.json'


def over_own(own: Own) -> Over:
  """How rows with one's own F are made: each by `fit` and `evaluate`, with checkpoints where there is a folder."""

  def config_of(*args):
    return _config(own, *args)

  def train(config, folder, options):
    return _trained(own, config, folder, options)

  def seconds_an_epoch(config, seconds, options):
    return trial_of(scheme_of(own, config), own, config, seconds, _devices(own, config, options))

  return Over(own.sha256, own.multiply_adds, config_of, train, seconds_an_epoch, own.sized_by != 'assumed',
              own.judged_by)


def _config(own: Own, scheme, k, r, dataset, base_model, seed, epochs, multiply_adds, recipe, loss, form=''):
  """As `presets.config_of`; where F has no module to start from, a network of its size stands in for one."""
  preset = get_preset(scheme)
  if preset.per_query:
    k, r = 1, r if preset.copies else 1
  parity_model = preset.parity_model
  if parity_model == 'from_base' and own.module is None:
    parity_model = 'from_scratch'
  code, recipe = Code(k, r), recipe or preset.recipe
  how = get_recipe(recipe)
  steps = data.plan_batches(np.arange(len(own.dataset.train)), k, how.batch_size(k)).steps
  epochs = epochs or max(how.default_epochs(''), math.ceil(how.least_steps / steps))
  config = CodeConfig(dataset, base_model, code.k, code.r, preset.encoder, preset.decoder, parity_model,
                      loss=loss or own.loss or preset.loss, recipe=recipe, epochs=epochs, batch_size=how.batch_size(k),
                      seed=seed, multiply_adds=multiply_adds if parity_model in ('backup', *STUDENTS) else None,
                      form=_form(own, parity_model, form))
  _check_able(own, config, scheme_of(own, config))
  return config


def _form(own: Own, parity_model: str, form: str) -> str:
  """The form of a small network where nobody names one and F has no module that says it: by whether F convolves."""
  if not PARITY_MODELS[parity_model].sized:
    return ''
  if form or own.module is not None:
    return form
  if black_box_of(own.apply):
    form = form_over(True, own.query_shape)  # dense over what is no image
  else:
    query = jax.ShapeDtypeStruct((1, *own.query_shape), own.query_dtype)
    form = form_over(convolves(own.apply, own.variables, query), own.query_shape)
  return 'dense' if (parity_model, form) == ('tile_students', 'resolution') else form  # a tile is one already


def scheme_of(own: Own, config: CodeConfig) -> Scheme:
  """The scheme of a config with one's own F; where it has no module, a dense network of its size stands in."""
  shape, module = own.query_shape, own.module
  answers = PARITY_MODELS[one_of('parity model', config.parity_model, PARITY_MODELS)]
  if module is None and answers.sized:
    module = dense_network(shape, own.num_outputs, int(own.multiply_adds))
    if module is None:
      raise InputError(f'F takes {own.multiply_adds:.0f} multiply-adds a query, and no network does with as few: give '
                       'multiply_adds=, what students and parity models may take.')
  answerer = answers.make(module, shape, own.num_outputs, config)
  return make_scheme(Code(config.k, config.r), own.apply.base_apply, config.encoder, config.decoder, answerer)


def _check_able(own: Own, config: CodeConfig, scheme: Scheme) -> None:
  """Raises InputError, saying what F lacks, if a code cannot be made over a black box."""
  box = black_box_of(own.apply)
  if box is None or config.parity_model != 'base':
    return
  queries = jax.ShapeDtypeStruct((config.k, *own.query_shape), own.dataset.test.images.dtype)
  params = jax.eval_shape(lambda key, x: scheme.init(key, x, own.num_outputs, {}), jax.random.key(0), queries)[0]
  if 'encoder' in parts_to_train(scheme, params):
    raise InputError('its encoder is trained through F, and a black box has no gradient: give F as a JAX function.')
  encoder = coders.build('encoder', config.encoder, scheme.code)
  if box.recorded and declared(encoder, 'parities') != 'copies':
    raise InputError('it asks F coded queries, and recorded answers hold none to those: give F as a JAX function or a '
                     'lcode.BlackBox.')


def _devices(own: Own, config: CodeConfig, options: RunOptions) -> list:
  if black_box_of(own.apply):
    return choose_devices(1)
  return options.choose_devices(False, config.batch_size)


def _trained(own: Own, config: CodeConfig, folder: Path | None, options: RunOptions) -> dict:
  scheme, devices = scheme_of(own, config), _devices(own, config, options)
  title = f'({config.k}, {config.r}) {config.encoder}, {config.parity_model}, {config.decoder}'
  if folder is None:
    fitted = fit_row(scheme, own, config, devices, options, None, default_reporter(title))
  else:
    path = records.open_workdir(str(folder))
    records.claim(path, {'kind': KIND, **dataclasses.asdict(config)})
    _keep(path, own)
    with Progress(title, path, ('reconstruction', 'degraded')) as reporter:
      fitted = fit_row(scheme, own, config, devices, options, path / 'checkpoints', reporter)
  record = judged(scheme, fitted.params, fitted.model_state, own, config.loss, devices, None, options.time_costs,
                  options.split)
  record = (record | {'passthrough': scheme.passthrough, 'at_frontend': scheme.at_frontend, 'sized_by': own.sized_by,
                      'base_multiply_adds': own.multiply_adds}
            | timing(fitted.result, config.batch_size) | records.environment(devices))
  if folder is not None:
    records.append(path, {'kind': KIND} | record)
  return record


def _keep(path: Path, own: Own) -> None:
  """Writes into a code's folder what its scheme is made of, besides F itself; raises InputError if that has changed."""
  fingerprint.check(path / FILE, {
      'name': own.name, 'query_shape': list(own.query_shape), 'query_dtype': np.dtype(own.query_dtype).name,
      'num_outputs': own.num_outputs, 'multiply_adds': own.multiply_adds, 'sized_by': own.sized_by,
      'module': own.module and repr(own.module), 'variables': fingerprint.of_tree(own.variables)})
