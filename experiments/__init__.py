"""Entry points: `python -m experiments.NAME --help` explains each."""
