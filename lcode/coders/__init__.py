"""Families of encoders and decoders: one file each, one line each in the tables below.

An encoder is a Flax module over one group, f32[k, *S] -> f32[r, *S]; a decoder is one over the outputs that
arrived, (f32[n, C] with zeros where missing, bool[n]) -> f32[k, C]. Both are built from a `Code` alone.
"""

from lcode.coders.conv import ConvEncoder
from lcode.coders.mlp import MLPDecoder, MLPEncoder

ENCODERS = {'mlp': MLPEncoder, 'conv': ConvEncoder}
DECODERS = {'mlp': MLPDecoder}
