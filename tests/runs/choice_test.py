"""Which code, by rows made by hand."""

import pytest

from lcode.errors import InputError
from lcode.runs.choice import Budgets, choose, loses


def row(scheme, by_missing, frontend, worker, wire=0.5, k=2, r=1, parts=('mosaic', 'tile_students'), **changes):
  return {'scheme': scheme, 'k': k, 'r': r, 'code': [k, r], 'by_missing': by_missing, 'available_accuracy': 0.95,
          'intact_accuracy': 0.95, 'passthrough': True, 'at_frontend': False, 'parts': parts, 'epochs': 3,
          'seconds_a_row': 10.0, 'planned_seconds': 9.0, 'split': 'validation', 'judged_by': 'degraded_accuracy',
          'frontend_time': frontend, 'worker_time': worker, 'frontend_work': frontend, 'worker_work': worker,
          'wire_out': wire, 'wire_back': 1.0} | changes


def backup(accuracy, work, **changes):
  return row(f'backup-{work}', [accuracy], work, 0.0, 0.0, parts=('replication', 'backup'), at_frontend=True,
             **{'code': [1, 1], 'parity_time': work} | changes)


MOSAIC = row('mosaic', [0.93], 0.2, 0.4)
COPY = row('replication', [0.95], 0.01, 1.0, 1.0, parts=('replication', 'base'), epochs=0)
SUMS = row('parm-addition', [0.90], 0.05, 0.5, parts=('addition', 'from_base'))
BACKUP = backup(0.91, 0.1)


@pytest.mark.parametrize('budgets, kind, scheme, words', [
    ({}, 'replication', 'replication', 'loses 0.00 with up to 1 missing'),
    ({'worker_time': 0.5}, 'code', 'mosaic', 'Next is backup-0.1, which loses 4.00'),
    ({'worker_time': 0.5, 'frontend_time': 0.1}, 'small network at the frontend', 'backup-0.1', 'loses 4.00'),
    ({'worker_time': 0.5, 'frontend_work': 0.06}, 'code', 'parm-addition', 'loses 5.00'),
    ({'wire_out': 0.1}, 'small network at the frontend', 'backup-0.1', 'bytes to the workers 0.000'),
    ({'worker_time': 0.5, 'drop': 2.0}, 'code', 'mosaic', 'loses 2.00'),
    ({'worker_time': 0.5, 'drop': 1.0}, 'none', None, 'loses least, 0.00, but time at the workers 1.000, 0.5 allowed'),
    ({'lost': 2}, 'small network at the frontend', 'backup-0.1', 'with up to 2 missing'),
    ({'lost': 2, 'drop': 3.0}, 'none', None, 'loses least, 0.00, but it bears 1 missing, not 2.')])
def test_of_rows_within_the_budgets_that_which_loses_least(budgets, kind, scheme, words):
  choice = choose([SUMS, MOSAIC, BACKUP, COPY], Budgets(**budgets))
  assert (choice.kind, choice.row and choice.row['scheme']) == (kind, scheme) and words in choice.why
  assert len(choice.verdicts) == 4 and (scheme is None) == bool(choice.verdicts[0].reasons)


def test_what_answers_query_by_query_stands_once_and_closeness_is_told():
  choice = choose([BACKUP, BACKUP | {'k': 4}, MOSAIC | {'intervals': [[0.91, 0.95]]}], Budgets())
  assert [verdict.row['scheme'] for verdict in choice.verdicts] == ['mosaic', 'backup-0.1']
  assert choice.verdicts[1].row is BACKUP and 'known to about 2.0 points: what loses little more' in choice.why


def test_why_a_row_will_not_do():
  rows = [row('a', [0.94], 0.5, 0.5, frontend_time=None), row('b', [0.94], 0.5, 0.5, planned_seconds=40.0),
          row('c', [0.94], 0.5, 0.5, 3.0), MOSAIC]
  choice = choose(rows, Budgets(frontend_time=1.0, wire_out=1.0))
  reasons = {verdict.row['scheme']: verdict.reasons for verdict in choice.verdicts}
  assert choice.row is MOSAIC and reasons == {
      'a': ('its time at the frontend is not known',),
      'b': ('an epoch of its training takes 40 s, and 10 s were given',),
      'c': ('bytes to the workers 3.000, 1 allowed',), 'mosaic': ()}


def test_what_a_row_loses_is_the_worst_that_it_has_to_bear():
  two = row('berrut', [0.60, 0.80], 0, 0, r=2)
  assert loses(two, 1) == loses(two, 2) == pytest.approx(35)
  assert loses(row('mosaic', [0.93, 0.80], 0, 0, r=2), 1) == pytest.approx(2)
  assert loses(row('approxifer', [0.93], 0, 0, passthrough=False, intact_accuracy=0.90), 1) == pytest.approx(5)
  assert loses(row('mosaic', [0.93], 0, 0, judged_by='reconstruction_accuracy'), 1) == pytest.approx(7)
  assert loses(row('mosaic', [0.1, 0.3], 0, 0, judged_by='relative_error'), 2) == pytest.approx(30)
  assert choose([MOSAIC], Budgets(lost=2)).verdicts[0].reasons == ('it bears 1 missing, not 2',)


def test_of_equals_the_one_that_takes_least_time():
  slow, quick, unknown = (row(name, [0.93], time, 0.1) for name, time in (('slow', 0.3), ('quick', 0.1), ('no', None)))
  assert [verdict.row['scheme'] for verdict in choose([slow, unknown, quick], Budgets()).verdicts] == [
      'quick', 'slow', 'no']


@pytest.mark.parametrize('accuracy, work, lost, instead', [
    (0.95, 0.5, 1, True), (0.96, 0.3, 2, True), (0.95, 0.6, 1, False), (0.95, 0.4, 2, False), (0.949, 0.1, 1, False)])
def test_a_small_network_as_accurate_as_f_stands_in_for_it_where_copies_cost_no_more(accuracy, work, lost, instead):
  choice = choose([backup(accuracy, work), COPY], Budgets(lost=lost, frontend_time=0.0))
  assert (choice.kind == 'small network instead of F') == instead
  if instead:
    assert f'{lost + 1} copies' in choice.why and choice.row['scheme'] == f'backup-{work}'


@pytest.mark.parametrize('make, words', [
    (lambda: Budgets(lost=0), 'lost=0'), (lambda: Budgets(drop=-1), 'drop=-1 is not allowed'),
    (lambda: Budgets(wire_out=float('nan')), 'wire_out=nan'), (lambda: choose([], Budgets()), 'no rows to choose from'),
    (lambda: choose([MOSAIC], {}), 'budgets={} is not allowed'),
    (lambda: choose([MOSAIC, MOSAIC | {'split': 'test'}], Budgets()), 'not of one split')])
def test_what_cannot_be_chosen_from_is_a_sentence(make, words):
  with pytest.raises(InputError, match=words):
    make()
