"""The first table and picture of docs/results: what is taken from which record, and labels that can be read."""

import itertools
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from experiments.studies import summary
from lcode.errors import InputError
from lcode.runs import plots

RESULTS = Path(__file__).parents[2] / 'docs' / 'results'


def row(scheme, degraded, k=2, seed=0, epochs=20, dataset='mnist', **config):
  return {'kind': 'comparison', 'base_model': 'mlp', 'dataset': dataset, 'scheme': scheme, 'k': k, 'r': 1, 'seed': seed,
          'degraded_accuracy': degraded, 'available_accuracy': 0.98,
          'config': {'recipe': 'a', 'epochs': epochs, 'loss': 'kl_base', 'form': '', **config}}


def benchmark(scheme, k=2, form='', multiply_adds=None, out=0.5, back=1.0, work=(0.1, 0.35), parity=0.3):
  fastest = {'base_k_inferences': 1.0, 'encode': 0.15, 'parity_inference': parity, 'decode': 0.05,
             'base_inference': 0.5}
  times = {name: {'relative': 9.0, 'fastest': value} for name, value in fastest.items()}
  return {'kind': 'benchmark', 'base_model': 'mlp', 'scheme': scheme, 'k': k, 'r': 1, 'form': form,
          'multiply_adds': multiply_adds, 'dataset_shape': [7, 7, 2], 'frontend_work': work[0], 'worker_work': work[1],
          'wire_out': out, 'wire_back': back, 'times': {'groups': {'1': times, '64': times}},
          'work': {'base_k_inferences': {'flops': 2000.0 * k},
                   'parity_inference': {'relative': work[1] + (scheme == 'nercc')}}}


@pytest.fixture
def results(tmp_path):
  rows = [row('mosaic', 0.90), row('mosaic', 0.92, seed=1), row('mosaic', 0.80, dataset='fashion_mnist'),
          row('bundle', 0.5, form='cnn'), row('bundle', 0.7), row('backup-0.05', 0.6), row('backup-0.4', 0.65),
          row('learned-mlp', 0.4, epochs=12), row('learned-mlp', 0.6, epochs=40), row('learned-mlp', 0.5, epochs=40),
          row('nercc', 0.55), row('nercc', 0.9, 4), row('replication', 0.98),
          row('learned-conv', 0.3, dataset='fashion_mnist')]
  timed = [benchmark('mosaic'), benchmark('mosaic', parity=8.0), benchmark('mosaic', parity=0.1),
           benchmark('bundle', out=1.0),
           benchmark('backup', 1, multiply_adds=50, work=(0.05, 0), out=0),
           benchmark('backup', 1, multiply_adds=400, work=(0.4, 0), out=0), benchmark('learned-mlp', back=0.5),
           benchmark('nercc'), benchmark('replication', 1), benchmark('learned-conv')]
  lines = {name: [] for name in summary.FILES} | {'best.jsonl': rows, 'benchmark.jsonl': timed}
  for name, records in lines.items():
    (tmp_path / name).write_text(''.join(json.dumps(record) + '\n' for record in records))
  return tmp_path


def test_means_over_seeds_the_best_recipe_and_todays_forms(results):
  made = {(point.name, point.k): point for point in summary.points(results)}
  assert made['mosaic', 2].degraded == pytest.approx({'mnist': 91.0, 'fashion_mnist': 80.0})
  assert made['mosaic', 2].drop('mnist') == pytest.approx(7.0)
  assert made['mosaic', 2].bytes == pytest.approx((98 * 0.5 + 10 * 1.0) / 108)
  assert made['bundle', 2].degraded == {'mnist': 70.0}  # 50 is of small CNNs, which were not timed
  assert made['learned-mlp', 2].degraded == {'mnist': 60.0}
  assert made['backup-0.05', 8].degraded == {'mnist': 60.0} and ('nercc', 4) not in made


def test_the_table_names_the_rivals(results):
  lines = summary.table([point for point in summary.points(results) if point.k == 2], (2,)).splitlines()[2:]
  names = [line.split(' | ')[1] for line in lines]
  assert names == ['mosaic', 'bundle', 'learned, MLP (published)', 'learned, conv (published)', 'backup, 40 % of F',
                   'replication']
  assert lines[0] == '| 2 | mosaic | 91.00 (7.00) | 80.00 (18.00) | 0.20 + 0.30 | 0.100 + 0.35 | 0.5 / 1 |'


def test_times_are_medians_of_the_fastest_calls(results):
  made = {point.name: point for point in summary.points(results) if point.k == 2}
  assert made['mosaic'].time == pytest.approx((0.15 + 0.05, 0.3))
  assert made['backup-0.05'].time == pytest.approx((0.15 + 0.05 + 0.3, 0))  # all of it at the frontend
  assert made['nercc'].time == pytest.approx((0.2, 0))  # of n inferences k are F's own
  assert '| mosaic | 0.20 + 0.30 |  |  | 0.20 + 0.30 |  |  | 0.60 |' in summary.costs(results)


def test_records_that_are_missing_are_a_sentence(tmp_path):
  with pytest.raises(InputError, match='best.jsonl is not there'):
    summary.points(tmp_path)


def test_labels_overlap_neither_labels_nor_points():
  figure, axis = plt.subplots(figsize=(6, 6))
  points = [plots.Sized(1 + 0.01 * i, 1 + 0.02 * i, i % 3 / 2, f'label {i}', 'a') for i in range(8)]
  axis.set_xlim(0.5, 2)
  axis.set_ylim(0.5, 2)
  labels = plots.place_labels(axis, points)
  figure.draw_without_rendering()
  boxes = [plots.matplotlib.text.Text.get_window_extent(label) for label in labels]
  plt.close(figure)
  assert len(labels) == 8 and not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
  for point in points:
    x, y = axis.transData.transform((point.x, point.y))
    assert not any(box.contains(x, y) for box in boxes)


def test_all_codes_of_the_records_are_drawn(tmp_path):
  made = summary.points(RESULTS)
  drawn = {point.name for point in made if point.k == 2}
  assert {'mosaic', 'bundle', 'learned-features', 'replication', 'backup-0.2', *summary.PUBLISHED} <= drawn
  path = summary.picture(made, tmp_path / 'summary.png')
  assert path.read_bytes()[:8] == b'\x89PNG\r\n\x1a\n' and path.stat().st_size > 20_000
