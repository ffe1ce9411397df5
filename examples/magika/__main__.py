"""File types from bytes: a code over Magika, a model that others trained and JAX cannot look into, and its service.

  pip install '.[examples]'                            # onnxruntime, and magika, whose wheel holds the model
  python -m examples.magika --workdir=runs/magika      # some 10 minutes on two idle cores

F is Magika (Google, Apache-2.0; 784,519 parameters, 214 types) by onnxruntime. The queries are files of this machine as
Magika reads them: 1,024 bytes of their beginning and of their end, as tokens of 0 to 256. Files have no labels here:
F's own top label is what codes are judged by.

1. Collects files, at most --per_suffix of each suffix, whole directories to train on, to choose by and to test on.
2. Records F's answers to them, once.
3. Trains the code: two queries in the bits of one (`narrow`; a token takes 9 bits of 32, so nothing is rounded), and a
   small network of bytes that answers each. F gives no gradient, and needs none.
4. Serves test files by workers on Ray, of which one answers --slow_ms late, without a code and with it, beside copies
   and a backup (the same network, on each query for itself).

What to expect (docs/results/magika.jsonl has the records; two cores that others used too, so that its milliseconds
are no more than an example): of 2,144 test files, in directories of their own, a reconstruction has F's top label for
72.7 % (82.5 % of validation files; 82.0 % of those test files that F is sure of), by a network that takes 1/20 of F's
time. With one of four workers 200 ms late, p50 and p99 are 14 and 223 ms without a code, 16 and 63 coded, 15 and 50
with the backup, 15 and 84 hedged, 23 and 99 with two copies of every query; only copies are always F's own answer. So
where a network as small as this does, a backup does as well as a code, at a unit for each query instead of one for two.

The last line is the record. What is done in --workdir is not done again.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import lcode
from examples.magika import files, model
from experiments import common
from experiments.studies import load, load_suite
from lcode import data
from lcode.coding.timing import group_times
from lcode.errors import InputError, one_of
from lcode.runs import records
from lcode.runs.progress import console, Progress
from lcode.serving.disturbed import Disturbance
from lcode.training.batched import in_batches

FLAGS = flags.FLAGS
ASKED_AT_ONCE = 64  # files
SURE = 0.5
# What a workdir is of.
CLAIMED = ('roots', 'per_suffix', 'k', 'width', 'epochs', 'seed', 'seconds', 'num_workers', 'num_parity_workers',
           'slow_ms', 'wait_ms', 'group_wait_ms')
# Name -> policy, and whether copies, backups and parities wait until an answer is late.
MODES = {'none': ('none', False), 'equal resources': ('equal', False), 'replication': ('replication', False),
         'hedged': ('hedged', True), 'backup': ('backup', True), 'coded': ('coded', True)}


def define_flags():
  flags.DEFINE_string('workdir', None, 'where queries, answers, code and records go; needed')
  with common.group('The files'):
    flags.DEFINE_list('roots', None, 'directories with files; default: Python\'s library, its packages, and /usr')
    flags.DEFINE_integer('per_suffix', 300, 'files of a suffix, at most')
  with common.group('The code'):
    flags.DEFINE_integer('k', 2, 'queries per group: 1 or 2')
    flags.DEFINE_integer('width', 128, 'of the small network\'s first layer')
    flags.DEFINE_integer('epochs', 8, 'of its training')
    flags.DEFINE_integer('seed', 0, 'of the choice of files and of the training')
  with common.group('The service'):
    flags.DEFINE_list('policies', list(MODES), 'one after the other; empty for none')
    flags.DEFINE_list('seeds', ['0', '1', '2'], 'of the arrivals: how often each is run')
    flags.DEFINE_float('rate', 20, 'queries a second')
    flags.DEFINE_float('seconds', 15, 'of each run')
    flags.DEFINE_integer('num_workers', 4, 'that run F; the last of them is slow')
    flags.DEFINE_integer('num_parity_workers', 2, 'that answer parities, or what the policy has them for')
    flags.DEFINE_float('slow_ms', 200, 'how much longer the slow worker takes')
    flags.DEFINE_float('wait_ms', 30, 'after which copies, backups and parities are made for what is not answered yet')
    flags.DEFINE_float('group_wait_ms', 20, 'after which a group is closed short')


def main():
  if not FLAGS.workdir:
    raise InputError('--workdir is needed: name a directory for queries, answers, code and records.')
  for name in FLAGS.policies:
    one_of('policy', name, MODES)
  path, magika = records.open_workdir(FLAGS.workdir), model.folder()
  config = {'kind': 'magika', 'model': magika.name} | {name: FLAGS[name].value for name in CLAIMED}
  records.claim(path, config)
  queries, answers = _recorded(path, magika)
  fitted = _trained(path, magika, queries, answers)
  record = {'kind': 'magika', 'config': {name: value for name, value in config.items() if name != 'roots'},
            'files': {split: len(x) for split, x in queries.items()},
            **_judged(fitted, queries['test'], answers['test'])}
  trained = model.Trained(magika, FLAGS.k, FLAGS.width, fitted.params, fitted.model_state)
  rows = load_suite.summary(_served(path, trained, queries['test'], answers['test']))
  record |= {'service': rows} | records.environment(jax.devices())
  records.append(path, record)
  if rows:
    console.print(load_suite.table(rows), highlight=False, soft_wrap=True)
  return record


def _recorded(path: Path, magika: Path) -> tuple[dict, dict]:
  """Queries f32[N, tokens] and F's answers f32[N, labels] by split; those of the workdir, or collected and asked."""
  if not (path / model.RECORDED).exists():
    queries = files.collect(FLAGS.roots or files.default_roots(), model.read_config(magika), FLAGS.per_suffix,
                            FLAGS.seed)
    console.print(f'{sum(map(len, queries.values()))} files: asking F about them', highlight=False)
    box = lcode.BlackBox(model.load_model(magika))
    answers = {f'{split}_answers': in_batches(box.answers, ASKED_AT_ONCE, x) for split, x in queries.items()}
    part = path / 'part.npz'
    np.savez_compressed(part, **queries, **answers)
    os.replace(part, path / model.RECORDED)
  return model.recorded(path)


