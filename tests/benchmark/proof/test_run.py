"""The proof of an accelerator: it finds what is wrong, counts what is there, resumes, and says what it has not seen."""

import json
from dataclasses import replace

import pytest

from trm_jax.benchmark import jax_side
from trm_jax.benchmark.proof import interrupted
from trm_jax.benchmark.proof import parts as proof_parts
from trm_jax.benchmark.proof import report as proof_report
from trm_jax.benchmark.proof import run as proof
from trm_jax.benchmark.proof import sizes as proof_sizes
from trm_jax.support.terminal.cli import Paused

SIZE = replace(proof_sizes.SIZES["smoke"], seconds=0.001)
GRID = (3, 3)


def test_operations_are_those_of_the_matrices_written_down():
    """One layer of linear mixing: forward once for each evaluation, backward twice for those with a gradient."""
    config = SIZE.config(16, "linear", GRID)
    tokens, width, hidden, batch = 9, 16, config.model.hidden(16), 8
    evaluation = 2 * batch * (tokens * tokens * width + tokens * width * 2 * hidden + tokens * hidden * width)
    heads = 2 * batch * (tokens * width * 10 + width * 2)
    # The initial states are not trained, so that the first product of all has no gradient for its input.
    trained = 3 * (SIZE.n + 1) * evaluation + 3 * heads
    assert proof_parts.operations(config) == pytest.approx(trained, rel=0.1)
    twice = config.override(**{"recursion.T": 2})  # a cycle more, without gradient
    more = proof_parts.operations(twice) - proof_parts.operations(config)
    assert more == (SIZE.n + 1) * evaluation


def test_parity_holds_here_and_finds_another_precision_and_a_wrong_gradient(monkeypatch):
    calls = dict(proof_parts.parity(SIZE))
    assert len(calls) == 12
    exact = calls["parity/relations/float32"]()
    assert exact["held"] and exact["largest"] < 1e-4 and exact["compared"] > 10
    narrow = calls["parity/attention/bfloat16"]()
    assert narrow["held"] and narrow["largest"] > 1e-3
    monkeypatch.setitem(proof_sizes.BOUNDS, "bfloat16", 1e-4)
    assert not dict(proof_parts.parity(SIZE))["parity/attention/bfloat16"]()["held"]
    honest = proof_parts._evaluate

    def wrong(config, params, data):
        (logits, gradient), loss = honest(config, params, data)
        if config.model.matmul_precision == "high":
            gradient = {path: 0 * value if "qkv" in path else value for path, value in gradient.items()}
        return (logits, gradient), loss

    monkeypatch.setattr(proof_parts, "_evaluate", wrong)
    found = calls["parity/attention/tf32"]()
    assert not found["held"] and "qkv" in found["of"]


def test_an_interrupted_run_ends_as_one_that_was_not():
    config = SIZE.config(16, "linear", GRID)
    record = interrupted.compare_resumed(config)
    assert record == {"resumed_from": 4, "largest": 0.0, "bitwise": True, "held": True}


@pytest.fixture
def few(monkeypatch):
    """Three records instead of all parts; counts how often each is made."""
    made = []

    def part(size):
        for name in ("device", "device/a", "device/b"):
            yield name, lambda name=name: made.append(name) or {"ms": 1.5, "ms_low": 1.0, "ms_high": 2.0}

    monkeypatch.setattr(proof, "PARTS", {"device": part})
    return made


def test_what_was_measured_is_not_measured_again(few, tmp_path):
    with pytest.raises(Paused, match="3 records are missing: give the same command"):
        proof.measure(tmp_path, "smoke", (), 1e-9)
    proof.measure(tmp_path, "smoke", (), 0)
    file = tmp_path / "accelerator.json"
    results = json.loads(file.read_text())
    assert list(results["records"]) == few == ["device", "device/a", "device/b"]
    del results["records"]["device/a"]
    file.write_text(json.dumps(results))
    proof.measure(tmp_path, "smoke", ("device",), 0)
    assert few[3:] == ["device/a"]
    with pytest.raises(ValueError, match="unknown part devices; there are device"):
        proof.measure(tmp_path, "smoke", ("devices",), 0)
    with pytest.raises(ValueError, match="records of another preset; choose another --output"):
        proof.measure(tmp_path, "standard", (), 0)
    results["made by"]["devices"] = ["NVIDIA H100"]
    file.write_text(json.dumps(results))
    with pytest.raises(ValueError, match="records of another devices"):
        proof.read(file, "smoke")
    file.write_text("{}")
    with pytest.raises(ValueError, match="not a file of this program"):
        proof.read(file, "smoke")


def test_a_mismatch_is_a_record_that_fails_the_command():
    def differ():
        raise jax_side.Mismatch("two things")

    record = proof._record(differ)
    assert record == {"held": False, "failed": "two things"}
    assert proof.broken({"records": {"a": record, "b": {"held": True}, "c": {}}}) == ["a"]


def results(device, records):
    made_by = {"commit": "abc", "packages": {"jax": "1"}, "devices": [device], "machine": "box"}
    return {"preset": "standard", "made by": made_by, "records": records}


def test_a_goal_that_no_gpu_has_seen_is_said_to_be_open():
    step = {"ms": 100.0, "ms_low": 90.0, "ms_high": 120.0, "share": 0.31, "tflop": 30.0}
    records = {
        "steps/width512/attention/81/bfloat16": step,
        "steps/width128/attention/81/bfloat16": step | {"share": 0.1},
        "steps/width512/linear/81/bfloat16": {"failed": "not enough memory"},
        "seeds/8": {"ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.6},
        "peer/attention/compiled": {"skipped": "PyTorch is not installed"},
    }
    gpu, cpu = (proof_report.goals(results(device, records)) for device in ("NVIDIA H100 80GB HBM3", "cpu"))
    assert [sentence.split(": ")[-1] for sentence in gpu] == ["held", "not yet run on a GPU", "missed"]
    assert {sentence.split(": ")[-1] for sentence in cpu} == {"not yet run on a GPU"}
    text = proof_report.report(results("NVIDIA H100 80GB HBM3", records))
    assert "| steps/width512/attention/81/bfloat16 | 100 (90 to 120) | 31% | 30 |" in text
    assert "not enough memory" in text and "PyTorch is not installed" in text
    axes = proof_report.share_figure(records).axes[0]
    assert axes.get_lines()[0].get_xydata().tolist() == [[128, 0.1], [512, 0.31]]


def test_the_fastest_product_is_told_in_operations_a_second():
    flops = proof_parts.product_flops(64, "float32")
    assert 1e6 < flops < 1e13
