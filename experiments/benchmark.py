"""What a training step and a coded inference cost: FLOPs and bytes as XLA counts them, seconds as measured.

  python -m experiments.benchmark --dataset=fashion_mnist --base_model=mlp --scheme=bundle    # half a minute
  python -m experiments.benchmark --dataset=cifar10 --base_model=resnet18 --device_counts=1,2 # ten minutes on a CPU

Without --scheme, it measures the MLP code of arXiv:1806.01259. It runs on random pixels of the data set's shape, so it
needs no data. Work and time are ratios to k inferences by F, timed in turn with the code. XLA counts a fused
multiply-add as two FLOPs. Microseconds are for a single group and include dispatch, which is most of a small call.
"""

import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import common
from lcode import data, models
from lcode.coding.code import Code, every_pattern
from lcode.coding.costs import extra_work, group_costs, wire_costs
from lcode.coding.scheme import parts_to_train
from lcode.coding.timing import extra_time, group_times, host_times
from lcode.errors import InputError
from lcode.models import fast_conv
from lcode.runs import records
from lcode.runs.code_run import build_scheme
from lcode.runs.configs import CodeConfig
from lcode.runs.progress import console, print_table
from lcode.training.devices import check_batch, choose_devices, replicate, run_on, split_plan
from lcode.training.losses import get_loss
from lcode.training.recipes import get_recipe
from lcode.training.step import init_state, make_code_objective, make_fetch, make_planned_step, make_train_step

FLAGS = flags.FLAGS
NUM_OUTPUTS, POOL = 10, 512


def define_flags():
  common.define_code_flags('fashion_mnist', 'learned-mlp')
  flags.DEFINE_integer('batch_size', None, 'groups per step; default: the paper\'s')
  flags.DEFINE_list('device_counts', ['1'], 'numbers of devices to time the step on')
  flags.DEFINE_integer('repeats', 5, 'timings of the step, the median is given')
  flags.DEFINE_integer('steps', 10, 'steps per timing')


def time_step(scheme, params, model_state, base_variables, split, config, count: int) -> dict:
  """Median seconds of a training step on `count` devices, and its FLOPs and bytes on each."""
  devices = jax.devices()[:count]
  check_batch(config.batch_size, devices)
  tx = get_recipe('paper').make_optimizer(1)
  objective = make_code_objective(scheme, get_loss('kl_base'), every_pattern(scheme.code))
  spec = data.SPECS[config.dataset]
  fetch = make_fetch(data.make_normalise(spec), spec.augment)

  def make_step():
    return run_on(devices, lambda axis: make_planned_step(
        make_train_step(objective, tx, axis), fetch), 4, split=3, donate=(0,))

  state, base_variables, split = (replicate(tree, devices) for tree in (
      init_state(params, model_state, tx, 0), base_variables, split))
  order = np.resize(np.arange(POOL), config.batch_size * config.k)
  plan = split_plan(data.plan_batches(order, config.k, config.batch_size), devices)
  chunk_bytes, fast_conv.CHUNK_BYTES = fast_conv.CHUNK_BYTES, sys.maxsize  # of a loop's steps XLA counts one
  analysis = make_step().lower(state, base_variables, split, plan).compile().cost_analysis()
  fast_conv.CHUNK_BYTES = chunk_bytes
  step = make_step()
  state, metrics = step(state, base_variables, split, plan)
  seconds = []
  for _ in range(FLAGS.repeats):
    jax.block_until_ready(state)
    began = time.perf_counter()
    for _ in range(FLAGS.steps):
      state, metrics = step(state, base_variables, split, plan)
      if count > 1:
        jax.block_until_ready(metrics)  # many collectives in flight can starve a CPU's threads
    jax.block_until_ready(state)
    seconds.append((time.perf_counter() - began) / FLAGS.steps)
  return {'devices': count, 'seconds_a_step': statistics.median(seconds), 'fastest': min(seconds),
          'slowest': max(seconds), 'flops_a_device': analysis.get('flops', 0.0),
          'bytes_a_device': analysis.get('bytes accessed', 0.0)}


