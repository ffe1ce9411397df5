"""Suites: the rows of published figures and of lcode's own, with those of rivals."""

import dataclasses
import json
from pathlib import Path

from lcode.runs.comparison import Comparison
from lcode.runs.configs import CodeConfig
from lcode.runs.presets import config_of


@dataclasses.dataclass(frozen=True)
class Row:
  """A figure to make: a scheme over a base model, by a recipe, and what is published for it.

  Attributes:
    epochs, recipe, loss: None for the scheme's own.
    backup_work: of a backup: its multiply-adds, relative to an inference by F.
    published: others' deployed and degraded accuracy in %, or None.
    source: of these figures: published, or a run here of published code.
    form: of the small network that stands in for F; '' for that of F's kind.
    student_work: of a code with students: their multiply-adds, relative to an inference by F; None for 1/k of its time.
    takes: about how long it takes on two idle cores of a processor, where that is why it may not be made yet.
  """

  dataset: str
  base_model: str
  scheme: str
  k: int
  r: int = 1
  seed: int = 0
  epochs: int | None = None
  recipe: str | None = None
  published: tuple[float, float] | None = None
  source: str = ''
  backup_work: float = 0.0
  loss: str | None = None
  form: str = ''
  takes: str = ''
  student_work: float | None = None

  @property
  def base(self) -> str:
    return f'{self.dataset}-{self.base_model}'

  @property
  def name(self) -> str:
    return f'{self.scheme}-{self.backup_work:g}' if self.backup_work else self.scheme

  @property
  def config(self) -> CodeConfig:
    """But for the size of a backup or student, which follows from F."""
    return config_of(self.scheme, self.k, self.r, self.dataset, self.base_model, self.seed, self.epochs,
                     1 if self.backup_work else None, self.recipe, self.loss, self.form)

  @property
  def comparison(self) -> Comparison:
    return Comparison(self.dataset, self.base_model, (self.scheme,), (self.k,), (self.r,), (self.seed,), self.epochs,
                      (self.backup_work,), self.recipe, self.loss, form=self.form, student_work=self.student_work)

  def __str__(self):
    return f'{self.base} {self.name}{self.form and f", {self.form}"} ({self.k}, {self.r}) seed {self.seed}'


AUTHORS_RUNS = Path(__file__).parents[2] / 'docs' / 'results' / 'authors-runs.jsonl'
BLOG, PARM = 'the authors, best encoder and decoder, ResNet-18', 'ParM\'s sums, ResNet-18'
APPROXIFER = 'ApproxIFER\'s plot data, S = 1, ResNet-18'


def paper_suite() -> list[Row]:
  """The 2018 paper's codes (arXiv:1806.01259) and ParM's with its base models, and what is published beside them.

  Two rows by the paper's recipe, for as many epochs as the authors' code was run for here; the others by one cycle of
  the learning rate, in a twentieth of the paper's 500 epochs or less.
  """
  rows = [
      Row('mnist', 'mlp', 'learned-mlp', 2, epochs=40, recipe='paper', **_authors_run('mnist', 'mlp')),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=60, recipe='paper', **_authors_run('fashion_mnist', 'mlp')),
      Row('fashion_mnist', 'mlp', 'learned-conv', 2, **_authors_run('fashion_mnist', 'conv')),
      Row('mnist', 'mlp', 'learned-conv', 2),
      Row('mnist', 'mlp', 'learned-mlp', 5, epochs=12),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 5, epochs=12),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=20),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=20, loss='mse_base'),
      Row('fashion_mnist', 'mlp', 'learned-mlp', 2, epochs=20, loss='xent_label'),
  ]
  for dataset, deployed, learned, parm in [('mnist', 99.2, 99.2, 99.19), ('fashion_mnist', 92.9, 92.2, 91.11)]:
    rows += [
        Row(dataset, 'resnet18', 'learned-mlp', 2, epochs=3, takes='20 minutes'),
        Row(dataset, 'resnet18', 'learned-conv', 2, epochs=3, published=(deployed, learned), source=BLOG,
            takes='30 minutes'),
        Row(dataset, 'resnet18', 'parm-addition', 2, epochs=3, published=(deployed, parm), source=PARM,
            takes='10 minutes'),
        Row(dataset, 'resnet18', 'parm-concatenation', 2, epochs=3, takes='10 minutes')]
  return rows + [
      Row('fashion_mnist', 'resnet18', 'learned-mlp', 5, epochs=3, takes='15 minutes'),
      Row('cifar10', 'resnet18', 'learned-conv', 2, epochs=8, published=(93.5, 82.1), source=BLOG,
          takes='a base model of hours, then hours'),
      Row('cifar10', 'resnet18', 'parm-addition', 2, epochs=3, published=(93.5, 87.37), source=PARM,
          takes='a base model of hours, then an hour')]


