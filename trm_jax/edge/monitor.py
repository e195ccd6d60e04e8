"""Whether wafers, and what the model says about them, are still as they were when it was validated.

Every window of consecutive wafers is compared with a reference, one test for each of eight quantities: how far the
window's mean lies from the reference's mean, in standard errors; for a quantity of several parts (rings, classes) the
farthest counts. How far it may lie by chance comes from windows cut out of streams of whole lots that are drawn from
the reference with replacement: wafers of a lot are alike, and a test that took them for independent would raise an
alarm in most windows. The reference is redrawn each time too, because its mean and standard errors are estimates as
well (bootstrap-t).

Rate of false alarms: at most ``ALPHA`` of the windows, over all quantities together (Holm), as long as nothing changes,
lots are independent of each other and a window spans four of them. Rare windows are made of rare lots, which a
reference of few lots may not have, so a test has to pass a third of ``ALPHA``. A process that drifts from lot to lot
raises more.
"""

import datetime
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trm_jax.support.files import sync
from trm_jax.support.holm import holm
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.features import RADIAL, RADIAL_BINS, spatial_features
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

ALPHA = 0.01
"""Largest share of unchanged windows that raise an alarm."""
_MARGIN = 3
QUANTITIES = {
    "defect density": ("of the dies fail",),
    "map size": ("mean logarithm of a map's cells",),
    "radial profile": tuple(f"of the dies fail in ring {ring + 1} of {RADIAL_BINS}" for ring in range(RADIAL_BINS)),
    "place on the map": (
        "half heights down lie the dies",
        "half widths to the right lie the dies",
        "half heights down lie failing dies, times their share",
        "half widths to the right lie failing dies, times their share",
    ),
    "predicted classes": tuple(f"are {name}" for name in CLASSES),
    "confidence": ("is the mean confidence",),
    "review rate": ("go to review",),
    "supervision steps": ("are used on average",),
}
"""What is watched, and its parts as words after a number; places are counted from the centre of the map."""
MIN_LOTS = 20
_PARTS = np.cumsum([0, *(len(parts) for parts in QUANTITIES.values())])
_LIMITS = 40  # stored for each quantity, with probabilities to exceed them from a half to 1 / draws
_MIN_SCORE = 3.0  # standard errors; below, no limit raises an alarm
_MAX_WINDOW = 1_000_000
_MAX_UNWRITTEN = 1000
_GRID = 26
_WINDOWS_AT_ONCE = 200


class Window(NamedTuple):
    """The tests of one window of wafers."""

    tests: dict[str, dict[str, Any]]
    """By quantity: p corrected for their number, the part that lies farthest from the reference, its value, and the
    expected one."""
    alarms: list[str]
    """A sentence for each quantity that has changed."""


def measured(wafers: Wafers, probabilities: np.ndarray, steps: np.ndarray, review_threshold: float) -> np.ndarray:
    """What is watched of each wafer, (N, 31): the parts of all QUANTITIES in their order."""
    features = spatial_features(wafers)[0]
    decisions = decide(probabilities, review_threshold)
    return np.concatenate(
        [
            features[:, :1],
            np.log(wafers.height.astype(np.float64) * wafers.width)[:, None],
            features[:, RADIAL],
            _places(wafers),
            decisions.predicted[:, None] == np.arange(len(CLASSES)),
            decisions.confidence[:, None],
            decisions.review[:, None],
            steps[:, None],
        ],
        axis=1,
    ).astype(np.float64)


def _places(wafers: Wafers) -> np.ndarray:
    """Where dies and failing dies lie on average, each times their share, downwards and to the right; (N, 4)."""
    grid = to_grid(wafers, _GRID).astype(np.float32) / 255
    away = ((2 * np.arange(_GRID) - (_GRID - 1)) / _GRID).astype(np.float32)
    dies = np.maximum(grid[..., 1].sum(axis=(1, 2)), 1e-3)[:, None]
    down, right = np.einsum("nrck,r->nk", grid, away) / dies, np.einsum("nrck,c->nk", grid, away) / dies
    return np.stack([down[:, 1], right[:, 1], down[:, 0], right[:, 0]], axis=1)


