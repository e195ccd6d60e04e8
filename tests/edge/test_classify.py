"""Answers on the device equal those that numpy computes, by every way of running a model and from the command line."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import edge_models
import numpy as np
import pytest
from legacy_frame import write_legacy_frame

from trm_jax.edge import classify as classify_module
from trm_jax.edge.__main__ import main
from trm_jax.edge.classify import classify, inputs
from trm_jax.edge.package import open_model
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.answers import ALWAYS
from trm_jax.wafer.maps.cache import write_cache
from trm_jax.wafer.maps.grid import to_grid
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

ROOT = Path(__file__).resolve().parents[2]
COUNT = 21


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edge_models.write_package(tmp_path_factory.mktemp("edge") / "package")


@pytest.fixture(scope="module")
def wafers() -> Wafers:
    return synthetic_wafers(COUNT, seed=3)


def save_maps(path: Path, wafers: Wafers, **changed: Any) -> Path:
    arrays = {"flat": wafers.flat, "height": wafers.height, "width": wafers.width, "label": wafers.label}
    np.savez(path, **(arrays | {"classes": np.array(CLASSES)} | changed))
    return path


def stopped(every: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and steps of early stopping, from those after every step; the halting head is the maximum."""
    over = every.max(axis=2) > threshold
    over[:, -1] = True
    first = over.argmax(axis=1)
    return every[np.arange(len(every)), first], first + 1


@pytest.mark.parametrize("batch", [1, 4, 21, 50])
def test_all_steps(directory: Path, wafers: Wafers, batch: int) -> None:
    model = open_model(directory / ("model.onnx" if batch == 1 else "model_dynamic.onnx"))
    made = classify(model, wafers, batch)
    every = edge_models.expected(wafers)
    np.testing.assert_allclose(made.probabilities, every[:, -1], atol=1e-5)
    np.testing.assert_allclose(made.halt, every[:, -1].max(axis=1), atol=1e-5)
    assert made.steps.tolist() == [3] * COUNT
    assert len(set(made.probabilities.argmax(axis=1))) > 3  # a constant answer would not do


