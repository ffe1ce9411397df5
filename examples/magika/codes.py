"""Which codes work on bytes: Magika and small networks of bytes by name, for `experiments.compare`.

  python -m experiments.compare --import=examples.magika.codes --model=magika --data_dir=runs/magika --k=2 --r=1 \\
      --schemes=byte-narrow,byte-bundle,byte-backup,narrow,mosaic,parm-addition,byte-addition,berrut,replication,default

where `runs/magika` is a workdir of `examples.magika`, for its files and F's answers to them. Codes without `byte` in
their name have dense networks, which take a byte's number for a quantity. All networks get the multiply-adds of one
size, WORK, far less than F's; so work in the table is relative to k of them, and time to k inferences by F.

Agreement with F after 8 epochs, k = 2 (docs/results/magika.jsonl): 72.7 % by a network of bytes that gets the queries
whole (byte-narrow), 18.5 % where it gets their sum (byte-addition), 10.4 % and 7.5 % by dense networks (narrow,
mosaic), and 9.3 % by always answering F's most frequent label.
"""

import lcode
from examples.magika import model

WIDTH = 128
WORK = 1.75e6  # multiply-adds of a `ByteNetwork` of this width, for a query


def load(data_dir: str | None) -> dict:
  """F as a black box, and what a workdir of `examples.magika` has recorded, as `lcode.compare` takes them."""
  queries, answers = model.recorded(data_dir)
  return {'apply': lcode.BlackBox(model.load_model(model.folder())), **queries, 'outputs': answers,
          'multiply_adds': 2 * WORK}  # of which students of k = 2 get half


def _students(make):
  return lambda module, query_shape, num_outputs, config: make(model.ByteNetwork(num_outputs, WIDTH), config)


lcode.register_function('magika', load)
for name, encoder, decoder, make in (
    ('bundle', 'bundle', 'bundle', lambda network, config: lcode.students(network)),
    ('narrow', 'narrow', 'bundle', lambda network, config: lcode.narrow_students(network, config.k)),
    ('backup', 'replication', 'replication', lambda network, config: lcode.from_module(
        network, shared=True, at_frontend=True, takes=('copies',))),
    ('addition', 'addition', 'subtraction', lambda network, config: lcode.from_module(network))):
  lcode.register_parity_model(f'byte_{name}', _students(make), 'a network of bytes')
  lcode.register_preset(f'byte-{name}', lcode.Preset(encoder, decoder, f'byte_{name}', recipe='distil',
                                                     per_query=name == 'backup', source='a network of bytes'))
