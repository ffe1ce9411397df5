"""What is written comes back, or is refused; a run that is stopped anywhere ends as if it had not been."""

import json
import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lcode.errors import DivergedError, InputError
from lcode.training import checkpoint, loop
from lcode.training.loop import Best
from lcode.training.step import init_state, TrainState

TX = optax.adam(1e-2)


def make_state(seed=0):
  params = {'w': jnp.arange(6.0).reshape(2, 3) + seed, 'b': jnp.ones(3)}
  return init_state(params, {'stats': jnp.full(2, seed, jnp.float32)}, TX, seed)


def as_numpy(tree):
  return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if checkpoint._is_key(x) else x), tree)


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, as_numpy(a), as_numpy(b))


def files_of(directory):
  return sorted(p for p in directory.rglob('*') if p.is_file())


def test_a_tree_comes_back_to_the_bit(tmp_path):
  state = make_state(3)
  checkpoint.save_tree(tmp_path / 'c', state, {'a': 1})
  restored, meta = checkpoint.load_tree(tmp_path / 'c', lambda meta: make_state(0))
  assert_same(restored, state)
  assert meta == {'a': 1} and isinstance(restored, TrainState)
  np.testing.assert_array_equal(jax.random.normal(restored.key, 3), jax.random.normal(state.key, 3))
  assert [p.name for p in tmp_path.iterdir()] == ['c']  # no temporary directory is left