def _trained(path: Path, magika: Path, queries: dict, answers: dict) -> lcode.Fitted:
  scheme = model.make_code(FLAGS.k, FLAGS.width, magika)
  with Progress('a network of bytes', path, ('reconstruction',)) as reporter:
    return lcode.fit(scheme, {}, queries['train'], validation=(queries['validation'], None), recipe='distil',
                     base_outputs=answers, epochs=FLAGS.epochs, seed=FLAGS.seed, store=path / 'checkpoints',
                     reporter=reporter)


def _judged(fitted: lcode.Fitted, queries: np.ndarray, answers: np.ndarray) -> dict:
  """Agreement with F's top label where a query's own answer is missing, and what a group takes in F's time.

  Of all files, and of those that F gives its label a probability of SURE or more: below, Magika itself says no more
  than text or binary.
  """
  scheme, params, state = fitted.scheme, fitted.params, fitted.model_state
  sure = np.exp(answers.max(-1)) >= SURE
  figures = {}
  for name, rows in (('agreement', np.ones_like(sure)), ('agreement_where_sure', sure)):
    made = lcode.evaluate(scheme, params, state, {}, data.Arrays(queries[rows], None), preprocess=jnp.asarray,
                          loss='kl_base', devices=jax.devices()[:1], base_outputs=answers[rows])
    figures |= {name: made['reconstruction_accuracy'], f'{name}_interval': made['reconstruction_accuracy_interval'],
                f'default_{name}': made['default_accuracy']}
  times = group_times(scheme, params, state, {}, queries.shape[1:], groups=(1,))['groups']['1']
  return figures | {
      'share_sure': float(sure.mean()), 'validation_agreement': fitted.result.best.value,
      'times': {name: part['relative'] for name, part in times.items()},
      'base_ms': times['base_inference']['microseconds'] / 1000, 'steps': int(fitted.result.state.step),
      'train_s': fitted.result.seconds}


def _served(path: Path, trained: model.Trained, queries: np.ndarray, answers: np.ndarray) -> list[dict]:
  """The policies under the same load, one worker of F being slow; a right answer is F's top label."""
  late = {'spare_after': FLAGS.wait_ms, 'spare_quantile': None}
  modes = {}
  for name in FLAGS.policies:
    policy, waits = MODES[name]
    served = trained.backup() if policy == 'backup' else trained.coded()
    fields = (late if waits else {}) | ({'hold_quantile': None} if policy == 'backup' else {}) | (
        {'group_wait': FLAGS.group_wait_ms} if policy == 'coded' else {})
    modes[name] = load_suite.Mode(policy, served, fields)
  slow = Disturbance(slow_share=1 / FLAGS.num_workers, slow_ms=FLAGS.slow_ms)
  machines = load_suite.Machines(FLAGS.num_workers, FLAGS.num_parity_workers, slow)
  return load_suite.measure(path, modes, machines, queries, answers.argmax(-1), (FLAGS.rate,),
                            load.Load(seconds=FLAGS.seconds), common.numbers('seeds', int))


if __name__ == '__main__':
  common.run(main, define_flags)
