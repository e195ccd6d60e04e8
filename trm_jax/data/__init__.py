"""Data sets: loaders and generators give numpy arrays and know no jax; `augment` is the part that runs in the step."""