def reference(
    wafers: Wafers,
    probabilities: np.ndarray,
    steps: np.ndarray,
    review_threshold: float,
    window: int | None = None,
    draws: int = 10_000,
) -> dict[str, Any]:
    """What later windows of ``window`` wafers are compared with, for the model's metadata; a few kB as JSON.

    A window has four mean lots if not given, and 250 wafers at least: more find smaller changes, but later.
    ``probabilities`` (N, 9) and ``steps`` (N,) are the model's answers for validation wafers, whose ``group`` is their
    lot. Raises ValueError for fewer than 20 lots, from which nothing can be said about rare windows.
    """
    values = measured(wafers, probabilities, steps, review_threshold)
    return baseline(values, wafers.group, window, draws)


def baseline(values: np.ndarray, group: np.ndarray, window: int | None, draws: int, seed: int = 0) -> dict[str, Any]:
    """The reference from measured values (N, 31) of wafers and their lots (N,); see ``reference``."""
    lots, lot, size = np.unique(group, return_inverse=True, return_counts=True)
    window = window or max(250, math.ceil(4 * len(values) / len(lots)))
    if len(lots) < MIN_LOTS or window < 2 or draws < 4000:
        raise ValueError(
            f"a reference needs {MIN_LOTS} lots, windows of 2 wafers and 4000 draws at least, "
            f"got {len(lots)}, {window} and {draws}"
        )
    rng = np.random.default_rng(seed)
    order = np.argsort(lot, kind="stable")
    first = np.cumsum(size) - size
    means = np.concatenate(
        [
            _window_means(rng, values[order], first, size, window, min(_WINDOWS_AT_ONCE, draws - begin))
            for begin in range(0, draws, _WINDOWS_AT_ONCE)
        ]
    )
    sums = np.add.reduceat(values[order], first)
    mean, spread = _mean_and_spread(sums, size, np.ones((1, len(lots))), window)
    # A window is compared with a reference that might as well have been drawn, and with its errors.
    times = rng.multinomial(len(lots), np.full(len(lots), 1 / len(lots)), draws)
    means_drawn, spreads_drawn = _mean_and_spread(sums, size, times, window)
    farthest = np.maximum.reduceat(np.abs(means - means_drawn) / spreads_drawn, _PARTS[:-1], axis=1)
    tail = np.geomspace(0.5, 1 / draws, _LIMITS)
    limits = np.quantile(farthest, 1 - tail, axis=0).T
    return {
        "window": window,
        "wafers": len(values),
        "lots": len(lots),
        "draws": draws,
        "tail": _rounded(tail),
        "mean": _rounded(mean[0]),
        "spread": _rounded(spread[0]),
        "limits": {name: _rounded(limit) for name, limit in zip(QUANTITIES, limits, strict=True)},
    }


def _mean_and_spread(sums: np.ndarray, size: np.ndarray, times: np.ndarray, window: int) -> tuple[np.ndarray, ...]:
    """Mean of the wafers and standard error of a window's mean, each (draws, 31).

    Lots count ``times`` (draws, lots); ``sums`` (lots, 31) are over the wafers of each lot of ``size`` (lots,) wafers.
    """
    count = (times @ size)[:, None]
    mean = times @ sums / count
    square = times @ sums**2 - 2 * mean * (times @ (sums * size[:, None])) + mean**2 * (times @ size**2)[:, None]
    # A single wafer, or a quantity that never varied, must not look like a change.
    return mean, np.maximum(np.sqrt(np.maximum(square, 0) / count / window), 1 / window)


