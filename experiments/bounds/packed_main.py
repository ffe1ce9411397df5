"""What a code over a frozen F can always have: small networks at the frontend, their answers sent through F.

  cp -r checkpoints/mnist-mlp-k2-r1 runs/packed && python -m experiments.packed --workdir=runs/packed   # some seconds

Takes the workdir of a trained bundle, or with --k that of a trained backup. See
`lcode.coders.packed` for why it is a mark to beat and no code to deploy.
"""

from absl import flags

from experiments import benchmark, common
from lcode.runs.code_run import evaluate_packed

FLAGS = flags.FLAGS


def define_flags():
  flags.DEFINE_string('workdir', 'runs/code', 'a workdir of train_code, of a bundle or a backup')
  flags.DEFINE_integer('k', None, 'queries a group; for a backup, since a bundle has its own', lower_bound=1)
  flags.DEFINE_integer('r', 1, 'parities a group, for a backup', lower_bound=1)
  common.define_run_flags()


def main():
  trained = evaluate_packed(FLAGS.workdir, FLAGS.k, FLAGS.r, common.run_options())
  common.show(trained.record)
  timed = benchmark.time_calls(trained.scheme, trained.params, trained.model_state, trained.base.variables,
                               trained.base.dataset.image_shape)
  return trained.record | {'microseconds': timed}


if __name__ == '__main__':
  define_flags()
  common.run(main)
