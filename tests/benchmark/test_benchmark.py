"""The benchmark: fair turns, ratios, the guard, and that a difference between the sides stops it."""

import dataclasses
import importlib
import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trm_jax.benchmark import cases, growth, processes, shared, timing
from trm_jax.benchmark import jax_side as ours
from trm_jax.benchmark import regression as guard
from trm_jax.benchmark import report as output
from trm_jax.core.config import Config

sys.path.append(str(Path(__file__).resolve().parents[2] / "experiments"))
benchmark = importlib.import_module("benchmark")
MATRIX_PRODUCT = ours.matrix_product
SMALL = Config().override(**{"model.width": 8, "model.layers": 1, "recursion.N_sup": 2, "run.batch": 6})


class Machine:
    """A clock that calls move on, on a machine that gets slower with every call."""

    def __init__(self, drift: float = 1.0):
        self.now, self.slowness, self.drift, self.called = 0.0, 1.0, drift, []

    def contestant(self, name: str, seconds: float):
        def call() -> None:
            self.called.append(name)
            self.now += seconds * self.slowness
            self.slowness *= self.drift

        return call

    def clock(self) -> float:
        return self.now


def test_contestants_take_turns_of_equal_length_in_alternating_order():
    machine = Machine()
    calls = {"slow": machine.contestant("slow", 0.5), "fast": machine.contestant("fast", 0.25)}
    times = timing.take_turns(calls, rounds=3, seconds=1.0, clock=machine.clock)
    assert times == {"slow": [0.5] * 3, "fast": [0.25] * 3}
    one, other = ["slow"] * 2 + ["fast"] * 4, ["fast"] * 4 + ["slow"] * 2
    assert machine.called == ["slow"] * 2 + ["fast"] * 2 + one + other + one


def test_the_ratio_survives_a_machine_that_gets_slower():
    machine = Machine(drift=1.05)
    calls = {"ours": machine.contestant("ours", 0.1), "eager": machine.contestant("eager", 0.2)}
    times = timing.take_turns(calls, rounds=8, seconds=0.0, clock=machine.clock)
    assert max(times["ours"]) > 2 * min(times["ours"])
    (row,) = timing.make_rows("x", times, peers={"eager": "PyTorch eager"})
    assert row.ratio_low == pytest.approx(0.5 / 1.05) and row.ratio_high == pytest.approx(0.5 * 1.05)
    assert row.ratio == pytest.approx(0.5, rel=0.01)


def test_rows_hold_medians_ratios_per_round_and_shares_of_the_matrix_product():
    times = {"ours": [1.0, 2.0, 6.0], "eager": [2.0, 2.0, 3.0], "compiled": [1.0, 4.0, 2.0], "matrix": [0.5, 1.0, 2.0]}
    peers = {"eager": "PyTorch eager", "compiled": "PyTorch compiled"}
    eager, compiled = timing.make_rows("x", times, peers=peers, steps=4, flops=10**9, matrix_flops=8 * 10**9)
    assert (eager.ours_ms, eager.peer_ms, compiled.peer_ms) == (500, 500, 500)
    assert (eager.ratio, eager.ratio_low, eager.ratio_high) == (1.0, 0.5, 2.0)
    assert (compiled.ratio, compiled.ratio_low, compiled.ratio_high) == (1.0, 0.5, 3.0)
    assert eager.gflops == 4 / 2
    # 4 and 16, 2 and 8, 4/6 and 4 GFLOP/s
    assert (eager.share, eager.share_low) == (0.25, pytest.approx(1 / 6)) and eager.share_high == 0.25
    (alone,) = timing.make_rows("x", times, peers={})
    assert (alone.ours_ms, alone.peer, alone.ratio, alone.share) == (2000, "", None, None)


def fake(name="training/x", peer="PyTorch eager", ratio=(0.4, 0.5), share=(0.2, 0.3)):
    return {
        "name": name,
        "peer": peer,
        "ratio_low": ratio and ratio[0],
        "ratio_high": ratio and ratio[1],
        "share_low": share and share[0],
        "share_high": share and share[1],
    }


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (fake(), []),
        (fake(ratio=(0.54, 0.9)), []),  # overlaps with the old interval times 1.1
        (fake(ratio=(0.56, 0.9)), ["training/x", "time against PyTorch eager", "0.4 to 0.5", "0.56 to 0.9"]),
        (fake(ratio=(0.1, 0.2)), []),
        (fake(share=(0.1, 0.19)), []),
        (fake(share=(0.1, 0.18)), ["share of the matrix product"]),
        (fake(share=(0.5, 0.6), ratio=None), []),
    ],
)
def test_the_guard_speaks_up_beyond_the_noise_only(new, words):
    found, unknown = guard.slower([new], [fake()])
    assert len(found) == bool(words) and not unknown
    assert all(word in found[0] for word in words)


