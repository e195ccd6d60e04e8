"""Exported models on the device: a package directory or one of its files, checked before anything is answered."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state

from trm_jax.edge.format import INITIAL, QUESTION, STEP, WEIGHTS, Metadata, read_metadata
from trm_jax.support.archives import ArrayArchive
from trm_jax.support.checksums import SUMS, check_sums
from trm_jax.support.files import DAMAGE, one_line, restore
from trm_jax.wafer.maps.grid import Representation
from trm_jax.wafer.maps.unlike import UNLIKE, AnyUnlike, load_unlike
from trm_jax.wafer.maps.wafers import CLASSES

PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
"""Where a model can run, the best first."""
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
    unlike: AnyUnlike | None = None
    """What tells maps unlike those trained on; of older packages None."""

    @property
    def provider(self) -> str:
        """What it runs on in the first place; onnxruntime gives operations it lacks there to the next one."""
        return self.session.get_providers()[0]

    def run(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs by name, float32. Raises ValueError, in one line, if inputs do not fit or outputs are NaN."""
        try:
            values = self.session.run(None, inputs)
        except _ERRORS as error:
            raise ValueError(f"{self.path} cannot answer: {one_line(error)}") from error
        first = next(iter(inputs.values()))
        outputs = {output.name: value for output, value in zip(self.session.get_outputs(), values, strict=True)}
        for name, value in outputs.items():
            if value.shape[:1] != first.shape[:1]:
                raise ValueError(f"{self.path}: {name} is {value.shape} for {len(first)} inputs")
            if not np.isfinite(value).all():
                raise ValueError(f"{self.path}: {name} has values that are NaN or infinite")
        return outputs


def choose(path: Path, adaptive: bool = False, batch: int = 1) -> Path:
    """The file to run: ``path`` itself, or the fitting one of a package. It and all that it needs are checked.

    A model outside of a package, alone in its folder, has no checksum and is taken as it is. Raises FileNotFoundError,
    or ValueError in one line for a wrong or missing checksum or a package without such a file.
    """
    restore(path)
    if not path.exists():
        raise FileNotFoundError(f"no model at {path}; give a package directory or an .onnx file")
    if path.is_dir():
        names = ["model_adaptive.onnx", STEP] if adaptive else ["model_dynamic.onnx", "model.onnx"]
        if batch == 1 and not adaptive:
            names.reverse()
        directory, path = path, next((path / name for name in names if (path / name).is_file()), path)
        if path == directory:
            raise ValueError(f"{path} is not a package: it has neither {names[0]} nor {names[1]}")
    elif needed_files(path) == {path.name} and not (path.parent / SUMS).exists():
        return path
    check_sums(path.parent, needed_files(path))
    return path


def needed_files(path: Path) -> set[str]:
    """Names of the files that a model reads: itself, the shared weights, and what belongs to a step model."""
    weights = {WEIGHTS} if (path.parent / WEIGHTS).exists() else set()
    weights |= {UNLIKE} if (path.parent / UNLIKE).exists() else set()
    return {path.name} | weights | ({INITIAL, QUESTION} if path.name == STEP else set())


def open_model(path: Path, options: Options | None = None) -> Model:
    """Load a model file and check that it says what it is and is what it says.

    Raises ValueError, in one line, if it is damaged, its metadata are missing or contradict it, or the provider that
    was requested does not work.
    """
    session = _session(path, options or Options())
    try:
        metadata = read_metadata(session.get_modelmeta().custom_metadata_map)
        inputs = {entry.name: entry for entry in session.get_inputs()}
        kind = _kind(inputs, {entry.name for entry in session.get_outputs()})
        first = inputs["x" if kind == "step" else "inputs"]
        if kind != "step":
            _check_inputs(metadata, first)
        _check_classes(metadata, session)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    batch = first.shape[0] if isinstance(first.shape[0], int) else None
    if kind != "step":
        features = next((output.shape[-1] for output in session.get_outputs() if output.name == "features"), None)
        unlike = load_unlike(path.with_name(UNLIKE), features) if features else None
        return Model(path, session, metadata, kind, batch, {}, unlike=unlike)
    step = Model(path, session, metadata, kind, batch, _initial(path, [name for name in ("y", "z") if name in inputs]))
    question = _question(step, options)
    return replace(step, question=question, unlike=question.unlike)


