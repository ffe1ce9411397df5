"""Every code over one's own model: as a JAX function, a black box and recorded answers, with and without labels."""

import json
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lcode
from lcode.errors import InputError
from lcode.models import MLP
from lcode.runs import own, own_rows, tables
from lcode.runs.comparison import Comparison
from lcode.runs.own import load_own, make_own
from lcode.runs.own_rows import over_own, scheme_of
from lcode.serving import cluster
from lcode.serving.served import of_trained

RNG = np.random.default_rng(0)
X = RNG.normal(size=(320, 12)).astype('f4')
VARIABLES = {'hidden': RNG.normal(size=(12, 32)).astype('f4') / 3, 'out': RNG.normal(size=(32, 4)).astype('f4')}
LABELS = np.tanh(X @ VARIABLES['hidden']).dot(VARIABLES['out']).argmax(-1)
LABELS[::10] = 0  # F is not always right
ARRAYS = {'train': (X[:200], LABELS[:200]), 'validation': (X[200:240], LABELS[200:240]),
          'test': (X[240:], LABELS[240:])}
QUICK = lcode.RunOptions(devices=1)
FEW = {'epochs': 2, 'options': QUICK, 'backup_work': (0.5,)}


def apply(variables, x):
  return jnp.tanh(x @ variables['hidden']) @ variables['out']


def host(x):
  return np.tanh(x @ VARIABLES['hidden']) @ VARIABLES['out']


OUTPUTS = {split: host(queries) for split, (queries, _) in ARRAYS.items()}


def by_row(rows):
  return {(row['scheme'], row['k'], row['r']): row for row in rows}


@pytest.fixture(scope='module')
def compared():
  """The same F in three ways."""
  schemes = 'approxifer', 'parm-addition'
  ways = {'function': ((apply, VARIABLES), schemes, {}), 'black box': ((lcode.BlackBox(host),), schemes, {}),
          'recorded': ((None,), (*schemes, 'replication'), {'outputs': OUTPUTS})}
  return {way: by_row(lcode.compare(*arguments, schemes=named, multiply_adds=12 * 32 + 32 * 4, **ARRAYS, **FEW, **more))
          for way, (arguments, named, more) in ways.items()}


def test_what_is_left_out_is_what_f_lacks(compared, capsys):
  assert {way: len(rows) for way, rows in compared.items()} == {'function': 2, 'black box': 2, 'recorded': 2}
  assert {scheme for scheme, _, _ in compared['recorded']} == {'parm-addition', 'replication'}
  with pytest.raises(InputError, match='leave no row'):
    lcode.compare(lcode.BlackBox(host), schemes=('learned-mlp',), **ARRAYS, **FEW)
  assert 'a black box has no gradient' in ' '.join(capsys.readouterr().err.split())


def test_the_same_f_has_the_same_rows_however_it_is_given(compared):
  for way in ('black box', 'recorded'):
    for name in compared[way].keys() & compared['function'].keys():
      row, same = compared[way][name], compared['function'][name]
      for figure in ('degraded_accuracy', 'available_accuracy', 'test_loss', 'worker_work', 'wire_out'):
        assert row[figure] == pytest.approx(same[figure], rel=0.01, abs=1e-6), (way, name, figure)
  row = compared['recorded']['replication', 2, 1]
  right = (OUTPUTS['test'].argmax(-1) == LABELS[240:]).mean()
  assert row['degraded_accuracy'] == row['available_accuracy'] == pytest.approx(right) and right < 1
  assert row['worker_work'] == 1 and compared['black box']['approxifer', 2, 1]['worker_work'] == 0.5


def test_costs_that_are_not_known_are_left_out():
  rows = by_row(lcode.compare(None, outputs=OUTPUTS, schemes=('replication', 'bundle'), **ARRAYS, **FEW))
  assert rows['bundle', 2, 1]['worker_work'] is None and rows['bundle', 2, 1]['sized_by'] == 'assumed'
  text = tables.tables(lcode.runs.report.mean_over_seeds(list(rows.values())))
  assert '| bundle | - + - |' in text and '| replication | - + 1.00 |' in text


def test_backups_are_named_by_their_size_where_that_of_f_is_not_known():
  for arguments, name in (({'apply': None, 'outputs': OUTPUTS}, f'backup-{(12 * 200 + 200 * 100 + 100 * 4) // 2}'),
                          ({'apply': apply, 'variables': VARIABLES}, 'backup-0.5')):
    over = over_own(make_own(**arguments, **ARRAYS))
    made, = Comparison('own', 'own', ('backup',), (2,), (1,), backup_work=(0.5,)).rows(over)
    assert made[0] == name and made[3].multiply_adds == int(0.5 * over.multiply_adds)


