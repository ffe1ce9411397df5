"""The scheme for somebody who does not want to choose."""

from collections.abc import Callable

import jax
import numpy as np

from lcode.coding.base import output_shape_of
from lcode.coding.code import check_code, Code
from lcode.coding.coders.mosaic import tile_shape
from lcode.coding.costs import cost
from lcode.coding.parity_model import students, tile_students
from lcode.coding.scheme import Scheme, make_scheme
from lcode.errors import InputError
from lcode.models.forms import form_over, make_form, share_of
from lcode.models.small import convolves


def default_scheme(code: Code, base_apply: Callable, base_variables, queries) -> Scheme:
  """The scheme for those who do not want to choose: little is lost, and the parity worker takes no longer than F.

  For images [H, W, c] a mosaic: the k queries, down-sampled, in the bytes of one (`lcode.coders.mosaic`). For other
  queries a bundle: all k of them, whole (`lcode.coders.bundle`). The parity worker answers each by a student of about
  1/k of F's time, of the form that goes with an F with or without convolutions (`lcode.models.forms`).

  Args:
    code: the (k, r) code.
    base_apply: F, (variables, x f32[b, *S]) -> floats [b, ...].
    base_variables: F's variables.
    queries: f32[b, *S], some queries as F takes them; their shape is what counts.

  Returns:
    a `Scheme` to be trained by `fit`.

  Raises:
    InputError: if queries are not an array, or of integers, or F is so small that no network takes 1/k of its time.

  >>> def mlp(variables, x):
  ...   return jax.nn.relu(x @ variables['hidden']) @ variables['out']
  >>> weights = {'hidden': np.ones((6, 200), 'float32'), 'out': np.ones((200, 3), 'float32')}
  >>> lcode.default_scheme(code, mlp, weights, x).bundled
  True
  """
  check_code(code)
  if not hasattr(queries, 'dtype') or np.ndim(queries) < 2 or not len(queries):
    raise InputError(f'queries={type(queries).__name__} will not do: give an array [b, ...] of some queries.')
  if not jax.dtypes.issubdtype(queries.dtype, np.floating):
    raise InputError(f'queries are {queries.dtype}, on which a student of F cannot be made here: give float32 queries, '
                     'or build the student yourself with lcode.students and lcode.make_scheme.')
  one = jax.ShapeDtypeStruct((1, *queries.shape[1:]), queries.dtype)
  num_outputs = int(np.prod(output_shape_of(base_apply, base_variables, one)))
  variables = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.result_type(x)), base_variables)
  multiply_adds = cost(base_apply, variables, one)['flops'] / 2
  shape = queries.shape[1:]
  form, tiled = form_over(convolves(base_apply, variables, one), shape), len(shape) == 3
  if tiled:
    shape = tile_shape(shape, code.k)
    form = 'dense' if form == 'resolution' else form  # a tile is an image at a lower resolution
  try:
    student = make_form(form, None, shape, num_outputs, share_of(form, None) * multiply_adds / code.k)
  except InputError as error:
    raise InputError(f'F takes {multiply_adds:.0f} multiply-adds a query, and no network does with 1/{code.k} of that: '
                     'choose a smaller k, or another scheme by lcode.make_scheme.') from error
  if tiled:
    return make_scheme(code, base_apply, 'mosaic', 'bundle', tile_students(student, code.k))
  return make_scheme(code, base_apply, 'bundle', 'bundle', students(student))
