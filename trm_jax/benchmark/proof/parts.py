"""What `experiments/accelerator.py` measures on the device at hand, as named calls that each give one record.

The model is the official one (T=3, n=6, gradient of the last cycle) with one supervision step to an update.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from trm_jax.benchmark import jax_side
from trm_jax.benchmark.cases import random_data
from trm_jax.benchmark.measure import load_peer, repeated
from trm_jax.benchmark.proof.interrupted import compare_resumed
from trm_jax.benchmark.proof.sizes import BOUNDS, MIXERS, PEAKS, PRECISIONS, Size
from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.core.task import Examples, Task
from trm_jax.support.provenance import environment
from trm_jax.support.timing import time_interleaved
from trm_jax.training.devices import over_seeds, place_seeds, replicate, run_mesh
from trm_jax.training.loop import compile_chunk
from trm_jax.training.memory import Memory, memory_limit, needed

Record = dict[str, Any]
Calls = Iterator[tuple[str, Callable[[], Record]]]


def device(size: Size) -> Calls:
    """What was measured on: devices, versions, memory, and the fastest product in each precision."""
    yield "device", lambda: environment() | {"memory_limit": memory_limit(run_mesh(Config(), jax.devices()[:1]))}
    for precision in PRECISIONS:
        yield f"device/{precision}", partial(_product, size.matrix, precision)


def _product(side: int, precision: str) -> dict[str, float]:
    return {"tflops": product_flops(side, precision) / 1e12}


@cache
def product_flops(side: int, precision: str) -> float:
    """Operations a second of a large square matrix product."""
    kind = "bfloat16" if precision == "bfloat16" else "float32"
    matrix = jax.random.normal(jax.random.key(0), (side, side), kind)
    with jax.default_matmul_precision(PRECISIONS[precision].get("model.matmul_precision", "default")):
        product = jax.jit(lambda a: a @ a).lower(matrix).compile()
    (seconds,) = time_interleaved({"product": lambda: jax.block_until_ready(product(matrix))}, 3, 0.1).values()
    return 2 * side**3 / min(seconds)


def parity(size: Size) -> Calls:
    """Logits, loss and every gradient on the device, against float32 on CPU with the highest precision."""
    grid = next(iter(size.boards))
    for mixer in (*MIXERS, "relations"):
        for precision in PRECISIONS:
            config = size.config(size.widths[0], "attention" if mixer == "relations" else mixer, grid, precision)
            deep = {"recursion.T": min(2, size.T), "recursion.n": 2, "recursion.N_sup": 2}
            config = config.override(**deep, **{"run.batch": 8})
            if mixer == "relations":
                config = config.override(**{"model.relations": "lines"})
            yield f"parity/{mixer}/{precision}", partial(_difference, config, BOUNDS[precision])


def _difference(config: Config, bound: float) -> Record:
    exact = config.override(**{"model.dtype": "float32", "model.matmul_precision": "highest"})
    params, data, expected, loss = _on_cpu(exact)
    found, here = _evaluate(config, params, data)
    errors = jax_side.difference(expected, found) | {"loss": abs(here - loss) / abs(loss)}
    worst = max(errors, key=lambda name: errors[name] if np.isfinite(errors[name]) else np.inf)
    return {"largest": errors[worst], "of": worst, "logits": errors["logits"], "loss": errors["loss"],
            "compared": len(errors), "bound": bound, "held": bool(errors[worst] <= bound)}  # fmt: skip


@cache
def _on_cpu(exact: Config) -> tuple[Any, dict[str, np.ndarray], tuple, float]:
    """Weights, data, logits with gradients, and loss as a processor computes them."""
    data = random_data(exact, exact.run.batch)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        params = jax.device_get(jax_side.weights(exact, size=jax_side.CALM))
        return params, data, *_evaluate(exact, params, data)


def _evaluate(config: Config, params, data) -> tuple[tuple, float]:
    """Logits and gradients as `jax_side.difference` takes them, and the loss."""
    evaluate = jax.jit(jax.value_and_grad(partial(jax_side.loss, config), has_aux=True))
    (loss, logits), gradient = jax.device_get(evaluate(params, data))
    return (logits, flatten_dict(gradient)), float(loss)


def training(config: Config, K: int = 4, seeds: int = 1) -> tuple[Callable[[], None], Memory, float]:
    """A call that trains K steps of so many seeds on one device, its memory, and the seconds it took to compile."""
    mesh = run_mesh(config.override(**{"run.seeds": tuple(range(seeds))}), jax.devices()[:1])
    data = replicate(mesh, train_step.training_data(Examples(random_data(config, config.run.batch)), config.run.steps))
    start = over_seeds(lambda seed, data: train_step.init(config, data, seed), mesh)
    state = start(place_seeds(mesh, np.arange(seeds)), data)
    started = time.perf_counter()
    program = compile_chunk(Task(), config, K, mesh, state, data)
    seconds = time.perf_counter() - started

    def call() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(program(state, data))

    return call, needed(program), seconds


def step_seconds(size: Size, calls: dict[str, Callable[[], Any]], K: int = 4) -> dict[str, list[float]]:
    """Seconds of a step in each of three rounds, where every call makes K steps."""
    times = time_interleaved(calls, 3, size.seconds)
    return {name: [seconds / K for seconds in values] for name, values in times.items()}


def operations(config: Config) -> int:
    """Matrix-product operations of a training step without recomputation, counted in the forms of a processor, which
    hide no product in a kernel."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax_side.training_flops(config, config.run.batch)


