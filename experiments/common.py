"""What the entry points share: flags and their help, your own modules, error messages, the record at the end."""

import contextlib
import dataclasses
import importlib
import json
import logging as std_logging
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator

import jax
from absl import app, flags, logging

from lcode import data, models
from lcode.coding import coders
from lcode.errors import InputError, OutOfTime
from lcode.models.forms import FORMS
from lcode.runs.configs import RunOptions
from lcode.runs.own import FUNCTIONS
from lcode.runs.parts import PARITY_MODELS
from lcode.runs.presets import PRESETS, get_preset
from lcode.runs.progress import console, print_table
from lcode.training.loop import stop_request

FLAGS = flags.FLAGS
PARTS = 'encoder', 'parity_model', 'decoder'
OWN_PARTS = 'Your own parts'
HELP = '--help', '-help', '--helpshort', '--helpfull', '-h'
_groups: dict[str, list[str]] = {}  # of flags, in the order of the help


@contextlib.contextmanager
def group(title: str) -> Iterator[None]:
  """Lists the flags that are defined within under `title` in the help."""
  before = set(FLAGS)
  yield
  _groups.setdefault(title, []).extend(name for name in FLAGS if name not in before)


def define_run_flags() -> None:
  with group('How it runs'):
    flags.DEFINE_string('data_dir', None, 'directory of TFDS directories; default: where TFDS keeps its own')
    flags.DEFINE_integer('devices', None, 'how many devices; default: all accelerators, or as suits a CPU')


def define_cost_flags() -> None:
  with group('How it runs'):
    flags.DEFINE_boolean('time_costs', True, 'measure how long a group takes, for the record; some seconds per code')


def define_base_flags(default: str = 'digits') -> None:
  with group('Data and base model'):
    flags.DEFINE_string('dataset', default, ', '.join(data.SPECS))
    flags.DEFINE_string('base_model', 'mlp', ', '.join(models.MODELS))


def define_comparison_flags() -> None:
  """F by name, or your own, and what is compared with it."""
  define_base_flags()
  with group('Data and base model'):
    flags.DEFINE_string('base_dir', None, 'a workdir of train_base or train_code, for its base model; default: '
                        '<workdir>/base, trained where there is none')
    flags.DEFINE_string('model', None, 'an F of your own, by the name that a module of --import gave it with '
                        'lcode.register_function; default: --base_model on --dataset' + (
                            f'; known: {", ".join(FUNCTIONS)}' if FUNCTIONS else ''))
  with group('The codes'):
    flags.DEFINE_list('schemes', ['all'], 'all, or some of: ' + ', '.join(
        f'{name} ({preset.source})' if preset.source else name for name, preset in PRESETS.items()))
    flags.DEFINE_list('backup_work', ['0.05', '0.2'], 'multiply-adds of the backups, relative to an inference by F')
    flags.DEFINE_float('student_work', None, 'the same of students, of bundles and mosaics; default: 1/k by time')
    flags.DEFINE_string('form', '', f'of the small networks: {", ".join(FORMS)}; default: of F\'s kind')


def compared_names() -> tuple[str, str, tuple[str, ...]]:
  """The data set, the base model (of your own F, its name twice) and the schemes that the flags name."""
  if not FLAGS.schemes:
    raise InputError('--schemes= names no scheme: give some, or leave the flag out for all.')
  if FLAGS.model and FLAGS.base_dir:
    raise InputError('--base_dir with --model is not allowed: --model names an F that is trained already.')
  schemes = tuple(PRESETS) if FLAGS.schemes == ['all'] else tuple(FLAGS.schemes)
  return (FLAGS.model, FLAGS.model, schemes) if FLAGS.model else (FLAGS.dataset, FLAGS.base_model, schemes)


