"""The study of forms: sizes found by a clock that is known, and records of what is trained within them."""

import pytest

from experiments.studies import forms
from lcode import data
from lcode.errors import InputError
from lcode.models import make_model
from lcode.models.forms import FORMS
from lcode.models.small import multiply_adds_of, SmallCNN
from lcode.runs import base_model
from lcode.runs.configs import CodeConfig
from lcode.runs.parts import build_scheme


def test_the_largest_size_within_a_time_is_found_whatever_disturbs_smaller_ones():
  for fitting in range(6):
    times = [0.2 + 0.1 * i if i < fitting else 1.1 + i for i in range(5)]
    assert forms.largest_within(times, 1.0) == (fitting - 1 if fitting else None)
  assert forms.largest_within([0.2, 7.0, 0.5, 1.0, 1.01], 1.0) == 3


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


def test_a_study_trains_the_largest_that_fits_and_ranks_by_validation(monkeypatch):
  base = base_model.blank_base('mlp', data.load('digits'))
  work = multiply_adds_of(make_model('mlp', (8, 8, 1), 10), (8, 8, 1))

  def timed(networks, shape, count, base, groups):  # as if time were work, and a call's
    return [count * multiply_adds_of(network, shape) / work + (groups == 1) for network in networks]

  monkeypatch.setattr(forms, 'timed', timed)
  records = forms.study(forms.Place('bundle', 4), base, groups=(8, 1), epochs=1)
  assert {record['form'] for record in records} == {'dense', 'fine'}  # digits are too small for the others
  accuracies = [record['validation_degraded_accuracy'] for record in records]
  assert accuracies == sorted(accuracies, reverse=True)
  record = next(record for record in records if record['form'] == 'dense')
  assert 0.8 < record['share'] <= 1 and record['times']['1'] == pytest.approx(record['times']['8'] + 1)
  assert 0 <= record['validation_degraded_accuracy'] <= 1 and record['parameters'] > 1000
  assert record['config'] == CodeConfig(**record['config']).resolved().__dict__
  monkeypatch.setattr(forms, 'timed', lambda networks, *_: [9.0] * len(networks))
  nothing = forms.study(forms.Place('backup', 1, 0.1), base, epochs=1)
  assert len(nothing) == 2
  assert all('multiply_adds' not in none and {time for _, time in none['measured']} == {9.0} for none in nothing)
