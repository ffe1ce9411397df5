"""HTTP in front of a service: both formats, errors with their status, health, and what Prometheus reads."""

import asyncio
import io
import pickle
import time

import httpx
import numpy as np

from lcode.serving.http import make_app
from lcode.serving.metrics import Metrics
from lcode.serving.service import Service
from tests.serving.local import D, linear, LocalCluster, served

NPY = {'content-type': 'application/x-npy'}
X = np.random.default_rng(3).normal(size=D).astype('f4')


def talk(requests, does=lambda worker, call: 0.001, **fields):
  """The responses to requests, (method, path, what httpx takes)."""
  async def run():
    metrics, model = Metrics(), served()
    service = Service(model, model.options(**fields), cluster=LocalCluster(does), observer=metrics)
    async with service:
      transport = httpx.ASGITransport(make_app(service, metrics))
      async with httpx.AsyncClient(transport=transport, base_url='http://service') as client:
        return [await client.request(method, path, **how) for method, path, how in requests]
  return asyncio.run(run())


def npy(array):
  content = io.BytesIO()
  np.save(content, array)
  return content.getvalue()


def test_json_and_npy_get_the_same_answer():
  as_json, as_npy = talk([('POST', '/predict', {'json': {'query': X.tolist()}}),
                          ('POST', '/predict', {'content': npy(X), 'headers': NPY})])
  assert as_json.status_code == as_npy.status_code == 200
  np.testing.assert_allclose(as_json.json()['answer'], linear(X), 1e-5)
  np.testing.assert_allclose(np.load(io.BytesIO(as_npy.content)), linear(X), 1e-5)
  assert as_json.json()['how'] in ('exact', 'reconstructed') and as_json.json()['ms'] > 0
  assert as_json.json()['code'] == [2, 1]
  assert as_npy.headers['x-how'] in ('exact', 'reconstructed') and float(as_npy.headers['x-ms']) > 0


def test_what_is_no_query_is_told_so():
  bad = [{'content': b'{'}, {'json': {'x': 1}}, {'json': [1]}, {'json': {'query': 'abc'}}, {'json': {'query': [1.0]}},
         {'content': b'{"query": [1, 2, 3, NaN, 5, 6]}'}, {'content': b'', 'headers': NPY},
         {'content': npy(X.astype('f8')), 'headers': NPY}, {'content': npy(X)[:-4], 'headers': NPY},
         {'content': pickle.dumps(X), 'headers': NPY}, {'content': npy(np.array([X, None], object)), 'headers': NPY},
         {'json': {'query': X.tolist()}, 'headers': {'x-deadline-ms': '-1'}},
         {'json': {'query': X.tolist()}, 'headers': {'x-deadline-ms': 'soon'}}]
  responses = talk([('POST', '/predict', how) for how in bad])
  assert [response.status_code for response in responses] == [400] * len(bad)
  assert all(set(response.json()) == {'error'} for response in responses)


def test_a_request_that_is_too_large_is_cut_off():
  large, = talk([('POST', '/predict', {'content': b' ' * 10**6})])
  assert large.status_code == 413 and 'bytes' in large.json()['error']


def test_no_answer_is_504_and_no_place_503():
  silent = lambda worker, call: None if call > 1 else 0.0  # noqa: E731
  query = {'json': {'query': X.tolist()}}
  late, = talk([('POST', '/predict', query)], silent, deadline=20.0)
  assert late.status_code == 504 and 'deadline' in late.json()['error']
  began = time.monotonic()
  gone, = talk([('POST', '/predict', query | {'headers': {'x-deadline-ms': '5'}})], silent, deadline=10_000.0)
  assert gone.status_code == 504 and 'deadline' in gone.json()['error'] and time.monotonic() - began < 5


def test_health_and_metrics():
  health, ready, _, _, _, metrics = talk([
      ('GET', '/healthz', {}), ('GET', '/readyz', {}), ('POST', '/predict', {'json': {'query': X.tolist()}}),
      ('POST', '/predict', {'json': {'query': X.tolist()}}), ('POST', '/predict', {'content': b'{'}),
      ('GET', '/metrics', {})])
  assert health.status_code == ready.status_code == 200 and ready.json() == {'ready': True}
  lines = dict(line.rsplit(' ', 1) for line in metrics.text.splitlines() if not line.startswith('#'))
  answered = sum(float(value) for name, value in lines.items() if name.startswith('lcode_latency_seconds_count'))
  assert answered == 2 and float(lines['lcode_workers']) == 3
  # One after the other: the first waited for the second, which filled the group.
  assert float(lines['lcode_group_fill_seconds_count']) == 2
  assert float(lines['lcode_group_fill_seconds_bucket{le="0.0005"}']) >= 1
  assert 0.001 < float(lines['lcode_group_fill_seconds_sum']) < 0.1
  assert float(lines['lcode_refused_total']) == float(lines['lcode_worker_deaths_total']) == 0
  assert float(lines['lcode_queued_units']) == float(lines['lcode_open_queries']) == 0


def test_a_service_that_closes_is_not_ready():
  async def run():
    model = served()
    service = Service(model, cluster=LocalCluster())
    async with service:
      transport = httpx.ASGITransport(make_app(service))
      async with httpx.AsyncClient(transport=transport, base_url='http://service') as client:
        await service.drain()
        return [await client.get('/readyz'), await client.get('/healthz'),
                await client.post('/predict', json={'query': X.tolist()}), await client.get('/metrics')]
  ready, health, refused, metrics = asyncio.run(run())
  assert (ready.status_code, health.status_code, metrics.status_code) == (503, 200, 404)
  assert refused.status_code == 503 and refused.headers['retry-after'] == '1'