def print_steps(batch_size: int, steps: list[dict]) -> None:
  print_table(f'a training step of {batch_size} groups', ['devices', 'ms', 'GFLOP each', 'GFLOP/s', 'speed-up'],
              [[str(step['devices']), f'{1e3 * step["seconds_a_step"]:.1f}', f'{step["flops_a_device"] / 1e9:.3f}',
                f'{step["devices"] * step["flops_a_device"] / step["seconds_a_step"] / 1e9:.0f}',
                f'{step["speed_up"]:.2f}'] for step in steps])


def main():
  named = common.scheme_from_flags('learned-mlp', recipe='paper')
  config = CodeConfig(FLAGS.dataset, FLAGS.base_model, batch_size=FLAGS.batch_size, **named).resolved()
  counts = common.numbers('device_counts', int)
  devices = choose_devices(max(counts))
  shape, code = data.SPECS[config.dataset].image_shape, Code(config.k, config.r)
  if shape is None:
    raise InputError(f'--dataset={config.dataset} was registered without the shape of its queries: give its Spec an '
                     'image_shape.')
  model = models.make_model(config.base_model, shape, NUM_OUTPUTS)
  rng = np.random.default_rng(0)
  base_variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, *shape)))
  scheme = build_scheme(config, shape, NUM_OUTPUTS)
  # On the host: the steps below donate their states, and each starts from these.
  params, model_state = jax.device_get(jax.jit(scheme.init, static_argnums=2)(
      jax.random.key(1), jnp.ones((code.k, *shape)), NUM_OUTPUTS, base_variables))
  work = group_costs(scheme, params, model_state, base_variables, shape, NUM_OUTPUTS)
  console.print('timing a group ...', highlight=False)
  times = group_times(scheme, params, model_state, base_variables, shape)
  frontend = host_times(scheme, params, model_state, shape, NUM_OUTPUTS)
  for name, part in work.items():
    part['microseconds'] = times['groups']['1'][name]['microseconds']
  split = {'images': rng.integers(0, 256, (POOL, *shape), np.uint8), 'labels': rng.integers(0, 10, POOL).astype('i4'),
           'base_outputs': rng.normal(size=(POOL, NUM_OUTPUTS)).astype('f4')}
  steps = []
  for count in counts if parts_to_train(scheme, params) else []:
    console.print(f'timing {(FLAGS.repeats * FLAGS.steps)} training steps on {count} device(s) ...', highlight=False)
    steps.append(time_step(scheme, params, model_state, base_variables, split, config, count))
  for step in steps:
    step['speed_up'] = steps[0]['seconds_a_step'] / step['seconds_a_step']
  print_table(f'a group of ({code.k}, {code.r}), {config.encoder} encoder over {config.base_model}',
              ['', 'MFLOP', 'MB', f'work, in {code.k} inferences by F', 'microseconds', 'time', 'time, 64 groups'],
              [[name, f'{part["flops"] / 1e6:.3f}', f'{part["bytes"] / 1e6:.3f}', f'{part["relative"]:.3f}',
                f'{part["microseconds"]:.0f}', *(f'{times["groups"][count][name]["relative"]:.3f}'
                                                 for count in ('1', '64'))] for name, part in work.items()])
  print_table('a group at the frontend', ['', 'microseconds', 'jitted', 'ratio'],
              [[name, f'{part["microseconds"]:.0f}', f'{part["jitted_microseconds"]:.0f}', f'{part["relative"]:.2f}']
               for name, part in frontend.items()])
  if steps:
    print_steps(config.batch_size, steps)
  added = (extra_work(scheme, work) | extra_time(scheme, times)
           | wire_costs(scheme, params, model_state, base_variables, shape, NUM_OUTPUTS))
  return {'kind': 'benchmark', 'dataset_shape': list(shape), 'base_model': config.base_model, 'k': code.k, 'r': code.r,
          'scheme': FLAGS.scheme, 'encoder': config.encoder, 'parity_model': config.parity_model,
          'decoder': config.decoder, 'form': config.form, 'multiply_adds': config.multiply_adds,
          'batch_size': config.batch_size, **added, 'work': work, 'times': times, 'frontend': frontend,
          'steps': steps} | records.environment(devices)


if __name__ == '__main__':
  common.run(main, define_flags)