def test_the_guard_names_what_the_baseline_lacks_and_tells_each_slow_thing_once():
    rows = [fake(share=(0.1, 0.1)), fake(peer="PyTorch compiled", share=(0.1, 0.1)), fake("training/new")]
    found, unknown = guard.slower(rows, [fake(), fake(peer="PyTorch compiled")])
    assert len(found) == 1 and unknown == ["training/new against PyTorch eager: not in the baseline"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no benchmark.json"),
        ("[1]", "is no benchmark.json"),
        ('{"rows": [], "preset": "smoke"}', "is no benchmark.json"),
        ('{"rows": [{"name": "x"}], "preset": "smoke"}', "is no benchmark.json"),
        (json.dumps({"rows": [fake()], "preset": "standard"}), "made with --preset standard"),
    ],
)
def test_baselines_that_cannot_be_compared_are_refused(tmp_path, text, reason):
    path = tmp_path / "baseline.json"
    with pytest.raises(FileNotFoundError, match="no baseline"):
        guard.read_rows(path, "smoke")
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        guard.read_rows(path, "smoke")


def test_a_difference_between_the_sides_is_an_error_that_names_it():
    logits, gradients = np.array([1.0, 100.0]), {("a", "kernel"): np.array([3.0, 4.0]), ("initial_y",): np.zeros(2)}
    close = {("a", "kernel"): np.array([3.0, 4.0003])}
    assert ours.check_equal("x", (logits, gradients), (logits + 0.005, close)) == pytest.approx(7.5e-5, rel=1e-3)
    for other, what in (
        ((logits + 0.02, close), "logits differs by 2.0e-04"),
        ((logits, {("a", "kernel"): np.array([3.0, 4.001])}), "gradient of a/kernel"),
        ((logits, {}), "gradient of a/kernel"),
        ((logits, close | {("initial_y",): np.array([0.0, 1e-5])}), "gradient of initial_y"),
        ((logits, {("a", "kernel"): np.array([3.0, np.nan])}), "gradient of a/kernel"),
    ):
        with pytest.raises(ours.Mismatch, match=f"x: .*{what}"):
            ours.check_equal("x", (logits, gradients), other)


def test_cases_have_names_of_their_own_and_equal_numbers_of_evaluations():
    found = cases.all_cases("standard")
    assert len({case.name for case in found}) == len(found) > 30
    training = [case for case in found if case.name.startswith("training/")]
    assert {case.config.layer_applications for case in training} == {36}
    assert {case.config.model.form for case in training} == {"alternating", "joint"}
    wafer = next(case.config for case in found if case.name.startswith("wafer"))
    assert (wafer.model.tokens, wafer.recursion.T, wafer.recursion.n, wafer.recursion.N_sup) == (49, 2, 3, 3)
    teaching = next(case.config for case in found if case.name.startswith("teaching"))
    assert (teaching.model.net_width, teaching.layer_applications) == (144, 24)
    smoke = {case.name for case in cases.all_cases("smoke")}
    assert 0 < len(smoke) < 7 and smoke <= {case.name for case in found}
    assert {case.name.split("/")[0] for case in cases.choose(found, ("wafer", "seeds", "growth"))} == {"wafer", "seeds"}
    with pytest.raises(ValueError, match=r"begins with 'trainings'; there are training, .*growth"):
        cases.choose(found, ("trainings",))


def test_operations_of_a_step_are_counted_without_recomputation():
    forward = ours.forward_flops(SMALL, 6)
    full, cut = (
        ours.training_flops(SMALL.override(**{"recursion.gradient": mode}), 6) for mode in ("full", "one_step")
    )
    assert full == pytest.approx(3 * forward, rel=0.03)
    evaluations = SMALL.recursion.T * (SMALL.recursion.n + 1)
    assert cut == pytest.approx(forward * (1 + 2 * 2 / evaluations), rel=0.05)


def temp(n: int, **options) -> float:
    config = SMALL.override(**{"recursion.T": 1, "recursion.N_sup": 1, "recursion.n": n} | options)
    return ours.compile_step(config).memory_analysis().temp_size_in_bytes


