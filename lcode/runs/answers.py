"""F's answers over a data set: computed when first asked for, and kept where they took long."""

import numpy as np

from lcode.data import shifted
from lcode.data.cache import cached
from lcode.data.digest import sha256
from lcode.training.batched import apply_in_batches

LEAST_SECONDS = 10.0  # answers that took less are not kept on disk
COMPARED = 64  # queries of which F's answers are looked at anew before kept ones are used
TOLERANCE = 1e-3  # of kept answers to those, relative and absolute: other devices round differently


class Answers(dict):
  """F's answers f32[N, C] by split, and 'train copy 1' and so on; many codes are trained with one F, a `Base`.

  What took ten seconds or more is kept in the cache, under F's variables and the data. It is used again only if it goes
  with what F answers to the first queries now.
  """

  def __init__(self, base):
    super().__init__()
    self.base = base

  def __contains__(self, split):
    return split.partition(' copy ')[0] in ('train', 'validation', 'test')

  def __missing__(self, split):
    base = self.base
    name, _, copy = split.partition(' copy ')
    images = getattr(base.dataset, name).images
    if copy:
      images = shifted(images, int(copy))

    def answer(images, batch_size=500):
      return apply_in_batches(base.apply, base.variables, images, base.preprocess, batch_size)

    def right(kept):
      answers = kept.get('answers')
      if answers is None or answers.shape != (len(images), base.num_outputs):
        return False
      return np.allclose(answers[:COMPARED], answer(images[:COMPARED], COMPARED), TOLERANCE, TOLERANCE)

    key = sha256(base.name, base.sha256, base.dataset.source, str(base.spec), split)[:32]
    self[split] = cached(key, lambda: {'answers': answer(images)}, 'answers', LEAST_SECONDS, right)['answers']
    return self[split]
