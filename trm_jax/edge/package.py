"""Exported models on the device: a package directory or one of its files, checked before anything is answered.

A file says what it needs in its metadata; SHA256SUMS, where it is there, says whether it is what was exported.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from trm_jax.support.files import DAMAGE, sha256
from trm_jax.wafer.maps.grid import Representation
from trm_jax.wafer.maps.maps import CLASSES

SUMS = "SHA256SUMS"
STEP, INITIAL, QUESTION = "step.onnx", "initial.npz", "question.onnx"
"""A supervision step; what belongs to it: first states, and the file that makes x of the inputs."""
WEIGHTS = "weights.bin"
"""Weights that the float32 files of a package share."""
PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""Where a model can run, the best first."""
_METADATA: dict[str, Any] = {
    "labels": list, "preprocessing": dict, "temperature": (int, float), "review_threshold": (int, float),
    "config": dict, "provenance": dict, "reference": dict,
}  # fmt: skip
_OUTPUTS = {
    "model": {"logits", "probabilities", "halt"},
    "adaptive": {"logits", "probabilities", "halt", "steps"},
    "question": {"x"},
    "step": {"logits", "probabilities", "halt", "y_next"},
}
# The errors of onnxruntime have no common parent but Exception.
_KINDS = [kind for kind in vars(onnxruntime_pybind11_state).values() if isinstance(kind, type)]
_ERRORS: tuple[type[Exception], ...] = (ValueError, RuntimeError)
_ERRORS += tuple(kind for kind in _KINDS if issubclass(kind, Exception))


class Options(NamedTuple):
    """How onnxruntime runs a model."""

    provider: str = "auto"
    """tensorrt, cuda or cpu, which then must be there; auto takes the first that works."""
    threads: int = 1
    """Threads within an operation. On shared cores two are slower than one."""
    cache: Path | None = None
    """Directory for the engines and timings of TensorRT, which take minutes to make."""


class Metadata(NamedTuple):
    """What a model file says about itself, as JSON in its metadata."""

    labels: list[str]
    preprocessing: dict[str, Any]
    temperature: float
    """Logits are divided by it before the softmax, inside the graph."""
    review_threshold: float
    config: dict[str, Any]
    provenance: dict[str, Any]
    reference: dict[str, Any]
    """What the inputs looked like in validation, for drift alarms; {} if unknown."""


