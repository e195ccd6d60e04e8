"""Is a run that was interrupted the same as one that was not, on this device?"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trm_jax.benchmark.cases import random_data
from trm_jax.core.config import Config
from trm_jax.core.task import Examples, TokenTask
from trm_jax.training.loop import fit


class Interrupted(Exception):
    """Raised between two checkpoints, as a kill would come."""


@dataclass(frozen=True)
class Random(TokenTask):
    """Tokens without meaning; the evaluation of a number is interrupted."""

    arrays: Any = field(compare=False, repr=False)
    interrupted: int = field(default=0, compare=False)
    calls: list[int] = field(default_factory=list, compare=False, repr=False)

    def examples(self, part: str) -> Examples:
        return Examples(self.arrays)

    def score(self, prediction: Any, examples: Examples) -> dict[str, np.ndarray]:
        self.calls.append(1)
        if len(self.calls) == self.interrupted:
            raise Interrupted
        return super().score(prediction, examples)


def compare_resumed(config: Config) -> dict[str, Any]:
    """Train twelve steps, once as they are and once interrupted after step 8, when step 4 is the last kept.

    The largest difference of all weights at the end, and whether there is none at all.
    """
    config = config.override(
        **{"run.steps": 12, "optim.warmup": 2, "run.chunk": 4, "run.evaluate_every": 4, "run.checkpoint_every": 4}
    )
    arrays = random_data(config, 2 * config.run.batch)
    with tempfile.TemporaryDirectory() as folder:
        whole = fit(Random(arrays), config, Path(folder) / "whole")
        try:
            fit(Random(arrays, interrupted=2), config, Path(folder) / "again")
            raise RuntimeError("the run was not interrupted")
        except Interrupted:
            pass
        kept = max(int(path.name) for path in (Path(folder) / "again" / "checkpoints").glob("[0-9]*"))
        again = fit(Random(arrays), config, Path(folder) / "again")
    pairs = zip(jax.tree.leaves(whole.state.params), jax.tree.leaves(again.state.params), strict=True)
    largest = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    return {"resumed_from": kept, "largest": largest, "bitwise": largest == 0, "held": largest <= 1e-5}