def test_without_labels_rows_are_judged_by_agreement_or_error():
  bare = {split: queries for split, (queries, _) in ARRAYS.items()}
  row, = lcode.compare(apply, VARIABLES, schemes=('bundle',), **bare, **FEW)
  assert row['judged_by'] == 'reconstruction_accuracy'
  assert row['reconstruction_accuracy'] == row['degraded_accuracy'] and row['available_accuracy'] == 1
  row, = lcode.compare(apply, VARIABLES, schemes=('default',), loss='mse_base', **bare, **FEW | {'epochs': 60})
  outputs = OUTPUTS['test']
  error = np.sqrt(np.square(outputs - OUTPUTS['train'].mean(0)).sum() / np.square(outputs).sum())
  assert row['judged_by'] == 'relative_error' and row['relative_error'] == pytest.approx(error, rel=0.05)


def test_a_workdir_has_records_table_and_pictures_and_nothing_is_done_twice(tmp_path, monkeypatch):
  what = {'schemes': ('approxifer',), 'workdir': tmp_path, **ARRAYS, **FEW}
  made = lcode.compare(lcode.BlackBox(host), **what)
  stored = [json.loads(line) for line in (tmp_path / 'records.jsonl').read_text().splitlines()]
  assert [record for record in stored if record['kind'] == 'comparison'] == made and len(made) == 1
  assert (tmp_path / 'table.md').read_text().startswith('Students and backups are sized by the time that F takes')
  for name in ('accuracy-against-k', 'overall-accuracy'):
    assert (tmp_path / f'{name}.png').read_bytes().startswith(b'\x89PNG')
  with monkeypatch.context() as patch:
    patch.setattr(own_rows, 'fit_row', lambda *_: pytest.fail('trained again'))
    assert lcode.compare(lcode.BlackBox(host), **what) == made
  with pytest.raises(InputError, match='own.json|holds a training with answers'):
    lcode.compare(lcode.BlackBox(lambda x: -host(x)), **what)


def test_a_row_of_a_training_time_can_be_trained_again_exactly(tmp_path):
  what = {'schemes': ('bundle',), **ARRAYS, 'options': QUICK}
  row, = lcode.compare(apply, VARIABLES, seconds_a_row=0.3, workdir=tmp_path, **what)
  assert row['seconds_a_row'] == 0.3 and row['planned_seconds'] <= 0.3 or row['config']['epochs'] == 1
  assert row['steps'] == row['config']['epochs'] * 2  # of 100 groups, 64 a step: the schedule was completed
  again, = lcode.compare(apply, VARIABLES, epochs=row['config']['epochs'], **what)
  assert again['test_loss'] == row['test_loss']
  assert 'as many as 0.3 s hold' in (tmp_path / 'table.md').read_text()


class Module(nn.Module):
  """A user's own network, of no kind that lcode knows."""

  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(4)(jnp.tanh(nn.Dense(32, use_bias=False)(x)))


def test_parity_models_start_from_f_where_it_has_a_module():
  module = Module()
  variables = module.init(jax.random.key(1), X[:1])
  mine = make_own(lambda v, x: module.apply(v, x), variables, module=module, **ARRAYS)
  over = over_own(mine)
  configs = {name: over.config_of(name, 2, 1, 'own', 'own', 0, None, 100, None, None)
             for name in ('parm-addition', 'bundle', 'backup')}
  assert configs['parm-addition'].parity_model == 'from_base'
  params, _ = scheme_of(mine, configs['parm-addition']).init(jax.random.key(0), X[:2], 4, variables)
  jax.tree.map(np.testing.assert_array_equal, params['parity_model']['0'], variables['params'])
  for name in ('bundle', 'backup'):  # networks of their own, of at most what they may take
    scheme, queries = scheme_of(mine, configs[name]), X[:configs[name].k]
    params, _ = jax.eval_shape(lambda key: scheme.init(key, queries, 4, variables), jax.random.key(0))
    kernels = [leaf for leaf in jax.tree.leaves(params['parity_model']['0']) if leaf.ndim == 2]
    assert 0 < sum(kernel.size for kernel in kernels) <= {'bundle': mine.multiply_adds / 2, 'backup': 100}[name]


