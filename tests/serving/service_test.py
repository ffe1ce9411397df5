"""A service on workers of this process: every accepted query gets one answer, the right one, whatever workers do."""

import asyncio
import collections
import datetime
import gc
import io
import json
import logging
import random
import time

import jax
import numpy as np
import pytest

import lcode
from lcode.coding import coders
from lcode.coding.code import Code
from lcode.errors import InputError
from lcode.serving.answered import NoAnswer, Refused
from lcode.serving.logs import as_json
from lcode.serving.observer import Observer
from lcode.serving.options import make_options
from lcode.serving.served import Answerers, Served
from lcode.serving.service import Service
from tests.serving.local import C, D, linear, LocalCluster, served, SlowNetwork, W

WORKERS = 'num_workers', 'num_parity_workers', 'default', 'replace', 'batch_sizes'


class Counter(Observer):
  def __init__(self):
    self.told = collections.Counter()

  def answered(self, how, ms):
    self.told[how] += 1

  def wrong(self):
    self.told['wrong'] += 1

  def died(self):
    self.told['died'] += 1


def ask(cluster, queries, model=None, every=0.0, then=None, **fields):
  """What came of each query, (how, its answer) or the exception; and the service, closed."""
  workers = {name: fields.pop(name) for name in WORKERS if name in fields}
  model = model or served()
  policy = fields.pop('policy', 'coded')
  service = Service(model, model.options(policy, **fields), cluster=cluster, observer=Counter(), **workers)

  async def one(x):
    try:
      answered = await service.predict(x)
      return answered.how, answered.answer
    except (Refused, NoAnswer, InputError) as error:
      return error

  async def all_of_them():
    async with service:
      tasks = []
      for x in queries:
        tasks.append(asyncio.ensure_future(one(x)))
        await asyncio.sleep(every)
      outcomes = await asyncio.gather(*tasks)
      if then:
        await then(service)
      return outcomes
  return asyncio.run(all_of_them()), service


def queries_of(count, seed=1):
  return np.random.default_rng(seed).normal(size=(count, D)).astype('f4')


def right(outcomes, queries):
  for outcome, x in zip(outcomes, queries):
    assert not isinstance(outcome, Exception), outcome
    np.testing.assert_allclose(outcome[1], linear(x), 1e-4, 1e-4)
  return collections.Counter(how for how, _ in outcomes)


def left_clean(service):
  assert not service.futures and not service.arrays.open and not service.arrays.waiting and not service.calls


def test_answers_are_f_s_own_where_nothing_goes_wrong():
  queries = queries_of(20)
  outcomes, service = ask(LocalCluster(), queries, num_workers=3)
  right(outcomes, queries)
  left_clean(service)


def test_what_a_slow_worker_has_is_reconstructed():
  """Worker 0 never answers: half of the queries are its, and nobody waits for it."""
  queries = queries_of(2)
  outcomes, service = ask(LocalCluster(lambda worker, call: None if worker == 0 and call > 1 else 0.001), queries)
  assert right(outcomes, queries) == {'exact': 1, 'reconstructed': 1}
  assert service.cluster.cancelled == 1  # the slow worker is told that nobody waits


def test_a_group_that_does_not_fill_is_coded_short():
  queries = queries_of(1)
  outcomes, _ = ask(LocalCluster(lambda worker, call: None if worker == 0 and call > 1 else 0.001), queries,
                    group_wait=20.0)
  assert right(outcomes, queries) == {'reconstructed': 1}


@pytest.mark.parametrize('what', ['fail', 'nan', 'shape', 'die'])
def test_a_worker_that_answers_badly_harms_nobody(what):
  queries = queries_of(30)
  outcomes, service = ask(LocalCluster(lambda worker, call: what if worker == 0 and call > 1 else 0.001), queries,
                          every=0.002, retries=3)
  right(outcomes, queries)
  assert service.observer.told['wrong' if what in ('nan', 'shape') else 'died' if what == 'die' else 'exact']
  left_clean(service)


