"""Training and judging a code: objectives, the pure step, devices, the loop, checkpoints, test figures."""
