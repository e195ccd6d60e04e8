"""What becomes of maps that are not what the model learned: refused, sent to review, or decided, and how often wrongly.

Situations are made from labelled wafers: the codes of other tools, parts of wafers, other sizes, other patterns.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from trm_jax.reporting import markdown
from trm_jax.wafer.checkpoint import Classifier
from trm_jax.wafer.classify import classify
from trm_jax.wafer.generated.drawings import UNKNOWNS, drawn
from trm_jax.wafer.generated.mixes import from_maps, mixed_wafers
from trm_jax.wafer.maps.answers import decide
from trm_jax.wafer.maps.plausible import ANY_SIZE, inspect, map_doubts, measure, radius, source_problem
from trm_jax.wafer.maps.unlike import doubted
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.maps.wafers import FAIL, NO_DIE, NONE, PASS, UNKNOWN, Wafers

FOREIGN = {
    "0 = good or no die, 1 = bad": (0, 0, 1),
    "1 = pass, 0 = fail or no die": (0, 1, 0),
    "1 = fail, 2 = pass (swapped)": (0, 2, 1),
    "only failing dies drawn": (0, 0, 2),
    "outside coded as passing": (1, 1, 2),
    "outside coded as failing": (2, 1, 2),
    "0 = pass, 1 = fail, 2 = outside": (2, 0, 1),
}
"""Codes of other tools: what stands for our 0, 1 and 2."""


class Situation(NamedTuple):
    """Maps as somebody sends them; a label is the right answer, UNKNOWN where every automatic answer is wrong."""

    maps: Wafers
    codes: str = ""
    alone: bool = False
    """Whether every map is a source of its own, as for a service."""


class Outcome(NamedTuple):
    """Numbers of maps."""

    maps: int
    refused: int
    review: int
    automatic: int
    wrong: int
    """Of the automatic ones."""


def changed(wafers: Wafers, change: Callable[[np.ndarray], np.ndarray], what: str) -> Wafers:
    """Every map changed, with its label."""
    maps = [np.asarray(change(wafers.map(index)), np.uint8) for index in range(len(wafers))]
    return from_maps(wafers, np.arange(len(wafers)), maps, what, labelled=True)


def half_tested(cells: np.ndarray) -> np.ndarray:
    """Nothing tested right of the middle."""
    return np.where(np.arange(cells.shape[1]) < cells.shape[1] / 2, cells, NO_DIE)


def every_second(cells: np.ndarray) -> np.ndarray:
    """Dies tested like the white fields of a chessboard."""
    return np.where(np.add.outer(*map(np.arange, cells.shape)) % 2, cells, NO_DIE)


def cornered(cells: np.ndarray) -> np.ndarray:
    """In the corner of a canvas that is a quarter larger."""
    return np.pad(cells, [(0, -(-side // 4)) for side in cells.shape])


def letterboxed(cells: np.ndarray) -> np.ndarray:
    """A figure with white bars, at least two cells wide, at two sides."""
    bar = max(2, abs(cells.shape[0] - cells.shape[1]) // 2)
    across = cells.shape[0] > cells.shape[1]
    return np.pad(cells, [(0, 0), (bar, bar)] if across else [(bar, bar), (0, 0)], constant_values=FAIL)


def disc(rng: np.random.Generator, side: int, failing: int) -> np.ndarray:
    """A wafer of this many dies a side, of which so many fail at random."""
    cells = np.where(radius(side, side) <= 1, PASS, NO_DIE).astype(np.uint8)
    cells.ravel()[rng.choice(np.flatnonzero(cells), failing, replace=False)] = FAIL
    return cells


def situations(wafers: Wafers, count: int = 500, seed: int = 0) -> dict[str, Situation]:
    """All situations by name, of up to ``count`` maps, from labelled wafers that the model was not trained on."""
    rng = np.random.default_rng(seed)

    def some(mask: np.ndarray) -> Wafers:
        chosen = rng.permutation(np.flatnonzero(mask))[:count]
        return wafers.take(np.sort(chosen))

    patterned = some((wafers.label != NONE) & (wafers.label != UNKNOWN))
    made = {"as they come": Situation(some(wafers.label != UNKNOWN)), "with a pattern": Situation(patterned)}
    for name, table in FOREIGN.items():
        maps = changed(patterned, lambda cells, table=table: np.array(table)[cells], name)  # type: ignore[misc]
        made[name] = Situation(maps)
        made[f"{name}, one by one"] = Situation(maps, alone=True)
    failing = changed(patterned.take(np.arange(min(30, len(patterned)))), lambda cells: cells == FAIL, "truth values")
    made["True and False, failing dies"] = Situation(failing)
    plain = some(wafers.label == NONE)
    made["all passing, stretched to 0 and 255"] = Situation(changed(plain, lambda c: FAIL * (c != NO_DIE), "stretched"))
    for name, change in {
        "figures with white bars": letterboxed, "in the corner of a larger canvas": cornered,
        "half of the wafer tested": half_tested, "every second die tested": every_second,
    }.items():  # fmt: skip
        maps = changed(patterned, change, name)
        made[name] = Situation(maps)
        made[f"{name}, one by one"] = Situation(maps, alone=True)
    small = [disc(rng, int(rng.integers(7, 22)), int(rng.integers(1, 4))) for _ in range(len(plain))]
    made["7 to 21 dies a side, 1 to 3 failing"] = Situation(_plain(plain, small))
    made["300 dies a side, none failing"] = Situation(_plain(plain, [disc(rng, 300, 0)]))
    for number, (name, draw) in enumerate(UNKNOWNS.items()):
        made[name] = Situation(drawn(wafers, draw, count // 3, seed + number))
    made["two patterns on a wafer"] = Situation(mixed_wafers(wafers, np.flatnonzero(wafers.label != UNKNOWN), count))
    return made


def _plain(wafers: Wafers, maps: list[np.ndarray]) -> Wafers:
    """These maps, labelled as without a pattern."""
    return from_maps(wafers, np.arange(len(maps)), maps, "discs", labelled=True)


def outcome(classifier: Classifier, situation: Situation, checked: bool = True) -> Outcome:
    """What becomes of the maps; without the checks, what the confidence alone makes of them."""
    maps, doubts = situation.maps, dict[int, str]()
    if checked and not situation.alone:
        try:
            read, doubts, _ = inspect(ReadResult(maps, []), situation.codes, classifier.calibration.dies)
        except ValueError:
            return Outcome(len(maps), len(maps), 0, 0, 0)
        maps = read.wafers
    elif checked:
        parts = [
            inspect(ReadResult(maps.take(np.array([index])), []), situation.codes, classifier.calibration.dies)
            for index in range(len(maps))
        ]
        cells = [part.read.wafers.map(0) for part in parts]
        maps = from_maps(maps, np.arange(len(maps)), cells, "sources of one map", labelled=True)
        doubts = {index: part.doubts[0] for index, part in enumerate(parts) if part.doubts}
    classified = classify(classifier, maps)
    if checked and classified.unlike is not None:
        doubts = doubted(doubts, classified.unlike)
    calibration = classifier.calibration
    limits = calibration.thresholds if checked else calibration.review_threshold
    decisions = decide(classified.probabilities, limits, doubts)
    wrong = ~decisions.review & (decisions.predicted != situation.maps.label)
    automatic = int((~decisions.review).sum())
    return Outcome(len(maps), 0, len(maps) - automatic, automatic, int(wrong.sum()))


def table(before: dict[str, Outcome], after: dict[str, Outcome]) -> str:
    """Markdown: what confidence alone made of each situation, and what is made of it now."""
    columns = ["Situation", "Maps", "Automatic before", "wrong", "Refused", "Review", "Automatic", "wrong"]
    rows = [
        [name, old.maps, old.automatic, old.wrong, new.refused, new.review, new.automatic, new.wrong]
        for (name, old), new in zip(before.items(), after.values(), strict=True)
    ]
    return markdown.table(columns, rows)


def false_alarms(wafers: Wafers, sizes: Sequence[int], dies: Sequence[float] = ANY_SIZE) -> list[tuple[int, ...]]:
    """How often real wafers are refused or doubted in sources of so many consecutive ones.

    A row a size: size, sources (beginning at every fifth of a size), refused sources, wafers in all of them, doubted
    wafers.
    """
    measures, rows = measure(wafers), list[tuple[int, ...]]()
    for size in sizes:
        starts = range(0, len(wafers) - size + 1, max(1, size // 5))
        refused = doubted = 0
        for start in starts:
            part = type(measures)(*(values[start : start + size] for values in measures))
            refused += bool(source_problem(part))
            doubted += len(map_doubts(part, dies))
        rows.append((size, len(starts), refused, size * len(starts), doubted))
    return rows
