"""Tests run on 8 virtual CPU devices; NPROC keeps XLA's thread pool from starving their collectives on few cores.

Most of their time is compilation, of programs that then run for milliseconds: without XLA's and LLVM's optimisations it
takes less than half. With XLA_FLAGS set, be it to nothing as in `make test-all`, they are compiled as users have them.
"""

import os

os.environ.setdefault('NPROC', '16')
os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')  # in the processes that tests start, too

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

FLAGS = ['--xla_backend_optimization_level=0']
if jax.__version_info__ < (0, 11):  # later ones have no other emitters, and abort on flags that they do not know
  FLAGS.append('--xla_cpu_use_fusion_emitters=false')
os.environ.setdefault('XLA_FLAGS', ' '.join(FLAGS))
jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.devices()  # starts the backend, so that nothing can take the 8 devices back


@pytest.fixture
def rng():
  return np.random.default_rng(0)


@pytest.fixture(scope='session')
def cache(tmp_path_factory):
  """A cache of the session's own, so that no test depends on what this machine has kept; its workers share it."""
  folder = tmp_path_factory.getbasetemp()
  folder = (folder.parent if 'PYTEST_XDIST_WORKER' in os.environ else folder) / 'cache'
  folder.mkdir(exist_ok=True)
  return folder


@pytest.fixture(scope='session', autouse=True)
def _compiled_programs(cache):
  """Tests compile the same programs again and again; each is compiled once a session."""
  jax.config.update('jax_compilation_cache_dir', str(cache / 'jax'))


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
  monkeypatch.setenv('LCODE_CACHE', str(cache))
