"""Two processes on one machine, two devices each, train the code that one device trains."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from lcode import Code, fit, make_scheme, OutOfTime
from lcode.training import loop
from lcode.training.checkpoint import Store
from lcode.training.step import TrainState


def base_apply(variables, x):
  return jnp.tanh(x.reshape(len(x), -1) @ variables) * 3


def train(devices, folder=None):
  """Trains a small code and returns the losses of its epochs and a checksum of its parameters.

  With a folder it stops in the middle and goes on from the checkpoint.
  """
  rng = np.random.default_rng(0)
  images = rng.normal(size=(120, 6)).astype('f4')
  variables = rng.normal(size=(6, 3)).astype('f4')
  history = []
  for max_steps in (14, None) if folder else (None,):
    store = Store(folder, len(devices)) if folder else None
    fitted = fit(make_scheme(Code(2, 1), base_apply), variables, images, recipe='paper', epochs=4, batch_size=8,
                 devices=devices, store=store, max_steps=max_steps)
    history += fitted.result.history
    if folder:
      multihost_utils.sync_global_devices('saved')  # the first process has written
  return {'losses': [epoch['train_loss'] for epoch in history],
          'validation': [epoch['validation_loss'] for epoch in history],
          'params': [float(np.abs(w).sum()) for w in jax.tree.leaves(fitted.params)]}


def steps_until(stop_at):
  """How many steps of four the loop takes, over steps that do nothing."""
  taken = []

  def step(state, plan):
    taken.append(1)
    return state.replace(step=state.step + 1), {'loss': np.ones(())}

  try:
    loop.run(lambda count: step, lambda *_: {'loss': 1.0, 'reconstruction_accuracy': 1.0}, lambda epoch: None,
             TrainState(np.int32(0), {}, {}, (), None), loop.Schedule(2, 2, stop_at=stop_at))
  except OutOfTime:
    taken.append('stopped')
  return taken


def main(process, port, folder):
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', 2)
  jax.distributed.initialize(f'127.0.0.1:{port}', num_processes=2, process_id=process)
  assert len(jax.devices()) == 4 and len(jax.local_devices()) == 2
  past = time.monotonic() - 1
  stops = {who: steps_until(past if process == who else None) for who in (0, 1)}
  print(json.dumps(train(jax.devices(), Path(folder)) | {'stops': stops}))
  jax.distributed.shutdown()


def test_two_processes_train_as_one_device_does_across_a_restart(tmp_path):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = free.getsockname()[1]
  environment = {**os.environ, 'NPROC': '16', 'PYTHONPATH': os.getcwd()}
  processes = [subprocess.Popen([sys.executable, __file__, str(i), str(port), str(tmp_path)], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=environment) for i in range(2)]
  try:
    ends = [process.communicate(timeout=240) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (_, errors) in zip(processes, ends):
    assert process.returncode == 0, errors[-2000:]
  reports = [json.loads(output.splitlines()[-1]) for output, _ in ends]
  # The first one's clock alone counts, and it counts for both.
  assert [one.pop('stops') for one in reports] == [{'0': [1, 'stopped'], '1': [1, 1, 1, 1]}] * 2
  expected = train(jax.devices()[:1])
  for name in expected:
    np.testing.assert_allclose(reports[0][name], expected[name], rtol=1e-4)
    np.testing.assert_array_equal(reports[0][name], reports[1][name])


if __name__ == '__main__':
  main(int(sys.argv[1]), *sys.argv[2:])
