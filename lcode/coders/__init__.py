"""Families of encoders and decoders: one file each, one line each in the tables below.

An encoder is a Flax module over one group, f32[k, *S] -> f32[r, *S] (where its `systematic` is False, -> f32[n, *S],
all that is sent); a decoder is one over the outputs that arrived, (f32[n, C] with zeros where missing, bool[n]) ->
f32[k, C]. Where a parity's reply is wider than C, all rows are as wide, with zeros after the data units' C.

Both are built from a `Code` alone; an encoder with `takes_base` from F's `base_apply` too, and is initialised with F's
variables after x. Parts whose parameters are not trained by gradients have `candidates()`, or are `fixed`; a decoder
that works with certain encoders only names them in `goes_with`, one that does not with some in `refuses`.
"""

from lcode.coders.berrut import ApproxIFERDecoder, ApproxIFEREncoder, BerrutDecoder, BerrutEncoder
from lcode.coders.bundle import BundleDecoder, BundleEncoder
from lcode.coders.conv import ConvEncoder
from lcode.coders.linear import (AdditionEncoder, ConcatenationEncoder, ReplicationDecoder, ReplicationEncoder,
                                 SubtractionDecoder)
from lcode.coders.mlp import MLPDecoder, MLPEncoder
from lcode.coders.preimage import PreimageDecoder, PreimageEncoder
from lcode.coders.spline import SplineDecoder, SplineEncoder

ENCODERS = {
    'mlp': MLPEncoder, 'conv': ConvEncoder, 'addition': AdditionEncoder, 'concatenation': ConcatenationEncoder,
    'berrut': BerrutEncoder, 'approxifer': ApproxIFEREncoder, 'spline': SplineEncoder,
    'replication': ReplicationEncoder, 'bundle': BundleEncoder, 'preimage': PreimageEncoder,
}
DECODERS = {
    'mlp': MLPDecoder, 'subtraction': SubtractionDecoder, 'berrut': BerrutDecoder, 'approxifer': ApproxIFERDecoder,
    'spline': SplineDecoder, 'replication': ReplicationDecoder, 'bundle': BundleDecoder,
    'preimage': PreimageDecoder,
}