def damage(path, how):
  if how == 'deleted':
    path.unlink()
    return
  content = bytearray(path.read_bytes())
  if how == 'cut':
    content = content[:len(content) // 2]
  else:
    content[len(content) // 2] ^= 1
  path.write_bytes(content)


@pytest.mark.parametrize('how', ['flipped', 'cut', 'deleted'])
def test_damage_to_any_file_is_found(tmp_path, how):
  checkpoint.save_tree(tmp_path / 'whole', make_state(), {})
  for file in files_of(tmp_path / 'whole'):
    shutil.copytree(tmp_path / 'whole', tmp_path / 'copy')
    if file.stat().st_size == 0 and how != 'deleted':
      continue
    damage(tmp_path / 'copy' / file.relative_to(tmp_path / 'whole'), how)
    with pytest.raises(checkpoint.DamagedError, match='damaged'):
      checkpoint.load_tree(tmp_path / 'copy', lambda meta: make_state())
    shutil.rmtree(tmp_path / 'copy')


def test_other_shapes_are_refused_in_a_sentence(tmp_path):
  checkpoint.save_tree(tmp_path / 'c', {'w': np.ones((2, 3), 'f4')}, {})
  for template in ({'w': np.ones((3, 3), 'f4')}, {'v': np.ones((2, 3), 'f4')}):
    with pytest.raises(InputError, match='other arrays') as error:
      checkpoint.load_tree(tmp_path / 'c', lambda meta: template)
    assert '\n' not in str(error.value)


def test_latest_and_best_are_kept(tmp_path):
  store = checkpoint.Store(tmp_path)
  states = {step: make_state(step).replace(step=jnp.int32(step)) for step in range(1, 6)}
  bests = {1: (1, .5), 2: (2, .6), 3: (2, .6), 4: (4, .7), 5: (4, .7)}
  for step, (best_step, value) in bests.items():
    best = states[best_step]
    store.save(states[step], Best(best_step, value, (best.params, best.model_state)), seconds=10.0 * step)
  assert checkpoint.steps_in(tmp_path / 'latest') == [4, 5]
  assert checkpoint.steps_in(tmp_path / 'best') == [4]
  state, best, seconds = checkpoint.Store(tmp_path).restore(make_state())
  assert_same(state, states[5])
  assert (best.step, best.value, seconds) == (4, .7, 50.0)
  assert_same(best.variables, (states[4].params, states[4].model_state))
  resumed = checkpoint.Store(tmp_path).load_best((make_state().params, make_state().model_state))
  assert_same(resumed.variables, best.variables)


def save_two(tmp_path):
  store = checkpoint.Store(tmp_path)
  for step in (1, 2):
    state = make_state(step).replace(step=jnp.int32(step))
    store.save(state, Best(step, step / 10, (state.params, state.model_state)), 0.0)


def test_a_damaged_newest_falls_back_with_a_warning(tmp_path, caplog):
  save_two(tmp_path)
  damage(max(files_of(tmp_path / 'latest' / '2'), key=lambda p: p.stat().st_size), 'cut')
  with caplog.at_level(logging.WARNING, 'lcode'):
    state, best, _ = checkpoint.Store(tmp_path).restore(make_state())
  assert int(state.step) == 1 == best.step
  assert len(caplog.records) == 1 and 'Falling back to step 1' in caplog.text and 'changed or cut' in caplog.text


def test_a_damaged_best_is_a_sentence_and_written_anew_from_the_latest(tmp_path):
  save_two(tmp_path)
  variables = make_state().params, make_state().model_state
  whole = checkpoint.Store(tmp_path).load_best(variables)
  for how in ('flipped', 'cut', 'deleted'):
    damage(max(files_of(tmp_path / 'best' / '2'), key=lambda p: p.stat().st_size), how)
    with pytest.raises(InputError, match='the command that trained it writes it anew'):
      checkpoint.Store(tmp_path).load_best(variables)
    assert checkpoint.Store(tmp_path).restore(make_state())[1].step == 2
    assert_same(checkpoint.Store(tmp_path).load_best(variables).variables, whole.variables)


def test_a_timeline_that_was_left_is_forgotten(tmp_path):
  """Falling back to step 1 and going on to another step 2 must not mix with the first step 2."""
  save_two(tmp_path)
  damage(tmp_path / 'latest' / '2' / 'meta.json', 'cut')
  store = checkpoint.Store(tmp_path)
  state, best, _ = store.restore(make_state())
  other = make_state(7).replace(step=jnp.int32(2))
  store.save(other, Best(2, 0.9, (other.params, other.model_state)), 0.0)
  resumed = checkpoint.Store(tmp_path).load_best((make_state().params, make_state().model_state))
  assert_same(resumed.variables, (other.params, other.model_state))
  state = make_state(1).replace(step=jnp.int32(1))
  store.save(state, best, 0.0)
  assert checkpoint.steps_in(tmp_path / 'latest') == [1] == checkpoint.steps_in(tmp_path / 'best')


def test_a_manifest_of_another_kind_is_damage(tmp_path):
  checkpoint.save_tree(tmp_path / 'c', make_state(), {})
  (tmp_path / 'c' / 'manifest.json').write_text('[]')
  with pytest.raises(checkpoint.DamagedError, match='manifest.json'):
    checkpoint.load_meta(tmp_path / 'c')


def test_what_cannot_be_written_is_a_sentence(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='cannot be written'):
    checkpoint.save_tree(tmp_path / 'file' / 'c', make_state(), {})


def test_no_whole_checkpoint_is_an_error_and_none_at_all_is_not(tmp_path):
  assert checkpoint.Store(tmp_path).restore(make_state()) is None
  with pytest.raises(InputError, match='train first'):
    checkpoint.Store(tmp_path).load_best(({}, {}))
  save_two(tmp_path)
  for step in '12':
    os.remove(tmp_path / 'latest' / step / 'meta.json')
  with pytest.raises(InputError, match='restore its files, or remove that directory to train again from the start'):
    checkpoint.Store(tmp_path).restore(make_state())
  with pytest.raises(InputError, match='best still has the best parameters so far'):
    checkpoint.Store(tmp_path).restore(make_state())
  shutil.rmtree(tmp_path / 'best')
  with pytest.raises(InputError, match='again from the start.$'):
    checkpoint.Store(tmp_path).restore(make_state())
  (tmp_path / 'latest' / '²').mkdir()
  assert checkpoint.steps_in(tmp_path / 'latest') == [1, 2]


def test_an_interrupted_write_is_as_if_not_begun(tmp_path):
  save_two(tmp_path)
  shutil.copytree(tmp_path / 'latest' / '2', tmp_path / 'latest' / '.3.part')
  (tmp_path / 'latest' / '.3.part' / 'manifest.json').unlink()
  assert int(checkpoint.Store(tmp_path).restore(make_state())[0].step) == 2
  store = checkpoint.Store(tmp_path)
  store.restore(make_state())
  store.save(make_state(3).replace(step=jnp.int32(3)), None, 0.0)
  assert int(checkpoint.Store(tmp_path).restore(make_state())[0].step) == 3


# A small problem for the loop: noisy steps, whose validation accuracy goes up and down.


def make_step(count):
  def one(state):
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (2, 3))
    updates, opt_state = TX.update({'w': noise, 'b': state.params['b']}, state.opt_state, state.params)
    return state.replace(step=state.step + 1, params=optax.apply_updates(state.params, updates), opt_state=opt_state)

  def steps(state, plan):
    losses = []
    for _ in range(count):
      state = one(state)
      losses.append(jnp.sum(state.params['w']))
    return state, {'loss': jnp.stack(losses)}

  return jax.jit(steps)


def validate(params, model_state):
  return {'loss': 1.0, 'reconstruction_accuracy': float(jnp.sin(40 * params['w'][0, 0]))}


def run(store=None, stop_at=None, steps_per_call=1, max_steps=None, reporter=None):
  class Stopping(checkpoint.Store):
    def save(self, state, best, seconds):
      super().save(state, best, seconds)
      if stop_at is not None and int(state.step) >= stop_at:
        raise KeyboardInterrupt

  schedule = loop.Schedule(8, 5, steps_per_call, max_steps, save_every_s=0.0)
  return loop.run(make_step, validate, lambda epoch: epoch, make_state(), schedule,
                  Stopping(store) if store else None, reporter)


@pytest.mark.parametrize('stop_at', [5, 15, 35])
def test_a_stopped_run_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path, stop_at):
  expected = run()
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, stop_at)
  resumed = run(tmp_path)
  assert_same(resumed.state, expected.state)
  assert resumed.best[:2] == expected.best[:2]
  assert_same(resumed.best.variables, expected.best.variables)
  again = run(tmp_path)  # nothing is left to do
  assert again.history == [] and again.best[:2] == expected.best[:2]
  assert_same(again.state, expected.state)


