"""Packed answers: small networks at the frontend, their answers sent through F. A bound, not a code to deploy.

  cp -r checkpoints/mnist-mlp-k2-r1 runs/packed
  python -m experiments.bounds.packed --workdir=runs/packed --data_dir=DIR              # half a minute
  python -m experiments.bounds.packed --workdir=runs/backup --k=5 --r=1 --data_dir=DIR

Takes the workdir of a trained bundle or, with --k, that of a trained backup. Nothing is trained. The record is printed
and appended to the workdir's records.jsonl. Expect the accuracy of the bundle (98.5 % for the one above) or of the
backup, at any k; `experiments.bounds.packing` explains why.
"""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags

from experiments import common
from experiments.bounds.measure import measure, Measured
from experiments.bounds.packing import find_packing, make_packed
from lcode import data
from lcode.coding.code import Code
from lcode.coding.timing import group_times
from lcode.errors import InputError
from lcode.runs import records
from lcode.runs.code_run import load, Trained
from lcode.runs.configs import RunOptions

FLAGS = flags.FLAGS


def evaluate_packed(trained: Trained, k: int | None = None, r: int = 1, options: RunOptions = RunOptions()) -> Measured:
  """The figures when a bundle's students, or a backup, answer at the frontend and F only passes their answers on.

  A bundle's k and r are its own; a backup answers for any.

  Raises:
    InputError: if the code is neither, a backup gets no k or a bundle one, or F cannot be written to.
  """
  began, config, base = time.monotonic(), trained.config, trained.base
  kind = config.parity_model
  if kind not in ('students', 'backup'):
    raise InputError(f'parity_model={kind!r} answers parities, not queries: name a workdir of a bundle or of a backup, '
                     'whose networks are to answer.')
  if (kind == 'students') == (k is not None):
    raise InputError(f'k={k} was given for a code that answers by its {kind}: a backup needs to be told how many '
                     'queries to answer for, a bundle has its own k.')
  code = Code(config.k, config.r) if kind == 'students' else Code(k, r)
  packing = find_packing(jax.random.key(config.seed), base.apply, base.variables, base.query_shape, code.k)
  scheme = make_packed(code, base.apply, packing, *_answering(trained, kind, code.k))
  params = scheme.init(jax.random.key(0), jnp.zeros((code.k, *base.query_shape)), base.num_outputs)[0]
  parts = {'k': code.k, 'r': code.r, 'encoder': 'packed', 'decoder': 'packed', 'parity_model': 'base'}
  measured = measure(scheme, params, base, dataclasses.asdict(config) | parts, options, began)
  measured.record.update(kind='packed', answers_by=kind)
  return measured


def _answering(trained: Trained, kind: str, k: int):
  """(variables, x f32[k, *S]) -> f32[k, C] by the networks of the first parity, and their variables."""

  def answer(variables, x):  # a bundle's parity is the k queries, a backup's one of them
    parities = x[None, None] if kind == 'students' else x[:, None]
    return trained.scheme.infer({'parity_model': variables[0]}, variables[1], None, parities)[0].reshape(k, -1)

  return answer, tuple({name: tree for name, tree in trees.items() if name == '0'}
                       for trees in (trained.params['parity_model'], trained.model_state))


def define_flags():
  flags.DEFINE_string('workdir', None, 'a workdir of train_code, of a bundle or a backup', required=True)
  flags.DEFINE_integer('k', None, 'queries per group; for a backup, since a bundle has its own', lower_bound=1)
  flags.DEFINE_integer('r', 1, 'parities per group, for a backup', lower_bound=1)
  common.define_run_flags()


def main():
  options = common.run_options()
  trained = load(FLAGS.workdir)
  base = dataclasses.replace(trained.base, dataset=data.load(trained.config.dataset, options.data_dir))
  measured = evaluate_packed(dataclasses.replace(trained, base=base), FLAGS.k, FLAGS.r, options)
  times = group_times(measured.scheme, measured.params, {}, base.variables, base.query_shape, (1,))
  measured.record['microseconds'] = {name: part['microseconds'] for name, part in times['groups']['1'].items()}
  records.append(Path(FLAGS.workdir), measured.record)
  common.show(measured.record)
  return measured.record


if __name__ == '__main__':
  common.run(main, define_flags)
