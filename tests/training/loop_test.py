"""The loop over steps that do nothing but report a loss."""

import jax.numpy as jnp
import numpy as np
import pytest

from lcode.errors import DivergedError, InputError
from lcode.training import loop
from lcode.training.step import TrainState


def go(losses, validation=(1.0,), params=0.0):
  """Runs epochs of two steps with these losses; the n-th epoch's validation loss is the n-th of `validation`."""
  state = TrainState(np.int32(0), {'w': jnp.float32(params)}, {}, (), None)
  validated = iter(validation)

  def step(state, plan):
    return state.replace(step=state.step + 1), {'loss': np.float32(losses[state.step])}

  return loop.run(lambda count: step, lambda *_: {'loss': next(validated), 'reconstruction_accuracy': 0.5},
                  lambda epoch: None, state, loop.Schedule(len(losses) // 2, 2))


@pytest.mark.parametrize('losses, validation, words', [
    ([np.nan, 1, 1, 1], [1, 1], r'the loss \(nan\) is not finite at step 1: .*in the queries'),
    ([1, np.inf, 1, 1], [1, 1], r'the loss \(inf\) is not finite at step 2: .*learning rate is too high'),
    ([1, 1, 1, np.nan], [1, 1], 'at step 4: .*learning rate'),
    ([1, 1, 1, 1], [1, np.nan], r'the validation loss \(nan\) is not finite at step 4: .*learning rate')])
def test_what_is_not_finite_names_its_likely_cause(losses, validation, words):
  assert len(go([1, 1, 1, 1], [2, 1]).history) == 2
  with pytest.raises(DivergedError, match=words):
    go(losses, validation)


@pytest.mark.parametrize('name, value', [
    ('epochs', -1), ('epochs', 1.5), ('steps_per_epoch', 0), ('steps_per_call', 0), ('max_steps', -1),
    ('save_every_s', -1), ('save_every_s', float('nan'))])
def test_a_schedule_that_makes_no_sense_is_a_sentence(name, value):
  schedule = loop.Schedule(1, 2)._replace(**{name: value})
  with pytest.raises(InputError, match=f'{name}={value}'):
    loop.run(None, None, None, None, schedule)
