"""Two patterns on one wafer, real or generated, which no classifier of single patterns was trained on.

The pairs are those of MixedWM38 (Wang et al. 2020): Near-full and Random hide every other pattern, and Center with
Donut or Edge-Loc with Edge-Ring would look like one of the two alone.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np

from trm_jax.wafer.maps.wafers import CLASSES, FAIL, NO_DIE, PASS, UNKNOWN, Wafers, packed

MIXED = ("Center", "Donut", "Edge-Loc", "Edge-Ring", "Loc", "Scratch")
PAIRS = tuple(pair for pair in combinations(MIXED, 2) if pair not in (("Center", "Donut"), ("Edge-Loc", "Edge-Ring")))
"""Names of the two classes of a mix, 13 pairs."""


def from_maps(wafers: Wafers, chosen: np.ndarray, maps: list[np.ndarray], what: str, labelled: bool = False) -> Wafers:
    """Wafers with these maps, and everything else of those they were made from; without labels unless ``labelled``."""
    made = wafers.take(chosen)
    label = made.label if labelled else np.full(len(maps), UNKNOWN, np.int8)
    return replace(made, **packed(maps), label=label, source=f"{what} from {wafers.source}")


def overlay(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A die of the first map fails if it does in either map; the dies are those of the first. Same shape, uint8."""
    if first.shape != second.shape:
        raise ValueError(f"only maps of the same size can be overlaid, not {first.shape} and {second.shape}")
    fails = (first == FAIL) | (second == FAIL)
    return np.where(first == NO_DIE, NO_DIE, np.where(fails, FAIL, PASS)).astype(np.uint8)


def mixed_wafers(wafers: Wafers, chosen: np.ndarray, count: int, seed: int = 0) -> Wafers:
    """``count`` mixes of wafers among ``chosen`` (indices), pairs of classes as even as the map sizes allow.

    The new wafers have no label; ``row``, ``group`` and ``fold`` are those of the first wafer of the mix. Raises
    ValueError where no two wafers of different patterns have the same size.
    """
    return mixed_with_classes(wafers, chosen, count, seed)[0]


def mixed_with_classes(wafers: Wafers, chosen: np.ndarray, count: int, seed: int = 0) -> tuple[Wafers, np.ndarray]:
    """The same wafers, and the two classes of each, (count, 2) ascending indices into CLASSES."""
    drawn = drawn_pairs(wafers, chosen, count, seed)
    return overlaid(wafers, drawn, seed), np.sort(wafers.label[drawn].astype(np.int64), axis=1)


def overlaid(wafers: Wafers, drawn: np.ndarray, seed: int) -> Wafers:
    """The wafers of each pair, (count, 2) indices, laid over each other; ``seed`` is that of the draw."""
    maps = [overlay(wafers.map(first), wafers.map(second)) for first, second in drawn]
    return from_maps(wafers, drawn[:, 0], maps, f"mixes of two patterns, seed {seed},")


def drawn_pairs(wafers: Wafers, chosen: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """The two wafers of each of these mixes, (count, 2): the second is laid over the first."""
    rng = np.random.default_rng(seed)
    sizes = wafers.height[chosen].astype(np.int64) * 2**16 + wafers.width[chosen]
    names = np.array(CLASSES)[wafers.label[chosen]]
    members = {
        (size, name): chosen[(sizes == size) & (names == name)]
        for size in np.unique(sizes[np.isin(names, MIXED)]).tolist()
        for name in MIXED
    }
    sizes_of = {
        pair: [size for size in dict.fromkeys(size for size, _ in members) if all(len(members[size, n]) for n in pair)]
        for pair in PAIRS
    }
    pairs = [pair for pair, common in sizes_of.items() if common]
    if not pairs:
        raise ValueError(f"{wafers.source}: no two wafers of different patterns have the same size")
    drawn = np.zeros((count, 2), np.int64)
    for number in range(count):
        pair = pairs[number % len(pairs)]
        weight = np.array([min(len(members[size, name]) for name in pair) for size in sizes_of[pair]], float)
        size = sizes_of[pair][rng.choice(len(weight), p=weight / weight.sum())]
        drawn[number] = [int(rng.choice(members[size, name])) for name in rng.permutation(pair)]
    return drawn
