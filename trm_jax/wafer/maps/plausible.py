"""Whether maps look like wafer maps in our codes: 0 no die, 1 passing die, 2 failing die.

Whole sources with another coding are refused, with the option that mends it; single maps that look like nothing that
was trained on are doubted. The limits are those of WM-811K: see `experiments/wafer_stress.py --false-alarms`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trm_jax.wafer.maps.validate import SMALLEST_SIDE, ReadResult
from trm_jax.wafer.maps.wafers import FAIL, NO_DIE, PASS, Wafers

FEWEST_MAPS = 10
"""Maps from which on a source is judged as a whole."""
NEARLY_ALL = 0.9
"""Share of the maps of a source that must agree before it is refused."""
INSIDE, OUTSIDE = 0.9, 1.15
"""Within this part of the radius every cell is a die, beyond that none is; the radius is half the map's side."""
MOST_UNTESTED, MOST_OUTSIDE = 0.1, 0.05
"""Largest shares of cells without a die inside, and of dies beyond; of 1,000 real maps one has 0.056, and none any."""
MOST_FAILING = 0.65
"""Largest failing share of a single map that is taken as it is; of 1,000 real maps four have more."""
ALL_PASS = 0.97
"""Share of ones inside from which on zeros are untested dies, not failing ones."""
SWAPPED = 0.7
"""Median failing share from which on pass and fail are taken for swapped, if nearly all maps have more than half."""
CODES = "how cells are coded where they are not 0, 1, 2: swapped, or such as pass=1,fail=0,outline=disc"
ANY_SIZE = (0.0, 1e9)
_ROLES = {"off": NO_DIE, "pass": PASS, "fail": FAIL}


class Codes(NamedTuple):
    """How a source codes its cells."""

    meaning: tuple[int, int, int] = (NO_DIE, PASS, FAIL)
    """What its codes 0, 1 and 2 are in ours."""
    disc: bool = False
    """Whether cells outside of the ellipse that touches the map's sides are no dies, whatever their code."""


class Inspected(NamedTuple):
    """A source in our codes, without empty borders."""

    read: ReadResult
    doubts: dict[int, str]
    """Why a person should look at a map, by its position in ``read.wafers``."""
    notes: list[str]
    """What was changed, for people to read."""


class Measures(NamedTuple):
    """What is measured of N maps, (N,) each."""

    dies: np.ndarray
    failing: np.ndarray
    """Failing share of the dies."""
    untested: np.ndarray
    """Share of the cells well inside the disc that have no die."""
    outside: np.ndarray
    """Share of the cells well outside of it that are dies."""
    corner: np.ndarray
    """Code of all four corners, 0 where they differ."""


def parse_codes(text: str) -> Codes:
    """Codes from ``swapped`` (1 fail, 2 pass), or from parts such as ``pass=1,fail=0,off=2,outline=disc``.

    A code that is not named is no die; parts that are all left out are ours, as an empty text is. Raises ValueError for
    anything else.
    """
    if text in ("", "swapped"):
        return Codes((NO_DIE, FAIL, PASS)) if text else Codes()
    parts = dict(part.partition("=")[::2] for part in text.split(","))
    disc = parts.pop("outline", "")
    wrong = set(parts) - set(_ROLES) or {value for value in parts.values() if value not in ("0", "1", "2")}
    twice = len(set(parts.values())) < len(parts) or len(text.split(",")) > len(parts) + bool(disc)
    if wrong or twice or disc not in ("", "disc") or (parts and not {"pass", "fail"} <= set(parts)):
        raise ValueError(
            f"--codes {text}: give swapped, or pass=, fail= and off= with different codes 0, 1 or 2, and outline=disc "
            "where what lies outside the wafer has no code of its own; for example pass=1,fail=0,outline=disc"
        )
    meaning = [NO_DIE] * 3 if parts else [NO_DIE, PASS, FAIL]
    for role, code in parts.items():
        meaning[int(code)] = _ROLES[role]
    return Codes((meaning[0], meaning[1], meaning[2]), disc == "disc")


def inspect(read: ReadResult, codes: str = "", dies: Sequence[float] = ANY_SIZE) -> Inspected:
    """Translate, crop and check what was read; ``codes`` as `parse_codes` takes them, empty for ours.

    ``dies`` are the fewest and the most of a map that the model was trained on.

    Raises ValueError in one line, with the likely cause and the option that mends it, for a source whose coding cannot
    be right, and for codes that are none.
    """
    wafers = recode(read.wafers, parse_codes(codes)) if codes else read.wafers
    wafers, cropped = crop(wafers)
    measures = measure(wafers)
    problem = source_problem(measures)
    if problem:
        raise ValueError(f"{wafers.source}: {problem}")
    notes = [f"{cropped:,} maps had empty border rows or columns, which were cropped"] * bool(cropped)
    return Inspected(read._replace(wafers=wafers), map_doubts(measures, dies), notes)


def recode(wafers: Wafers, codes: Codes) -> Wafers:
    """The same maps in our codes; the cells are copied."""
    flat = np.array(codes.meaning, np.uint8)[wafers.flat]
    recoded = Wafers(**{**vars(wafers), "flat": flat})
    for index, maps in recoded.iter_same_shape() if codes.disc else ():
        height, width = maps.shape[1:]
        kept = np.where(radius(height, width) <= 1, maps, NO_DIE)
        flat[wafers.start[index][:, None] + np.arange(height * width)] = kept.reshape(len(index), -1)
    return recoded