@dataclass(frozen=True)
class Model:
    """A model file that is ready to answer."""

    path: Path
    session: onnxruntime.InferenceSession
    metadata: Metadata
    kind: str
    """model: all supervision steps at once; adaptive: stops by itself; question: inputs to x; step: one supervision
    step of x."""
    batch: int | None
    """Samples that it takes at a time; None for any number."""
    initial: dict[str, np.ndarray]
    """First y of a step model, and z if it has one, for a batch of 1."""
    question: "Model | None" = None
    """What makes x for a step model."""

    @property
    def provider(self) -> str:
        """What it runs on in the first place; onnxruntime gives operations it lacks there to the next one."""
        return self.session.get_providers()[0]

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32. Raises ValueError, in one line, if inputs do not fit or outputs are no numbers."""
        try:
            values = self.session.run(None, inputs)
        except _ERRORS as error:
            raise ValueError(f"{self.path} cannot answer: {_line(error)}") from error
        first = next(iter(inputs.values()))
        outputs = {output.name: value for output, value in zip(self.session.get_outputs(), values, strict=True)}
        for name, value in outputs.items():
            if value.shape[:1] != first.shape[:1]:
                raise ValueError(f"{self.path}: {name} is {value.shape} for {len(first)} inputs")
            if not np.isfinite(value).all():
                raise ValueError(f"{self.path}: {name} has values that are no numbers")
        return outputs


def choose(path: Path, adaptive: bool = False, batch: int = 1) -> Path:
    """The file to run: ``path`` itself, or the fitting one of a package, whose checksums are then checked.

    Raises FileNotFoundError, or ValueError in one line for a wrong checksum or a package without such a file.
    """
    if not path.exists():
        raise FileNotFoundError(f"no model at {path}; give a package directory or an .onnx file")
    if path.is_file():
        needed = {path.name, WEIGHTS} if (path.parent / WEIGHTS).exists() else {path.name}
        check_sums(path.parent, needed | ({INITIAL, QUESTION} if path.name == STEP else set()))
        return path
    check_sums(path)
    names = ["model_adaptive.onnx", "step.onnx"] if adaptive else ["model_dynamic.onnx", "model.onnx"]
    if batch == 1 and not adaptive:
        names.reverse()
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise ValueError(f"{path} is no package: it has neither {names[0]} nor {names[1]}")
    return found


def check_sums(directory: Path, only: set[str] | None = None) -> None:
    """Compare the files that SHA256SUMS lists, or ``only`` some, if there is such a list.

    Raises ValueError for a file that differs or is missing.
    """
    if not (directory / SUMS).is_file():
        return
    for number, line in enumerate((directory / SUMS).read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        expected, _, name = line.partition(" ")
        name = name[1:]  # after the blank or asterisk that says how it was read
        if len(expected) != 64 or not name:
            raise ValueError(f"{directory / SUMS}, line {number}, is no checksum and file name; export again")
        if only is not None and name not in only:
            continue
        if not (directory / name).is_file():
            raise ValueError(f"{directory / name} is missing, but {SUMS} lists it; copy the package again")
        if sha256(directory / name) != expected.lower():
            raise ValueError(f"{directory / name} is not what was exported (wrong SHA-256); copy the package again")


def open_model(path: Path, options: Options | None = None) -> Model:
    """Load a model file and check that it says what it is and is what it says.

    Raises ValueError, in one line, if it is damaged, its metadata are missing or contradict it, or the provider that
    was asked for does not work.
    """
    session = _session(path, options or Options())
    metadata = _metadata(path, session)
    names, made = ([entry.name for entry in ends] for ends in (session.get_inputs(), session.get_outputs()))
    kind = "adaptive" if "threshold" in names else "step" if "y" in names else "question" if "x" in made else "model"
    first = "x" if kind == "step" else "inputs"
    missing = _OUTPUTS[kind] - set(made)
    if kind == "step" and "inputs" in names:
        raise ValueError(f"{path} is from an older export, which took inputs instead of x; export it again")
    if missing or first not in names:
        raise ValueError(f"{path} is no model of ours: it has no {sorted(missing) if missing else f'input {first}'}")
    entry = next(entry for entry in session.get_inputs() if entry.name == first)
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else None
    if kind != "step":
        _check_inputs(path, metadata, entry)
    for output in session.get_outputs():
        classes = output.shape[-1] if output.shape and output.name in ("logits", "probabilities") else None
        wafers = metadata.preprocessing.get("kind") == "wafer"
        if wafers and isinstance(classes, int) and classes != len(metadata.labels):
            raise ValueError(
                f"{path}: {output.name} has {classes} classes, but there are {len(metadata.labels)} labels"
            )
    if kind != "step":
        return Model(path, session, metadata, kind, batch, {})
    states = [name for name in names if name in ("y", "z")]
    step = Model(path, session, metadata, kind, batch, _initial(path, states))
    return replace(step, question=_question(step, options))


def report(model: Model, asked: str = "auto") -> str:
    """Where the model runs, in one line; also says so where onnxruntime left out something better without a word."""
    available = onnxruntime.get_available_providers()
    wanted = [name for name in PROVIDERS.values() if name in available] if asked == "auto" else [PROVIDERS[asked]]
    fallback = f"; {wanted[0]} is installed but did NOT start" if model.provider != wanted[0] else ""
    return f"{model.path.name} runs on {model.provider}{fallback} (onnxruntime {onnxruntime.__version__})"


def _session(path: Path, options: Options) -> onnxruntime.InferenceSession:
    if options.provider not in ("auto", *PROVIDERS):
        raise ValueError(f"unknown provider {options.provider!r}; known are auto, {', '.join(PROVIDERS)}")
    if options.threads < 1:
        raise ValueError(f"threads must be at least 1, got {options.threads}")
    asked = list(PROVIDERS) if options.provider == "auto" else [options.provider]
    available = onnxruntime.get_available_providers()
    # TensorRT leaves what it lacks to CUDA.
    asked += ["cuda"] if asked == ["tensorrt"] else []
    used = [name for name in asked if PROVIDERS[name] in available]
    if options.provider != "auto" and options.provider not in used:
        raise ValueError(f"onnxruntime has no {PROVIDERS[options.provider]} here, only {', '.join(available)}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.log_severity_level = 4  # every operation that runs elsewhere, and errors that are raised all the same
    caches: dict[str, str] = {}
    if options.cache is not None and "tensorrt" in used:
        options.cache.mkdir(parents=True, exist_ok=True)
        caches = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(options.cache)}
        caches |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(options.cache)}
    providers = [(PROVIDERS[name], caches if name == "tensorrt" else {}) for name in used]
    try:
        session = onnxruntime.InferenceSession(path, settings, providers=providers)
    except _ERRORS as error:
        raise ValueError(f"{path} cannot be loaded: {_line(error)}") from error
    if options.provider != "auto" and session.get_providers()[0] != PROVIDERS[options.provider]:
        raise ValueError(
            f"{PROVIDERS[options.provider]} did not start; onnxruntime fell back to {session.get_providers()}"
        )
    return session


def _metadata(path: Path, session: onnxruntime.InferenceSession) -> Metadata:
    texts = session.get_modelmeta().custom_metadata_map
    missing = [name for name in _METADATA if name not in texts]
    if missing:
        raise ValueError(f"{path} has no metadata {', '.join(missing)}; export it with experiments/export_onnx.py")
    values = {}
    for name, kinds in _METADATA.items():
        try:
            values[name] = json.loads(texts[name])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: metadata {name} is no JSON: {_line(error)}") from None
        if not isinstance(values[name], kinds):
            raise ValueError(f"{path}: metadata {name} is a {type(values[name]).__name__}")
    metadata = Metadata(**values)
    if not (0 < metadata.temperature < math.inf and 0 <= metadata.review_threshold <= 1):
        raise ValueError(
            f"{path}: temperature {metadata.temperature} must be positive, "
            f"review_threshold {metadata.review_threshold} 0 to 1"
        )
    return metadata


def _check_inputs(path: Path, metadata: Metadata, entry: Any) -> None:
    """The input must be what the preprocessing makes."""
    preprocessing = metadata.preprocessing
    kind, size = preprocessing.get("kind"), preprocessing.get("size")
    if kind != "wafer":
        if kind is None or len(entry.shape) != 2 or entry.type != "tensor(int32)":
            raise ValueError(
                f"{path} takes {entry.type} {entry.shape}, which does not fit preprocessing {preprocessing}"
            )
        return
    if preprocessing.get("representation") not in get_args(Representation):
        raise ValueError(f"{path}: unknown representation in preprocessing {preprocessing}")
    if entry.type != "tensor(float)" or list(entry.shape[1:]) != [size, size, 2]:
        raise ValueError(
            f"{path} takes {entry.type} {entry.shape}, but its preprocessing makes float {size} x {size} x 2"
        )
    if metadata.labels != list(CLASSES):
        raise ValueError(f"{path}: its labels {metadata.labels} are not the nine classes, in their order")


def _initial(path: Path, states: list[str]) -> dict[str, np.ndarray]:
    """First values of these states, from the file beside a step model."""
    try:
        with np.load(path.with_name(INITIAL), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in states}
    except DAMAGE as error:
        raise ValueError(f"{path.with_name(INITIAL)} is missing or damaged: {_line(error)}") from error


def _question(step: Model, options: Options | None) -> Model:
    """The file beside a step model that makes its x, of the same export."""
    beside = step.path.with_name(QUESTION)
    if not beside.is_file():
        raise ValueError(f"{beside} is missing; {step.path.name} needs it")
    found = open_model(beside, options)
    if (found.kind, found.batch, found.metadata) != ("question", step.batch, step.metadata):
        raise ValueError(f"{beside} is not of the same export as {step.path.name}; copy the package again")
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
