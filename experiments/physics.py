"""Codes for a function that is not a network: a driven pendulum, integrated in jax.numpy.

  python -m experiments.physics                                           # a minute on two CPU cores

A query is six numbers (angle, speed, damping, the drive's strength and frequency, the pendulum's own frequency); the
answer is the angle at 16 times. Every preset that applies is trained or set up for it with the mean squared error, and
judged by the relative error of what it reconstructs. Expect 0.04 for a bundle and, at one query's bytes, for narrow
queries, 0.20 for a mosaic, 0.31 for a learned encoder and decoder, 0.43 for splines, and 0.98 for the default answer.
To use your own function, copy this file and change F.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import lcode
from experiments import common
from lcode.coding.parity_model import from_module
from lcode.models.mlp import MLP
from lcode.runs import records
from lcode.runs.progress import print_table
from lcode.training.devices import default_devices

FLAGS = flags.FLAGS
SUBSTEPS, TIMES, STEP = 4, 16, 0.05
LOW, HIGH = np.array([-1.5, -1, 0, 0, 0.5, 0.8]), np.array([1.5, 1, 0.5, 0.8, 2, 1.6])


def define_flags():
  flags.DEFINE_string('workdir', 'runs/physics', 'where the records go')
  flags.DEFINE_integer('k', 2, 'queries per group')
  flags.DEFINE_integer('r', 1, 'parities per group')
  flags.DEFINE_integer('epochs', 60, 'of what is trained')
  flags.DEFINE_integer('queries', 20_000, 'how many to train on; a tenth as many to test')
  flags.DEFINE_integer('seed', 0, 'of everything')


def pendulum(query):
  """query f32[6] in [0, 1] -> the angle at 16 times, f32[16], by Runge-Kutta's fourth order."""
  angle, speed, damping, strength, frequency, own = LOW + (HIGH - LOW) * query

  def slope(state, t):
    return jnp.stack([state[1], strength * jnp.cos(frequency * t) - damping * state[1] - own**2 * jnp.sin(state[0])])

  def step(state, t):
    a = slope(state, t)
    b = slope(state + STEP / 2 * a, t + STEP / 2)
    c = slope(state + STEP / 2 * b, t + STEP / 2)
    d = slope(state + STEP * c, t + STEP)
    return state + STEP / 6 * (a + 2 * b + 2 * c + d), state[0]

  times = STEP * jnp.arange(SUBSTEPS * TIMES)
  return jax.lax.scan(step, jnp.stack([angle, speed]), times)[1][SUBSTEPS - 1::SUBSTEPS]


def base_apply(variables, x):
  del variables  # nothing in F is learned
  return jax.vmap(pendulum)(x)


def schemes(code):
  """name -> scheme, of every preset that applies."""
  mlp = MLP(TIMES, (64, 64))
  wanted = {
      'learned encoder and decoder': dict(encoder='mlp', decoder='mlp'),
      'sum, parity model, subtraction': dict(encoder='addition', decoder='subtraction',
                                             parity_model=from_module(mlp)),
      'learned encoder, parity model and decoder': dict(parity_model=from_module(mlp)),
      'Berrut, systematic': dict(encoder='berrut', decoder='berrut'),
      'Berrut, plain (ApproxIFER)': dict(encoder='approxifer', decoder='approxifer'),
      'smoothing splines (NeRCC)': dict(encoder='spline', decoder='spline'),
      'mosaic, three of six numbers each': dict(encoder='mosaic', decoder='bundle',
                                                parity_model=lcode.tile_students(mlp, code.k)),
      'narrow, six rounded numbers each': dict(encoder='narrow', decoder='bundle',
                                               parity_model=lcode.narrow_students(mlp, code.k)),
      'bundle': dict(encoder='bundle', decoder='bundle', parity_model=lcode.students(mlp)),
  }
  for name, parts in wanted.items():
    yield name, lcode.make_scheme(code, base_apply, **parts)


def main():
  code = lcode.Code(FLAGS.k, FLAGS.r)
  path = records.open_workdir(FLAGS.workdir)
  rng = np.random.default_rng(FLAGS.seed)
  train, test = (rng.uniform(size=(count, 6)).astype('f4') for count in (FLAGS.queries, FLAGS.queries // 10))
  recipe = lcode.RECIPES['onecycle']
  rows = {}
  for name, scheme in schemes(code):
    fitted = lcode.fit(scheme, {}, train, loss='mse_base', recipe=recipe, epochs=FLAGS.epochs, batch_size=128,
                       seed=FLAGS.seed)
    rows[name] = fitted.evaluate({}, test, loss='mse_base') | {'seconds': fitted.result.seconds}
  first = next(iter(rows.values()))
  table = [[name, f'{row["relative_error"]:.4f}', f'{row["seconds"]:.1f}'] for name, row in rows.items()]
  table.append(['default answer: the mean', f'{first["default_relative_error"]:.4f}', ''])
  print_table(f'a pendulum, k={code.k}, r={code.r}', ['', 'relative error of what was missing', 'seconds'], table)
  record = {'kind': 'physics', 'k': code.k, 'r': code.r, 'seed': FLAGS.seed, 'epochs': FLAGS.epochs,
            'default_relative_error': first['default_relative_error'],
            'rows': {name: {'relative_error': row['relative_error'], 'seconds': row['seconds']}
                     for name, row in rows.items()}} | records.environment(default_devices())
  records.append(path, record)
  return record


if __name__ == '__main__':
  common.run(main, define_flags)
