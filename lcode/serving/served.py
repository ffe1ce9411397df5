"""What a service serves: F, what answers parities, and the code between them."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lcode.coding.code import Code
from lcode.coding.host import host_code
from lcode.errors import InputError, directory, instance
from lcode.serving.exported import load_export
from lcode.serving.options import make_options, PolicyOptions


class Answerers(NamedTuple):
  """What runs at workers, over batches of any size.

  Attributes:
    base: F, f32[b, *S] -> floats [b, *O].
    reply: what answers coded queries, (x [b, *P], j) -> floats [b, *O], of bundles [b, k, *O]; j is their number in the
      group. None where nothing is coded. Of a cheap backup x are the queries themselves, and j is 0.
  """

  base: Callable
  reply: Callable | None = None


@dataclasses.dataclass(frozen=True)
class Served:
  """A model, with a code or without.

  Attributes:
    load: (number of the worker) -> `Answerers`, called in the worker's process. It gets there by (cloud)pickle, as all
      that a Ray program sends to its own workers.
    query_shape: *S; queries are float32.
    code: None for F alone.
    encode: f32[1, k, *S] -> coded queries [1, r, *P], all n of them where not systematic.
    decode: (units floats [1, n, ...], available bool[n]) -> floats [1, k, *O].
    systematic: whether queries themselves are sent.
    bundled: whether every reply holds k answers.
    passthrough: whether F's answer to a query is the answer; else every answer is decoded.
    need: how many of a group's n units decoding needs; None for k.

  Raises:
    InputError: if load is not a function, or a code comes without `encode` and `decode`.

  >>> from lcode.serving.served import Answerers, Served
  >>> codec = lcode.make_codec(scheme, params)
  >>> served = Served(lambda worker: Answerers(lambda x: x @ variables['w'], lambda x, j: x @ variables['w']), (6,),
  ...                 code, lambda x: np.asarray(codec.encode(x)), lambda *units: np.asarray(codec.decode(*units)))
  >>> served.options(deadline=50.0).r
  1
  """

  load: Callable[[int], Answerers]
  query_shape: tuple[int, ...]
  code: Code | None = None
  encode: Callable | None = None
  decode: Callable | None = None
  systematic: bool = True
  bundled: bool = False
  passthrough: bool = True
  need: int | None = None

  def __post_init__(self):
    if not callable(self.load):
      raise InputError(f'load={self.load!r} is no function: give one that returns Answerers.')
    if self.code is not None:
      instance('code', self.code, Code)
      if not callable(self.encode) or not callable(self.decode):
        raise InputError('a code needs encode and decode: give both functions, or no code.')

  def options(self, name: str = 'coded', **fields: Any) -> PolicyOptions:
    """The options of a policy by name, for this code; `fields` are other options (`PolicyOptions`)."""
    if name != 'coded':
      return make_options(name, **fields)
    if self.code is None:
      raise InputError('policy \'coded\' is not allowed: this model has no code; serve one, or choose another policy.')
    own = {'k': self.code.k, 'r': self.code.r, 'passthrough': self.passthrough and self.systematic,
           'alone': self.bundled, 'need': self.need}
    return make_options(name, **own | fields)


def of_export(path: str | Path, sha256: str | None = None) -> Served:
  """What `lcode.export_code` wrote, to be served.

  Args:
    path: the directory.
    sha256: of its manifest; None to take whatever is there.

  Raises:
    InputError: as `lcode.load_export`.

  >>> from lcode.serving.served import of_export
  >>> sha256 = lcode.export_code(trained, 'exported', platforms=('cpu',)).sha256
  >>> of_export('exported', sha256).code
  Code(k=2, r=1)
  """
  path = directory('directory', path).resolve()
  exported = load_export(path, sha256)
  known, shape = exported.manifest, exported.manifest['functions']['base']['takes'][0]['shape'][1:]
  coders = host_code(exported.code, known.get('on_host', (None, None)), exported.encode, exported.decode, shape,
                     known['functions']['decode']['takes'][0]['shape'][2:], exported.encoder_arrays)
  return Served(functools.partial(_from_export, path, exported.sha256), tuple(shape), exported.code, *coders,
                known['systematic'], known['bundled'], known['passthrough'],
                _needed(exported.code, known['config'].get('num_byzantine', 0)))


def of_workdir(path: str | Path) -> Served:
  """A code in a workdir of `lcode.train_code`, to be served.

  Args:
    path: the workdir.

  Raises:
    InputError: as `lcode.load`.

  >>> from lcode.serving.served import of_workdir
  >>> of_workdir('checkpoints/digits-mlp-k2-r1').query_shape
  (8, 8, 1)
  """
  from lcode.runs.code_run import load  # Flax and Orbax are needed here alone
  path = directory('workdir', path).resolve()
  return _of(load(path), functools.partial(_from_workdir, path))


def of_trained(trained) -> Served:
  """A code to be served, also one with a model of your own; model and parameters are sent to each worker.

  Args:
    trained: as `lcode.load` returns it.

  Raises:
    InputError: if it is something else.

  >>> from lcode.serving.served import of_trained
  >>> of_trained(trained).code
  Code(k=2, r=1)
  """
  from lcode.runs.code_run import Trained
  instance('trained', trained, Trained)
  sent = jax.device_get((trained.base.variables, trained.params, trained.model_state))
  return _of(trained, functools.partial(_from_trained, trained.base.apply, trained.scheme, *sent))


def _of(trained, load) -> Served:
  scheme, codec, base = trained.scheme, trained.codec, trained.base
  answer = (scheme.code.k, base.num_outputs) if scheme.bundled else (base.num_outputs,)
  coders = host_code(scheme.code, scheme.on_host, codec.encode, codec.decode, base.query_shape, answer,
                     jax.tree.leaves(trained.params['encoder']))
  return Served(load, base.query_shape, scheme.code, *coders, scheme.systematic, scheme.bundled, scheme.passthrough,
                _needed(scheme.code, trained.config.num_byzantine))


def _needed(code: Code, num_byzantine: int) -> int | None:
  """Of a code that locates wrong answers (ApproxIFER, arXiv:2109.09868): 2(k + E) units; None for k."""
  return 2 * (code.k + num_byzantine) if num_byzantine else None


def _from_export(path, sha256, worker) -> Answerers:
  del worker
  exported = load_export(path, sha256)
  return Answerers(lambda x: np.asarray(exported.base(x)), lambda x, j: np.asarray(exported.reply(x, j)))


def _from_workdir(path, worker) -> Answerers:
  from lcode.runs.code_run import load
  trained = load(path)
  return _from_trained(trained.base.apply, trained.scheme, trained.base.variables, trained.params, trained.model_state,
                       worker)


def _from_trained(apply, scheme, variables, params, model_state, worker) -> Answerers:
  del worker
  base, reply = jax.jit(apply), jax.jit(scheme.reply, static_argnums=4)
  variables, *own = jax.device_put((variables, params, model_state))
  return Answerers(lambda x: np.asarray(base(variables, x)), lambda x, j: np.asarray(reply(*own, variables, x, j)))