def define_code_flags(default: str = 'digits', scheme: str = 'mosaic') -> None:
  define_base_flags(default)
  with group('The code'):
    flags.DEFINE_string('scheme', None, f'{", ".join(PRESETS)}; an encoder, or encoder:parity_model:decoder; '
                        f'default: {scheme}, or what --encoder etc. say')
    flags.DEFINE_integer('k', 2, 'queries per group')
    flags.DEFINE_integer('r', 1, 'parities per group')
    flags.DEFINE_string('encoder', None, ', '.join(coders.ENCODERS))
    flags.DEFINE_string('decoder', None, ', '.join(coders.DECODERS))
    flags.DEFINE_string('parity_model', None, 'what answers the parities: ' + '; '.join(
        f'{name}: {answerer.text}' if answerer.text else name for name, answerer in PARITY_MODELS.items()))
    flags.DEFINE_string('form', '', f'of the small network that answers: {", ".join(FORMS)}; default: of F\'s kind')
    flags.DEFINE_integer('multiply_adds', None, 'of that network for a query; default: 1/k of F\'s time, by work')


def scheme_from_flags(default: str = 'mosaic', **others) -> dict:
  """k, r, the parts, loss and recipe of the scheme that the flags name, with what they and `others` say otherwise.

  Parts that are named without a scheme go with those of "Learning a Code".
  """
  preset = get_preset(FLAGS.scheme or ('learned-mlp' if any(FLAGS[part].value for part in PARTS) else default))
  fields = {name: getattr(preset, name) for name in (*PARTS, 'loss', 'recipe')}
  fields |= {name: FLAGS[name].value for name in PARTS if FLAGS[name].value is not None}
  fields |= {name: value for name, value in others.items() if value is not None}
  # Of a preset that answers each query for itself, k does not matter.
  k, r = (1, FLAGS.r if preset.copies else 1) if preset.per_query else (FLAGS.k, FLAGS.r)
  return fields | {'k': k, 'r': r, 'multiply_adds': FLAGS.multiply_adds, 'form': FLAGS.form}


def define_training_flags() -> None:
  define_run_flags()
  with group('How it runs'):
    flags.DEFINE_integer('max_steps', None, 'stop every training of this run after so many steps')
    flags.DEFINE_float('save_every_s', 60.0, 'seconds between two checkpoints; the end is always saved')


def training_run_options() -> RunOptions:
  return dataclasses.replace(run_options(), max_steps=FLAGS.max_steps, save_every_s=FLAGS.save_every_s)


def run_options() -> RunOptions:
  return RunOptions(FLAGS.data_dir, FLAGS.devices, time_costs='time_costs' in FLAGS and FLAGS.time_costs)


def numbers(name: str, kind: type) -> tuple:
  """The values of a list flag as numbers; raises InputError if they are none, or there is none."""
  try:
    values = tuple(kind(value) for value in FLAGS[name].value)
  except ValueError:
    values = ()
  if not values:
    raise InputError(f'--{name}={",".join(FLAGS[name].value)} is not allowed: give numbers, as in '
                     f'--{name}={FLAGS[name].default_as_str.strip(chr(39))}.')
  return values


def run(main: Callable[[], dict | None], define_flags: Callable[[], None]) -> None:
  """An entry point: `main` with parsed flags.

  Its record is the last line of standard output where that is no terminal, where tables and progress say it all; its
  errors are one sentence on standard error, with exit status 1. `--import` comes first, so that what a user's modules
  register has a name in the flags and their help.
  """

  def parse(argv):
    with _errors():
      try:
        _import_modules(argv[1:])
        define_flags()
        if set(HELP) & set(argv[1:]):
          print(_help(sys.modules['__main__'].__doc__))
          sys.exit(0)
        rest = FLAGS(argv)[1:]
      except flags.Error as error:
        raise InputError(' '.join(str(error).split()) + ': see --help.') from error
      if rest:
        raise InputError(f'{rest[0]!r} is no flag: write --name=value, and see --help.')
    return argv[:1]

  signal.signal(signal.SIGINT, _interrupted)

  def wrapped(_):
    with _errors():
      _check_directories()
      logging.set_verbosity(logging.WARNING)  # Orbax tells of every file at INFO
      _plain_warnings()
      if data.cache_is_writable():
        jax.config.update('jax_compilation_cache_dir', str(data.cache_dir() / 'jax'))
      _show_end(main())

  app.run(wrapped, flags_parser=parse)


