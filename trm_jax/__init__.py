"""Tiny Recursive Models in pure JAX, from ablation study to edge device.

Importing this package imports no jax: the modules that compute do, when something of theirs is first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["WaferClassifier", "solve", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("trm_jax.face"), name)
    raise AttributeError(f"module 'trm_jax' has no attribute {name!r}")