def test_a_log_is_lines_of_json_for_those_who_collect_them():
  logger, stream = logging.getLogger('lcode'), io.StringIO()
  handler = logging.StreamHandler(stream)
  logger.addHandler(handler)
  level = logger.level
  try:
    as_json(logger)
    ask(LocalCluster(lambda worker, call: 'die' if worker == 0 and call == 2 else 'fail' if call == 4 else 0.001),
        queries_of(6), every=0.01, retries=3)
  finally:
    logger.removeHandler(handler)
    logger.setLevel(level)
  lines = [json.loads(line) for line in stream.getvalue().splitlines()]
  assert {line['event'] for line in lines} == {'worker_died', 'call_failed'}
  died = next(line for line in lines if line['event'] == 'worker_died')
  assert (died['worker'], died['role'], died['level']) == (0, 'base', 'warning') and 'worker 0 died' in died['message']
  assert abs(datetime.datetime.fromisoformat(died['time']).timestamp() - time.time()) < 60


def test_wrong_numbers_are_located_by_a_code_that_can():
  """Of six coded queries worker 0 answers one, 100 too much: its group is decoded as if that one were missing."""
  code = Code(2, 4)
  scheme = lcode.make_scheme(code, lambda variables, x: x @ W, coders.ENCODERS['approxifer'](code),
                             coders.DECODERS['approxifer'](code, num_byzantine=1))
  params, _ = scheme.init(jax.random.key(0), np.zeros((2, D), 'f4'), C)
  codec = lcode.make_codec(scheme, params)
  model = Served(lambda worker: Answerers(linear, lambda x, j: linear(x)), (D,), code,
                 lambda x: np.asarray(codec.encode(x)), lambda *units: np.asarray(codec.decode(*units)),
                 systematic=False, passthrough=False, need=6)
  queries = queries_of(8)
  outcomes, service = ask(LocalCluster(lambda worker, call: 'off' if worker == 0 and call > 1 else 0.001), queries,
                          model, num_workers=6, every=0.03)
  plain = lcode.make_scheme(code, lambda variables, x: x @ W, 'approxifer', 'approxifer')
  for i in range(0, 8, 2):
    answers = np.stack([answer for _, answer in outcomes[i:i + 2]])
    units = linear(np.asarray(codec.encode(queries[i:i + 2][None])))
    wanted = [np.asarray(plain.decode(params, units[0], np.arange(6) != j)) for j in range(6)]
    assert min(np.abs(answers - right_one).max() for right_one in wanted) < 1e-3
  left_clean(service)


def test_dead_workers_are_replaced():
  queries = queries_of(12)
  outcomes, service = ask(LocalCluster(lambda worker, call: 'die' if call in (3, 6, 9) else 0.001), queries, every=0.01)
  right(outcomes, queries)
  assert service.observer.told['died'] == 3 and service.cluster.started == 3 + 3


@pytest.mark.parametrize('seed', range(6))
def test_every_query_gets_one_answer_in_a_storm(seed):
  """Slow, failing, dying, lying and silent workers at random; answers that come are right, and come once."""
  rng = random.Random(seed)
  kinds = [0.0, 0.001, 0.004, 0.02, 'fail', 'nan', 'shape', 'die', None]
  weights = [8, 8, 4, 2, 1, 1, 1, 0.5, 0.5]
  queries = queries_of(150, seed)
  k = rng.choice([2, 3])
  outcomes, service = ask(
      LocalCluster(lambda worker, call: rng.choices(kinds, weights)[0] if call > 1 else 0.0), queries, served(k),
      every=0.001, num_workers=4, num_parity_workers=2, deadline=300.0, group_wait=10.0, call_timeout=60.0, retries=2,
      batch_size=rng.choice([1, 3]), batch_sizes=(1, 3), then=lambda service: asyncio.sleep(0.05),
      queues=rng.choice(['single', 'round_robin', 'shortest']))
  good = [(outcome, x) for outcome, x in zip(outcomes, queries) if not isinstance(outcome, Exception)]
  right([outcome for outcome, _ in good], [x for _, x in good])
  assert len(good) > 100 and all(isinstance(outcome, (tuple, NoAnswer)) for outcome in outcomes)
  told = service.observer.told
  assert sum(told[how] for how in ('exact', 'reconstructed', 'late', 'failed')) == len(queries)
  left_clean(service)


