"""What Prometheus reads of a service."""

from collections.abc import Callable

import prometheus_client as prometheus

from lcode.serving.observer import Observer

LATENCY_S = 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5
CODING_S = 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.1


class Metrics(Observer):
  """Counts what happens; `text` is what `/metrics` answers."""

  def __init__(self):
    self.registry = registry = prometheus.CollectorRegistry()
    self.latency = prometheus.Histogram('lcode_latency_seconds', 'From arrival to answer, by how it was answered.',
                                        ['how'], buckets=LATENCY_S, registry=registry)
    self.coding = prometheus.Histogram('lcode_coding_seconds', 'Encoding and decoding of a group.', ['what'],
                                       buckets=CODING_S, registry=registry)
    self.fill = prometheus.Histogram('lcode_group_fill_seconds', 'From arrival until the query\'s group was closed.',
                                     buckets=LATENCY_S, registry=registry)
    counters = {name: prometheus.Counter(f'lcode_{name}', text, registry=registry) for name, text in [
        ('refused', 'Queries that were not accepted.'), ('worker_deaths', 'Workers whose process is gone.'),
        ('wrong_answers', 'Answers of a wrong shape, or not finite.')]}
    self.refusals, self.deaths, self.wrongs = counters.values()
    self.workers = prometheus.Gauge('lcode_workers', 'Workers that are ready.', registry=registry)

  def watch(self, waiting: Callable[[], int], open_queries: Callable[[], int]) -> None:
    """Reads these whenever it is asked: units in queues, and queries without an answer yet."""
    for name, text, function in [('lcode_queued_units', 'Units that wait for a worker.', waiting),
                                 ('lcode_open_queries', 'Queries without an answer yet.', open_queries)]:
      prometheus.Gauge(name, text, registry=self.registry).set_function(function)

  def answered(self, how, ms):
    self.latency.labels(how).observe(ms / 1000)

  def refused(self):
    self.refusals.inc()

  def died(self):
    self.deaths.inc()
    self.workers.dec()

  def joined(self):
    self.workers.inc()

  def wrong(self):
    self.wrongs.inc()

  def filled(self, waits):
    for wait in waits:
      self.fill.observe(wait / 1000)

  def coded(self, what, seconds):
    self.coding.labels(what).observe(seconds)

  def text(self) -> tuple[bytes, str]:
    """What Prometheus takes, and its content type."""
    return prometheus.generate_latest(self.registry), prometheus.CONTENT_TYPE_LATEST