def _window_means(
    rng: np.random.Generator, values: np.ndarray, first: np.ndarray, size: np.ndarray, window: int, count: int
) -> np.ndarray:
    """Means of consecutive windows of a stream of whole lots, drawn with replacement; it begins within a lot."""
    needed = count * window + int(size.max())
    drawn = rng.integers(len(size), size=-(-needed // int(size.min())))
    drawn = drawn[: int(np.searchsorted(np.cumsum(size[drawn]), needed)) + 1]
    lengths = size[drawn]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    stream = np.repeat(first[drawn], lengths) + within
    stream = stream[rng.integers(lengths[0]) :][: count * window]
    return values[stream].reshape(count, window, -1).mean(axis=1)


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


class _Limits(NamedTuple):
    """A reference as arrays."""

    window: int
    mean: np.ndarray
    spread: np.ndarray
    tail: np.ndarray
    limits: np.ndarray
    """(quantities, len(tail))"""


def _read(reference: dict[str, Any]) -> _Limits:
    """The numbers of a reference. Raises ValueError if there is none, or it was made by another version."""
    if not reference:
        raise ValueError("the model has no monitoring reference; export it with validation wafers")
    try:
        mean, spread, tail = (np.array(reference[name], np.float64) for name in ("mean", "spread", "tail"))
        limits = np.array([reference["limits"][name] for name in QUANTITIES], np.float64)
        window = reference["window"]
    except (LookupError, TypeError, ValueError):
        raise ValueError("the model's monitoring reference does not fit; export it again") from None
    shapes = mean.shape == spread.shape == (_PARTS[-1],) and limits.shape == (len(QUANTITIES), *tail.shape)
    finite = all(np.isfinite(values).all() for values in (mean, spread, tail, limits))
    if type(window) is not int or not 2 <= window <= _MAX_WINDOW or not shapes or not finite or (spread <= 0).any():
        raise ValueError("the model's monitoring reference does not fit; export it again")
    return _Limits(window, mean, spread, tail, limits)


def examine(reference: dict[str, Any], values: np.ndarray, alpha: float = ALPHA) -> Window:
    """Test the measured values (window, 31) of one window. Raises ValueError if the reference was made by others."""
    known, value = _read(reference), values.mean(axis=0)
    scores = np.abs(value - known.mean) / known.spread
    farthest = np.maximum.reduceat(scores, _PARTS[:-1])
    # Between two limits the smaller one counts, so that p is never too small.
    p = [_tail_probability(score, limit, known.tail) for score, limit in zip(farthest, known.limits, strict=True)]
    tests, alarms = {}, []
    for number, (name, corrected) in enumerate(zip(QUANTITIES, holm(p).tolist(), strict=True)):
        begin, end = _PARTS[number : number + 2]
        part = int(begin + scores[begin:end].argmax())
        text, mean, expected = QUANTITIES[name][part - begin], float(value[part]), float(known.mean[part])
        tests[name] = {"quantity": name, "p": corrected, "part": text, "value": mean, "expected": expected}
        if corrected <= alpha / _MARGIN:
            alarms.append(
                f"change of {name}: {mean:.3g} {text} in the last {len(values)} wafers, {expected:.3g} when "
                f"the model was validated (p = {corrected:.2g} after correction for {len(QUANTITIES)} quantities)"
            )
    return Window(tests, alarms)


def _tail_probability(score: float, limits: np.ndarray, tail: np.ndarray) -> float:
    passed = int((score > limits).sum())
    return 1.0 if score <= _MIN_SCORE or passed == 0 else float(tail[passed - 1])


class Monitor:
    """Collects wafers into windows, tests each, and writes a line about it into a log.

    An alarm does not depend on the log: ``error`` says why the last line could not be written, and is empty otherwise;
    such lines are written with the next one.
    """

    def __init__(self, reference: dict[str, Any], log: Path | None = None, alpha: float = ALPHA):
        """Raises ValueError if the model has no reference that fits."""
        self.reference, self.log, self.alpha, self.window = reference, log, alpha, _read(reference).window
        self.waiting = np.zeros((0, int(_PARTS[-1])))
        self.unwritten: list[dict[str, Any]] = []
        self.error = ""

    def add(self, wafers: Wafers, probabilities: np.ndarray, steps: np.ndarray, review_threshold: float) -> list[str]:
        """Take in wafers with their answers; returns the alarms of the windows that are full now."""
        if not len(wafers):
            return []
        values = measured(wafers, probabilities, steps, review_threshold)
        self.waiting = np.concatenate([self.waiting, values])
        alarms: list[str] = []
        while len(self.waiting) >= self.window:
            values, self.waiting = self.waiting[: self.window], self.waiting[self.window :]
            result = examine(self.reference, values, self.alpha)
            alarms += result.alarms
            time = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
            self.unwritten.append({"time": time, "wafers": len(values), "alarms": result.alarms, "tests": result.tests})
        self._write()
        return alarms

    def _write(self) -> None:
        self.error = ""
        try:
            while self.log is not None and self.unwritten:
                append(self.log, self.unwritten[0])
                self.unwritten.pop(0)
        except OSError as error:
            self.error = f"the monitor cannot write to {self.log}: {error.strerror}"
        self.unwritten = self.unwritten[-_MAX_UNWRITTEN:] if self.log is not None else []


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line to a JSON-lines file and wait until it is on the disk; a line torn by a power loss is closed first."""
    line = json.dumps(record, allow_nan=False).encode() + b"\n"
    new = not path.exists()
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if new:  # the name of a new file is kept by its directory
        sync(path.parent)