@pytest.mark.parametrize('policy', ['none', 'replication', 'hedged', 'tied', 'coded'])
def test_over_a_slow_network_every_query_gets_one_answer(policy):
  """Messages take up to three call timeouts: calls are given up and sent again, and both answers come; workers die."""
  rng, queries = random.Random(7), queries_of(120)
  network = SlowNetwork(LocalCluster(lambda worker, call: 'die' if call % 40 == 39 else 0.001),
                        lambda: rng.choice([0.0, 0.002, 0.01, 0.03]))
  outcomes, service = ask(network, queries, policy=policy, every=0.002, num_workers=4, num_parity_workers=2, retries=9,
                          call_timeout=20.0, deadline=20_000.0, then=lambda service: asyncio.sleep(0.15))
  right(outcomes, queries)
  told = service.observer.told
  assert told['exact'] + told['reconstructed'] == len(queries) and not told['late'] and not told['failed']
  assert network.calls > len(queries) + 2 and told['died'] >= 2  # calls were repeated
  left_clean(service)


def test_without_anybody_left_there_is_an_error_or_the_default():
  queries = queries_of(4)
  outcomes, _ = ask(LocalCluster(lambda worker, call: 'die' if call > 1 else 0.0), queries, replace=False, retries=0)
  assert all(isinstance(outcome, NoAnswer) and outcome.how == 'failed' for outcome in outcomes)
  outcomes, _ = ask(LocalCluster(lambda worker, call: None if call > 1 else 0.0), queries, deadline=30.0,
                    default=np.ones(C, 'f4'))
  assert [how for how, _ in outcomes] == ['late'] * 4 and all((answer == 1).all() for _, answer in outcomes)


def test_too_many_queries_are_refused_at_once():
  queries = queries_of(50)
  outcomes, service = ask(LocalCluster(lambda worker, call: 0.05 if call > 1 else 0.0), queries, max_queued=5,
                          max_outstanding=1, num_workers=1)
  refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
  assert len(refused) >= 30
  right([o for o in outcomes if not isinstance(o, Exception)],
        [x for o, x in zip(outcomes, queries) if not isinstance(o, Exception)])
  left_clean(service)


def test_a_bad_query_is_refused_alone():
  queries = list(queries_of(4)) + [np.ones(D), np.ones(D + 1, 'f4'), np.full(D, np.nan, 'f4'), [1.0] * D, 'query']
  outcomes, _ = ask(LocalCluster(), queries)
  right(outcomes[:4], queries[:4])
  assert all(isinstance(outcome, InputError) for outcome in outcomes[4:])


def test_a_client_that_goes_away_harms_nobody():
  queries = queries_of(10)

  async def leave(service):
    leaving = [asyncio.ensure_future(service.predict(x)) for x in queries]
    await asyncio.sleep(0)
    for task in leaving:
      task.cancel()
    answered = await asyncio.gather(*(service.predict(x) for x in queries))
    right([(a.how, a.answer) for a in answered], queries)
  _, service = ask(LocalCluster(lambda worker, call: 0.002), [], then=leave)
  left_clean(service)


def test_a_query_has_a_deadline_of_its_own():
  """Nobody answers: two are late at their own time, the third at the policy's."""
  queries, came = queries_of(3), {}

  async def hurry(service):
    async def one(i, deadline):
      began = asyncio.get_running_loop().time()
      with pytest.raises(NoAnswer, match='deadline'):
        await service.predict(queries[i], deadline)
      came[i] = 1000 * (asyncio.get_running_loop().time() - began)
    await asyncio.gather(one(0, 60.0), one(1, 20.0), one(2, np.inf))
    for deadline in (0, -1.0, np.nan, 'soon'):
      with pytest.raises(InputError, match='deadline'):
        await service.predict(queries[0], deadline)
  _, service = ask(LocalCluster(lambda worker, call: None if call > 1 else 0.0), [], then=hurry, deadline=150.0)
  assert 20 <= came[1] < came[0] < came[2] and 60 <= came[0] and 150 <= came[2]
  assert service.observer.told['late'] == 3
  left_clean(service)


