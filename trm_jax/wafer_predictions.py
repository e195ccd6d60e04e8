"""Stored answers of wafer classifiers: what evaluation and error analysis work from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from trm_jax.files import replacing


class Predicted(NamedTuple):
    """What S models say of N wafers after each of K supervision steps."""

    index: np.ndarray  # (N,) which wafers of the source
    logits: np.ndarray  # (S, K, N, classes) float32
    halt: np.ndarray  # (S, K, N) float32, logit of "the answer is right"


def save_predicted(path: Path, predicted: Predicted) -> None:
    """Write for `load_predicted`."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **predicted._asdict())
