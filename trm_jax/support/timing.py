"""Times that can be compared although the speed of the machine drifts: what is compared takes turns."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Sample = TypeVar("Sample")


def interleaved(
    measures: Mapping[Key, Callable[[], Sample]], rounds: Iterable[object], pause: float = 0.0
) -> dict[Key, list[Sample]]:
    """What each measure returns in each round. In a round every measure has one turn.

    Every second round goes in reverse order, so that a drift favours none. ``pause`` is the time before a turn, in
    seconds.
    """
    samples: dict[Key, list[Sample]] = {key: [] for key in measures}
    for index, _ in enumerate(rounds):
        for key in list(measures)[:: -1 if index % 2 else 1]:
            time.sleep(pause)
            samples[key].append(measures[key]())
    return samples


def time_interleaved(
    calls: Mapping[Key, Callable[[], object]],
    rounds: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Key, list[float]]:
    """Seconds of one call of each function in each round.

    Each function is called twice before the first round: once to compile, once to learn how many calls fill
    ``seconds``, which is the length of a turn.
    """

    def seconds_per_call(call: Callable[[], object], count: int) -> float:
        start = clock()
        for _ in range(count):
            call()
        return (clock() - start) / count

    def measure(call: Callable[[], object]) -> Callable[[], float]:
        call()
        count = max(1, round(seconds / max(seconds_per_call(call, 1), 1e-9)))
        return lambda: seconds_per_call(call, count)

    return interleaved({key: measure(call) for key, call in calls.items()}, range(rounds))
