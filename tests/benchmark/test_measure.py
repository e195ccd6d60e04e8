"""The whole benchmark without PyTorch, its files and its baseline, and processes that fail."""

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

import jax
import pytest

from trm_jax.benchmark import jax_side, processes
from trm_jax.support.terminal import cli

spec = importlib.util.spec_from_file_location("benchmark", Path(__file__).parents[2] / "experiments" / "benchmark.py")
assert spec is not None and spec.loader is not None
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def run_main(monkeypatch, *arguments) -> object:
    """Exit code, or message, of the script."""
    monkeypatch.setattr(jax_side, "matrix_product", partial(matrix_product, 64))
    words = ["--preset", "smoke", "--cases", "inference", "--rounds", "2", "--seconds", "0.001", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *words])
    try:
        cli.main(benchmark.Arguments, benchmark.run, None)  # without configure: jax runs already
    except SystemExit as stopped:
        return stopped.code
    return 0


matrix_product = jax_side.matrix_product


def test_without_pytorch_our_own_times_are_measured_and_compared_with_a_baseline(monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else find(name, *a))
    assert run_main(monkeypatch, "--output", tmp_path) == 0
    assert "pip install -e .[bench]" in capsys.readouterr().out
    results = json.loads((tmp_path / "benchmark.json").read_text())
    (row,) = results["rows"]
    assert row["peer"] == "" and row["peer_ms"] is None and row["ratio"] is None and row["ours_ms"] > 0
    assert row["gflops"] > 0 and row["share_low"] <= row["share"] <= row["share_high"]
    assert results["provenance"]["jax"] and results["provenance"]["torch"] == "not installed"
    assert results["peak_gflops"] > 0
    assert "inference/batch64" in (tmp_path / "benchmark.md").read_text()
    row["share_low"], row["share_high"] = 90.0, 91.0
    baseline = tmp_path / "faster.json"
    baseline.write_text(json.dumps(results))
    assert run_main(monkeypatch, "--baseline", baseline) == 1
    assert "inference/batch64: share of the matrix product was 90 to 91" in capsys.readouterr().out
    missing = tmp_path / "none.json"
    words = f"error: no baseline {missing}; make one with --output DIR and give DIR/benchmark.json"
    assert run_main(monkeypatch, "--baseline", missing) == words


def test_a_process_measures_one_step_and_says_in_one_line_why_it_fails():
    small = {"model.width": 8, "model.layers": 1, "recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1}
    task = {"side": "ours", "options": small, "cache": jax.config.jax_compilation_cache_dir, "memory": False}
    measured = processes.run_child(task)
    assert measured["first_step_s"] > 0 and not measured["peak_mb"] < 50  # NaN where the system does not tell
    with pytest.raises(RuntimeError, match=r"failed: ValueError: unknown option model.nothing") as caught:
        processes.run_child({"side": "ours", "options": {"model.nothing": 1}})
    assert "\n" not in str(caught.value)
