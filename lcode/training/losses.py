"""Losses of a reconstructed output, one value a unit, and the one masked mean that reduces them.

Scaling as in "Learning a Code" (arXiv:1806.01259, section 4 and the authors' code): summed over the C
outputs of a unit, averaged over the erased units alone.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from lcode.coding.checks import kind
from lcode.errors import InputError, one_of


def kl_base(reconstructed, base_outputs, labels):
  """KL(softmax F(x) || softmax reconstruction), of logits.

  A class to which F gives no probability (a logit of -inf) adds nothing, whatever the reconstruction gives it.

  Args:
    reconstructed, base_outputs: floats [..., C].
    labels: not used.

  Returns:
    floats [...].

  Raises:
    InputError: if one is not an array of floating-point numbers, or the shapes differ.

  >>> lcode.kl_base(jnp.zeros((2, 3)), jnp.zeros((2, 3)), None)
  Array([0., 0.], dtype=float32)
  """
  del labels
  _check_alike(reconstructed, base_outputs)
  log_p = jax.nn.log_softmax(base_outputs)
  log_q = jax.nn.log_softmax(reconstructed)
  p = jnp.exp(log_p)
  return jnp.sum(p * jnp.where(p == 0, 0, log_p - log_q), axis=-1)


def mse_base(reconstructed, base_outputs, labels):
  """Squared error to F(x), summed over the C outputs; errors as of `kl_base`.

  Args:
    reconstructed, base_outputs: floats [..., C].
    labels: not used.

  Returns:
    floats [...].

  >>> lcode.mse_base(jnp.array([[1., 2.]]), jnp.zeros((1, 2)), None)
  Array([5.], dtype=float32)
  """
  del labels
  _check_alike(reconstructed, base_outputs)
  return jnp.sum(jnp.square(reconstructed - base_outputs), axis=-1)


def xent_label(reconstructed, base_outputs, labels):
  """Cross-entropy of the reconstruction to the label.

  Args:
    reconstructed: floats [..., C], logits.
    base_outputs: not used.
    labels: int[...].

  Returns:
    floats [...], NaN where the label is not a class.

  Raises:
    InputError: unless there is a whole number for each reconstruction.

  >>> loss = lcode.xent_label(jnp.zeros((1, 4)), None, jnp.array([1]))
  >>> np.allclose(loss, np.log(4))
  True
  """
  del base_outputs
  labels = jnp.asarray(labels)
  if labels.shape != jnp.shape(reconstructed)[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
    raise InputError(f'labels {labels.dtype}{list(labels.shape)} do not go with reconstructions '
                     f'{list(jnp.shape(reconstructed))}: give one whole number for each.')
  loss = optax.softmax_cross_entropy_with_integer_labels(reconstructed, labels)
  # Values are not known here; a label that is no class would be taken for another one.
  return jnp.where((labels >= 0) & (labels < jnp.shape(reconstructed)[-1]), loss, jnp.nan)


def _check_alike(reconstructed, base_outputs):
  for array in (reconstructed, base_outputs):
    if not hasattr(array, 'dtype') or not jnp.issubdtype(array.dtype, jnp.floating):  # whole numbers wrap around
      raise InputError(f'reconstructions and base outputs must be arrays of floating-point numbers, not {kind(array)}.')
  if jnp.shape(reconstructed) != jnp.shape(base_outputs):  # broadcasting would compare one with many
    raise InputError(f'reconstructions {list(jnp.shape(reconstructed))} cannot be compared with base outputs '
                     f'{list(jnp.shape(base_outputs))}: give both the same shape [..., C].')


LOSSES: dict[str, Callable] = {'kl_base': kl_base, 'mse_base': mse_base, 'xent_label': xent_label}


def get_loss(name: str) -> Callable:
  """The loss `name` of `LOSSES`, (reconstructed, base_outputs, labels) -> f32[...]; raises InputError if unknown."""
  return LOSSES[one_of('loss', name, LOSSES)]


def masked_sum(values, mask):
  """Sum of `values` where `mask` is True, and how many those are: f32[], f32[].

  Values that are masked out contribute nothing, not even when they are not finite.

  Raises:
    InputError: if the shapes differ or the mask is not boolean; a mask is never broadcast.
  """
  if values.shape != mask.shape or mask.dtype != jnp.bool_:
    raise InputError(f'a mask must be boolean and of the values\' shape {values.shape}; got {mask.dtype}{mask.shape}.')
  return jnp.sum(jnp.where(mask, values, 0)), jnp.sum(mask, dtype=jnp.float32)


def masked_mean(values, mask):
  """Mean of `values` where `mask` is True; 0 if it is True nowhere.

  Args:
    values: floats of any shape; what is masked out adds nothing, even where it is not finite.
    mask: bool, of the same shape.

  Returns:
    f32[].

  Raises:
    InputError: if the shapes differ or the mask is not boolean; a mask is never broadcast.

  >>> lcode.masked_mean(jnp.array([1., 2., jnp.nan]), jnp.array([True, True, False]))
  Array(1.5, dtype=float32)
  """
  total, count = masked_sum(values, mask)
  return total / jnp.maximum(count, 1)
