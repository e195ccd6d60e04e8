"""The more the score may cost, the fewer of the known are decided, and of the unknown: both stand in one line."""

import re

import numpy as np

from trm_jax.wafer.evaluation.trust.readiness import POINTS, frontier
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES
from trm_jax.wafer.unknown.fit import distances


def test_what_is_paid_and_gained_stands_in_one_line() -> None:
    rng, wafers = np.random.default_rng(0), synthetic_wafers(3000)
    wafers.group[:] = np.arange(3000) // 60
    seen = rng.normal(size=(3000, 3)).astype(np.float32)
    predicted = wafers.label.astype(int)
    scratches = predicted == CLASSES.index("Scratch")
    predicted[scratches & (rng.random(3000) < 0.3)] = CLASSES.index("Loc")  # which makes Loc, too, a class in doubt
    probabilities = np.full((3000, 9), 0.00125, np.float32)
    probabilities[np.arange(3000), predicted] = 0.99
    far = rng.normal(size=(500, 3)).astype(np.float32) + np.array([2.5, 0, 0], np.float32)
    sure = np.full((500, 9), 0.00125, np.float32)
    sure[:, CLASSES.index("none")] = 0.99
    text = frontier(distances(seen, np.zeros(3000, int)), (probabilities, seen), wafers, 0.8, {"far": (sure, far)})
    rows = [[float(share[:-1]) for share in re.findall(r"[\d.]+%", line)] for line in text.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == [(100 * cost, 100 * alpha) for cost, alpha in POINTS]
    by_cost = sorted(row for row in rows if row[1] == 3)
    decided, unknown = (np.array([row[column] for row in by_cost]) for column in (2, 5))
    assert (np.diff(decided) <= 0).all() and decided[0] > decided[-1]
    assert (np.diff(unknown) <= 0).all() and unknown[0] > 5 + unknown[-1]
    assert all(row[3] < 3 and row[2] < 95 for row in rows)  # Loc is reviewed: at most 3 % of what is decided is wrong
