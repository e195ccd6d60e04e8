"""Times come from processes of their own, and what goes wrong in one is told."""

from pathlib import Path

import numpy as np
import pytest
from export_models import case

from trm_jax.export.measures import latency


def test_speed_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    path, inputs = case("wafer").saved("adaptive", tmp_path), case("wafer").inputs
    jobs = {
        limit: latency.Job(path, {"inputs": inputs, "threshold": np.array(limit, np.float32)}, 1) for limit in (0, 1)
    }
    speeds = latency.measure_speeds(jobs, 2 * latency.ROUNDS)
    assert speeds[0].mean_steps == 1 and speeds[1].mean_steps == 3
    for speed in speeds.values():
        assert 0 < speed.p50_ms <= speed.p90_ms <= speed.p99_ms
        assert speed.load_ms > 0 and not speed.peak_mb < 10  # NaN where the system does not tell
    with pytest.raises(RuntimeError, match=r"measuring adaptive.onnx failed: .*threshold"):
        latency.ModelProcess(latency.Job(path, {"inputs": inputs}, 1))
    with pytest.raises(RuntimeError, match=r"measuring gone.onnx failed: .*gone.onnx"):
        latency.ModelProcess(latency.Job(tmp_path / "gone.onnx", {"inputs": inputs}, 1))
    waiting = latency.ModelProcess(jobs[0])
    waiting.process.kill()
    waiting.process.wait()
    with pytest.raises(RuntimeError, match=r"measuring adaptive.onnx failed: \[\]"):
        waiting.time_calls(1)
    waiting.close()


def test_a_summary_is_over_all_calls() -> None:
    samples = [{"ms": [1.0, 2.0], "steps": 1, "peak_mb": 5.0}, {"ms": [3.0, 10.0], "steps": 2, "peak_mb": 6.0}]
    speed = latency.summary(7.0, samples)
    assert (speed.load_ms, speed.p50_ms, speed.mean_ms, speed.mean_steps, speed.peak_mb) == (7.0, 2.5, 4.0, 1.5, 6.0)
    assert speed.p90_ms == pytest.approx(7.9) and speed.p99_ms == pytest.approx(9.79)
