"""experiments.serve and experiments.load as a user runs them: real processes, Ray and HTTP."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.serving.processes import alive, descendants

ROOT = Path(__file__).parents[2]
SHIPPED = 'checkpoints/digits-mlp-k2-r1'


def test_one_of_the_two_is_to_be_served():
  for flags in ([], ['--code_dir=a', '--export=b']):
    ran = subprocess.run([sys.executable, '-m', 'experiments.serve', *flags], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 1 and 'one of --code_dir and --export' in ran.stderr


@pytest.mark.long
def test_queries_over_http_until_ctrl_c():
  served = subprocess.Popen(
      [sys.executable, '-m', 'experiments.serve', f'--code_dir={SHIPPED}', '--port=0', '--log_json'], cwd=ROOT,
      stderr=subprocess.PIPE, text=True)
  try:
    line = next(line for line in served.stderr if 'serving on' in line)
    said = json.loads(line)
    address = f'http://{said["host"]}:{said["port"]}'
    assert said['event'] == 'serving' and said['host'] == '127.0.0.1'
    query = np.random.default_rng(0).normal(size=(8, 8, 1)).tolist()
    with httpx.Client(base_url=address, timeout=30) as client:
      assert client.get('/readyz').json() == {'ready': True}
      answer = client.post('/predict', json={'query': query}).json()
      assert len(answer['answer']) == 10 and answer['how'] in ('exact', 'reconstructed')
      assert 'lcode_latency_seconds_count' in client.get('/metrics').text
    served.send_signal(signal.SIGINT)
    assert served.wait(60) == 0
  finally:
    served.kill()


def _started(port):
  """A frontend, once it serves, and where."""
  frontend = subprocess.Popen([sys.executable, '-m', 'experiments.serve', f'--code_dir={SHIPPED}', f'--port={port}'],
                              cwd=ROOT, stderr=subprocess.PIPE, text=True)
  line = next(line for line in frontend.stderr if 'serving on' in line)
  threading.Thread(target=frontend.stderr.read, daemon=True).start()  # so that it never waits for a reader
  return frontend, re.search(r'http://127\.0\.0\.1:\d+', line)[0]


@pytest.mark.long
def test_a_frontend_that_is_killed_leaves_nothing_and_the_next_one_serves():
  """Clients that ask all the while get one answer or one error for each query; no process of the first is left."""
  frontend, address = _started(0)
  query, outcomes, over = np.random.default_rng(0).normal(size=(8, 8, 1)).tolist(), [], threading.Event()

  def ask():
    with httpx.Client(base_url=address, timeout=30) as client:
      while not over.is_set():
        try:
          outcomes.append(client.post('/predict', json={'query': query}).status_code)
        except httpx.TransportError as error:
          outcomes.append(type(error).__name__)
          time.sleep(0.05)
  clients = [threading.Thread(target=ask) for _ in range(4)]
  try:
    of_it = descendants(frontend.pid)
    assert len(of_it) >= 3 + 2  # workers, and Ray's own
    for client in clients:
      client.start()
    time.sleep(2)
    before = len(outcomes)
    frontend.kill()
    frontend.wait()
    frontend, _ = _started(address.rsplit(':', 1)[1])
    after, until = len(outcomes), time.monotonic() + 100
    time.sleep(2)
    while (left := [process for process in of_it if alive(process)]) and time.monotonic() < until:
      time.sleep(0.2)  # Ray's own processes of the first look for each other for a minute
    assert not left
  finally:
    over.set()
    for client in clients:
      client.join()
    frontend.kill()
  assert set(outcomes[:before]) == {200} and outcomes[-1] == 200 and outcomes[after:].count(200) > 20
  errors = [outcome for outcome in outcomes if outcome != 200]
  assert errors and all(isinstance(error, str) for error in errors)


@pytest.mark.long
def test_a_minute_of_kills_loses_nothing(tmp_path):
  """70 % of what four sleeping workers can do; one of all is killed every ten seconds."""
  ran = subprocess.run(
      [sys.executable, '-m', 'experiments.load', '--seconds=60', '--rate=40', '--service=deterministic',
       '--service_ms=70', '--num_workers=4', '--num_parity_workers=2', '--kill_every=10', '--deadline_ms=20000',
       f'--workdir={tmp_path}'], capture_output=True, text=True, cwd=ROOT, timeout=300)
  assert ran.returncode == 0, ran.stderr
  record = json.loads(ran.stdout.splitlines()[-1])
  assert record['sent'] == record['answered'] > 2000 and record['lost'] == record['doubled'] == 0
  assert record['worker_deaths'] >= 4 and record['late'] == record['failed'] == 0
  assert (tmp_path / 'records.jsonl').read_text().count('\n') == 1
