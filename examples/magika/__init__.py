"""Magika, Google's classifier of file types (ONNX), as a black box behind a coded service; see `__main__`."""