def test_memory_of_a_truncated_gradient_stays_flat_and_that_of_a_stored_one_does_not():
    few, many = (temp(n, **{"recursion.gradient": "one_step"}) for n in (3, 15))
    assert 0 < many <= 1.05 * few
    assert temp(15, **{"recursion.remat": False}) > 3 * many


def test_segments_span_cycles():
    segments = temp(2, **{"recursion.T": 32, "recursion.segment": 6})  # stores every second cycle instead of all states
    assert segments < 0.6 * temp(2, **{"recursion.T": 32})


def test_growth_changes_one_size_at_a_time_and_names_what_exceeds_the_prediction():
    for size, values in growth.VALUES.items():
        for value in values[1:]:
            config = growth.at(size, value)
            changed = {"n": config.recursion.n, "T": config.recursion.T, "N_sup": config.recursion.N_sup}
            changed |= {"L": config.model.tokens, "D": config.model.width, "B": config.run.batch, "S": value}
            assert changed[size] == value
    curve = {"size": "n", "value": 3, "growth": 2.7, "predicted": 2.0}
    flat = {"mode": "one_step", "size": "n", "value": 15, "growth": 1.4}
    stored = {"mode": "stored", "size": "n", "value": 15, "growth": 9.0}
    found = growth.excesses({"curves": [curve, curve | {"growth": 2.5}], "memory": [flat, stored]})
    assert len(found) == 2 and "time in n: 2.70 times at 3" in found[0] and "one_step: 1.40" in found[1]


def test_halted_inference_uses_about_half_of_the_steps():
    config = SMALL.override(**{"recursion.N_sup": 6})
    calls, share = ours.halting_predictors(config, ours.weights(config), shared.random_data(config, 12)["inputs"], 4)
    steps = np.asarray(calls["halted"]().steps)
    assert steps.mean() / 6 == pytest.approx(share) and 0.3 < share < 0.7
    assert calls["all steps"]().classes.shape == (6, 12, 16)


def test_the_figure_shows_every_ratio_beside_a_line_at_one():
    rows = [
        dataclasses.asdict(timing.Row(name, 1.0, peer, 2.0, ratio, ratio / 2, ratio * 2))
        for name, peer, ratio in (("a", "PyTorch eager", 0.5), ("a", "PyTorch compiled", 2.0), ("b", "", 9.0))
    ]
    (axes,) = output.ratio_figure(rows).axes
    drawn = [tuple(line.get_xdata()) for line in axes.lines]
    assert {(0.5,), (2.0,), (1, 1)} <= set(drawn) and not any(9.0 in data for data in drawn)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]


def test_a_process_that_fails_says_why_in_one_line():
    with pytest.raises(RuntimeError, match=r"failed: ValueError: unknown option model.nothing") as caught:
        processes.run_child({"side": "ours", "options": {"model.nothing": 1}})
    assert "\n" not in str(caught.value)


def run_main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(benchmark, "configure", lambda: None)  # jax runs already
    monkeypatch.setattr(benchmark.ours, "matrix_product", partial(MATRIX_PRODUCT, 64))
    words = ["--preset", "smoke", "--cases", "inference", "--rounds", "2", "--seconds", "0.001", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
    with pytest.raises(SystemExit) as caught:
        benchmark.main()
    return caught.value.code


def test_without_pytorch_our_own_times_are_measured_and_guarded(monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    assert run_main(monkeypatch, "--output", tmp_path) == 0
    assert "pip install -r requirements-bench.txt" in capsys.readouterr().out
    results = json.loads((tmp_path / "benchmark.json").read_text())
    (row,) = results["rows"]
    assert row["peer"] == "" and row["peer_ms"] is None and row["ratio"] is None and row["ours_ms"] > 0
    assert row["gflops"] > 0 and row["share_low"] <= row["share"] <= row["share_high"]
    assert results["made by"]["threads"] >= 1 and "jax" in results["made by"]["versions"]
    assert "inference/batch64" in (tmp_path / "benchmark.md").read_text()
    row["share_low"], row["share_high"] = 90.0, 91.0
    baseline = tmp_path / "faster.json"
    baseline.write_text(json.dumps(results))
    assert run_main(monkeypatch, "--baseline", baseline) == 1
    assert "inference/batch64: share of the matrix product was 90 to 91" in capsys.readouterr().out
    assert run_main(
        monkeypatch, "--baseline", tmp_path / "none.json"
    ) == f"error: no baseline {tmp_path / 'none.json'}; " + ("make one with --output DIR and give DIR/benchmark.json")
