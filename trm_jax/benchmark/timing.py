"""Times that can be compared although the machine's speed drifts: contestants take turns, ratios are per round."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Times = dict[str, list[float]]  # seconds of one call, for each contestant and round


@dataclass(frozen=True)
class Spread:
    """Median of several rounds, with the lowest and the highest.

    The median of the population lies between the two with probability 1 - 2 * 0.5**rounds: 94 % for 5, 98 % for 7.
    """

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    """Median, lowest and highest of the rounds."""
    return Spread(median(values), min(values), max(values))


def take_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Seconds of one call of each contestant in each round.

    Everyone is called twice before the first round: once to compile, once to learn how many calls fill ``seconds``,
    which is the length of a turn. Every second round goes in reverse order, so that a drift of the machine's speed
    favours nobody.
    """
    calls = {}
    for name, call in contestants.items():
        call()
        calls[name] = max(1, round(seconds / max(_time(call, 1, clock), 1e-9)))
    times: Times = {name: [] for name in contestants}
    for index in range(rounds):
        order = list(contestants)[:: -1 if index % 2 else 1]
        for name in order:
            times[name].append(_time(contestants[name], calls[name], clock) / calls[name])
    return times


def _time(call: Callable[[], object], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        call()
    return clock() - start


@dataclass(frozen=True)
class Row:
    """A line of the results: our time beside a peer's, and what it is of the machine's peak."""

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
    peers: dict[str, str],
    steps: int = 1,
    flops: int = 0,
    matrix_flops: int = 0,
    ours: str = "ours",
    note: str = "",
) -> list[Row]:
    """A row for each peer, or one without a peer.

    ``times`` are seconds for ``steps`` steps by contestant; ``peers`` maps contestants to the names they are shown
    under; ``flops`` are those of a step. With ``matrix_flops``, the contestant "matrix" is the matrix product.
    """
    mine = times[ours]
    shown: dict[str, float | str] = {"note": note}
    if flops:
        shown["gflops"] = flops * steps / median(mine) / 1e9
    if flops and matrix_flops:
        pairs = zip(mine, times["matrix"], strict=True)
        share = spread([(flops * steps / own) / (matrix_flops / product) for own, product in pairs])
        shown |= {"share": share.median, "share_low": share.low, "share_high": share.high}
    own_ms = 1000 * median(mine) / steps
    rows = []
    for key, label in peers.items():
        ratio = spread([own / other for own, other in zip(mine, times[key], strict=True)])
        peer_ms = 1000 * median(times[key]) / steps
        rows.append(Row(name, own_ms, label, peer_ms, ratio.median, ratio.low, ratio.high, **shown))  # type: ignore[arg-type]
    return rows or [Row(name, own_ms, **shown)]  # type: ignore[arg-type]
