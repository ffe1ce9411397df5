"""Trains a learned code over a frozen base model.

  python -m experiments.train_code --workdir=runs/a                       # digits, a few seconds
  python -m experiments.train_code --recipe=paper --dataset=fashion_mnist --base_dir=runs/fashion-mlp \\
      --epochs=60 --workdir=runs/fashion-paper                            # 10 to 15 minutes on two CPU cores: 92 %

Stopped and started again with the same command, it goes on where it was, and ends bit for bit as if never stopped.
"""

from absl import flags

from experiments import common
from lcode import runs

FLAGS = flags.FLAGS


def define_flags():
  flags.DEFINE_string('dataset', 'digits', 'digits, mnist, fashion_mnist or cifar10')
  flags.DEFINE_string('base_model', 'mlp', 'logistic, mlp or resnet18')
  flags.DEFINE_string('base_dir', None, 'a workdir of train_base; trained on the spot where it is empty or not given')
  flags.DEFINE_integer('k', 2, 'queries a group')
  flags.DEFINE_integer('r', 1, 'parities a group')
  flags.DEFINE_string('encoder', 'mlp', 'mlp or conv')
  flags.DEFINE_string('decoder', 'mlp', 'mlp')
  flags.DEFINE_string('loss', 'kl_base', 'kl_base, mse_base or xent_label')
  flags.DEFINE_string('recipe', 'onecycle', 'onecycle, or paper for that of arXiv:1806.01259 to the letter')
  flags.DEFINE_integer('epochs', None, 'default: the recipe\'s for the data set')
  flags.DEFINE_integer('batch_size', None, 'groups a step, over all devices; default: the recipe\'s')
  flags.DEFINE_integer('seed', 0, 'of initial weights, groups and augmentation (and of a base trained on the spot)')
  flags.DEFINE_string('workdir', 'runs/code', 'where checkpoints, records and events go')
  common.define_training_flags()


def config_from_flags() -> runs.CodeConfig:
  return runs.CodeConfig(FLAGS.dataset, FLAGS.base_model, FLAGS.k, FLAGS.r, FLAGS.encoder, FLAGS.decoder, FLAGS.loss,
                         FLAGS.recipe, FLAGS.epochs, FLAGS.batch_size, FLAGS.seed)


def main():
  trained = runs.train_code(config_from_flags(), FLAGS.workdir, FLAGS.base_dir, common.training_sitting())
  common.show(trained.record)
  return trained.record


if __name__ == '__main__':
  define_flags()
  common.run(main)
