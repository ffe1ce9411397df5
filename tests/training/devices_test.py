"""How many devices there are to be: eight virtual ones here, see conftest."""

import logging

import jax
import pytest

from lcode.errors import InputError
from lcode.training import devices
from lcode.training.devices import check_batch, choose_devices


@pytest.fixture
def two_cores(monkeypatch):
  monkeypatch.setattr(devices.os, 'cpu_count', lambda: 2)


@pytest.mark.parametrize('count, warned', [(1, False), (2, False), (3, True), (8, True)])
def test_more_devices_than_cores_are_warned_of(count, warned, two_cores, caplog):
  with caplog.at_level(logging.WARNING, 'lcode'):
    assert choose_devices(count) == jax.devices()[:count]
  said = [record.getMessage() for record in caplog.records]
  assert len(said) == warned and all(f'devices={count} on 2 cores' in line for line in said)


@pytest.mark.parametrize('count, words', [
    (64, 'devices=64 is far too many for 2 cores.*at most 16'), (9, 'devices=9 is more than the 8 cpu devices'),
    (0, 'devices=0 is not allowed'), (-1, 'devices=-1'), (1.5, 'devices=1.5'), ('2', "devices='2'")])
def test_useless_numbers_of_devices_are_sentences(count, words, two_cores):
  with pytest.raises(InputError, match=words):
    choose_devices(count)


def test_nobody_asking_takes_one_a_core_for_convolutions_that_the_batch_can_be_split_over(two_cores, caplog):
  assert len(choose_devices()) == 1
  assert [len(choose_devices(None, True, batch)) for batch in (64, 63)] == [2, 1]
  assert not caplog.records


@pytest.mark.parametrize('batch_size, on, words', [
    (0, 1, 'batch_size=0'), (1.5, 1, 'batch_size=1.5'), (8, 0, r'devices=\[\]'), (9, 2, 'multiple of 2')])
def test_a_batch_is_split_evenly_or_refused(batch_size, on, words):
  check_batch(8, jax.devices()[:2])
  with pytest.raises(InputError, match=words):
    check_batch(batch_size, jax.devices()[:on])
