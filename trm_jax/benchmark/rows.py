"""A line of the results: our time beside a peer's, and the share of the machine's peak that we reach."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

PEERS = {"eager": "PyTorch eager", "compiled": "PyTorch compiled"}
Times = dict[str, list[float]]
"""Seconds in each round, by the name of what was timed."""


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, lowest and highest of several rounds.

    The median of the population lies between the last two with probability 1 - 2 * 0.5**rounds.
    """
    return median(values), min(values), max(values)


@dataclass(frozen=True)
class Row:
    """One comparison."""

    name: str
    ours_ms: float
    """Median time of one step or call."""
    peer: str = ""
    """What it is compared with; empty where the peer could not run."""
    peer_ms: float | None = None
    ratio: float | None = None
    """Our time over the peer's, the median over rounds: below 1 we are faster."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    gflops: float | None = None
    """Matrix-product operations a second, in 10^9; recomputation is not counted."""
    share: float | None = None
    """gflops over that of one large matrix product in the same round."""
    share_low: float | None = None
    share_high: float | None = None
    note: str = ""


def make_rows(
    name: str,
    times: Times,
    *,
    peers: Mapping[str, str],
    steps: int = 1,
    flops: int = 0,
    matrix_flops: int = 0,
    ours: str = "ours",
    note: str = "",
) -> list[Row]:
    """A row for each peer, or one without a peer.

    ``times`` are seconds for ``steps`` steps; ``peers`` maps keys of it to the names they are shown under; ``flops``
    are those of a step. With ``matrix_flops``, the key "matrix" is the matrix product.
    """
    our_times = times[ours]
    common: dict[str, Any] = {"name": name, "ours_ms": 1000 * median(our_times) / steps, "note": note}
    if flops:
        common["gflops"] = flops * steps / median(our_times) / 1e9
    if flops and matrix_flops:
        rounds = zip(our_times, times["matrix"], strict=True)
        shares = spread([flops * steps * matrix / (seconds * matrix_flops) for seconds, matrix in rounds])
        common |= dict(zip(("share", "share_low", "share_high"), shares, strict=True))
    rows = []
    for key, label in peers.items():
        ratio, low, high = spread([seconds / other for seconds, other in zip(our_times, times[key], strict=True)])
        peer_ms = 1000 * median(times[key]) / steps
        rows.append(Row(**common, peer=label, peer_ms=peer_ms, ratio=ratio, ratio_low=low, ratio_high=high))
    return rows or [Row(**common)]
