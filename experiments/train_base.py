"""Trains a base model F, for which codes are trained later.

  python -m experiments.train_base --dataset=fashion_mnist --base_model=mlp --workdir=runs/fashion-mlp

Base-MLP takes about half a minute on two CPU cores and reaches 98.2 % on MNIST and 89.7 % on Fashion-MNIST.
Stopped and started again with the same command, it resumes.
"""

from absl import flags

from experiments import common
from lcode.runs import base_model
from lcode.runs.configs import BaseConfig

FLAGS = flags.FLAGS


def define_flags():
  common.define_base_flags()
  flags.DEFINE_integer('epochs', None, 'default: the recipe\'s for the model and data set')
  flags.DEFINE_integer('batch_size', None, 'images a step, over all devices; default: the recipe\'s')
  flags.DEFINE_integer('seed', 0, 'of initial weights, order and augmentation')
  flags.DEFINE_string('workdir', 'runs/base', 'where checkpoints, records and events go')
  common.define_training_flags()


def main():
  config = BaseConfig(FLAGS.dataset, FLAGS.base_model, FLAGS.epochs, FLAGS.batch_size, FLAGS.seed)
  return base_model.train_base(config, FLAGS.workdir, common.training_run_options())[1]


if __name__ == '__main__':
  common.run(main, define_flags)
