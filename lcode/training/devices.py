"""Where devices are known: jit on one, pmap on many, several steps a call.

A function to be run here comes as `make(axis_name)`. Its first arguments are the same on every device; exactly one
argument, the plan, is split. States have no device axis, so a checkpoint does not depend on how many devices wrote it.
"""

import logging
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lcode.data import Plan
from lcode.errors import InputError, whole

AXIS = 'devices'
MOST_A_CORE = 8  # virtual CPU devices
_log = logging.getLogger('lcode')


def default_devices() -> list:
  """All accelerators, or on CPU the first device."""
  devices = jax.devices()
  return devices if devices[0].platform != 'cpu' else devices[:1]


def choose_devices(count: int | None = None, convolutional: bool = False, batch_size: int = 1) -> list:
  """The devices to run a program on; to be asked before JAX has started its backend.

  Args:
    count: how many; None for all accelerators, or on CPU one (but one a core for convolutions, which XLA runs on
      a single thread each: the conv encoder's step takes 0.6 of the time on two devices). Later more CPU devices
      than there are cannot be had.
    convolutional: whether the work is mostly convolutions.
    batch_size: where nobody said how many, as many devices are taken as it can be split over.

  Raises:
    InputError: if there are not so many, or on CPU if they are more than `MOST_A_CORE` a core. Where they are more than
      the cores, a warning is logged.
  """
  if count is not None:
    whole('devices', count)
  cores = os.cpu_count() or 1
  wanted = count or (cores if convolutional else 1)
  try:
    jax.config.update('jax_num_cpu_devices', min(wanted, MOST_A_CORE * cores))
  except RuntimeError:
    pass  # the backend has started: what is there is there
  devices = jax.devices()
  if count is None:
    most = len(devices) if devices[0].platform != 'cpu' else min(wanted, len(devices))
    return devices[:max(n for n in range(1, most + 1) if batch_size % n == 0)]
  if devices[0].platform == 'cpu':
    _check_cores(count, cores * jax.process_count())
  if count > len(devices):
    raise InputError(f'devices={count} is more than the {len(devices)} {devices[0].platform} devices there are: choose '
                     'fewer.')
  return devices[:count]


def _check_cores(count: int, cores: int) -> None:
  """Virtual devices take turns on the cores: a few more only cost time, many more hardly get on at all."""
  if count > MOST_A_CORE * cores:
    raise InputError(f'devices={count} is far too many for {cores} cores, on which they would take turns: choose '
                     f'devices={cores}, or for a trial at most {MOST_A_CORE * cores}.')
  if count > cores:
    _log.warning('devices=%d on %d cores: the devices take turns on the cores, so steps take longer than with '
                 'devices=%d.', count, cores, cores)


def check_batch(batch_size: int, devices: Sequence) -> None:
  """Raises InputError unless batches of `batch_size` groups can be split evenly over the devices."""
  whole('batch_size', batch_size)
  if not len(devices):
    raise InputError('devices=[] is not allowed: give at least one, as choose_devices returns them.')
  if batch_size % len(devices):
    raise InputError(f'a batch of {batch_size} groups cannot be split evenly over {len(devices)} devices: '
                     f'choose a multiple of {len(devices)}.')


def steps_per_call(devices: Sequence) -> int:
  """How many steps one call should take.

  On an accelerator a loop inside the call saves the launch of each step. On CPU it costs: XLA runs a convolution
  inside a loop body about 24 times slower, and steps are long against a call's 0.1 ms.
  """
  return 1 if devices[0].platform == 'cpu' else 32


def many_steps(step: Callable, count: int) -> Callable:
  """`count` calls of a step (state, *args) -> state, metrics as one; metrics are stacked in front."""
  if whole('count', count) == 1:
    return step

  def loop(state, *args):
    return jax.lax.scan(lambda carry, _: step(carry, *args), state, length=count)

  return loop


def run_on(devices: Sequence, make: Callable, arguments: int, split: int, donate: tuple[int, ...] = ()) -> Callable:
  """Compiles `make(axis_name)`.

  Args:
    devices: where to run; all processes' devices where there are several processes.
    make: axis name (None on a single device) -> function of `arguments` arguments.
    arguments: how many positional arguments the function takes.
    split: which argument is split over the devices (see `split_plan`).
    donate: arguments whose buffers the results may take over.
  """
  if len(devices) == 1:
    return jax.jit(make(None), donate_argnums=donate)
  in_axes = tuple(0 if i == split else None for i in range(arguments))
  return jax.pmap(make(AXIS), AXIS, in_axes=in_axes, out_axes=None, donate_argnums=donate,
                  devices=None if jax.process_count() > 1 else devices)


def replicate(tree, devices: Sequence):
  """Puts every array of `tree` whole on each device; one that is there already is not copied, so donating takes it."""
  sharding = _sharding(devices, PartitionSpec())

  def place(x):
    if jax.process_count() == 1:
      return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      return jax.random.wrap_key_data(place(jax.random.key_data(x)))
    value = np.asarray(x)  # every process holds the same, and puts it on its own devices
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])

  return jax.tree.map(place, tree)


def split_plan(plan: Plan, devices: Sequence):
  """A plan on the devices: groups split evenly, with a leading device axis where there are several."""
  steps, groups, k = plan.indices.shape
  check_batch(groups, devices)
  position = np.arange(groups, dtype=np.int32)
  scenarios = {} if plan.available is None else {'available': plan.available}
  if len(devices) == 1:
    arrays = {'indices': plan.indices, 'real': plan.real, 'position': position}
    return replicate(arrays | scenarios, devices)
  count, per_device = len(devices), groups // len(devices)
  arrays = {
      'indices': plan.indices.reshape(steps, count, per_device, k).swapaxes(0, 1),
      'real': plan.real.reshape(steps, count, per_device).swapaxes(0, 1),
      'position': position.reshape(count, per_device),
  }
  # Every device decodes its groups in all scenarios of the step.
  arrays |= {name: np.broadcast_to(value, (count, *value.shape)) for name, value in scenarios.items()}
  sharding = _sharding(devices, PartitionSpec(AXIS))
  return {name: jax.make_array_from_callback(value.shape, sharding, lambda index, v=value: v[index])
          for name, value in arrays.items()}


def _sharding(devices, spec):
  if not len(devices):
    raise InputError('devices=[] is not allowed: give at least one, as choose_devices returns them.')
  if len(devices) == 1:
    return jax.sharding.SingleDeviceSharding(devices[0])
  return NamedSharding(Mesh(np.asarray(devices), (AXIS,)), spec)


def pad_batch(batch_size: int, devices: Sequence) -> int:
  """The smallest multiple of the number of devices that is no less than `batch_size`."""
  return -(-batch_size // len(devices)) * len(devices)
