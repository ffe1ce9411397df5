"""What a person watches: progress bars and tables (rich, on standard error), and TensorBoard event files if wanted."""

import rich.progress
from rich.console import Console
from rich.table import Table

from lcode.training.loop import Reporter

console = Console(stderr=True)


class Progress(Reporter):
  """A bar over the steps, a line per epoch (about `lines` in all) with the accuracies `shown`, and event files."""

  def __init__(self, title: str, workdir, shown: tuple[str, ...], lines: int = 20):
    self.title = title
    self.shown = shown
    self.lines = lines
    self.writer = _event_writer(workdir / 'events')
    self.bar = rich.progress.Progress(
        rich.progress.TextColumn('{task.description}'), rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(), rich.progress.TimeRemainingColumn(), console=console,
        transient=True, disable=not console.is_terminal)

  def __enter__(self):
    self.bar.start()
    return self

  def __exit__(self, *_):
    self.bar.stop()
    if self.writer:
      self.writer.close()

  def start(self, total_steps, done):
    self.total = total_steps
    self.next_line = done
    self.task = self.bar.add_task(self.title, total=total_steps, completed=done)
    resumed = f', resumed at step {done} of {total_steps}' if 0 < done < total_steps else ''
    if done < total_steps:  # in a line of its own: with the figures it would not fit
      console.print(f'training {self.title}{resumed}', highlight=False, soft_wrap=True)

  def steps(self, done, losses):
    # A step of a small model takes a fraction of a millisecond: nothing more than this happens here.
    self.bar.update(self.task, completed=done)

  def epoch(self, figures):
    step = figures['step']
    if self.writer:
      self._write_events(figures, step)
    if step >= self.next_line or step == self.total:
      self.next_line = step + self.total / self.lines
      console.print(self._line(figures), highlight=False, soft_wrap=True)

  def _write_events(self, figures, step):
    self.writer.add_scalar('train_loss', figures['train_loss'], step)
    for name, value in figures.items():
      if name.startswith('validation_'):
        self.writer.add_scalar(name.replace('_', '/', 1), value, step)

  def _line(self, figures):
    text = f'  step {figures["step"]}/{self.total}, loss {figures["train_loss"]:.4f}'
    for name in self.shown:
      value = figures.get(f'validation_{name}_accuracy')
      if value is not None:
        text += f', {name} {100 * value:.2f}'
    return text + (f' ({figures["seconds"]:.0f} s)' if figures['seconds'] >= 1 else '')


def _event_writer(folder):
  """Writes TensorBoard events into `folder`; None where tensorboardX, which no run depends on, is not installed."""
  try:
    import tensorboardX
  except ImportError:
    console.print('No TensorBoard events will be written: pip install "lcode[experiments]" brings tensorboardX.',
                  highlight=False, markup=False)
    return None
  return tensorboardX.SummaryWriter(str(folder), flush_secs=10)


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
  """A table on standard error; what does not fit the terminal is folded, never cut."""
  table = Table(title=title, padding=(0, 1 if len(header) < 7 else 0))  # what does not fit at all would be cut
  short = all(len(row[0]) <= 24 for row in rows)  # names are folded last, and only if they are long
  for column, name in enumerate(header):
    table.add_column(name, justify='left' if column == 0 else 'right', overflow='fold', no_wrap=short and column == 0)
  for row in rows:
    table.add_row(*row)
  console.print(table)
