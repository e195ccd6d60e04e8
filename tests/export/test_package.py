"""Packages appear whole and true, or not at all."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_models import case

from trm_jax.export.measures import latency
from trm_jax.export.package import check_output
from trm_jax.sudoku.task import Sudoku
from trm_jax.training.checkpoint import save_weights
from trm_jax.wafer.task import WaferTask

spec = importlib.util.spec_from_file_location("export_onnx", Path(__file__).parents[2] / "experiments/export_onnx.py")
assert spec is not None and spec.loader is not None
export_onnx = importlib.util.module_from_spec(spec)
spec.loader.exec_module(export_onnx)

FILES = {"model.onnx", "model_dynamic.onnx", "model_adaptive.onnx", "question.onnx", "step.onnx", "model_fp16.onnx",
         "model_int8.onnx", "weights.bin", "initial.npz", "labels.txt", "report.md", "report.json", "model_card.md",
         "SHA256SUMS"}  # fmt: skip
SPEED = latency.Speed(5.0, 2.0, 3.0, 4.0, 2.5, float("nan"), 60.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "measure_speeds", lambda jobs, _: dict.fromkeys(jobs, SPEED))


def save(name: str, folder: Path) -> None:
    """Weights of a tiny model as they ship."""
    task = WaferTask() if name == "wafer" else Sudoku(train=20, validation=1, test=20)
    save_weights(folder / "ship" / "weights", case(name).params, case(name).config, task)


def export(name: str, folder: Path, **options: Any) -> Path:
    """Export a model whose weights lie as those of one that ships."""
    if not (folder / "ship").exists():
        (folder / "ship").mkdir()
        save(name, folder)
    small = {"calibration": 9, "samples": 9, "repeats": 1, "int8_limit": 0.5}
    export_onnx.run(export_onnx.Arguments(checkpoint=folder / "ship", output=folder / "package", **small | options))
    return folder / "package"


def test_a_package_is_whole_and_true(tmp_path: Path) -> None:
    (tmp_path / "reference.json").write_text('{"mean": 2}')
    (tmp_path / "ship").mkdir()
    save("joint", tmp_path)
    (tmp_path / "ship" / "calibration.json").write_text('{"temperature": 2, "review_threshold": 0.25}')
    package = export("joint", tmp_path, reference=tmp_path / "reference.json")
    assert {path.name for path in package.iterdir()} == FILES
    sums = dict(reversed(line.split("  ")) for line in (package / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == FILES - {"SHA256SUMS"}
    for name, expected in sums.items():
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == expected
    results = json.loads((package / "report.json").read_text(), parse_constant=pytest.fail)
    metadata = results["metadata"]
    assert metadata["temperature"] == 2 and metadata["review_threshold"] == 0.25
    assert metadata["reference"] == {"mean": 2}
    assert metadata["labels"] == ["padding", "blank", "1", "2", "3", "4"]
    assert metadata["preprocessing"] == {"kind": "tokens", "cells": 16}
    assert results["agreements"]["model.onnx"]["largest"] < 1e-4 and results["agreements"]["model.onnx"]["same"] == 1
    assert results["int8"]["sensitivity"] and len(results["early"]) == 7
    assert "assumed" not in (package / "model_card.md").read_text()
    report = (package / "report.md").read_text()
    assert (
        "`model_int8.onnx, optimized` names the same class as JAX" in report and "of probability apart\n" not in report
    )
    with np.load(package / "initial.npz") as arrays:
        assert arrays["y"].shape == arrays["z"].shape == (1, 16, 8)
    check_output(package)  # may be replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "reference.json", "ship"]


def test_a_package_in_float32_alone_and_failures_that_leave_nothing_behind(tmp_path: Path) -> None:
    package = export("wafer", tmp_path, preset="smoke", precisions=())
    assert {path.name for path in package.iterdir()} == FILES - {"model_fp16.onnx", "model_int8.onnx"}
    report = (package / "report.md").read_text()
    assert "int8" not in report and "float16" not in report and "of JAX's time" in report
    assert (package / "labels.txt").read_text().splitlines()[-1] == "none"
    before = (package / "SHA256SUMS").read_bytes()
    with pytest.raises(ValueError, match="differs from JAX by"):
        export("wafer", tmp_path, preset="smoke", tolerance=0.0, precisions=())
    assert (package / "SHA256SUMS").read_bytes() == before
    (tmp_path / "ship" / "calibration.json").write_text('{"temperature": 0, "review_threshold": 0.25}')
    with pytest.raises(ValueError, match="temperature must be positive"):
        export("wafer", tmp_path)
    (tmp_path / "ship" / "calibration.json").write_text("[]")
    with pytest.raises(ValueError, match="does not give temperature"):
        export("wafer", tmp_path)
    (package / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match="is not a package"):
        export("wafer", tmp_path)
    with pytest.raises(ValueError, match="--checkpoint is needed"):
        export_onnx.run(export_onnx.Arguments(output=tmp_path / "other"))
    with pytest.raises(FileNotFoundError, match="no checkpoint directory"):
        export_onnx.run(export_onnx.Arguments(checkpoint=tmp_path / "nowhere", output=tmp_path / "other"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package", "ship"]
