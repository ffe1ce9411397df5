"""Trains a code over a frozen base model; one that needs no training is set up and evaluated.

  python -m experiments.train_code --workdir=runs/a                       # digits, a few seconds
  python -m experiments.train_code --recipe=paper --dataset=fashion_mnist --base_dir=runs/fashion-mlp \\
      --epochs=60 --workdir=runs/fashion-paper                            # 10 to 15 minutes on two CPU cores: 92 %
  python -m experiments.train_code --encoder=addition --parity_model=from_base --decoder=subtraction --loss=mse_base \\
      --recipe=parity --workdir=runs/parm                                 # ParM (arXiv:1905.00863), digits

Stopped and started again with the same command, it goes on where it was, and ends bit for bit as if never stopped.
"""

import dataclasses

from absl import flags

from experiments import common
from lcode import configs, runs
from lcode.recipes import RECIPES

FLAGS = flags.FLAGS


def define_flags():
  common.define_code_flags()
  flags.DEFINE_string('base_dir', None, 'a workdir of train_base; trained on the spot where it is empty or not given')
  flags.DEFINE_string('parity_model', 'base', 'what answers the parities: ' + '; '.join(
      f'{name}: {text}' for name, text in configs.PARITY_MODELS.items()))
  flags.DEFINE_list('train', [], 'which of encoder, parity_model, decoder to train; default: all that can be')
  flags.DEFINE_string('loss', 'kl_base', 'kl_base, mse_base or xent_label')
  flags.DEFINE_string('recipe', 'onecycle', ', '.join(RECIPES) + '; paper is that of arXiv:1806.01259 to the letter')
  flags.DEFINE_integer('epochs', None, 'default: the recipe\'s for the data set')
  flags.DEFINE_integer('batch_size', None, 'groups a step, over all devices; default: the recipe\'s')
  flags.DEFINE_integer('seed', 0, 'of initial weights, groups and augmentation (and of a base trained on the spot)')
  flags.DEFINE_integer('scenarios', None, 'how many to sample for each step; default: all, or 64 where there are more')
  flags.DEFINE_integer('backup_multiply_adds', None, 'of --parity_model=backup: what it may take for a query')
  flags.DEFINE_integer('wrong', 0, 'of the berrut and approxifer decoders: how many wrong answers a group to locate')
  flags.DEFINE_string('workdir', 'runs/code', 'where checkpoints, records and events go')
  common.define_training_flags()


def config_from_flags() -> runs.CodeConfig:
  values = {field.name: FLAGS[field.name].value for field in dataclasses.fields(runs.CodeConfig)}
  return runs.CodeConfig(**values | {'train': ','.join(FLAGS.train)})


def main():
  trained = runs.train_code(config_from_flags(), FLAGS.workdir, FLAGS.base_dir, common.training_sitting())
  common.show(trained.record)
  return trained.record


if __name__ == '__main__':
  define_flags()
  common.run(main)
