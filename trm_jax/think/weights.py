"""A model as a page takes it: options and weights as JSON, and the JavaScript that computes with them."""

import base64
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from trm_jax.core.config import Config

TEMPLATES = Path(__file__).with_name("templates")


def describe(config: Config, params: Any) -> dict[str, Any]:
    """Options and float32 weights of a model for the class ``Model`` of model.js."""
    flat = {path: np.asarray(leaf, np.float32) for path, leaf in sorted(flatten_dict(params, sep="/").items())}
    values = np.concatenate([leaf.ravel() for leaf in flat.values()]).astype("<f4")
    return {
        "model": dataclasses.asdict(config.model),
        "recursion": {name: getattr(config.recursion, name) for name in ("N_sup", "T", "n")},
        "shapes": [[path, list(leaf.shape)] for path, leaf in flat.items()],
        "weights": base64.b64encode(values.tobytes()).decode(),
    }


def javascript(*names: str) -> str:
    """Files of this package, one after the other."""
    return "\n".join((TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in names)


def stylesheet() -> str:
    """Styles of the page."""
    return (TEMPLATES / "think.css").read_text(encoding="utf-8")
