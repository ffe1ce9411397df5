import sys

from lcode.runs.progress import Progress


def test_without_tensorboardx_a_run_goes_on_and_says_what_is_missing(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)  # importing it raises ImportError
  with Progress('title', tmp_path, ()) as reporter:
    reporter.start(1, 0)
    reporter.epoch({'epoch': 1, 'step': 1, 'train_loss': 0.5, 'validation_loss': 0.5, 'seconds': 1.0})
  said = capsys.readouterr().err
  assert 'lcode[experiments]' in said and 'loss 0.5' in said
  assert not (tmp_path / 'events').exists()