@pytest.mark.parametrize('changes, words', [
    ({'apply': None}, "apply=None needs the answers"), ({'apply': 'model.onnx'}, 'apply is a str'),
    ({'outputs': {'train': OUTPUTS['train']}, 'apply': None}, 'apply=None needs the answers'),
    ({'outputs': OUTPUTS | {'test': OUTPUTS['train']}, 'apply': None}, r"outputs\['test'\] is float32\[200, 4\] for"),
    ({'test': X[:, :5]}, r'test queries are of shape \[5\]'), ({'test': (X[240:], LABELS)}, '320 labels for 80'),
    ({'test': (X[240:], LABELS[240:] + 1)}, 'labels lie in'), ({'train': 3}, 'train is a int'),
    ({'module': MLP(4)}, 'module= is F'), ({'module': 3}, 'module is a int'), ({'ks': (0,)}, 'ks=0 is not allowed'),
    ({'schemes': ('nonsense',)}, 'is no scheme'), ({'seconds_a_row': 0}, 'seconds_a_row=0 is not allowed'),
    ({'seconds_a_row': 3.0, 'epochs': 2}, 'give one of the two'), ({'options': 3}, 'options is a int'),
    ({'apply': lcode.BlackBox(lambda x: np.full((len(x), 4), np.nan))}, 'are not finite'),
    ({'workdir': ' '}, 'names no directory')])
def test_what_cannot_be_compared_is_a_sentence(changes, words):
  with pytest.raises(InputError, match=words):
    lcode.compare(**{'apply': apply, 'variables': VARIABLES, 'schemes': ('bundle',), **ARRAYS} | changes)


def test_a_function_by_name(monkeypatch):
  monkeypatch.setattr(own, 'FUNCTIONS', {})
  lcode.register_function('mine', lambda data_dir: {'apply': apply, 'variables': VARIABLES, **ARRAYS})
  mine = load_own('mine')
  assert mine.name == 'mine' and mine.judged_by == 'degraded_accuracy' and mine.sized_by == 'counted'
  lcode.register_function('half', lambda data_dir: {'apply': apply, **ARRAYS, 'queries': X})
  lcode.register_function('none', lambda data_dir: apply)
  for name, words in (('half', "unknown argument of a function 'queries'"), ('none', 'was loaded as a function'),
                      ('other', "unknown function 'other'")):
    with pytest.raises(InputError, match=words):
      load_own(name)
  with pytest.raises(InputError, match='is no function'):
    lcode.register_function('x', 3)


def test_a_compared_code_is_loaded_with_its_model_and_without_data(tmp_path):
  row, = lcode.compare(apply, VARIABLES, schemes=('bundle',), workdir=tmp_path, **ARRAYS, **FEW)
  trained = lcode.load(row['code_dir'], apply, VARIABLES)
  again = lcode.evaluate(trained.scheme, trained.params, trained.model_state, VARIABLES,
                         lcode.data.Arrays(*ARRAYS['test']))
  assert again['degraded_accuracy'] == row['degraded_accuracy'] == trained.record['degraded_accuracy']
  groups = ARRAYS['test'][0].reshape(-1, 2, 12)
  replies = trained.codec.infer(VARIABLES, trained.codec.encode(groups))
  units = lcode.stack_units(jax.vmap(apply, (None, 0))(VARIABLES, groups), replies, axis=1)
  rebuilt = trained.codec.decode(units, np.array([False, True, True]))
  np.testing.assert_array_equal(np.asarray(rebuilt)[:, 0], np.asarray(replies)[:, 0, 0])  # all answers
  others = jax.tree.map(lambda x: 2 * x, VARIABLES)
  for arguments, words in (((), 'give apply='), ((apply, others), 'other variables'),
                           ((apply, VARIABLES, MLP(4)), 'other module'), ((3, VARIABLES), 'apply is a int')):
    with pytest.raises(InputError, match=words):
      lcode.load(row['code_dir'], *arguments)
  with pytest.raises(InputError, match='holds no code'):
    lcode.load(tmp_path, apply, VARIABLES)


def test_a_compared_code_is_served_by_workers_that_get_it_by_pickle(tmp_path):
  os.environ.setdefault(cluster.LOOPBACK_ONLY, '0')  # before Ray is imported, for the tests that start it
  cloudpickle = pytest.importorskip('ray.cloudpickle')
  row, = lcode.compare(apply, VARIABLES, schemes=('bundle',), workdir=tmp_path, **ARRAYS, **FEW)
  trained = lcode.load(row['code_dir'], apply, VARIABLES)
  served = of_trained(trained)
  answerers = cloudpickle.loads(cloudpickle.dumps(served.load))(0)
  groups = ARRAYS['test'][0].reshape(-1, 2, 12)[:3]
  np.testing.assert_allclose(answerers.base(groups[:, 0]), host(groups[:, 0]), rtol=1e-5)
  replies = answerers.reply(trained.codec.encode(groups)[:, 0], 0)
  np.testing.assert_allclose(replies, trained.codec.infer(VARIABLES, trained.codec.encode(groups))[:, 0], rtol=1e-5)
  assert served.query_shape == (12,) and served.bundled
