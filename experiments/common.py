"""What the entry points share: flags, error sentences, the last line of standard output."""

import dataclasses
import json
import sys
from collections.abc import Callable

import jax
from absl import app, flags, logging

from lcode import data, models
from lcode.coding import coders
from lcode.errors import InputError
from lcode.runs.configs import PARITY_MODELS, RunOptions
from lcode.runs.presets import PRESETS, get_preset
from lcode.runs.progress import print_table

FLAGS = flags.FLAGS
PARTS = 'encoder', 'parity_model', 'decoder'


def define_run_flags() -> None:
  flags.DEFINE_string('data_dir', None, 'directory of TFDS directories; default: where TFDS keeps its own')
  flags.DEFINE_integer('devices', None, 'how many devices; default: all accelerators, or as suits a CPU')


def define_base_flags(default: str = 'digits') -> None:
  flags.DEFINE_string('dataset', default, ', '.join(data.SPECS))
  flags.DEFINE_string('base_model', 'mlp', ', '.join(models.MODELS))


def define_code_flags(default: str = 'digits', scheme: str = 'bundle') -> None:
  define_base_flags(default)
  flags.DEFINE_string('scheme', None, f'{", ".join(PRESETS)}; default: {scheme}, or what --encoder etc. say')
  flags.DEFINE_integer('k', 2, 'queries a group')
  flags.DEFINE_integer('r', 1, 'parities a group')
  flags.DEFINE_string('encoder', None, ', '.join(coders.ENCODERS))
  flags.DEFINE_string('decoder', None, ', '.join(coders.DECODERS))
  flags.DEFINE_string('parity_model', None, 'what answers the parities: ' + '; '.join(
      f'{name}: {text}' for name, text in PARITY_MODELS.items()))
  flags.DEFINE_integer('backup_multiply_adds', None, 'of --parity_model=backup: what it may take for a query')


def scheme_from_flags(default: str = 'bundle', **others) -> dict:
  """k, r, the parts, loss and recipe of the scheme that the flags name, with what they and `others` say otherwise.

  Parts that are named without a scheme go with those of "Learning a Code".
  """
  preset = get_preset(FLAGS.scheme or ('learned-mlp' if any(FLAGS[part].value for part in PARTS) else default))
  found = {name: getattr(preset, name) for name in (*PARTS, 'loss', 'recipe')}
  found |= {name: FLAGS[name].value for name in PARTS if FLAGS[name].value is not None}
  found |= {name: value for name, value in others.items() if value is not None}
  k, r = FLAGS.k, FLAGS.r
  if preset.per_query:  # each query for itself, whatever k is
    k, r = 1, r if preset.copies else 1
  return found | {'k': k, 'r': r, 'backup_multiply_adds': FLAGS.backup_multiply_adds}


def define_training_flags() -> None:
  flags.DEFINE_integer('max_steps', None, 'stop early')
  flags.DEFINE_float('save_every_s', 60.0, 'seconds between two checkpoints; the end is always saved')
  define_run_flags()


def training_run_options() -> RunOptions:
  max_steps = FLAGS.max_steps
  if max_steps is not None and max_steps < 1:
    raise InputError(f'--max_steps={max_steps} is too small: it must be at least 1.')
  return dataclasses.replace(run_options(), max_steps=max_steps, save_every_s=FLAGS.save_every_s)


def run_options() -> RunOptions:
  return RunOptions(FLAGS.data_dir, FLAGS.devices)


def run(main: Callable[[], dict | None]) -> None:
  """Runs `main` with parsed flags; its record is the last line of standard output, its errors one sentence."""

  def parse(argv):
    try:
      rest = FLAGS(argv)[1:]
    except flags.Error as error:
      _fail(' '.join(str(error).split()) + '.')
    if rest:
      _fail(f'{rest[0]!r} is no flag: write --name=value, and see --help.')
    return argv[:1]

  def wrapped(_):
    for name in ('workdir', 'base_dir', 'data_dir'):
      if name in FLAGS and FLAGS[name].value == '':
        _fail(f'--{name}= names no directory: give one, or leave the flag out.')
    logging.set_verbosity(logging.WARNING)  # Orbax tells of every file at INFO
    if data.cache_is_writable():
      jax.config.update('jax_compilation_cache_dir', str(data.cache_dir() / 'jax'))
    try:
      record = main()
    except InputError as error:
      _fail(str(error))
    except OSError as error:  # a disk that fills up, a directory that vanishes
      _fail(f'{error}: see to that and run the command again, it goes on where it was.')
    if record is not None:
      print(json.dumps(record, default=float), flush=True)

  app.run(wrapped, flags_parser=parse)


def show(record: dict) -> None:
  """The table of a code's figures, on standard error."""
  config = record['config']

  def percent(figures, name):
    low, high = figures[f'{name}_interval']
    return f'{100 * figures[name]:.2f} ({100 * low:.1f} to {100 * high:.1f})'

  rows = [[f'query {row["position"] + 1} of {config["k"]} missing', percent(row, 'reconstruction_accuracy'),
           percent(row, 'degraded_accuracy')] for row in record['positions']]
  rows += [[f'any {row["missing"]} of {config["k"] + config["r"]} units missing',
            percent(row, 'reconstruction_accuracy'), percent(row, 'degraded_accuracy')] for row in record['missing']]
  rows.append(['default answer (no code)', '', percent(record, 'default_accuracy')])
  rows.append(['deployed, nothing missing', '', percent(record, 'available_accuracy')])
  title = f'{config["dataset"]}, {config["base_model"]}, k={config["k"]}, r={config["r"]}: % of test units (95 %)'
  print_table(title, ['', 'reconstruction accuracy', 'degraded accuracy'], rows)


def _fail(sentence: str) -> None:
  print(f'error: {sentence}', file=sys.stderr)
  sys.exit(1)
