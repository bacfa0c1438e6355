"""Training of torch networks: loop, batches, checkpoints, devices and processes."""
