"""Data: arrays and their grouping into batches, and data sets by name."""

from lcode.data.arrays import (Arrays, Plan, Spec, crop_and_flip, epoch_order, make_normalise, plan_batches,
                               shifted)
from lcode.data.cache import cache_dir, cache_is_writable
from lcode.data.datasets import SPECS, Dataset, export, load, register_dataset

__all__ = ['Arrays', 'Dataset', 'Plan', 'SPECS', 'Spec', 'cache_dir', 'cache_is_writable', 'crop_and_flip',
           'epoch_order', 'export', 'load', 'make_normalise', 'plan_batches', 'register_dataset',
           'shifted']