def steps(size: Size) -> Calls:
    """Time, share of the peak and memory of a training step by width, mixer, tokens and precision."""
    for width in reversed(size.widths):
        for grid in size.boards:
            for mixer in reversed(MIXERS):
                for precision in reversed(PRECISIONS):
                    config = size.config(width, mixer, grid, precision)
                    name = f"steps/width{width}/{mixer}/{config.model.tokens}/{precision}"
                    yield name, partial(_step, size, config, precision)


def _step(size: Size, config: Config, precision: str) -> Record:
    call, memory, compiling = training(config)
    seconds = step_seconds(size, {"ours": call})["ours"]
    flops, kind = operations(config), jax.devices()[0].device_kind
    stated = next((peaks[list(PRECISIONS).index(precision)] for name, peaks in PEAKS.items() if name in kind), None)
    peak = stated or product_flops(size.matrix, precision)
    return {
        "ms": 1000 * median(seconds), "ms_low": 1000 * min(seconds), "ms_high": 1000 * max(seconds),
        "tflop": flops / 1e12, "share": flops / median(seconds) / peak, "peak": "stated" if stated else "measured",
        "gigabytes": memory.total / 1e9, "compile_seconds": compiling, "batch": config.run.batch,
    }  # fmt: skip


def seeds(size: Size) -> Calls:
    """Time of many seeds at once over that of as many runs of one."""
    config = size.config(size.widths[0], "attention", next(iter(size.boards)))
    for count in size.seeds[1:]:
        yield f"seeds/{count}", partial(_seeds, size, config, count)


def _seeds(size: Size, config: Config, count: int) -> Record:
    together, memory, _ = training(config.override(**{"run.seeds_at_once": count}), seeds=count)
    alone, _, _ = training(config)
    times = step_seconds(size, {"together": together, "alone": alone})
    ratios = [a / (count * b) for a, b in zip(times["together"], times["alone"], strict=True)]
    return {"ms": 1000 * median(times["together"]), "ratio": median(ratios), "ratio_low": min(ratios),
            "ratio_high": max(ratios), "gigabytes": memory.total / 1e9}  # fmt: skip


def peer(size: Size) -> Calls:
    """The same step in PyTorch, eager and compiled, in bfloat16 with its fused attention; checked before timed."""
    for mixer in ("attention", "linear"):
        for name in ("eager", "compiled") if size.compiled else ("eager",):
            yield f"peer/{mixer}/{name}", partial(_peer, size, mixer, name == "compiled")


