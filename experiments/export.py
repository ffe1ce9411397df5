"""Exports a trained code as functions that need neither Flax nor lcode's training, for CPUs, NVIDIA GPUs and TPUs.

  python -m experiments.export --code_dir=runs/code --out=exported        # some seconds

Writes programs of jax.export (`encode`, `base`, `parity`, `decode`, `preprocess`) for any batch size, the parameters,
and a manifest with the SHA-256 of each file. Then it loads them and compares their answers with the code's own. In a
service, `lcode.load_export('exported', sha256)` loads them; this command prints the sum.
"""

import jax
import numpy as np
from absl import flags

import lcode
from experiments import common
from lcode.runs.progress import console
from lcode.serving.export import export_code, PLATFORMS

FLAGS = flags.FLAGS


def define_flags():
  flags.DEFINE_string('code_dir', 'runs/code', 'a workdir of train_code')
  flags.DEFINE_string('out', 'exported', 'a directory that is not there yet')
  flags.DEFINE_list('platforms', list(PLATFORMS), 'what for: ' + ', '.join(PLATFORMS))
  flags.DEFINE_integer('seed', 0, 'of the queries that are compared')


def main():
  trained = lcode.load(FLAGS.code_dir)
  exported = export_code(trained, FLAGS.out, tuple(FLAGS.platforms))
  record = {'kind': 'export', 'out': FLAGS.out, 'sha256': exported.sha256, 'code': exported.manifest['code'],
            'platforms': exported.manifest['platforms'], 'figures': exported.manifest['figures']}
  if jax.default_backend() in {'gpu' if p == 'cuda' else p for p in FLAGS.platforms}:
    record['largest_difference'] = _difference(trained, exported)
  console.print(f'{FLAGS.out}: SHA-256 of the manifest {exported.sha256}', highlight=False, soft_wrap=True)
  return record


def _difference(trained, exported, groups: int = 8) -> float:
  """Between the exported functions' answers and the code's own, every data unit missing once, relative to the size."""
  code, codec, base = trained.scheme.code, trained.codec, trained.base
  queries = np.random.default_rng(FLAGS.seed).normal(size=(groups, code.k, *base.query_shape)).astype(np.float32)
  flat = queries.reshape(-1, *base.query_shape)
  replies = [exported.parity(exported.encode(queries)), codec.infer(base.variables, codec.encode(queries))]
  answers = [exported.base(flat), base.apply(base.variables, flat)]
  units = [lcode.stack_units(a.reshape(groups, code.k, -1), r, axis=1) if trained.scheme.systematic else r
           for a, r in zip(answers, replies)]
  worst = 0.0
  for missing in range(code.k):
    available = np.arange(code.n) != missing
    one, other = exported.decode(units[0], available), codec.decode(units[1], available)
    worst = max(worst, float(abs(one - other).max() / abs(other).max()))
  return worst


if __name__ == '__main__':
  common.run(main, define_flags)
