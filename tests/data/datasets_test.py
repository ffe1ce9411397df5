import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcode import data
from lcode.data import cache, datasets
from lcode.errors import InputError


def test_digits_are_scikit_learns():
  from sklearn.datasets import load_digits
  dataset, bunch = data.load('digits'), load_digits()
  splits = [dataset.train, dataset.validation, dataset.test]
  assert [len(split) for split in splits] == [1300, 137, 360]
  actual = sorted((int(label), image.tobytes()) for split in splits for image, label in zip(split.images, split.labels))
  assert actual == sorted((int(t), i.astype('u1').tobytes()) for i, t in zip(bunch.images, bunch.target))
  assert dataset.image_shape == (8, 8, 1) and dataset.num_classes == 10


def test_without_scikit_learn_digits_name_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)  # importing it raises ImportError
  with pytest.raises(InputError, match=r'scikit-learn.*lcode\[experiments\].*cifar10'):
    data.load('digits')


def test_plans_group_in_order_and_pad_the_last_batch():
  plan = data.plan_batches(np.arange(100, 117), k=3, batch_size=2)
  assert plan.indices.shape == (3, 2, 3) and plan.real.tolist() == [[True, True], [True, True], [True, False]]
  np.testing.assert_array_equal(plan.indices[plan.real].ravel(), np.arange(100, 115))  # two left over are dropped
  whole = data.plan_batches(np.arange(17), k=3, batch_size=2, drop_last=True)
  assert whole.steps == 2 and whole.real.all()


def test_plans_refuse_what_does_not_fit():
  with pytest.raises(InputError, match='k=6 is larger than the split of 5'):
    data.plan_batches(np.arange(5), 6, 1)
  with pytest.raises(InputError, match='larger than the 5'):
    data.plan_batches(np.arange(5), 1, 6, drop_last=True)


def test_every_epoch_has_its_own_order_every_time():
  first, second = data.epoch_order(1000, 7, 0), data.epoch_order(1000, 7, 1)
  np.testing.assert_array_equal(first, data.epoch_order(1000, 7, 0))
  np.testing.assert_array_equal(np.sort(first), np.arange(1000))
  assert (first == second).mean() < 0.02 and (first == data.epoch_order(1000, 8, 0)).mean() < 0.02


@pytest.mark.parametrize('name', data.SPECS)
def test_normalise_is_pixels_minus_mean_over_std(name, rng):
  spec = data.SPECS[name]
  images = rng.integers(0, int(spec.scale) + 1, size=(5, 4, 4, len(spec.mean)), dtype=np.uint8)
  expected = (images / spec.scale - np.array(spec.mean)) / np.array(spec.std)
  actual = data.make_normalise(spec)(jnp.asarray(images))
  assert actual.dtype == jnp.float32
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_crop_and_flip_is_a_window_of_the_padded_image(rng):
  image = rng.integers(1, 256, size=(6, 6, 3), dtype=np.uint8)
  padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
  windows = {}
  for i in range(9):
    for j in range(9):
      window = padded[i:i + 6, j:j + 6]
      windows[window.tobytes()] = (i, j, False)
      windows[window[:, ::-1].tobytes()] = (i, j, True)
  keys = jax.random.split(jax.random.key(0), 2000)
  actual = [windows[np.asarray(x).tobytes()] for x in jax.jit(jax.vmap(data.crop_and_flip, (0, None)))(keys, image)]
  assert len(set(actual)) == 162  # every offset, flipped and not
  assert 0.45 < np.mean([flipped for _, _, flipped in actual]) < 0.55


def test_decoded_arrays_are_cached_and_a_damaged_cache_is_read_again(tmp_path, monkeypatch):
  monkeypatch.setenv('LCODE_CACHE', str(tmp_path))
  calls = []

  def read():
    calls.append(1)
    return {'x': np.arange(1000, dtype=np.uint8)}

  for _ in range(2):
    np.testing.assert_array_equal(cache.cached('t-1', read)['x'], read_value())
  assert len(calls) == 1
  path = tmp_path / 'data' / 't-1.npz'
  content = bytearray(path.read_bytes())
  content[600] ^= 1
  path.write_bytes(content)
  np.testing.assert_array_equal(cache.cached('t-1', read)['x'], read_value())
  assert len(calls) == 2
  cache.cached('t-2', read)
  assert len(calls) == 3
  assert not [p for p in path.parent.iterdir() if p.suffix != '.npz']


