"""Packages on the device: what is damaged, changed or contradicts itself is refused in one clear line."""

import subprocess
from pathlib import Path
from typing import Any

import edge_models
import numpy as np
import onnxruntime
import pytest
from edge_models import SIZE

from trm_jax.edge import package
from trm_jax.edge.__main__ import main
from trm_jax.edge.classify import answer, classify, inputs
from trm_jax.edge.format import Metadata, read_metadata, write_metadata
from trm_jax.edge.package import Options, choose, open_model, report
from trm_jax.support.checksums import check_sums, write_sums
from trm_jax.wafer.generated.synthetic import synthetic_wafers


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edge_models.write_package(tmp_path_factory.mktemp("edge") / "package")


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        open_model(path, Options(**options))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_package_gives_the_file_that_fits_what_is_asked(directory: Path) -> None:
    assert choose(directory).name == "model.onnx" and choose(directory, batch=8).name == "model_dynamic.onnx"
    assert choose(directory, adaptive=True).name == "model_adaptive.onnx"
    assert choose(directory / "step.onnx", adaptive=True).name == "step.onnx"
    kinds = {name: open_model(directory / name).kind for name in edge_models.FILES}
    assert kinds == {
        "model.onnx": "model",
        "model_dynamic.onnx": "model",
        "model_adaptive.onnx": "adaptive",
        "question.onnx": "question",
        "step.onnx": "step",
    }
    assert open_model(directory / "model.onnx").batch == 1 and open_model(directory / "step.onnx").batch is None
    with pytest.raises(FileNotFoundError, match="give a package directory"):
        choose(directory / "other.onnx")
    with pytest.raises(ValueError, match="is not a package"):
        choose(directory.parent)


