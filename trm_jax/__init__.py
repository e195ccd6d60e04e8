"""Tiny Recursive Models in pure JAX, from ablation study to edge device.

Importing this package imports no jax: the modules that compute do.
"""

__version__ = "0.1.0"
