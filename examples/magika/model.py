"""Magika by onnxruntime as an F that JAX cannot look into, and a small network of bytes that stands in for it."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import lcode
from lcode.errors import InputError
from lcode.serving.served import Answerers, Served

SPLITS = 'train', 'validation', 'test'
RECORDED = 'recorded.npz'  # queries, and F's answers to them
LEAST = 1e-9  # probability, so that its logarithm is finite
TOKENS = 257
FIRST = 16  # tokens that are read one by one
PAIR_BITS, TRIPLE_BITS = 12, 13
MULTIPLIER = 2654435761  # Knuth's, of multiplicative hashing: 2**32 by the golden ratio (TAOCP 3, 6.4)


class Config(NamedTuple):
  """What Magika's config says of its queries and answers; sizes are in bytes."""

  beg_size: int
  end_size: int
  block_size: int
  padding_token: int
  min_file_size_for_dl: int
  target_labels_space: tuple[str, ...]

  @property
  def tokens(self) -> int:
    return self.beg_size + self.end_size


def folder() -> Path:
  """Where the package `magika` keeps its model; raises InputError if it is not installed."""
  found = importlib.util.find_spec('magika')
  models = sorted((Path(found.origin).parent / 'models').glob('standard_*/model.onnx')) if found else []
  if not models or importlib.util.find_spec('onnxruntime') is None:
    raise InputError('this example needs magika, whose wheel holds the model, and onnxruntime: pip install '
                     '"lcode[examples]".')
  return models[-1].parent


def read_config(path: Path) -> Config:
  """Magika's config; raises InputError if its model takes queries of another kind."""
  stored = json.loads((path / 'config.min.json').read_text())
  if stored['mid_size'] or stored['use_inputs_at_offsets']:
    raise InputError('this version of magika reads the middle of files, which this example does not: install '
                     '"magika>=1.0,<1.1".')
  return Config(**{name: tuple(stored[name]) if isinstance(stored[name], list) else stored[name]
                   for name in Config._fields})


def load_model(path: Path) -> Callable:
  """F on one thread: NumPy tokens [b, tokens] of any dtype -> the logarithms of its probabilities, f32[b, labels].

  They are logits: softmax makes the probabilities of them again. What is no token, as in a mixture of queries, is
  taken for the nearest one.
  """
  import onnxruntime
  onnxruntime.disable_telemetry_events()
  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  session = onnxruntime.InferenceSession(str(path / 'model.onnx'), options, providers=['CPUExecutionProvider'])
  most, name = read_config(path).padding_token, session.get_inputs()[0].name

  def answer(x):
    tokens = np.clip(np.rint(x), 0, most).astype(np.int32)
    return np.log(np.maximum(session.run(None, {name: tokens})[0], LEAST))

  return answer


class ByteNetwork(nn.Module):
  """Tokens, as numbers [b, tokens] -> f32[b, num_outputs]: n-grams that it has, and the first ones.

  Counts of hashed n-grams see a keyword wherever it is, which windows at fixed places do not; they have no parameters,
  so that a step of training takes little. The first tokens are read one by one, for magic numbers.
  """

  num_outputs: int
  width: int = 128

  @nn.compact
  def __call__(self, x, train: bool = False):
    tokens = jnp.clip(x, 0, TOKENS - 1).astype(jnp.uint32)
    first = nn.Embed(TOKENS, 16)(tokens[:, :FIRST]).reshape(len(x), -1)
    counts = jnp.log1p(count_ngrams(tokens))
    hidden = nn.Dense(self.width)(jnp.concatenate([counts, first], -1))
    for width in (2 * self.width, self.num_outputs):
      hidden = nn.Dense(width)(nn.Dropout(0.3, deterministic=not train)(nn.relu(hidden)))
    return hidden


def count_ngrams(tokens):
  """How often each token, hashed pair and hashed triple comes: u32[b, n] -> f32[b, 257 + 2**12 + 2**13]."""
  pairs = tokens[:, :-1] * TOKENS + tokens[:, 1:]
  triples = pairs[:, :-1] * TOKENS + tokens[:, 2:]
  places, size = [tokens], TOKENS
  for ngrams, bits in ((pairs, PAIR_BITS), (triples, TRIPLE_BITS)):
    places.append(size + (ngrams * jnp.uint32(MULTIPLIER) >> (32 - bits)))
    size += 2**bits
  rows = jnp.arange(len(tokens))[:, None]
  return jnp.zeros((len(tokens), size)).at[rows, jnp.concatenate(places, -1)].add(1.0)


def make_code(k: int, width: int, path: Path) -> lcode.Scheme:
  """k queries in the bits of one, a `ByteNetwork` answering each, over the Magika in the folder `path`.

  A token takes 9 bits of a float32's 32, so that two of them keep all of theirs as numbers of 16 bits. More of them
  would be rounded to 8 bits or fewer, as numbers of order one, which tokens are not.

  Raises:
    InputError: if k is not 1 or 2.
  """
  if k not in (1, 2):
    raise InputError(f'k={k} is not allowed: two tokens of 9 bits, and no more, keep all of theirs in the bits of one '
                     'number; choose 1 or 2.')
  students = lcode.narrow_students(_network(width, path), k)
  return lcode.make_scheme(lcode.Code(k, 1), lcode.BlackBox(load_model(path)), 'narrow', 'bundle', students)


class Trained(NamedTuple):
  """A trained code as workers get it: where Magika is, the network's size, and its variables as NumPy arrays."""

  folder: Path
  k: int
  width: int
  params: dict
  model_state: dict

  def coded(self) -> Served:
    """F, the code over it, and what answers parities."""
    codec = lcode.make_codec(self._scheme(), self.params, self.model_state)
    return Served(self._with_students, self._query_shape(), lcode.Code(self.k, 1),
                  lambda x: np.asarray(codec.encode(x)), lambda *units: np.asarray(codec.decode(*units)), bundled=True)

  def backup(self) -> Served:
    """F, and the same network as a backup that answers the queries themselves."""
    return Served(self._with_backup, self._query_shape())

  def _scheme(self) -> lcode.Scheme:
    return make_code(self.k, self.width, self.folder)

  def _query_shape(self) -> tuple[int]:
    return (read_config(self.folder).tokens,)

  def _with_students(self, worker: int) -> Answerers:
    del worker
    reply = jax.jit(self._scheme().reply, static_argnums=4)
    return Answerers(load_model(self.folder),
                     lambda x, j: np.asarray(reply(self.params, self.model_state, {}, x, j)))

  def _with_backup(self, worker: int) -> Answerers:
    del worker
    network, variables = _network(self.width, self.folder), {'params': self.params['parity_model']['0']}
    run = jax.jit(network.apply)
    return Answerers(load_model(self.folder), lambda x, j: np.asarray(run(variables, x)))


def _network(width: int, path: Path) -> ByteNetwork:
  return ByteNetwork(len(read_config(path).target_labels_space), width)


def recorded(path: str | Path) -> tuple[dict, dict]:
  """Queries f32[N, tokens] and F's answers f32[N, labels] by split, of a workdir of this example.

  Raises:
    InputError: if it holds none.
  """
  try:
    with np.load(Path(path) / RECORDED) as arrays:
      return ({split: arrays[split].astype(np.float32) for split in SPLITS},
              {split: arrays[f'{split}_answers'] for split in SPLITS})
  except (OSError, KeyError, ValueError) as error:
    raise InputError(f'{path} has no recorded answers ({error}): run examples.magika with --workdir={path} first.'
                     ) from error
