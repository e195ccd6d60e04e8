"""What a trained wafer classifier answered, stored so that evaluation needs neither its weights nor jax.

S seeds, K supervision steps (K may exceed the N_sup that was trained with), N wafers, C classes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from trm_jax.support.files import DAMAGE, replacing


class Predicted(NamedTuple):
    """Answers to N wafers."""

    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    """int64 (N,), which wafers of the Wafers object."""
    logits: np.ndarray
    """float32 (S, K, N, C), of every seed after every supervision step."""
    halt: np.ndarray
    """float32 (S, K, N), logit of "the answer is right"."""


def stopped_at(halt: np.ndarray, threshold: float | None) -> np.ndarray:
    """Index of the step at which each wafer stops, from halting logits (..., K, N).

    It is the first step whose probability is above the threshold, else the last; without a threshold always the last.
    """
    if threshold is None:
        return np.full((*halt.shape[:-2], halt.shape[-1]), halt.shape[-2] - 1)
    stops = expit(halt) > threshold
    stops[..., -1, :] = True
    return stops.argmax(axis=-2)


def save_predicted(path: Path, predicted: Predicted) -> None:
    """Write a compressed .npz, whole or not at all. Raises ValueError if shapes contradict each other."""
    checked = _checked(predicted)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **checked._asdict())


def load_predicted(path: Path) -> Predicted:
    """Read what save_predicted wrote. Raises ValueError in one line if the file is missing, damaged or contradicts
    itself."""
    if not path.is_file():
        raise ValueError(f"no predictions at {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in Predicted._fields if name not in arrays]
            if missing:
                raise ValueError(f"it has no array {', '.join(missing)}")
            return _checked(Predicted(*(arrays[name] for name in Predicted._fields)))
    except DAMAGE as error:
        raise ValueError(f"{path} has no usable predictions: {' '.join(str(error).split())}") from error


def _checked(predicted: Predicted) -> Predicted:
    """The same with its fixed types; numbers that are none would turn into wrong answers unseen."""
    index, logits, halt = (np.asarray(values) for values in predicted)
    if index.ndim != 1 or index.dtype.kind not in "iu" or (index < 0).any():
        raise ValueError(f"index must be one row of positions, not {index.dtype} of shape {index.shape}")
    if logits.ndim != 4 or logits.shape[2] != len(index) or min(logits.shape) < 1:
        raise ValueError(f"logits must be (seeds, steps, {len(index)} wafers, classes), not {logits.shape}")
    if halt.shape != logits.shape[:3]:
        raise ValueError(f"halt must be {logits.shape[:3]} like the logits, not {halt.shape}")
    for name, values in (("logits", logits), ("halt", halt)):
        if values.dtype.kind != "f" or not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite floating-point numbers")
    return Predicted(index.astype(np.int64), logits.astype(np.float32), halt.astype(np.float32))
