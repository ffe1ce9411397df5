"""Every code with one's own model and data, from arrays."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn

from lcode.errors import directory, InputError, instance
from lcode.runs import comparison, records, report
from lcode.runs.configs import RunOptions
from lcode.runs.own import make_own, Own
from lcode.runs.own_rows import over_own
from lcode.runs.presets import PRESETS
from lcode.training import fingerprint

NOTES = {
    'counted': '',
    'given': 'F takes {:.4g} multiply-adds for a query, as was given.',
    'timed': 'Students and backups are sized by the time that F takes: {:.3g} multiply-adds, those of a dense network '
             'that takes as long.',
    'assumed': 'What F takes is not known: students and backups are sized as over Base-MLP ({:.3g} multiply-adds), and '
               'costs relative to F are left out (-).'}


def compare(apply: Callable | None, variables: Any = None, *, train, test, validation=None,
            outputs: Mapping[str, Any] | None = None, schemes: Sequence[str] | None = None, ks: Sequence[int] = (2,),
            rs: Sequence[int] = (1,), seeds: Sequence[int] = (0,), epochs: int | None = None,
            seconds_a_row: float | None = None, backup_work: Sequence[float] = (0.05, 0.2),
            student_work: float | None = None, module: nn.Module | None = None, form: str = '',
            loss: str | None = None, multiply_adds: float | None = None, seconds: float | None = None,
            workdir: str | Path | None = None, options: RunOptions | None = None, name: str = 'own') -> list[dict]:
  """Trains and judges every code with one's own F: the same data, the same erasures, and what each costs.

  F stays as it is. What a code needs of it: those trained through F need a JAX function; those that ask F coded queries
  (ApproxIFER, NeRCC, Berrut) need a function of any kind; the others (mosaic, bundle, parity models, backups) need its
  recorded answers alone. Rows that cannot be made are left out, with a line on standard error that says why.

  Args:
    apply: F: a JAX function (variables, x [b, *S]) -> floats [b, *O]; a `lcode.BlackBox` of NumPy queries; or None
      where `outputs` say what it answered.
    variables: F's, for a JAX function.
    train, test, validation: (queries [N, *S], labels int[N]) or queries alone; without validation, the last tenth of
      train (at most 5,000) is held out; F should not have been trained on validation queries, where it would look
      better than it is. Where test has no labels, rows are judged by their agreement with F; with
      loss='mse_base', or where F answers one number, by their relative error.
    outputs: F's answers, floats [N, *O] under 'train', 'test' and, where it is given, 'validation'; where they are
      known.
    schemes: names as `lcode.config_of` takes them; None for all presets.
    ks, rs: queries and parities per group, each with each.
    seeds: of the codes.
    epochs: of every code that is trained; None for its recipe's.
    seconds_a_row: instead of epochs, seconds to train every row for: as many epochs as fit, at least one.
    backup_work: multiply-adds of the backups, relative to an inference by F.
    student_work: the same of the students of bundles and mosaics; None for 1/k of F's time, by work.
    module: F's Flax module where it has one and `variables` are its own: students, backups and parity models start from
      it then. Else they are small networks of their own, of sizes that follow from F's.
    form: of every small network, a name in `lcode.models.forms.FORMS`; '' for that of F's kind.
    loss: a name in `lcode.losses.LOSSES`, for every code; None for its own.
    multiply_adds, seconds: of an inference by F, where they are known. A JAX function is counted, a `BlackBox` timed;
      of recorded answers nothing is known, and costs relative to F are None then.
    workdir: where codes, records.jsonl, table.md and pictures go; what is done there is not done again, what was
      stopped is resumed. None to keep nothing.
    options: devices, max_steps and so on; None for one device, with costs in time.
    name: of F, for titles.

  Returns:
    a record for each row, with `scheme`, `k`, `r`, `seed`, `config`, `judged_by` (the figure to compare by), the
    figures of `lcode.evaluate`, and costs relative to k inferences by F, `frontend_work`, `worker_work`, `wire_out`,
    `wire_back`, and where they are measured `frontend_time` and `worker_time`.

  Raises:
    InputError: before anything is trained, if F, arrays or options will not do; or if no row is left.

  >>> rows = lcode.compare(apply, variables, train=(x[:150], y[:150]), test=(x[150:], y[150:]),
  ...                      schemes=('replication', 'approxifer'), options=lcode.RunOptions())
  >>> [(row['scheme'], row['degraded_accuracy'] > 0.5) for row in rows]
  [('replication', True), ('approxifer', True)]
  """
  own = make_own(apply, variables, train=train, test=test, validation=validation, outputs=outputs, module=module,
                 loss=loss, multiply_adds=multiply_adds, seconds=seconds, name=name)
  what = comparison.Comparison(name, name, tuple(PRESETS if schemes is None else schemes), tuple(ks), tuple(rs),
                               tuple(seeds), epochs, tuple(backup_work), seconds_a_row=seconds_a_row, form=form,
                               student_work=student_work)
  made = compare_own(own, what, workdir, options)
  if workdir is not None:
    show(own, made, Path(workdir))
  return made


def compare_own(own: Own, what: comparison.Comparison, workdir: str | Path | None = None,
                options: RunOptions | None = None) -> list[dict]:
  """The rows with one's own F; see `compare`."""
  options = RunOptions(time_costs=True) if options is None else instance('options', options, RunOptions)
  if workdir is not None:
    own = claim(directory('workdir', workdir), own)
  made = comparison.compare_over(over_own(own), what, workdir, options)
  if not made:
    raise InputError(f'schemes={", ".join(what.schemes)} at ks={list(what.ks)} and rs={list(what.rs)} leave no row: '
                     'see the reasons above.')
  return made


def show(own: Own, made: list[dict], path: Path) -> tuple[list[dict], list[Path]]:
  """Writes table and pictures of all rows that a workdir has with F; returns their means over seeds, and pictures."""
  rows = report.mean_over_seeds(comparison.latest(path, made[0]))
  title = own.name
  if own.judged_by == 'degraded_accuracy':
    title += f' ({100 * rows[0]["available_accuracy"]:.1f} % deployed)'
  return rows, report.report(rows, path, title, NOTES[own.sized_by].format(own.multiply_adds))


def claim(path: Path, own: Own) -> Own:
  """Makes a workdir that of F; returns F with the size that was found when it was begun.

  Raises:
    InputError: if the workdir is another F's.
  """
  path = records.open_workdir(str(path))
  fingerprint.check(path / 'own.json', {'kind': 'own F', 'data and variables': own.sha256,
                                        'answers': fingerprint.of_answers(own.outputs['test'])})
  for record in records.read(path):
    if record.get('kind') == 'size' and record['base_sha256'] == own.sha256:
      again = dataclasses.replace(own, multiply_adds=record['multiply_adds'], sized_by=record['sized_by'])
      again.outputs.update(own.outputs)
      return again
  records.append(path, {'kind': 'size', 'base_sha256': own.sha256, 'multiply_adds': own.multiply_adds,
                        'sized_by': own.sized_by})
  return own
