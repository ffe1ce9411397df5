"""Exports data sets as NumPy arrays, for machines where TFDS is not installed.

  python -m experiments.prepare_data --datasets=mnist,fashion_mnist --data_dir=DIR --out=ARRAYS

Any experiment then takes --data_dir=ARRAYS. The arrays are the same, so runs resume and figures stay comparable:
records identify the data by the arrays' SHA-256. CIFAR-10 takes about 170 MB, MNIST and Fashion-MNIST 25 to 40 MB. For
spoken digits, the images are exported (2 MB), not the audio.
"""

from absl import flags

from experiments import common
from lcode import data
from lcode.errors import one_of

FLAGS = flags.FLAGS


def define_flags():
  flags.DEFINE_list('datasets', ['mnist', 'fashion_mnist', 'cifar10'], ', '.join(data.SPECS))
  flags.DEFINE_string('out', 'arrays', 'the directory to write <data set>.npz to')
  flags.DEFINE_string('data_dir', None, 'directory of TFDS directories; default: where TFDS keeps its own')


def main():
  for name in FLAGS.datasets:
    one_of('data set', name, data.SPECS)
  written = {}
  for name in FLAGS.datasets:
    dataset = data.load(name, FLAGS.data_dir)
    written[name] = {'file': str(data.export(dataset, FLAGS.out)), 'source': dataset.source}
  return {'kind': 'data'} | written


if __name__ == '__main__':
  common.run(main, define_flags)
