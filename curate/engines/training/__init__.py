"""Training of torch networks: the loop, its batches, checkpoints, devices and processes."""