def crop(wafers: Wafers) -> tuple[Wafers, int]:
    """Maps without border rows and columns that have no die, and how many had any; they keep the smallest side."""
    start, height, width = wafers.start, wafers.height.copy(), wafers.width.copy()
    flat, cropped = wafers.flat, 0
    for index, maps in wafers.iter_same_shape():
        dies = maps != NO_DIE
        rows, columns = dies.any(axis=2), dies.any(axis=1)
        ends = rows[:, 0] & rows[:, -1] & columns[:, 0] & columns[:, -1]
        for position, used, across in zip(index[~ends], rows[~ends], columns[~ends], strict=True):
            box = tuple(_extent(line) for line in (used, across))
            cells = wafers.map(int(position))[box]
            if not cells.size or cells.shape == wafers.map(int(position)).shape:
                continue
            flat = np.array(flat) if flat is wafers.flat else flat
            flat[start[position] : start[position] + cells.size] = cells.ravel()
            height[position], width[position] = cells.shape
            cropped += 1
    return Wafers(**{**vars(wafers), "flat": flat, "height": height, "width": width}), cropped


def _extent(used: np.ndarray) -> slice:
    """From the first to the last used entry, widened to the smallest side that a map may have."""
    places = np.flatnonzero(used)
    if not len(places):
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1]) + 1
    first = max(0, min(first, last - SMALLEST_SIDE))
    return slice(first, max(last, first + SMALLEST_SIDE))


def radius(height: int, width: int) -> np.ndarray:
    """Distance of every cell's centre from the middle, 1 at the middle of each side; (height, width)."""
    down, across = ((2 * np.arange(side) + 1 - side) / side for side in (height, width))
    return np.hypot(down[:, None], across)


def measure(wafers: Wafers) -> Measures:
    """Measure every map."""
    measures = Measures(*np.zeros((5, len(wafers))))
    for index, maps in wafers.iter_same_shape(max_batch=1024):
        dies, distance = maps != NO_DIE, radius(*maps.shape[1:])
        count = dies.sum(axis=(1, 2))
        corners = maps[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        measures.dies[index] = count
        measures.failing[index] = (maps == FAIL).sum(axis=(1, 2)) / np.maximum(count, 1)
        measures.untested[index] = 1 - dies[:, distance <= INSIDE].mean(axis=1)
        beyond = distance > OUTSIDE
        measures.outside[index] = dies[:, beyond].mean(axis=1) if beyond.any() else 0
        measures.corner[index] = np.where((corners == corners[:, :1]).all(axis=1), corners[:, 0], NO_DIE)
    return measures


def source_problem(measures: Measures) -> str:
    """Why a source cannot be in our codes, with the option that mends it; empty where it may be, or has few maps."""

    def most(mask: np.ndarray) -> bool:
        return bool(mask.mean() >= NEARLY_ALL)

    if len(measures.dies) < FEWEST_MAPS:
        return ""
    drawn = 1 - float(np.median(measures.untested))
    if most(measures.corner == FAIL):
        mend = "pass=0,fail=1,off=2" if drawn < 0.5 else "outline=disc"
        return f"the corners fail, where no die is: outside the wafer the code seems to be 2; try --codes {mend}"
    if most(measures.corner == PASS) or most(measures.outside > 0.5):
        return "there are dies in the corners, outside of the wafer; try --codes outline=disc"
    if most(measures.failing == 0) and drawn < 0.5:
        return "no map has a failing die, and few cells are dies: 1 seems to mark failing dies and 0 all others; try " \
            "--codes pass=0,fail=1,outline=disc"  # fmt: skip
    if most(measures.failing == 0) and drawn < ALL_PASS:
        return (
            "no map has a failing die, but there are holes in the wafers: 0 seems to be failing dies, too; try "
            "--codes pass=1,fail=0,outline=disc"
        )
    if most(measures.failing == 1) and drawn < ALL_PASS:
        return "no map has a passing die: only failing dies seem to be drawn; try --codes pass=0,fail=2,outline=disc"
    if most(measures.failing == 1):
        return "every die of these maps fails; if 2 is a passing die (a stretched picture?), try --codes swapped"
    if np.median(measures.failing) > SWAPPED and most(measures.failing > 0.5):
        return "most dies of most maps fail: 1 seems to be a failing die and 2 a passing one; try --codes swapped"
    return ""


def map_doubts(measures: Measures, trained: Sequence[float] = ANY_SIZE) -> dict[int, str]:
    """Reasons by position for maps that are unlike real ones, or whose dies are fewer or more than was ``trained``.

    That most dies fail is a reason only in a source too small to show that its codes are ours.
    """
    known = len(measures.dies) >= FEWEST_MAPS and np.median(measures.failing) < 0.5
    dies, failing, untested, outside, _ = measures
    size = f"has {{:,.0f}} dies; trained on {trained[0]:,} to {trained[1]:,}"
    found: list[tuple[np.ndarray, str, np.ndarray]] = [
        ((failing > MOST_FAILING) & (not known), "{:.0%} of its dies fail: are pass and fail swapped?", failing),
        ((dies < trained[0]) | (dies > trained[1]), size, dies),
        (untested > MOST_UNTESTED, "{:.0%} of the disc has no die: only partly tested?", untested),
        (outside > MOST_OUTSIDE, "{:.0%} of the corners has dies: not a disc", outside),
        (failing == 1, "has no passing die", failing),
        (failing == 0, "has no failing die", failing),
    ]
    return {int(index): text.format(values[index]) for mask, text, values in found for index in np.flatnonzero(mask)}