def _kind(inputs: Mapping[str, Any], outputs: set[str]) -> str:
    """What a model is, by the names of its inputs and outputs."""
    kind = (
        "adaptive" if "threshold" in inputs else "step" if "y" in inputs else "question" if "x" in outputs else "model"
    )
    if kind == "step" and "inputs" in inputs:
        raise ValueError("from an older export, which took inputs instead of x; export it again")
    first = "x" if kind == "step" else "inputs"
    missing = _OUTPUTS[kind] - outputs
    if missing or first not in inputs:
        raise ValueError(f"not a model of ours: it has no {sorted(missing) if missing else f'input {first}'}")
    return kind


def report(model: Model, provider: str = "auto") -> str:
    """Where the model runs, in one line; also says so where onnxruntime left out something better without a word."""
    available = onnxruntime.get_available_providers()
    wanted = [name for name in PROVIDERS.values() if name in available] if provider == "auto" else [PROVIDERS[provider]]
    fallback = f"; {wanted[0]} is installed but did NOT start" if model.provider != wanted[0] else ""
    return f"{model.path.name} runs on {model.provider}{fallback} (onnxruntime {onnxruntime.__version__})"


def _session(path: Path, options: Options) -> onnxruntime.InferenceSession:
    if options.provider not in ("auto", *PROVIDERS):
        raise ValueError(f"unknown provider {options.provider!r}; known are auto, {', '.join(PROVIDERS)}")
    if options.threads < 1:
        raise ValueError(f"threads must be at least 1, got {options.threads}")
    wanted = list(PROVIDERS) if options.provider == "auto" else [options.provider]
    available = onnxruntime.get_available_providers()
    # TensorRT leaves what it lacks to CUDA.
    wanted += ["cuda"] if wanted == ["tensorrt"] else []
    used = [name for name in wanted if PROVIDERS[name] in available]
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
        raise ValueError(f"{path} cannot be loaded: {one_line(error)}") from error
    if options.provider != "auto" and session.get_providers()[0] != PROVIDERS[options.provider]:
        raise ValueError(
            f"{PROVIDERS[options.provider]} did not start; onnxruntime fell back to {session.get_providers()}"
        )
    return session


def _check_inputs(metadata: Metadata, entry: Any) -> None:
    """The input must be what the preprocessing makes."""
    preprocessing = metadata.preprocessing
    kind, size = preprocessing.get("kind"), preprocessing.get("size")
    if kind != "wafer":
        if kind is None or len(entry.shape) != 2 or entry.type != "tensor(int32)":
            raise ValueError(f"takes {entry.type} {entry.shape}, which does not fit preprocessing {preprocessing}")
        return
    if preprocessing.get("representation") not in get_args(Representation):
        raise ValueError(f"unknown representation in preprocessing {preprocessing}")
    if entry.type != "tensor(float)" or list(entry.shape[1:]) != [size, size, 2]:
        raise ValueError(f"takes {entry.type} {entry.shape}, but its preprocessing makes float {size} x {size} x 2")
    if metadata.labels != list(CLASSES):
        raise ValueError(f"its labels {metadata.labels} are not the nine classes, in their order")


def _check_classes(metadata: Metadata, session: onnxruntime.InferenceSession) -> None:
    """Answers about wafers must have an entry for each label."""
    for output in session.get_outputs():
        classes = output.shape[-1] if output.shape and output.name in ("logits", "probabilities") else None
        if (
            metadata.preprocessing.get("kind") == "wafer"
            and isinstance(classes, int)
            and classes != len(metadata.labels)
        ):
            raise ValueError(f"{output.name} has {classes} classes, but there are {len(metadata.labels)} labels")


def _initial(path: Path, states: list[str]) -> dict[str, np.ndarray]:
    """First values of these states, from the file beside a step model."""
    beside = path.with_name(INITIAL)
    try:
        with ArrayArchive(beside) as archive:
            return {name: archive[name] for name in states}
    except DAMAGE as error:
        raise ValueError(f"{beside} is missing or damaged: {one_line(error)}") from error


def _question(step: Model, options: Options | None) -> Model:
    """The file beside a step model that makes its x, of the same export."""
    beside = step.path.with_name(QUESTION)
    if not beside.is_file():
        raise ValueError(f"{beside} is missing; {step.path.name} needs it")
    question = open_model(beside, options)
    if (question.kind, question.batch, question.metadata) != ("question", step.batch, step.metadata):
        raise ValueError(f"{beside} is not of the same export as {step.path.name}; copy the folder again")
    return question
