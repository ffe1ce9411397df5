"""Every model and code trains on GPUs and TPUs too: their steps are lowered for these, which need not be there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lcode import models
from lcode.coding.code import every_pattern
from lcode.runs.parts import build_scheme
from lcode.runs.presets import config_of, PRESETS
from lcode.training.losses import LOSSES
from lcode.training.step import Batch, init_state, make_base_objective, make_code_objective, make_train_step

SHAPE, C, GROUPS = (12, 12, 1), 10, 2


def lowers(objective, params, model_state, base_variables, k, base_outputs):
  tx = optax.adam(1e-3)
  batch = Batch(jnp.zeros((GROUPS, k, *SHAPE)), base_outputs, jnp.zeros((GROUPS, k), jnp.int32), jnp.ones(GROUPS, bool))
  state = jax.eval_shape(lambda: init_state(params, model_state, tx, 0))
  step = jax.jit(make_train_step(objective, tx))
  for platform in ('cuda', 'tpu'):
    assert 'main' in step.trace(state, base_variables, batch).lower(lowering_platforms=(platform,)).as_text()[:3000]


def blank(init, *args):
  """Variables of the right shapes, which are not looked at."""
  return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), jax.eval_shape(init, *args))


@pytest.mark.parametrize('name', models.MODELS)
def test_base_models_lower(name):
  model = models.make_model(name, SHAPE, C)
  variables = dict(blank(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE))))
  lowers(make_base_objective(model), variables.pop('params'), variables, {}, 1, None)


@pytest.mark.parametrize('preset', PRESETS)
def test_codes_lower(preset):
  config = config_of(preset, 2, 2, 'digits', 'mlp', 0, None, 5000)
  scheme = build_scheme(config, SHAPE, C)
  model = models.make_model('mlp', SHAPE, C)
  variables = blank(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))
  k = scheme.code.k
  params, state = blank(lambda: scheme.init(jax.random.key(1), jnp.zeros((k, *SHAPE)), C, variables))
  objective = make_code_objective(scheme, LOSSES['kl_base'], every_pattern(scheme.code))
  lowers(objective, params, state, variables, k, jnp.zeros((GROUPS, k, C)))