def test_what_needs_no_coding_is_sent_before_it():
  """The query that fills a group is on its way when the group is encoded."""
  cluster, sent = LocalCluster(lambda worker, call: 0.02 if call > 1 else 0.0), []
  model = served(encode=lambda x: sent.append(cluster.calls) or x.sum(1, keepdims=True))
  ask(cluster, queries_of(2), model)
  assert sent[-1] == 1 + 2  # one at the start


def test_rows_of_a_decoded_group_are_its_queries_in_their_order_whichever_was_sent_first():
  """Worker 0 keeps its first call: of the second group the first query waits in its queue while the others are sent."""
  queries = queries_of(6)
  outcomes, _ = ask(LocalCluster(lambda worker, call: None if worker == 0 and call > 1 else 0.001), queries, served(3),
                    num_workers=3, queues='round_robin', max_outstanding=1, every=0.01, cancel=False)
  assert right(outcomes, queries) == {'exact': 4, 'reconstructed': 2}


@pytest.mark.parametrize('policy', ['none', 'equal', 'replication', 'hedged', 'tied'])
def test_policies_without_a_code(policy):
  queries = queries_of(20)
  outcomes, service = ask(LocalCluster(lambda worker, call: 0.002), queries, policy=policy, every=0.001,
                          num_parity_workers=0 if policy == 'none' else 1)
  assert set(right(outcomes, queries)) == {'exact'}
  left_clean(service)


def test_a_backup_answers_what_is_late():
  model = Served(lambda worker: Answerers(linear, lambda x, j: linear(x) + 100), (D,))
  queries = queries_of(4)
  outcomes, _ = ask(LocalCluster(lambda worker, call: None if worker < 2 and call > 1 else 0.001), queries, model,
                    policy='backup', hold_quantile=None, hold=5.0)
  assert [how for how, _ in outcomes] == ['reconstructed'] * 4
  np.testing.assert_allclose([answer for _, answer in outcomes], linear(queries) + 100, 1e-4)


def test_a_bundle_s_one_reply_answers_all():
  """Both workers of F are silent: the reply of the parity's alone answers both queries."""
  model = served(load=lambda worker: Answerers(linear, lambda x, j: np.stack([linear(x[:, i]) for i in range(2)], 1)),
                 encode=lambda x: x[:, None], bundled=True,
                 decode=lambda units, available: np.where(available[None, :2, None], units[:, :2, 0], units[:, 2]))
  queries = queries_of(4)
  outcomes, _ = ask(LocalCluster(lambda worker, call: None if worker < 2 and call > 1 else 0.001), queries, model,
                    max_outstanding=3)
  assert right(outcomes, queries) == {'reconstructed': 4}


def test_what_does_not_go_together_is_refused():
  for arguments, message in [(dict(num_workers=0), 'num_workers'), (dict(num_parity_workers=0), 'num_parity_workers'),
                             (dict(batch_sizes=()), 'batch_sizes'), (dict(options=make_options('coded', k=3)), 'k=3'),
                             (dict(options=7), 'PolicyOptions'), (dict(observer=7), 'Observer')]:
    with pytest.raises(InputError, match=message):
      Service(served(), **arguments)
  with pytest.raises(InputError, match='no code'):
    Served(lambda worker: Answerers(linear), (D,)).options()
  with pytest.raises(InputError, match='encode and decode'):
    Served(lambda worker: Answerers(linear), (D,), Code(2, 1))


def test_queries_are_refused_before_and_after():
  async def late(service):
    await service.close()
    with pytest.raises(Refused, match='not open'):
      await service.predict(queries_of(1)[0])
  ask(LocalCluster(), [], then=late)


def test_what_was_there_is_out_of_garbage_collection_while_it_serves():
  async def held(service):
    async with Service(served(), cluster=LocalCluster()):
      pass
    assert gc.get_freeze_count() > 10_000  # all modules, of JAX alone more; another service's end changes nothing
  ask(LocalCluster(), [], then=held)
  assert gc.get_freeze_count() == 0
