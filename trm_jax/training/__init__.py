"""One training run: its loop, directory, checkpoints, devices and processes."""