def _authors_run(dataset: str, encoder: str) -> dict:
  """What a row shows beside its figures: the longest run here of the authors' code over their own Base-MLP, k = 2."""
  runs = [json.loads(line) for line in AUTHORS_RUNS.read_text().splitlines()]
  last = max((run for run in runs if (run['dataset'], run['encoder']) == (dataset, encoder)),
             key=lambda run: run['epochs'])
  return {'published': (100 * last['available_accuracy'], 100 * last['degraded_accuracy']),
          'source': f'the authors\' code, run here for {last["epochs"]} epochs with their own base model'}


def _best_known() -> dict[tuple, tuple[tuple[float, float], str]]:
  """The published figures of least drop and their source, for (data set, base model, k, r), whatever the code."""
  known = {(dataset, 'resnet18', 8, 1): (figures, APPROXIFER) for dataset, figures in [
      ('mnist', (99, 87.2)), ('fashion_mnist', (93, 74)), ('cifar10', (94, 77.6))]}
  rows = [row for row in paper_suite() if row.published]
  for row in sorted(rows, key=lambda row: row.published[0] - row.published[1]):
    known.setdefault((row.dataset, row.base_model, row.k, row.r), (row.published, row.source))
  return known


def best_suite() -> list[Row]:
  """lcode's own codes with every base model; with the small one three seeds, of bundles at k = 2 and 5 alone.

  There students and backups are of two forms: the default, within F's time, and small CNNs, which take many times it.
  Over ResNets fewer epochs than the recipe's, so that processors can, but for ResNet-18 on CIFAR-10, which needs an
  accelerator.
  """
  models = [('mnist', 'mlp'), ('fashion_mnist', 'mlp'), ('cifar10', 'resnet20'), ('mnist', 'resnet18'),
            ('fashion_mnist', 'resnet18'), ('cifar10', 'resnet18')]
  rows, known = [], _best_known()
  for seed in (0, 1, 2):
    for dataset, model in models:
      for k, r in [(2, 1), (3, 1), (4, 1), (5, 1), (8, 1), (4, 2)]:
        if seed == 0 or model == 'mlp' and k in (2, 5):
          row = Row(dataset, model, 'bundle', k, r, seed, _epochs(dataset, model, 'bundle'), None,
                    *known.get((dataset, model, k, r), (None, '')))
          rows += [row, dataclasses.replace(row, form='cnn')] if model == 'mlp' else [row]
      for k, r in [(2, 1), (3, 1), (4, 1), (5, 1), (8, 1), (10, 1), (4, 2)]:
        if seed == 0 or model == 'mlp':
          rows += _mosaics(dataset, model, k, r, seed)
  # A learned code over a frozen F that answers the parity itself, the 2018 paper's setting.
  for dataset, model in models:
    if dataset != 'cifar10':
      codes = [(2, 1), (3, 1), (5, 1), (4, 2)] if model == 'mlp' else [(2, 1)]
      for k, r in codes:  # at k = 5, three times the recipe's epochs were better on validation data
        epochs = 60 if (dataset, k) == ('fashion_mnist', 5) else _epochs(dataset, model, 'learned-features')
        rows += [Row(dataset, model, 'learned-features', k, r, 0, epochs, None,
                     *known.get((dataset, model, k, r), (None, '')))]
  for dataset, model in models:  # the rival: a query's answer by a small network at the frontend, whatever k
    rows += [Row(dataset, model, 'backup', 2, epochs=_epochs(dataset, model, 'backup'), backup_work=work, form=form)
             for form in (('', 'cnn') if model == 'mlp' else ('',)) for work in BACKUPS]
  return rows


def _mosaics(dataset: str, model: str, k: int, r: int, seed: int) -> list[Row]:
  """Students of F's kind, or fine CNNs on the small tasks of ResNet-18; in some rows the other form, to compare."""
  if model == 'mlp':
    return [Row(dataset, model, 'mosaic', k, r, seed)]
  fine = Row(dataset, model, 'mosaic', k, r, seed, _epochs(dataset, model, 'mosaic'), 'distil_shifted', form='fine')
  if dataset == 'cifar10':
    own = dataclasses.replace(fine, form='blocks')
    return [own, fine] if model == 'resnet20' and k in (3, 4, 5, 8, 10) and r == 1 else [own]
  fine, itself = dataclasses.replace(fine, student_work=FINE_WORK), Row(dataset, model, 'mosaic', k, r, seed, 3)
  return [fine, itself] if dataset == 'fashion_mnist' and k in (2, 4, 8) and r == 1 else [fine]


def _epochs(dataset: str, model: str, scheme: str) -> int | None:
  if model == 'mlp' or (dataset, model) == ('cifar10', 'resnet18'):
    return None
  few = {('resnet18', 'bundle'): 1, ('resnet18', 'mosaic'): 5, ('resnet18', 'learned-features'): 3,
         ('resnet20', 'mosaic'): 3}
  return few.get((model, scheme), 6)


FINE_WORK = 0.0135  # of ResNet-18, a mosaic's fine CNN: 4 million multiply-adds, chosen on validation data
BACKUPS = 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0
SUITES = {'paper': paper_suite, 'best': best_suite}
TITLES = {'paper': 'The codes of the 2018 paper and of ParM, row by row',
          'best': 'lcode\'s own codes and their rivals, row by row'}
