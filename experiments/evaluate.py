"""Evaluates the best parameters of a train_code workdir on the test split, by erased position.

  python -m experiments.evaluate --workdir=runs/a                         # some seconds
"""

from absl import flags

from experiments import common
from lcode.runs.code_run import evaluate_code

FLAGS = flags.FLAGS


def define_flags():
  flags.DEFINE_string('workdir', 'runs/code', 'a workdir of train_code')
  common.define_run_flags()
  common.define_cost_flags()


def main():
  trained = evaluate_code(FLAGS.workdir, common.run_options())
  common.show(trained.record)
  return trained.record


if __name__ == '__main__':
  common.run(main, define_flags)
