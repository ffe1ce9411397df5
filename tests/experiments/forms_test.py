"""The study of forms: sizes found by a clock that is known, and records of what is trained within them."""

import pytest

from experiments.studies import forms
from lcode.errors import InputError
from lcode.models import make_model
from lcode.models.forms import FORMS
from lcode.models.small import multiply_adds_of, SmallCNN
from lcode.runs import base_model
from lcode.runs.configs import BaseConfig, CodeConfig, RunOptions
from lcode.runs.parts import build_scheme


@pytest.mark.parametrize('count', [1, 2, 7, 33])
def test_the_largest_size_within_a_time_is_found_in_few_timings(count):
  for fitting in range(count + 1):
    asked = []

    def time_of(number, fitting=fitting, asked=asked):
      asked.append(number)
      return 0.5 if number < fitting else 1.5

    found, measured = forms.largest_within(time_of, count, 1.0)
    assert found == (fitting - 1 if fitting else None)
    assert sorted(measured) == sorted(asked) and len(asked) <= count.bit_length()


def test_sizes_are_of_one_form_each_once_and_within_their_budgets():
  base, shape = make_model('mlp', (28, 28, 1), 10), (28, 28, 1)
  budgets = [100, 1000, 2000, 2001, 5000, 20_000, 100_000]
  for form in FORMS:
    sizes = forms.sizes_of(form, base, shape, 10, budgets)
    networks = [network for _, network in sizes]
    assert len(set(networks)) == len(networks) and bool(networks) == (form != 'blocks')
    assert all(multiply_adds_of(network, shape) <= budget for budget, network in sizes)
    assert form != 'cnn' or all(isinstance(network, SmallCNN) for network in networks)
  assert not forms.sizes_of('resolution', base, (8, 8, 1), 10, budgets)


def test_a_place_says_what_answers_how_many_queries():
  for scheme, k, parity_model, queries in [
      ('bundle', 4, 'students', (4, (28, 28, 1))), ('mosaic', 4, 'tile_students', (4, (14, 14, 1))),
      ('backup', 1, 'backup', (1, (28, 28, 1))), ('parm-addition', 2, 'from_scratch', (1, (28, 28, 1)))]:
    place = forms.Place(scheme, k)
    config = place.config('fashion_mnist', 'mlp', 'dense', 5000)
    assert (config.parity_model, config.form, config.multiply_adds) == (parity_model, 'dense', 5000)
    assert place.queries((28, 28, 1)) == queries
    build_scheme(config.resolved(), (28, 28, 1), 10)
  for arguments, words in ((('nercc', 2), 'nercc has no small network'), (('bundle', 0), 'k=0'),
                           (('backup', 1, 0.0), 'time=0.0')):
    with pytest.raises(InputError, match=words):
      forms.Place(*arguments)


def test_a_study_trains_the_largest_that_fits_and_ranks_by_validation(tmp_path, monkeypatch):
  base, _ = base_model.train_base(BaseConfig(epochs=5), str(tmp_path), RunOptions(devices=1))
  work = multiply_adds_of(make_model('mlp', (8, 8, 1), 10), (8, 8, 1))

  def time_of(network, shape, count, base, groups):
    return count * multiply_adds_of(network, shape) / work + (groups == 1)  # as if time were work, and a call's

  monkeypatch.setattr(forms, 'time_of', time_of)
  records = forms.study(forms.Place('bundle', 4), base, groups=(8, 1), epochs=3)
  assert [record['form'] for record in records] == ['dense']  # digits are too small for the others
  record = records[0]
  assert 0.8 < record['share'] <= 1 and record['times']['1'] == pytest.approx(record['times']['8'] + 1)
  assert 0.2 < record['validation_degraded_accuracy'] <= 1
  assert record['config'] == CodeConfig(**record['config']).resolved().__dict__
  monkeypatch.setattr(forms, 'time_of', lambda *_: 9.0)
  none, = forms.study(forms.Place('backup', 1, 0.1), base, epochs=3)
  assert 'multiply_adds' not in none and {time for _, time in none['measured']} == {9.0}