def test_stopping_early_in_the_middle_of_an_epoch_and_going_on(tmp_path):
  expected = run()
  early = run(tmp_path, max_steps=13)
  assert int(early.state.step) == 13
  assert_same(run(tmp_path).state, expected.state)


def test_falling_back_to_the_checkpoint_before_ends_the_same(tmp_path, caplog):
  expected = run()
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, stop_at=20)
  damage(tmp_path / 'latest' / '20' / 'meta.json', 'cut')
  resumed = run(tmp_path)
  assert_same(resumed.state, expected.state)
  assert resumed.best[:2] == expected.best[:2]
  assert_same(resumed.best.variables, expected.best.variables)


def test_several_steps_a_call_are_the_same_run_and_report_every_step():
  class Counting(loop.Reporter):
    seen, epochs = [], []

    def steps(self, done, losses):
      self.seen.append((done, len(losses)))

    def epoch(self, figures):
      self.epochs.append(figures['step'])

  expected, resumed = run(), run(steps_per_call=3, reporter=Counting())
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), as_numpy(expected.state),
               as_numpy(resumed.state))
  assert Counting.seen == [(done, n) for e in range(8) for done, n in ((5 * e + 3, 3), (5 * e + 5, 2))]
  assert Counting.epochs == [5 * e for e in range(1, 9)]


