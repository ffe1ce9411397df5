"""What pages and examples register is forgotten when they have run."""

import pytest

from lcode import models
from lcode.coding import coders
from lcode.data import datasets
from lcode.runs import own, parts, presets

TABLES = (coders.ENCODERS, coders.DECODERS, models.MODELS, datasets.SPECS, datasets._REGISTERED, parts.PARITY_MODELS,
          presets.PRESETS, own.FUNCTIONS)


@pytest.fixture
def forgotten():
  before = [dict(table) for table in TABLES]
  yield
  for table, names in zip(TABLES, before):
    table.clear()
    table.update(names)