@pytest.mark.parametrize("name", ["model_adaptive.onnx", "step.onnx"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("threshold", [None, 0.0, 0.35, 1.0])
def test_early_stopping(directory: Path, wafers: Wafers, name: str, batch: int, threshold: float | None) -> None:
    made = classify(open_model(directory / name), wafers, batch, threshold)
    found, steps = stopped(edge_models.expected(wafers), 1.0 if threshold is None else threshold)
    assert made.steps.tolist() == steps.tolist()
    np.testing.assert_allclose(made.probabilities, found, atol=1e-5)
    assert set(steps) == ({1, 2, 3} if threshold == 0.35 else {1} if threshold == 0 else {3})


def test_a_model_without_z(tmp_path: Path, wafers: Wafers) -> None:
    edge_models.save(tmp_path / "question.onnx", edge_models.question())
    path = edge_models.save(tmp_path / "step.onnx", edge_models.step(use_z=False))
    np.savez(tmp_path / "initial.npz", y=np.zeros((1, 9), np.float32))
    model = open_model(path)
    assert set(model.initial) == {"y"}
    found, steps = stopped(edge_models.expected(wafers), 0.35)
    made = classify(model, wafers, 5, 0.35)
    assert made.steps.tolist() == steps.tolist()
    np.testing.assert_allclose(made.probabilities, found, atol=1e-5)


def test_stepping_computes_nothing_for_wafers_that_have_stopped(
    directory: Path, wafers: Wafers, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = open_model(directory / "step.onnx"), []
    real = classify_module.Model.run

    def run(self, **given):
        sizes.extend([len(given["x"])] if "x" in given else [])
        return real(self, **given)

    monkeypatch.setattr(classify_module.Model, "run", run)
    made = classify(model, wafers, COUNT, 0.35)
    assert sizes == [int((made.steps >= step).sum()) for step in (1, 2, 3)] and sizes[0] > sizes[1] > sizes[2] > 0


def test_parts_of_many_wafers_meet_seamlessly(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wafers, model = synthetic_wafers(40, seed=5), open_model(directory / "model_dynamic.onnx")
    monkeypatch.setattr(classify_module, "_PREPARED", 10)
    np.testing.assert_allclose(classify(model, wafers, 4).probabilities, edge_models.expected(wafers)[:, -1], atol=1e-5)
    assert len(classify(model, wafers.take(np.zeros(0, int))).steps) == 0


@pytest.mark.parametrize("representation", ["nearest", "area", "max"])
def test_preprocessing_of_real_maps_is_that_of_training(data_root: Path, tmp_path: Path, representation: str) -> None:
    found = source.find(data_root / "wm811k") if (data_root / "wm811k" / "wm811k_labelled.npz").is_file() else None
    if found is None:
        pytest.skip(f"no wm811k in {data_root}")
    real = source.read(data_root / "wm811k" / "wm811k_labelled.npz").wafers.take(np.arange(0, 49748, 400))
    preprocessing = {"kind": "wafer", "size": 8, "representation": representation}
    model = open_model(edge_models.save(tmp_path / "m.onnx", edge_models.plain(), preprocessing=preprocessing))
    trained = to_grid(real, 8, representation)  # type: ignore[arg-type]
    seen = inputs(model, real)
    assert seen.dtype == np.float32 and np.array_equal(seen, trained) and len(np.unique(seen)) >= 2
    every = edge_models.expected(real, representation)
    np.testing.assert_allclose(classify(model, real, 16).probabilities, every[:, -1], atol=1e-4)


def test_what_a_model_cannot_do(directory: Path, wafers: Wafers) -> None:
    model = open_model(directory / "model.onnx")
    for given, reason in [
        ((0, None), "batch must be at least 1"),
        ((2, None), "takes 1 at a time, not 2"),
        ((1, 0.5), "cannot stop early"),
        ((1, 2.0), "threshold is a probability"),
    ]:
        with pytest.raises(ValueError, match=reason):
            classify(model, wafers, *given)


def test_an_unknown_code_that_a_reader_let_pass(directory: Path, wafers: Wafers) -> None:
    flat = wafers.flat.copy()
    flat[wafers.start[4] + 11] = 3
    broken = Wafers(**{**vars(wafers), "flat": flat})
    with pytest.raises(ValueError, match="row 4, has a cell 3; cells are 0, 1 or 2"):
        classify(open_model(directory / "model.onnx"), broken)


@pytest.mark.parametrize(
    ("options", "threshold"), [([], None), (["--batch", "8"], None), (["--threshold", "0.35"], 0.35)]
)
def test_the_command_classify(
    directory: Path, wafers: Wafers, tmp_path: Path, options: list[str], threshold: float | None, capsys: Any
) -> None:
    flat = wafers.flat.copy()
    flat[wafers.start[2]] = 9
    source, output = save_maps(tmp_path / "maps.npz", wafers, flat=flat), tmp_path / "answers.csv"
    page = tmp_path / "answers.html"
    line = ["--model", directory, "--input", source, "--output", output, "--page", page, *options]
    with pytest.raises(SystemExit) as stop:
        main(["classify", *map(str, line)])
    assert stop.value.code == 3  # a map was broken
    with output.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["row"]) for line in lines] == list(range(COUNT))
    assert lines[2]["decision"] == "rejected" and lines[2]["reason"] == "has a cell 9; cells are 0, 1 or 2"
    every = edge_models.expected(wafers)
    found, steps = (every[:, -1], np.full(COUNT, 3)) if threshold is None else stopped(every, threshold)
    for row in [0, 1, *range(3, COUNT)]:
        line = lines[row]
        assert [float(line[f"p_{name}"]) for name in CLASSES] == pytest.approx(found[row].tolist(), abs=2e-5)
        assert line["prediction"] == CLASSES[found[row].argmax()] and int(line["steps"]) == steps[row]
        assert line["decision"] == ("review" if found[row].max() < 0.5 else "auto")
        assert line["label"] == CLASSES[wafers.label[row]]
    streams = capsys.readouterr()
    assert "runs on CPUExecutionProvider" in streams.err and "20 maps answered" in streams.out
    assert "broken:    1, the first: row 2 has a cell 9; cells are 0, 1 or 2" in streams.out
    decided = sum(line["decision"] == "auto" for line in lines)
    assert f'"counts": {{"auto": {decided}, "review": {20 - decided}, "rejected": 1}}' in page.read_text()


def test_sizes_and_thresholds_of_a_package_decide_what_a_person_sees(
    wafers: Wafers, tmp_path: Path, capsys: Any
) -> None:
    found = edge_models.expected(wafers)[:, -1]
    dies, sure = np.array([(wafers.map(row) > 0).sum() for row in range(COUNT)]), found.max(axis=1)
    often = int(np.bincount(found.argmax(axis=1)).argmax())
    limits = [1.0 if label == often else 0.4 for label in range(9)]
    small = int(np.unique(dies)[1])
    options: dict[str, Any] = {"class_thresholds": limits, "dies": [small, 1e9]}
    model = edge_models.save(tmp_path / "model.onnx", edge_models.plain(), **options)
    output = tmp_path / "answers.csv"
    line = ["classify", "--model", str(model), "--input", str(save_maps(tmp_path / "maps.npz", wafers))]
    main([*line, "--output", str(output)])
    with output.open(newline="") as file:
        lines = list(csv.DictReader(file))
    unlike, always = dies < small, found.argmax(axis=1) == often
    reasons = [f"has {count} dies" if few else ALWAYS if never else "" for count, few, never in
               zip(dies, unlike, always, strict=True)]  # fmt: skip
    assert [line["reason"].partition(";")[0] for line in lines] == reasons and 1 <= unlike.sum() < COUNT
    assert ALWAYS in reasons and f"of these:  {always.sum()} ({CLASSES[often]} {always.sum()}) always" in (
        capsys.readouterr().out
    )
    review = unlike | always | (sure < 0.4)
    assert [line["decision"] == "review" for line in lines] == review.tolist() and not review.all()
    assert "unlike" not in lines[0]  # a package that does not know


def test_the_command_benchmark(directory: Path, wafers: Wafers, tmp_path: Path, capsys: Any) -> None:
    source = str(save_maps(tmp_path / "maps.npz", wafers))
    line = ["benchmark", "--input", source, "--repeats", "5", "--threshold", "0.35", "--batch", "4", "--model"]
    main([*line, str(directory), "--json"])
    streams = capsys.readouterr()
    speeds = {speed["model"]: speed for speed in json.loads(streams.out)}
    assert (
        set(speeds) == set(edge_models.FILES) - {"question.onnx"}
        and "provider in use: CPUExecutionProvider" in streams.err
    )
    assert {name: speed["batch"] for name, speed in speeds.items() if speed["batch"] != 1} == {"model_dynamic.onnx": 4}
    for speed in speeds.values():
        assert 0 < speed["p50_ms"] <= speed["p90_ms"] <= speed["p99_ms"] and 20 < speed["peak_mb"] < 500
        assert speed["load_s"] > 0 and speed["maps_per_s"] > 0
    assert speeds["model.onnx"]["mean_steps"] == pytest.approx(3)
    steps = speeds["step.onnx"]["mean_steps"]
    assert 1 <= steps < 3 and steps == pytest.approx(speeds["model_adaptive.onnx"]["mean_steps"])
    main([*line, str(directory / "step.onnx")])
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["model", "provider", "batch"] and table[1].startswith("step.onnx")


def test_mistakes_on_the_command_line_end_in_one_line(directory: Path, tmp_path: Path, wafers: Wafers) -> None:
    source, output = save_maps(tmp_path / "maps.npz", wafers), tmp_path / "a.csv"
    for change, reason in [
        ({"--model": tmp_path / "none"}, "no model at"),
        ({"--input": tmp_path / "none.npz"}, "no wafer maps at"),
        ({"--provider": "tensorrt"}, "has no TensorrtExecutionProvider here"),
        ({"--threshold": 0.5, "--model": directory / "model.onnx"}, "cannot stop early"),
        ({"--monitor": tmp_path / "log.jsonl"}, "has no monitoring reference"),
        ({"--output": tmp_path / "no" / "a.csv", "--model": tmp_path / "none"}, "there is no folder"),
        ({"--output": tmp_path, "--model": tmp_path / "none"}, "is a folder; name a file in it"),
    ]:
        given = {"--model": directory, "--input": source, "--output": output} | change
        with pytest.raises(SystemExit) as stop:
            main(["classify", *(str(part) for pair in given.items() for part in pair)])
        assert str(stop.value).startswith("error: ") and reason in str(stop.value) and "\n" not in str(stop.value)
    assert not output.exists()


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"{{name}} is not on the device", name=name)
sys.meta_path.insert(0, Blocked())
"""
HEAVY = {"jax", "jaxlib", "flax", "pandas", "scipy", "skimage", "sklearn", "PIL", "tqdm", "safetensors", "ml_dtypes"}
HEAVY |= {"matplotlib", "onnx", "tyro", "fastapi", "uvicorn", "prometheus_client"}


def run_on_device(python: str, sources: list[Path], directory: Path) -> None:
    """Classify every source, in a process where nothing but numpy and onnxruntime can be imported."""
    code = BLOCKED.format(names=HEAVY) + "from trm_jax.edge.__main__ import main\n"
    for path in sources:
        line = ["classify", "--model", str(directory), "--input", str(path), "--output", f"{path}.csv"]
        code += f"main({line})\n"
    code += "try:\n    import PIL\nexcept ModuleNotFoundError as error:\n    print(error)\n"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run([python, "-W", "error", "-c", code], capture_output=True, text=True, env=environment)
    assert not result.returncode, result.stderr
    assert result.stdout.splitlines()[-1] == "PIL is not on the device"


def sources_of(wafers: Wafers, tmp_path: Path) -> list[Path]:
    """The same wafers as .npz, as a folder of CSV files, as a cache and as a pickle."""
    folder, origin = tmp_path / "folder", {"source": "x", "sha256": "0", "selection": {}, "notice": ""}
    folder.mkdir()
    for index in range(len(wafers)):
        lines = [",".join(map(str, row)) for row in wafers.map(index).tolist()]
        (folder / f"{index:03}.csv").write_text("\n".join(lines))
    write_cache(tmp_path / "cache", source.read(save_maps(tmp_path / "maps.npz", wafers)), origin)
    maps, words = [wafers.map(index) for index in range(len(wafers))], [""] * len(wafers)
    write_legacy_frame(tmp_path / "maps.pkl", maps, words, words, words)
    return [tmp_path / "maps.npz", folder, tmp_path / "cache", tmp_path / "maps.pkl"]


ANSWER = ["row", "prediction", "confidence", "decision", "steps", *(f"p_{name}" for name in CLASSES)]


def test_nothing_but_numpy_and_onnxruntime_is_needed(directory: Path, wafers: Wafers, tmp_path: Path) -> None:
    sources = sources_of(wafers, tmp_path)
    run_on_device(sys.executable, sources, directory)
    tables = [Path(f"{source}.csv").read_text().splitlines() for source in sources]
    shares = [[[row[name] for name in ANSWER] for row in csv.DictReader(table)] for table in tables]
    assert all(share == shares[0] for share in shares) and len(tables[0]) == 1 + COUNT


PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
OLD = [ROOT / ".venv310" / "bin" / "python", shutil.which("python3.10"), *PYENV.glob("versions/3.10*/bin/python3.10")]
"""Where the Python of JetPack 6 may be; `make device` makes the first."""


def old_python(code: str = "") -> str:
    """A Python 3.10 that runs a line of code; skips the test without one."""
    for python in filter(None, OLD):
        if Path(python).is_file() and not subprocess.run([python, "-c", code], capture_output=True).returncode:
            return str(python)
    pytest.skip(f"no python3.10 that does {code!r}")


def test_python_3_10_runs_it(directory: Path, wafers: Wafers, tmp_path: Path) -> None:
    run_on_device(old_python("import numpy, onnxruntime"), sources_of(wafers, tmp_path), directory)


def test_python_3_10_imports_every_module_of_the_device() -> None:
    """Stand-ins for numpy and onnxruntime are enough to run everything that is executed on import."""
    code = """
import sys, importlib
from unittest.mock import MagicMock
for name in ("numpy", "onnxruntime", "onnxruntime.capi", "onnxruntime.capi.onnxruntime_pybind11_state"):
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = MagicMock()
import trm_jax.edge.__main__
print(sorted(name for name in sys.modules if name.startswith("trm_jax.edge.")))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run([old_python(), "-c", code], capture_output=True, text=True, env=environment)
    assert not result.returncode, result.stderr
    assert "trm_jax.edge.package" in result.stdout and "trm_jax.edge.monitor" in result.stdout
