"""What a code is: its shape and erasure patterns, encoders and decoders, what answers the parities, and their cost."""
