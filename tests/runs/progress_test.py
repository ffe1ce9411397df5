import io
import sys

import pytest
from rich.console import Console

from lcode.runs import progress
from lcode.runs.progress import Progress


def test_without_tensorboardx_a_run_goes_on_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)  # importing it raises ImportError
  with Progress('title', tmp_path, ()) as reporter:
    reporter.start(1, 0)
    reporter.epoch({'epoch': 1, 'step': 1, 'train_loss': 0.5, 'validation_loss': 0.5, 'seconds': 1.0})
  said = capsys.readouterr().err
  assert 'lcode[experiments]' in said and 'loss 0.5' in said
  assert not (tmp_path / 'events').exists()


@pytest.mark.parametrize('name', ['learned-parity-model', 'addition:from_base:subtraction'])
def test_a_table_of_eight_columns_is_whole_in_eighty(monkeypatch, name):
  out = io.StringIO()
  monkeypatch.setattr(progress, 'console', Console(file=out, width=80))
  header = ['', 'k, r', 'degraded', 'intact', 'work', 'time', 'wire', 'epochs']
  row = [name, '10, 2', '98.33', '98.33', '40.456 + 0.50', '47.000 + 0.85', '0.50 / 1.00', '500']
  progress.print_table('title', header, [row])
  lines = out.getvalue().splitlines()
  assert max(map(len, lines)) <= 80 and all(name in out.getvalue() for name in header)
  assert all(word in out.getvalue() for cell in row[1:] for word in cell.split())
  assert ''.join(line.split('│')[1].strip() for line in lines if line.startswith('│')) == name
