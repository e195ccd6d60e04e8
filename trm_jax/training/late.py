"""What a compiled chunk says of itself, read while the next one runs."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from trm_jax.core.train_step import TrainingData, TrainState


class LateMetrics:
    """Metrics of chunks, read when the next chunk is on the device already, so that it need not wait for the host."""

    def __init__(self, row: Callable[[Any, int], dict[str, Any]], seconds: np.ndarray):
        self._row, self._waiting = row, list[tuple[int, Any]]()
        self._started = 0.0
        self.seconds = seconds
        """(S,) time in which chunks ran."""

    def run(self, program: Callable, state: TrainState, data: TrainingData, step: int) -> TrainState:
        """Start a chunk that ends at ``step``; returns its state, which need not be there yet."""
        self._started = self._started if self._waiting else time.perf_counter()
        state, metrics = program(state, data)
        self._waiting.append((step, metrics))
        return state

    def rows(self, behind: int = 0) -> list[dict[str, Any]]:
        """Rows of all chunks since the last call but so many of the newest; waits until they have run."""
        count = len(self._waiting) - behind
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        rows = [self._row(jax.block_until_ready(metrics), step) for step, metrics in ready]
        if ready:
            now = time.perf_counter()
            self.seconds, self._started = self.seconds + (now - self._started), now
        return rows
