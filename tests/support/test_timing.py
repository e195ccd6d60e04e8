"""Fair turns on a machine whose speed drifts."""

from functools import partial

import pytest

from trm_jax.benchmark.rows import make_rows
from trm_jax.support.timing import interleaved, time_interleaved


class Machine:
    """A clock that calls move on, on a machine that gets slower with every call."""

    def __init__(self, drift: float = 1.0):
        self.now, self.slowness, self.drift = 0.0, 1.0, drift
        self.called: list[str] = []

    def program(self, name: str, seconds: float):
        def call() -> None:
            self.called.append(name)
            self.now += seconds * self.slowness
            self.slowness *= self.drift

        return call

    def clock(self) -> float:
        return self.now


def test_programs_take_turns_of_equal_length_in_alternating_order():
    machine = Machine()
    calls = {"slow": machine.program("slow", 0.5), "fast": machine.program("fast", 0.25)}
    times = time_interleaved(calls, rounds=3, seconds=1.0, clock=machine.clock)
    assert times == {"slow": [0.5] * 3, "fast": [0.25] * 3}
    forth, back = ["slow"] * 2 + ["fast"] * 4, ["fast"] * 4 + ["slow"] * 2
    assert machine.called == ["slow"] * 2 + ["fast"] * 2 + forth + back + forth


def test_the_ratio_survives_a_machine_that_gets_slower():
    machine = Machine(drift=1.05)
    calls = {"ours": machine.program("ours", 0.1), "eager": machine.program("eager", 0.2)}
    times = time_interleaved(calls, rounds=8, seconds=0.0, clock=machine.clock)
    assert max(times["ours"]) > 2 * min(times["ours"])
    (row,) = make_rows("x", times, peers={"eager": "PyTorch eager"})
    assert row.ratio_low == pytest.approx(0.5 / 1.05) and row.ratio_high == pytest.approx(0.5 * 1.05)
    assert row.ratio == pytest.approx(0.5, rel=0.01)


def test_measures_of_any_kind_take_turns():
    order: list[str] = []
    samples = interleaved({name: partial(lambda name: order.append(name) or len(order), name) for name in "ab"}, "123")
    assert "".join(order) == "abbaab" and samples == {"a": [1, 4, 5], "b": [2, 3, 6]}
