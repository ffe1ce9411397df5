"""An F of one's own for a comparison: a JAX function, a black box, or answers that were recorded, with its data."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lcode import data
from lcode.coding.base import Flat
from lcode.coding.black_box import black_box_of, BlackBox, recorded_answers
from lcode.coding.costs import cost
from lcode.coding.timing import interleaved
from lcode.data.digest import sha256
from lcode.errors import InputError, instance, one_of, register
from lcode.models.small import dense_network, mlp_multiply_adds
from lcode.runs.base_model import Base
from lcode.training import fingerprint
from lcode.training.batched import apply_in_batches, in_batches
from lcode.training.inputs import check_labels, check_outputs, check_pair, split_arrays

SPLITS = 'train', 'validation', 'test'
ASSUMED_WIDTH = 200  # where nothing is known of F's size, it is taken for a Base-MLP
TIMED = 64, 10**6  # queries and multiply-adds of the dense network that a black box is timed beside


@dataclasses.dataclass(frozen=True)
class Own(Base):
  """F with its data; `outputs` are its answers on the three splits, f32[N, C].

  Attributes:
    module: F's Flax module, from which students, backups and parity models start; None where there is none.
    multiply_adds: of an inference, by which students and backups are sized.
    sized_by: how these are known: 'counted', 'given', 'timed' (those of a dense network that takes as long), or
      'assumed' (those of Base-MLP).
    loss: of every code; None for its own.
    judged_by: the figure that rows are compared by.
    dtype: of queries, where there are no data.
  """

  module: nn.Module | None = None
  multiply_adds: float = 0.0
  sized_by: str = 'counted'
  loss: str | None = None
  judged_by: str = 'degraded_accuracy'
  dtype: str = ''

  @property
  def preprocess(self):
    return jnp.asarray

  @property
  def query_dtype(self):
    return np.dtype(self.dtype) if self.dataset is None else self.dataset.test.images.dtype


def make_own(apply: Callable | None, variables: Any = None, *, train, test, validation=None,
             outputs: Mapping[str, Any] | None = None, module: nn.Module | None = None, loss: str | None = None,
             multiply_adds: float | None = None, seconds: float | None = None, name: str = 'own') -> Own:
  """F and its data, checked; see `lcode.compare` for the arguments."""
  splits = _splits(train, validation, test, outputs)
  variables = {} if variables is None else variables
  if module is not None:
    instance('module', module, nn.Module)
    if not isinstance(variables, Mapping) or 'params' not in variables:
      raise InputError("module= is F's Flax module, of which variables={'params': ...} are to start from: give those "
                       'too, or leave module out.')
  answers = _recorded(splits, outputs) if apply is None or outputs is not None else {}
  apply = _function(apply, splits, answers, multiply_adds, seconds)
  if not answers:
    answers = {split: _answers(apply, variables, arrays.images) for split, arrays in splits.items()}
  for split, arrays in splits.items():
    check_outputs(split, answers[split])
    check_labels(split, arrays.labels, answers[split].shape[-1])
  num_outputs, images = answers['test'].shape[-1], splits['test'].images
  loss = 'mse_base' if num_outputs == 1 else loss
  judged_by = ('degraded_accuracy' if splits['test'].labels is not None else
               'relative_error' if loss == 'mse_base' else 'reconstruction_accuracy')
  if judged_by != 'relative_error':  # the classes that F answers stand in for labels
    splits = {split: data.Arrays(arrays.images, answers[split].argmax(-1) if arrays.labels is None else arrays.labels)
              for split, arrays in splits.items()}
  digest = sha256(fingerprint.of_tree(variables), repr((module, multiply_adds, seconds)), *(
      str(value) for arrays in splits.values() for value in fingerprint.of_split(arrays).values()))
  spec = data.Spec(len(splits['validation']), images.shape[1:], num_outputs)
  dataset = data.Dataset(name, spec, *(splits[split] for split in SPLITS), num_outputs, digest)
  work, sized_by = _size(apply, variables, images, num_outputs, multiply_adds)
  own = Own(name, variables, Flat(apply), digest, spec, images.shape[1:], num_outputs, dataset, True, module, work,
            sized_by, loss, judged_by)
  own.outputs.update(answers)
  return own


def _splits(train, validation, test, outputs) -> dict[str, data.Arrays]:
  pairs = {}
  for name, value in (('train', train), ('validation', validation), ('test', test)):
    if name == 'validation' and value is None:
      continue
    pair = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    check_pair(name, *pair)
    queries = np.asarray(pair[0])  # of a dtype that stays the same on a device
    pairs[name] = queries.astype(jax.dtypes.canonicalize_dtype(queries.dtype), copy=False), pair[1]
  if validation is None and outputs is not None and 'validation' in outputs:
    raise InputError('outputs has answers of a validation split, and validation=None: give its queries too.')
  training, held_out = split_arrays(*pairs['train'], pairs.get('validation'))
  test = data.Arrays(*pairs['test'])
  if np.shape(test.images)[1:] != np.shape(training.images)[1:]:
    raise InputError(f'test queries are of shape {list(np.shape(test.images)[1:])}, those to train on of '
                     f'{list(np.shape(training.images)[1:])}: give the same.')
  return {'train': training, 'validation': held_out, 'test': test}


def _recorded(splits, outputs) -> dict[str, np.ndarray]:
  """F's recorded answers f32[N, C] on the three splits."""
  if not isinstance(outputs, Mapping) or not {'train', 'test'} <= set(outputs) <= set(SPLITS):
    raise InputError('apply=None needs the answers that F gave: outputs={\'train\': ..., \'validation\': ..., '
                     '\'test\': ...}, an array [N, ...] for each split.')
  arrays = {split: np.asarray(value) for split, value in outputs.items()}
  if 'validation' not in arrays:  # held out of the training split, as its queries are
    cut = len(splits['train'])
    arrays['validation'], arrays['train'] = arrays['train'][cut:], arrays['train'][:cut]
  for split, value in arrays.items():
    if value.ndim < 2 or value.dtype.kind != 'f' or len(value) != len(splits[split]):
      raise InputError(f'outputs[{split!r}] is {value.dtype}{list(value.shape)} for {len(splits[split])} queries: give '
                       'F\'s answers, floating-point numbers [N, ...].')
  return {split: value.reshape(len(value), -1).astype(np.float32) for split, value in arrays.items()}


