"""Trains a code for a frozen base model; one that needs no training is set up and evaluated.

  python -m experiments.train_code --workdir=runs/a                       # digits, a mosaic, 15 seconds
  python -m experiments.train_code --scheme=learned-mlp --recipe=paper --dataset=fashion_mnist \\
      --base_dir=runs/fashion-mlp --epochs=60 --workdir=runs/paper        # 10 to 15 minutes on two CPU cores: 92 %
  python -m experiments.train_code --scheme=parm-addition --workdir=runs/parm
  python -m experiments.train_code --encoder=conv --decoder=mlp --parity_model=from_base --workdir=runs/mixed

A scheme names its parts, loss and recipe; flags for these change them. Parts that you do not name, without a scheme,
are those of "Learning a Code": --encoder=mlp, --parity_model=base, --decoder=mlp.
Stopped and started again with the same command, it resumes, and ends bit for bit as if never stopped.
"""

import dataclasses

from absl import flags

from experiments import common
from lcode.runs.code_run import train_code
from lcode.runs.configs import CodeConfig
from lcode.training.recipes import RECIPES

FLAGS = flags.FLAGS


def define_flags():
  common.define_code_flags()
  flags.DEFINE_string('base_dir', None, 'a workdir of train_base (finished there if it is not) or train_code, for its '
                      'base model; default: one is trained in the workdir')
  flags.DEFINE_list('train', [], 'which of encoder, parity_model, decoder to train; default: all that can be')
  flags.DEFINE_string('loss', None, 'default: the scheme\'s; kl_base, mse_base or xent_label')
  flags.DEFINE_string('recipe', None, f'default: the scheme\'s; {", ".join(RECIPES)}; paper is that of '
                      'arXiv:1806.01259 to the letter')
  flags.DEFINE_integer('epochs', None, 'default: the recipe\'s for the data set')
  flags.DEFINE_integer('batch_size', None, 'groups per step, over all devices; default: the recipe\'s')
  flags.DEFINE_integer('seed', 0, 'of initial weights, groups and augmentation (and of a base trained on the spot)')
  flags.DEFINE_integer('scenarios', None, 'how many to sample for each step; default: all, or 64 where there are more')
  flags.DEFINE_integer('num_byzantine', 0,
                       'of the berrut and approxifer decoders: how many wrong answers per group to locate')
  flags.DEFINE_string('workdir', 'runs/code', 'where checkpoints, records and events go')
  common.define_training_flags()
  common.define_cost_flags()


def config_from_flags() -> CodeConfig:
  """The scheme's config with what the flags say otherwise."""
  values = {field.name: FLAGS[field.name].value for field in dataclasses.fields(CodeConfig)}
  scheme = common.scheme_from_flags(loss=FLAGS.loss, recipe=FLAGS.recipe)
  return CodeConfig(**values | scheme | {'train': ','.join(FLAGS.train)})


def main():
  trained = train_code(config_from_flags(), FLAGS.workdir, FLAGS.base_dir, common.training_run_options())
  common.show(trained.record)
  return trained.record


if __name__ == '__main__':
  common.run(main, define_flags)