@contextlib.contextmanager
def _errors():
  """What is wrong as a sentence, without a traceback."""
  try:
    yield
  except InputError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  except OSError as error:  # a disk that fills up, a directory that vanishes
    print(f'error: {error}: see to that and run the command again, it resumes where it was.', file=sys.stderr)
    sys.exit(1)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    print('error: there is not enough memory for this: choose a smaller k, r or batch_size, or a larger machine.',
          file=sys.stderr)
    sys.exit(1)
  except OutOfTime as stopped:
    print(f'{stopped}, and saved: the same command resumes there.', file=sys.stderr)
    sys.exit(130)


def _interrupted(*_) -> None:
  """Ctrl-C: a training saves what it has and stops; all else, and a training at the second time, stops at once.

  No KeyboardInterrupt: in the midst of JAX one can be lost, and files are renamed only when they are whole.
  """
  if stop_request.heeded and not stop_request.wanted:
    stop_request.wanted = True
    print('stopping after this step, to save it; once more to stop at once.', file=sys.stderr)
    return
  print('interrupted.', file=sys.stderr)
  os._exit(130)


def _import_modules(arguments: list[str]) -> None:
  """Imports the modules that --import names, before the other flags are defined."""
  with group(OWN_PARTS):
    flags.DEFINE_list('import', [], 'modules that register parts of your own, such as my_package.my_module')
  named = []
  for argument, following in zip(arguments, [*arguments[1:], '']):
    name, equals, value = argument.lstrip('-').partition('=')
    if argument.startswith('-') and name == 'import':
      named += (value if equals else following).split(',')
  if any(not name.strip() for name in named):
    raise InputError('--import= names no module: give one, as in --import=my_package.my_module, or leave it out.')
  for name in named:
    try:
      importlib.import_module(name.strip())
    except ImportError as error:
      raise InputError(f'--import={name} cannot be imported ({error}): give a module on the Python path, without .py; '
                       'a file in the current directory is on it.') from error


def _plain_warnings() -> None:
  """lcode's own warnings as sentences, without absl's dates and file names."""
  own, handler = std_logging.getLogger('lcode'), std_logging.StreamHandler()
  handler.setFormatter(std_logging.Formatter('warning: %(message)s'))
  own.addHandler(handler)
  own.propagate = False


def _check_directories() -> None:
  for name in ('workdir', 'base_dir', 'data_dir', 'results_dir', 'out'):
    if name in FLAGS and FLAGS[name].value == '':
      raise InputError(f'--{name}= names no directory: give one, or leave the flag out.')


def _show_end(record: dict | None) -> None:
  if record is None:
    return
  if not sys.stdout.isatty() or not ('workdir' in FLAGS and FLAGS.workdir):
    print(json.dumps(record, default=float), flush=True)
  else:
    console.print(f'record: {FLAGS.workdir}/records.jsonl', highlight=False, soft_wrap=True)


def _help(text: str | None) -> str:
  """The module's own text, then its flags with their defaults: first those that it defines itself, then by groups."""
  grouped = {name for names in _groups.values() for name in names}
  own = [name for name in FLAGS if FLAGS[name].name == name and name not in grouped
         and FLAGS.find_module_defining_flag(name) in ('__main__', sys.argv[0])]
  parts = [(text or '').strip()]
  for title, names in [('This command', own), *sorted(_groups.items(), key=lambda entry: entry[0] == OWN_PARTS)]:
    if names:
      parts.append(f'{title}:\n' + '\n'.join(_described(names)))
  return '\n\n'.join(parts)


def _described(names: Iterable[str]) -> Iterator[str]:
  width = min(shutil.get_terminal_size().columns, 120)
  for name in names:
    flag = FLAGS[name]
    default = '' if flag.default in (None, []) else f' (default: {flag.default_as_str.strip(chr(39))})'
    yield textwrap.fill(f'{flag.help}{default}', width, initial_indent=f'  --{name:<22}', subsequent_indent=' ' * 26,
                        break_on_hyphens=False)


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
  costs = [f'work {record["frontend_work"]:.3f} + {record["worker_work"]:.3f}']
  if 'frontend_time' in record:
    costs.append(f'time {record["frontend_time"]:.2f} + {record["worker_time"]:.2f}')
  console.print(f'added at the frontend + at the workers, in k inferences by F: {", ".join(costs)}; on the wire, in k '
                f'queries and k answers: {record["wire_out"]:.2f} and {record["wire_back"]:.2f}', highlight=False,
                soft_wrap=True)