def _function(apply, splits, answers, multiply_adds, seconds) -> Callable:
  """F as the rest takes it."""
  if apply is None:
    together = [np.concatenate([part[split] for split in SPLITS])
                for part in ({name: arrays.images for name, arrays in splits.items()}, answers)]
    return recorded_answers(*together, multiply_adds, seconds)
  if isinstance(apply, BlackBox):
    return dataclasses.replace(apply, multiply_adds=multiply_adds or apply.multiply_adds)
  if not callable(apply):
    raise InputError(f'apply is a {type(apply).__name__}: give F as a JAX function of (variables, queries), as '
                     'lcode.BlackBox(a function of NumPy queries), or None with outputs=.')
  return apply


def _answers(apply, variables, images) -> np.ndarray:
  if isinstance(apply, BlackBox):  # outside of JAX, so that what it raises is seen as it is
    return in_batches(lambda x: apply.answers(x).reshape(len(x), -1), 500, images)
  return apply_in_batches(Flat(apply), variables, images, jnp.asarray)


def _size(apply, variables, images, num_outputs, given) -> tuple[float, str]:
  """(multiply-adds of an inference by F, how they are known)."""
  box, shape = black_box_of(apply), images.shape[1:]
  if given or box and box.multiply_adds:
    return float(given or box.multiply_adds), 'given'
  if box is None:
    counted = cost(Flat(apply), variables, jax.ShapeDtypeStruct((1, *shape), images.dtype))['flops'] / 2
    if counted >= 1:
      return counted, 'counted'
  elif box.seconds or not box.recorded:
    return _as_dense(box, images, num_outputs), 'timed'
  return float(mlp_multiply_adds(shape, num_outputs, ASSUMED_WIDTH)), 'assumed'


def _as_dense(box: BlackBox, images, num_outputs: int) -> float:
  """The multiply-adds of a dense network that takes as long as a black box does."""
  count, least = TIMED
  shape = images.shape[1:]
  network = dense_network(shape, num_outputs, max(least, mlp_multiply_adds(shape, num_outputs, ASSUMED_WIDTH)))
  queries = np.asarray(images[np.arange(count) % len(images)])
  x = jnp.asarray(queries, jnp.float32)
  variables, run = network.init(jax.random.key(0), x), jax.jit(network.apply)
  calls = {'dense': lambda: run(variables, x)} | ({} if box.recorded else {'F': lambda: box.answers(queries)})
  times = interleaved(calls, 9)
  seconds = times['dense']['microseconds'] / 1e6
  relative = count * box.seconds / seconds if box.seconds else times['F']['relative']
  return relative * mlp_multiply_adds(shape, num_outputs, network.hidden[0])


FUNCTIONS: dict[str, Callable] = {}


def register_function(name: str, load: Callable) -> None:
  """Makes an F of one's own, trained already, known by name to `experiments.compare --model=name`, and `choose`.

  Args:
    name: letters, digits, dashes and underscores.
    load: (data_dir or None) -> a dictionary of the arguments of `lcode.compare` that say what F is: `apply`,
      `variables`, `train`, `test`, and where there are any `validation`, `outputs`, `module`, `loss`, `multiply_adds`,
      `seconds`.

  Raises:
    InputError: if the name is not allowed or taken, or load is not a function; and when it is loaded, if it does not
      return such a dictionary.

  >>> def load(data_dir):
  ...   return {'apply': apply, 'variables': variables, 'train': (x[:150], y[:150]), 'test': (x[150:], y[150:])}
  >>> lcode.register_function('my_model', load)
  """
  if not callable(load):
    raise InputError(f'load={load!r} is no function: give (data_dir) -> a dictionary of apply, variables, train, test.')
  register(FUNCTIONS, 'function', name, load)


def load_own(name: str, data_dir: str | None = None) -> Own:
  """The F that was registered under a name, with its data."""
  arguments = FUNCTIONS[one_of('function', name, FUNCTIONS)](data_dir)
  if not isinstance(arguments, dict) or not {'apply', 'train', 'test'} <= set(arguments):
    raise InputError(f'the function {name!r} was loaded as a {type(arguments).__name__}: return a dictionary with '
                     'apply, variables, train and test.')
  known = set(make_own.__kwdefaults__ or {}) | {'apply', 'variables', 'train', 'test'}
  for key in arguments:
    one_of('argument of a function', key, known - {'name'})
  return make_own(**arguments, name=name)
