"""Which code, if any, by what it may cost and lose: a pure function of rows that were made on validation data."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import NamedTuple

from lcode.errors import InputError, whole

LONGER = 1.25  # of the training time that was asked for: a row of one longer epoch is not ranked beside the others
ROUNDING = 1e-6  # points
COSTS = {
    'frontend_time': 'time at the frontend', 'worker_time': 'time at the workers',
    'frontend_work': 'work at the frontend', 'worker_work': 'work at the workers',
    'wire_out': 'bytes to the workers', 'wire_back': 'bytes back'}


@dataclasses.dataclass(frozen=True)
class Budgets:
  """What a code may cost and lose; None for any amount.

  Attributes:
    lost: units of a group that may be missing at once, which it has to bear.
    drop: points of accuracy that it may lose, at the worst of 1 to `lost` units missing (of answers that are always
      approximations, also with none); without labels of agreement with F, or per cent of relative error.
    frontend_time, worker_time: extra time a query, relative to an inference by F.
    frontend_work, worker_work: extra multiply-adds, as well.
    wire_out, wire_back: extra bytes a query, of a query, and of an answer.

  Raises:
    InputError: if a number is negative, or `lost` no whole number of at least 1.
  """

  lost: int = 1
  drop: float | None = None
  frontend_time: float | None = None
  worker_time: float | None = None
  frontend_work: float | None = None
  worker_work: float | None = None
  wire_out: float | None = None
  wire_back: float | None = None

  def __post_init__(self):
    whole('lost', self.lost)
    for name in ('drop', *COSTS):
      value = getattr(self, name)
      if value is not None and (not isinstance(value, numbers.Real) or not 0 <= value < math.inf):
        raise InputError(f'{name}={value!r} is not allowed: give a number of at least 0, or None for any.')


class Verdict(NamedTuple):
  """A row, what it loses, and why it will not do: nothing where it will."""

  row: dict
  loses: float
  reasons: tuple[str, ...]


class Choice(NamedTuple):
  """What to deploy.

  Attributes:
    kind: 'code', 'replication', 'small network at the frontend', 'default answer', 'small network instead of F' or
      'none'.
    row: the row that it is; None for none.
    why: a sentence.
    verdicts: of all rows, those that will do first, each by what it loses.
  """

  kind: str
  row: dict | None
  why: str
  verdicts: list[Verdict]


def choose(rows: Sequence[dict], budgets: Budgets) -> Choice:
  """The row that loses least of those within the budgets; of equals that which takes least time.

  A small network replaces F itself where, on all queries, it is as accurate, and a copy of it for every loss and one
  more together take no longer than F.

  Args:
    rows: of `report.mean_over_seeds`, all on the same validation data.
    budgets: what is allowed.

  Raises:
    InputError: if there are no rows, or they are not all of the same split and judged by the same figure.
  """
  if not isinstance(budgets, Budgets):
    raise InputError(f'budgets={budgets!r} is not allowed: give Budgets.')
  if not rows:
    raise InputError('there are no rows to choose from: give some.')
  if len({(row['split'], row['judged_by']) for row in rows}) > 1:
    raise InputError('the rows are not of one split, or not judged by one figure: make them together.')
  rows = {(row['scheme'], *row['code']): row for row in reversed(rows)}  # what answers query by query once for all k
  verdicts = [Verdict(row, loses(row, budgets.lost), tuple(_reasons(row, budgets))) for row in reversed(rows.values())]
  verdicts.sort(key=lambda verdict: (bool(verdict.reasons), verdict.loses, _time(verdict.row)))
  best = verdicts[0]
  if instead := _instead_of_f(verdicts, budgets.lost):
    row, cost = instead
    return Choice('small network instead of F', row, f'{_name(row)} is as accurate as F on all queries and takes '
                  f'{cost:.2f} of it: {budgets.lost + 1} copies of it cost no more than F, and bear '
                  f'{budgets.lost} missing without loss.', verdicts)
  if best.reasons:
    return Choice('none', None, f'no row will do; {_name(best.row)} loses least, {best.loses:.2f}, but '
                  f'{" and ".join(best.reasons)}.', verdicts)
  return Choice(_kind(best.row), best.row, _why(verdicts, budgets), verdicts)


def loses(row: dict, lost: int) -> float:
  """Points that a row loses at the worst of 1 to `lost` units missing; per cent of relative error."""
  worst = row['by_missing'][:lost]
  if row['judged_by'] == 'relative_error':
    return 100 * max(worst)
  if row['judged_by'] == 'reconstruction_accuracy':
    return 100 * (1 - min(worst))
  intact = [] if row['passthrough'] else [row['intact_accuracy']]
  return 100 * (row['available_accuracy'] - min([*worst, *intact]))


def _reasons(row: dict, budgets: Budgets):
  """Why a row is not within the budgets."""
  bears = math.inf if row['at_frontend'] else row['code'][1]
  if bears < budgets.lost:
    yield f'it bears {bears} missing, not {budgets.lost}'
  if row['seconds_a_row'] and row['epochs'] and row['planned_seconds'] > LONGER * row['seconds_a_row']:
    yield f'an epoch of its training takes {row["planned_seconds"]:.0f} s, and {row["seconds_a_row"]:g} s were given'
  if budgets.drop is not None and (loss := loses(row, budgets.lost)) > budgets.drop + ROUNDING:
    yield f'loses {loss:.2f}, {budgets.drop:g} allowed'
  for name, text in COSTS.items():
    allowed, value = getattr(budgets, name), row.get(name)
    if allowed is not None and value is None:
      yield f'its {text} is not known'
    elif allowed is not None and value > allowed:
      yield f'{text} {value:.3f}, {allowed:g} allowed'


def _why(verdicts: list[Verdict], budgets: Budgets) -> str:
  row, loss, _ = verdicts[0]
  figures = [f'{text} {row[name]:.3f}' for name, text in COSTS.items() if row.get(name) is not None]
  sentence = f'{_name(row)} loses {loss:.2f} with up to {budgets.lost} missing, least of those within the budgets'
  sentence += f' ({", ".join(figures)}).' if figures else '.'
  if row.get('intervals'):
    low, high = row['intervals'][:budgets.lost][-1]
    sentence += f' Its accuracy is known to about {50 * (high - low):.1f} points: what loses little more is as good.'
  if others := [verdict for verdict in verdicts[1:] if not verdict.reasons]:
    sentence += f' Next is {_name(others[0].row)}, which loses {others[0].loses:.2f}.'
  return sentence


def _instead_of_f(verdicts: list[Verdict], lost: int) -> tuple[dict, float] | None:
  """(row, its cost relative to F) of a small network that makes F itself needless; the most accurate one."""
  for row, loss, _ in sorted(verdicts, key=lambda verdict: verdict.loses):
    cost = row['frontend_work'] if row.get('parity_time') is None else row['parity_time']
    if _kind(row) == 'small network at the frontend' and row['judged_by'] == 'degraded_accuracy' and (
        loss <= 0 and cost is not None and (lost + 1) * cost <= 1):
      return row, cost
  return None


def _kind(row: dict) -> str:
  encoder, parity_model = row['parts']
  if row['at_frontend']:
    return 'default answer' if parity_model == 'default' else 'small network at the frontend'
  return 'replication' if (encoder, parity_model) == ('replication', 'base') else 'code'


def _name(row: dict) -> str:
  if row['at_frontend']:
    return row['scheme']
  k = '' if row['code'][0] == 1 else f'k={row["k"]}, '  # of what answers query by query k says nothing
  return f'{row["scheme"]} at {k}r={row["r"]}'


def _time(row: dict) -> float:
  known = [row.get(name) for name in ('frontend_time', 'worker_time')]
  known = [row.get(name) for name in ('frontend_work', 'worker_work')] if None in known else known
  return math.inf if None in known else sum(known)
