"""Families of encoders and decoders: one file each, one line each in the tables below.

An encoder is a Flax module over one group, f32[k, *S] -> f32[r, *S] (where its `systematic` is False, -> f32[n, *S],
all that is sent); a decoder is one over the outputs that arrived, (f32[n, C] with zeros where missing, bool[n]) ->
f32[k, C]. Where a parity's reply is wider than C, all rows are as wide, with zeros after the data units' C.

Both are built from a `Code` alone. Parts whose parameters are not trained by gradients have `candidates()`; a decoder
that works with certain encoders only names them in `goes_with`, one that does not with some in `refuses`.
"""

from lcode.coding.coders.berrut import ApproxIFERDecoder, ApproxIFEREncoder, BerrutDecoder, BerrutEncoder
from lcode.coding.coders.bundle import BundleDecoder, BundleEncoder
from lcode.coding.coders.conv import ConvEncoder
from lcode.coding.coders.linear import (AdditionEncoder, ConcatenationEncoder, ReplicationDecoder, ReplicationEncoder,
                                        SubtractionDecoder)
from lcode.coding.coders.mlp import MLPDecoder, MLPEncoder
from lcode.coding.coders.spline import SplineDecoder, SplineEncoder

ENCODERS = {
    'mlp': MLPEncoder, 'conv': ConvEncoder, 'addition': AdditionEncoder, 'concatenation': ConcatenationEncoder,
    'berrut': BerrutEncoder, 'approxifer': ApproxIFEREncoder, 'spline': SplineEncoder,
    'replication': ReplicationEncoder, 'bundle': BundleEncoder,
}
DECODERS = {
    'mlp': MLPDecoder, 'subtraction': SubtractionDecoder, 'berrut': BerrutDecoder, 'approxifer': ApproxIFERDecoder,
    'spline': SplineDecoder, 'replication': ReplicationDecoder, 'bundle': BundleDecoder,
}