def test_a_changed_a_missing_and_an_unlisted_file(tmp_path: Path) -> None:
    directory = edge_models.write_package(tmp_path / "package")
    content = bytearray((directory / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (directory / "model.onnx").write_bytes(content)
    for asked in (directory, directory / "model.onnx"):
        with pytest.raises(ValueError, match=r"model\.onnx is not what was written \(wrong SHA-256\)"):
            choose(asked)
    assert choose(directory / "step.onnx")  # it is still what it was
    edge_models.save(directory / "mine.onnx", edge_models.plain())
    with pytest.raises(ValueError, match=r"SHA256SUMS does not list mine\.onnx"):
        choose(directory / "mine.onnx")
    (directory / "initial.npz").unlink()
    assert choose(directory / "model_dynamic.onnx")  # does not need it
    with pytest.raises(ValueError, match=r"initial\.npz is missing, but SHA256SUMS lists it"):
        choose(directory / "step.onnx")
    (directory / "SHA256SUMS").write_text("no checksum\n")
    with pytest.raises(ValueError, match="SHA256SUMS, line 1, is not a checksum"):
        choose(directory)


@pytest.mark.parametrize("lines", [None, 0, 1, 4])
def test_a_package_whose_checksums_are_deleted_empty_or_shortened_is_refused(tmp_path: Path, lines: int | None) -> None:
    directory = edge_models.write_package(tmp_path / "package")
    (directory / "weights.bin").write_bytes(b"weights that the models share")
    edge_models.write_sums(directory)
    sums = directory / "SHA256SUMS"
    if lines is None:
        sums.unlink()
    else:
        sums.write_text("".join(sums.read_text().splitlines(keepends=True)[:lines]))
    reason = "SHA256SUMS is missing" if lines is None else r"SHA256SUMS does not list \S+; copy the folder again"
    for path in (directory, directory / "model.onnx", directory / "step.onnx"):
        with pytest.raises(ValueError, match=reason):
            choose(path)
    with pytest.raises(SystemExit, match=f"error: .*{reason}"):
        main(["benchmark", "--model", str(directory), "--input", "nothing.npz"])


def test_what_the_export_writes_is_what_the_device_reads(tmp_path: Path) -> None:
    metadata = Metadata(**edge_models.METADATA)
    assert read_metadata(write_metadata(metadata)) == metadata
    (tmp_path / "a").write_text("a")
    write_sums(tmp_path)
    write_sums(tmp_path)  # again: the list does not list itself
    check_sums(tmp_path, ["a"])
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path).returncode == 0


def test_a_package_that_was_being_replaced_when_the_power_went_is_used(tmp_path: Path) -> None:
    edge_models.write_package(tmp_path / "package").rename(tmp_path / "package.999999999.old")
    assert choose(tmp_path / "package").name == "model.onnx"


@pytest.mark.parametrize("N_sup", [0, 10**12, True, None])
def test_a_number_of_steps_that_makes_no_sense_does_not_run(directory: Path, tmp_path: Path, N_sup: object) -> None:
    package = edge_models.write_package(tmp_path / "package", config={"recursion": {"N_sup": N_sup}})
    with pytest.raises(ValueError, match=r"does not say recursion\.N_sup, 1 to 1000"):
        classify(open_model(package / "step.onnx"), synthetic_wafers(9))


@pytest.mark.parametrize("length", [0, 1, 100, 2000])
def test_a_model_that_is_cut_off(directory: Path, tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes((directory / "model.onnx").read_bytes()[:length])
    assert refused(path).startswith(f"{path} ")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"temperature": None}, "no metadata temperature"),
        ({"labels": None, "config": None}, "no metadata labels, config"),
        ({"labels": {}}, "labels is a dict"),
        ({"labels": ["a"] * 9}, "not the nine classes"),
        ({"labels": ["a"] * 3}, "not the nine classes"),
        ({"temperature": 0.0}, "temperature 0.0 must be positive"),
        ({"temperature": float("nan")}, "temperature nan must be positive"),
        ({"review_threshold": 1.5}, "review_threshold 1.5"),
        ({"preprocessing": {"kind": "wafer", "size": 9, "representation": "area"}}, "makes float 9 x 9 x 2"),
        ({"preprocessing": {"kind": "wafer", "size": 8, "representation": "mean"}}, "unknown representation"),
        ({"preprocessing": {"kind": "sudoku"}}, "does not fit preprocessing"),
        ({"preprocessing": {}}, "does not fit preprocessing"),
        ({"dies": [400]}, "dies the fewest and the most"),
        ({"dies": {}}, "dies is a dict"),
        ({"class_thresholds": [0.5] * 3}, "a number for each label"),
        ({"class_thresholds": ["high"] * 9}, "a number for each label"),
    ],
)
def test_metadata_that_are_missing_or_contradict_the_model(tmp_path: Path, metadata: dict, reason: str) -> None:
    path = edge_models.save(tmp_path / "model.onnx", edge_models.plain(), **metadata)
    assert reason in refused(path)


def test_other_models(tmp_path: Path) -> None:
    model = edge_models.plain()
    model.graph.output.pop()
    assert "it has no ['halt']" in refused(edge_models.save(tmp_path / "halt.onnx", model))
    model = edge_models.plain()
    model.metadata_props.add(key="labels", value="{")
    path = edge_models.save(tmp_path / "json.onnx", model)
    content = path.read_bytes().replace(b'["Center"', b'{"Center"')
    path.write_bytes(content)
    assert "metadata labels is not JSON" in refused(path)
    edge_models.save(tmp_path / "step.onnx", edge_models.step())
    assert "initial.npz is missing or damaged" in refused(tmp_path / "step.onnx")
    np.savez(tmp_path / "initial.npz", y=np.zeros((1, 9), np.float32), z=np.zeros((1, 1), np.float32))
    assert "question.onnx is missing; step.onnx needs it" in refused(tmp_path / "step.onnx")
    for other in (edge_models.question(1), edge_models.plain()):
        edge_models.save(tmp_path / "question.onnx", other)
        assert "question.onnx is not of the same export as step.onnx" in refused(tmp_path / "step.onnx")
    edge_models.save(tmp_path / "question.onnx", edge_models.question(), provenance={"commit": "another"})
    assert "question.onnx is not of the same export as step.onnx" in refused(tmp_path / "step.onnx")
    edge_models.save(tmp_path / "question.onnx", edge_models.question())
    assert open_model(tmp_path / "step.onnx").question is not None
    edge_models.save(tmp_path / "step.onnx", edge_models.step(), preprocessing={})
    assert "is not of the same export" in refused(tmp_path / "step.onnx")
    older = edge_models.step()
    older.graph.input[0].name = "inputs"
    older.graph.node[1].input[0] = "inputs"
    edge_models.save(tmp_path / "step.onnx", older)
    assert "step.onnx: from an older export" in refused(tmp_path / "step.onnx")


