"""Preimages: parities to which F answers the sum of its answers to the queries. A bound, not a code to deploy.

  python -m experiments.bounds.preimage --base_dir=runs/fashion-mlp --k=5 --r=2         # some seconds
  python -m experiments.bounds.preimage --workdir=checkpoints/mnist-mlp-k2-r1           # with the F of that code

Nothing is trained. The record is printed and appended to the directory's records.jsonl. Expect a drop of at most 0.02
points with Base-MLP on MNIST and Fashion-MNIST, and 0.0 to 1.0 with ResNet-20 on CIFAR-10, for any k and r.

A network of ReLUs is affine in a cone around almost any ray, far enough from the origin. (Convolutions, batch
normalisation on running averages, and pooling by means or maxima do not change that.) So around an anchor out there,
F(anchor + J⁺s) = F(anchor) + s, with J the Jacobian of F at the anchor, for all s of the size of F's outputs. The code
of sums, exact only for an affine F, thereby becomes exact for F itself, for any (k, r) and without training. The price
is that the encoder has to know the outputs to be summed: it runs F k times. So this is not a code to deploy, but a
proof that accuracy alone says nothing about a code: what counts is accuracy within a frontend's budget.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import flags

from experiments import common
from experiments.bounds.measure import load_base, measure, Measured
from lcode.coding.code import Code
from lcode.coding.coders.linear import parity_weights, solve_sums
from lcode.coding.scheme import make_scheme, Scheme
from lcode.errors import InputError
from lcode.runs import records
from lcode.runs.base_model import Base
from lcode.runs.configs import RunOptions

FLAGS = flags.FLAGS
SCALES = (1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4)  # of anchors, queries being of size 1: float32 ends further out
RAYS = 3
PROBES = 16


class PreimageEncoder(nn.Module):
  """Weighted sums of F's answers, and for each an image to which F answers it, up to a constant.

  Attributes:
    base_apply, base_variables: F.
    anchor, inverse: from `find_anchor`.
  """

  code: Code
  base_apply: Callable
  base_variables: Any
  anchor: Any
  inverse: Any
  parities = 'preimages'

  @nn.compact
  def __call__(self, x):
    """x: f32[k, *S] -> parities: f32[r, *S]."""
    # Parameters, not constants: what is compiled takes them as arguments.
    variables = self.param('base', lambda key: self.base_variables)
    anchor, inverse = self.param('anchor', lambda key: self.anchor), self.param('inverse', lambda key: self.inverse)
    sums = jnp.asarray(parity_weights(self.code), x.dtype) @ self.base_apply(variables, x)
    return anchor[None] + (sums @ inverse).reshape(self.code.r, *anchor.shape)


class PreimageDecoder(nn.Module):
  """The sums' equations solved for what is missing, less F's answer to the anchor.

  Attributes:
    constant: f32[r, C], what F adds to the sums.
  """

  code: Code
  constant: Any
  goes_with = ('preimages',)

  @nn.compact
  def __call__(self, outputs, available):
    """outputs: f32[n, C], zeros where missing, available: bool[n] -> f32[k, C]."""
    constant = self.param('constant', lambda key: self.constant)
    return solve_sums(self.code, outputs.at[self.code.k:].add(-constant), available)


def find_anchor(key, base_apply: Callable, base_variables, query_shape: tuple[int, ...], outputs):
  """The anchor f32[*S], of those at several distances, around which F is closest to affine; and J⁺, f32[C, prod(S)].

  Closest over normal probes of twice the size of `outputs` f32[b, C].
  """
  ray_key, probe_key = jax.random.split(key)
  rays = jax.random.normal(ray_key, (RAYS, *query_shape))
  size = jnp.sqrt(jnp.mean(jnp.square(outputs)))
  probes = 2 * size * jax.random.normal(probe_key, (PROBES, outputs.shape[-1]))

  def around(anchor):
    at, jacobian = base_apply(base_variables, anchor[None])[0], jax.jacrev(
        lambda image: base_apply(base_variables, image[None])[0])(anchor)
    inverse = jnp.linalg.pinv(jacobian.reshape(len(at), -1)).T
    answered = base_apply(base_variables, anchor[None] + (probes @ inverse).reshape(-1, *query_shape)) - at[None]
    return jnp.max(jnp.abs(answered - probes)), anchor, inverse

  errors, anchors, inverses = jax.lax.map(around, jnp.concatenate([scale * rays for scale in SCALES]))
  best = jnp.argmin(jnp.nan_to_num(errors, nan=jnp.inf))
  return anchors[best], inverses[best]


def make_preimages(key, code: Code, base_apply: Callable, base_variables, x) -> tuple[Scheme, dict]:
  """The scheme over F, and its parameters; x: f32[k, *S], any group, tells how large F's outputs are."""
  outputs = jax.jit(base_apply)(base_variables, x)
  anchor, inverse = jax.jit(lambda key, variables, outputs: find_anchor(
      key, base_apply, variables, x.shape[1:], outputs))(key, base_variables, outputs)
  encoder = PreimageEncoder(code, base_apply, base_variables, anchor, inverse)
  parities, _ = jax.jit(encoder.init_with_output)(key, x)
  sums = jnp.asarray(parity_weights(code), x.dtype) @ outputs
  decoder = PreimageDecoder(code, jax.jit(base_apply)(base_variables, parities) - sums)
  scheme = make_scheme(code, base_apply, encoder, decoder)
  return scheme, scheme.init(key, x, outputs.shape[-1])[0]


def evaluate_preimages(base: Base, k: int, r: int = 1, seed: int = 0, options: RunOptions = RunOptions()) -> Measured:
  """The figures of (k, r) preimages over a base model; `seed` is of the places that are tried."""
  began, code = time.monotonic(), Code(k, r)
  x = base.preprocess(jnp.asarray(base.dataset.train.images[:k]))
  scheme, params = make_preimages(jax.random.key(seed), code, base.apply, base.variables, x)
  config = {'dataset': base.dataset.name, 'base_model': base.name, 'k': k, 'r': r, 'encoder': 'preimage',
            'decoder': 'preimage', 'parity_model': 'base', 'loss': 'kl_base', 'seed': seed}
  measured = measure(scheme, params, base, config, options, began)
  measured.record['kind'] = 'preimage'
  return measured


def define_flags():
  flags.DEFINE_string('workdir', None, 'a workdir of train_code, for the base model that it keeps')
  flags.DEFINE_string('base_dir', None, 'or a workdir of train_base')
  flags.DEFINE_integer('k', 2, 'queries per group', lower_bound=1)
  flags.DEFINE_integer('r', 1, 'parities per group', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'of the places that are tried')
  common.define_run_flags()


def main():
  if (FLAGS.workdir is None) == (FLAGS.base_dir is None):
    raise InputError('one of --workdir and --base_dir is needed: name a workdir of train_code or one of train_base, '
                     'not both.')
  directory, options = FLAGS.workdir or FLAGS.base_dir, common.run_options()
  base = load_base(directory, options)
  measured = evaluate_preimages(base, FLAGS.k, FLAGS.r, FLAGS.seed, options)
  records.append(Path(directory), measured.record)
  common.show(measured.record)
  return measured.record


if __name__ == '__main__':
  common.run(main, define_flags)