def _peer(size: Size, mixer: str, compiled: bool) -> Record:
    side = load_peer()
    if side is None:
        return {"skipped": "PyTorch is not installed"}
    config = size.config(size.widths[-1], mixer, next(iter(size.boards)))
    small = config.override(**{"run.batch": 8})
    params, data = jax.device_get(jax_side.weights(config, size=jax_side.CALM)), random_data(small, 8)
    ours = jax_side.logits_and_gradients(small, params, data)
    theirs = side.logits_and_gradients(side.build(small, params, compiled=False), data)
    error = jax_side.check_equal(f"peer/{mixer}", ours, theirs, BOUNDS["bfloat16"])
    call, _, _ = training(config)
    trainer = side.Trainer(side.build(config, params, compiled), random_data(config, config.run.batch))
    times = step_seconds(size, {"ours": call, "peer": repeated(trainer.step, 4)})
    ratios = [a / b for a, b in zip(times["ours"], times["peer"], strict=True)]
    return {"ms": 1000 * median(times["ours"]), "peer_ms": 1000 * median(times["peer"]), "ratio": median(ratios),
            "ratio_low": min(ratios), "ratio_high": max(ratios), "difference": error}  # fmt: skip


def inference(size: Size) -> Calls:
    """Answers a second after all supervision steps, and how the time of early stopping follows the steps used."""
    for mixer in MIXERS:
        config = size.config(size.widths[0], mixer, next(iter(size.boards))).override(**{"recursion.N_sup": 8})
        yield f"inference/{mixer}", partial(_inference, size, config)
        # In float32: the rounding of bfloat16 would move samples that are near the threshold.
        exact = config.override(**{"model.dtype": "float32", **PRECISIONS["float32"]})
        yield f"halting/{mixer}", partial(_halting, size, exact)


def _inference(size: Size, config: Config) -> Record:
    inputs = random_data(config, config.run.batch)["inputs"]
    seconds = time_interleaved({"ours": jax_side.predictor(config, jax_side.weights(config), inputs)}, 3, size.seconds)
    return {"ms": 1000 * median(seconds["ours"]), "answers_per_second": len(inputs) / median(seconds["ours"])}


def _halting(size: Size, config: Config) -> Record:
    inputs = random_data(config, config.run.batch)["inputs"]
    slots = max(1, len(inputs) // 4)
    calls, share = jax_side.halting_predictors(config, jax_side.weights(config), inputs, slots)
    times = time_interleaved(calls, 3, size.seconds)
    ratio = median([a / b for a, b in zip(times["halted"], times["all steps"], strict=True)])
    return {"ms": 1000 * median(times["halted"]), "ratio": ratio, "share_of_steps": share}


def resume(size: Size) -> Calls:
    """A run that is interrupted between two checkpoints and taken up again, against one that is not."""
    yield "resume", lambda: compare_resumed(size.config(size.widths[0], "attention", next(iter(size.boards))))


def compiling(size: Size) -> Calls:
    """Seconds to compile a step with nothing kept, and again from the programs kept on disk."""
    config = size.config(size.widths[0], "attention", next(iter(size.boards)))
    yield "compiling", partial(_compiling, config)


def _compiling(config: Config) -> Record:
    from jax.experimental.compilation_cache import compilation_cache

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, value in zip(names, (folder, 0.0), strict=True):
                jax.config.update(name, value)
            for _ in range(2):
                compilation_cache.reset_cache()
                jax.clear_caches()
                seconds.append(training(config)[2])
            kept = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()
    return {"cold_seconds": seconds[0], "warm_seconds": seconds[1], "megabytes": kept / 1e6}


PARTS = {
    "device": device, "parity": parity, "resume": resume, "compiling": compiling, "seeds": seeds,
    "peer": peer, "inference": inference, "steps": steps,
}  # fmt: skip
"""Parts by name, the short ones first."""