def test_wrong_shapes_and_values_that_are_no_numbers(directory: Path, tmp_path: Path) -> None:
    model, wafers = open_model(directory / "model_dynamic.onnx"), synthetic_wafers(9)
    grids = inputs(model, wafers)
    with pytest.raises(ValueError, match=r"model_dynamic\.onnx cannot answer: .*inputs"):
        model.run(inputs=grids[:, 1:])
    with pytest.raises(ValueError, match="cannot answer"):
        model.run(inputs=grids.astype(np.float64))
    with pytest.raises(ValueError, match="cannot answer"):
        open_model(directory / "step.onnx").run(inputs=grids)
    with pytest.raises(ValueError, match=r"question\.onnx gives no answers by itself"):
        classify(open_model(directory / "question.onnx"), wafers)
    broken = open_model(edge_models.save(tmp_path / "nan.onnx", edge_models.plain(factor=np.nan)))
    with pytest.raises(ValueError, match="probabilities has values that are NaN"):
        answer(broken, grids)


def test_the_provider_in_use_is_told_and_never_falls_back_unnoticed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(directory / "model.onnx")
    assert model.provider == "CPUExecutionProvider"
    assert report(model).startswith("model.onnx runs on CPUExecutionProvider (onnxruntime")
    assert "has no CUDAExecutionProvider here" in refused(directory / "model.onnx", provider="cuda")
    assert "unknown provider 'gpu'" in refused(directory / "model.onnx", provider="gpu")
    assert "threads must be at least 1" in refused(directory / "model.onnx", threads=0)

    # As on a device whose CUDA is installed but does not start: onnxruntime goes on with the CPU.
    asked = []
    real = onnxruntime.InferenceSession

    def session(path, settings, providers):
        asked.append(dict(providers))
        return real(path, settings, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(package.onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(package.onnxruntime, "get_available_providers", lambda: list(package.PROVIDERS.values()))
    model = open_model(directory / "model.onnx", Options(cache=directory.parent / "engines"))
    assert "TensorrtExecutionProvider is installed but did NOT start" in report(model)
    assert list(asked[0]) == list(package.PROVIDERS.values()) and (directory.parent / "engines").is_dir()
    assert asked[0]["TensorrtExecutionProvider"]["trt_engine_cache_path"] == str(directory.parent / "engines")
    assert asked[0]["TensorrtExecutionProvider"]["trt_timing_cache_enable"] == "1"
    assert "fell back to ['CPUExecutionProvider']" in refused(directory / "model.onnx", provider="tensorrt")
    assert list(asked[1]) == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


def test_a_sudoku_model_opens_but_classifies_no_wafers(tmp_path: Path) -> None:
    path = edge_models.save(
        tmp_path / "sudoku.onnx", edge_models.sudoku(), preprocessing={"kind": "sudoku"}, labels=["1", "2"]
    )
    opened = open_model(path)
    assert opened.run(inputs=np.ones((2, SIZE), np.int32))["probabilities"].shape == (2, 1, SIZE)
    with pytest.raises(ValueError, match="takes no wafer maps, but sudoku"):
        inputs(opened, synthetic_wafers(9))