def test_a_run_too_short_for_an_epoch_has_a_best_that_later_epochs_do_not_compete_with(tmp_path):
  short = run(tmp_path, max_steps=3)
  assert short.best.step == 3 and short.best.partial
  assert run(tmp_path, max_steps=3).best[:2] == short.best[:2]  # nothing was left to do
  assert run(tmp_path).best[:2] == run().best[:2]


def test_a_run_stopped_in_its_first_epoch_and_then_asked_for_less_still_answers(tmp_path):
  store = checkpoint.Store(tmp_path)
  store.save(make_state().replace(step=jnp.int32(4)), None, 0.0)
  resumed = run(tmp_path, max_steps=2)
  assert int(resumed.state.step) == 4 and resumed.best.partial
  assert_same(resumed.best.variables, (make_state().params, make_state().model_state))


def test_the_best_is_the_first_of_the_greatest_and_for_a_loss_of_the_least():
  tried = [(.2, 5.), (.7, 4.), (.6, 1.), (.7, 2.), (.1, 1.), (.7, 9.), (.3, 3.), (.5, 3.)]
  for criterion, step in (('reconstruction_accuracy', 10), ('loss', 15)):
    left = iter(tried)

    def scripted(*_):
      accuracy, loss = next(left)
      return {'loss': loss, 'reconstruction_accuracy': accuracy}
    best = loop.run(make_step, scripted, lambda epoch: epoch, make_state(),
                    loop.Schedule(8, 5, criterion=criterion)).best
    assert best.step == step


def test_a_long_epoch_is_saved_in_the_middle(tmp_path, monkeypatch):
  clock = iter(range(10_000))
  monkeypatch.setattr(loop.time, 'monotonic', lambda: next(clock))  # every look at the clock is a second later
  expected = run()
  assert_same(run(tmp_path).state, expected.state)
  with pytest.raises(KeyboardInterrupt):
    run(tmp_path / 'other', stop_at=2)
  assert checkpoint.steps_in(tmp_path / 'other' / 'latest')[-1] % 5 != 0
  assert_same(run(tmp_path / 'other').state, expected.state)
  assert_same(run(tmp_path / 'other').best.variables, expected.best.variables)


@pytest.mark.parametrize('steps_per_call', [1, 3])
def test_a_loss_that_is_not_finite_stops_names_the_step_and_keeps_the_checkpoint(tmp_path, steps_per_call):
  def poisoned(count):
    step = make_step(count)

    def steps(state, plan):
      state, metrics = step(state, plan)
      numbers = state.step - count + 1 + jnp.arange(count)
      return state, {'loss': jnp.where(numbers >= 12, jnp.nan, metrics['loss'])}
    return steps

  schedule = loop.Schedule(8, 5, steps_per_call, save_every_s=0.0)
  with pytest.raises(DivergedError, match=r'\(nan\) is not finite at step 12: .* step 10 in'):
    loop.run(poisoned, validate, lambda epoch: epoch, make_state(), schedule, checkpoint.Store(tmp_path))
  assert checkpoint.steps_in(tmp_path / 'latest') == [5, 10]
  json.loads((tmp_path / 'latest' / '10' / 'meta.json').read_text())


def test_parameters_that_are_not_finite_are_never_saved(tmp_path):
  def poisoned(count):
    return lambda state, plan: (state.replace(step=state.step + count, params=jax.tree.map(
        lambda w: w * jnp.where(state.step >= 9, jnp.nan, 1.0), state.params)), {'loss': jnp.ones(count)})

  with pytest.raises(DivergedError, match='a parameter is not finite at step 10'):
    loop.run(poisoned, lambda *_: {'loss': 1.0, 'reconstruction_accuracy': 0.5}, lambda epoch: epoch, make_state(),
             loop.Schedule(8, 5, save_every_s=0.0), checkpoint.Store(tmp_path))
  assert checkpoint.steps_in(tmp_path / 'latest') == [5]
