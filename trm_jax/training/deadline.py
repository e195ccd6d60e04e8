"""Stopping in time, so that a run can be done in slices of some minutes."""

import math
import time

import numpy as np

from trm_jax.training.processes import broadcast_from_first

clock = time.monotonic
STARTED = clock()
"""When this process began to import the engine, a few seconds after it started."""
RESERVE = 10.0
"""Seconds kept for the last checkpoint and the end of the process."""


class Deadline:
    """The end of a slice of ``minutes`` since the process started; 0 for none."""

    def __init__(self, minutes: float):
        self.limited = minutes > 0
        self._end = STARTED + 60 * minutes - RESERVE if self.limited else math.inf
        self.start()
        self._longest = 0.0

    def start(self) -> None:
        """Begin a round now: what was before, such as compiling, does not tell how long rounds take."""
        self._last = clock()

    def reached(self) -> bool:
        """Whether another round as long as the longest could end too late. To be asked at the end of each round; all
        processes get the answer of the first."""
        if not self.limited:
            return False
        now = clock()
        self._longest, self._last = max(self._longest, now - self._last), now
        return bool(broadcast_from_first(np.array(now + self._longest > self._end)))