def test_what_is_quick_to_make_is_not_kept_and_what_is_not_right_is_made_again(tmp_path, monkeypatch):
  monkeypatch.setenv('LCODE_CACHE', str(tmp_path))
  cache.cached('quick', lambda: {'x': read_value()}, 'answers', least_seconds=60)
  assert not list(tmp_path.rglob('*.npz'))
  cache.cached('kept', lambda: {'x': read_value()}, 'answers')
  assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob('*.npz')] == ['answers/kept.npz']

  def other():
    return {'x': read_value() + np.uint8(1)}

  kept = cache.cached('kept', other, 'answers', right=lambda arrays: len(arrays['x']) == 1000)
  np.testing.assert_array_equal(kept['x'], read_value())
  for right in (lambda arrays: False, None):  # made again, and from then on what is kept
    np.testing.assert_array_equal(cache.cached('kept', other, 'answers', right=right)['x'], other()['x'])


def read_value():
  return np.arange(1000, dtype=np.uint8)


def test_no_writable_cache_is_no_trouble(monkeypatch, tmp_path):
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('LCODE_CACHE', str(tmp_path / 'file' / 'cache'))
  np.testing.assert_array_equal(cache.cached('t-1', lambda: {'x': read_value()})['x'], read_value())


def test_unknown_data_set_names_the_known_ones():
  with pytest.raises(InputError, match='cifar10, digits, fashion_mnist, mnist'):
    data.load('imagenet')


@pytest.fixture
def tables(monkeypatch):
  """Registering lasts for a test alone."""
  monkeypatch.setattr(datasets, 'SPECS', dict(data.SPECS))
  monkeypatch.setattr(datasets, '_REGISTERED', {})


def squares(count=20):
  """Queries of three numbers, with the class that the first is of."""
  x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
  return {'train_images': x, 'train_labels': (x[:, 0] > 0).astype(np.int64), 'test_images': x[:5] + 1,
          'test_labels': np.ones(5, np.int8)}


def test_a_registered_data_set_is_loaded_as_its_function_says(tables, tmp_path):
  asked, spec = [], data.Spec(validation=6, num_classes=4, scale=2.0)
  load = lambda data_dir: asked.append(data_dir) or squares()  # noqa: E731
  for _ in range(2):  # a module may be imported twice
    data.register_dataset('squares', load, spec)
  loaded = data.load('squares', str(tmp_path))
  assert asked == [str(tmp_path)] and (len(loaded.train), len(loaded.validation), len(loaded.test)) == (14, 6, 5)
  assert loaded.num_classes == 4 and loaded.image_shape == (3,) and loaded.train.labels.dtype == np.int32
  np.testing.assert_array_equal(loaded.validation.images, squares()['train_images'][14:])
  np.testing.assert_allclose(data.make_normalise(loaded.spec)(jnp.asarray(loaded.test.images)),
                             loaded.test.images / 2, rtol=1e-6)
  assert loaded.source == data.load('squares').source


@pytest.mark.parametrize('change, words', [
    ({'train_images': None}, 'train_images object'), ({'test_images': np.ones((5, 4))}, r'test_images float64\[5, 4\]'),
    ({'test_images': np.ones((0, 3)), 'test_labels': np.ones(0, int)}, 'at least one'),
    ({'train_labels': np.ones(19, int)}, r'int64\[19\] for 20 images'), ({'train_labels': np.ones(20)}, 'float64'),
    ({'test_labels': np.arange(5)}, 'test_labels from 0 to 4: they must be from 0 to 1'),
    ({'test_labels': np.arange(5) - 1}, 'from -1 to 3')])
def test_what_a_registered_function_gets_wrong_is_a_sentence(tables, change, words):
  data.register_dataset('squares', lambda data_dir: squares() | change, data.Spec(validation=6))
  with pytest.raises(InputError, match=words):
    data.load('squares')


def test_what_cannot_be_registered_as_a_data_set_is_a_sentence(tables):
  fine = lambda data_dir: squares()  # noqa: E731
  for arguments, words in [(('mnist', fine, data.Spec(1)), "'mnist' is there already"),
                           (('x', 3, data.Spec(1)), 'no function'), (('x', fine, 255.0), 'no Spec'),
                           (('x', fine, data.Spec(0)), 'validation=0'),
                           (('my data', fine, data.Spec(1)), 'not allowed')]:
    with pytest.raises(InputError, match=words):
      data.register_dataset(*arguments)
  data.register_dataset('squares', lambda data_dir: [1], data.Spec(1))
  with pytest.raises(InputError, match='loaded as a list'):
    data.load('squares')
  data.register_dataset('many', fine, data.Spec(20))
  with pytest.raises(InputError, match='20 are held out'):
    data.load('many')
