"""The training loop on the host: compiled chunks, evaluation, checkpoints, resuming, and stopping on a NaN."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from trm_jax.core import train_step
from trm_jax.core.config import Config, LossConfig, OptimConfig, RecursionConfig, RunConfig
from trm_jax.core.sharding import tree_where
from trm_jax.core.task import Examples, Task, check_tokens, repeated_inputs, run_options
from trm_jax.core.train_step import TrainingData, TrainState
from trm_jax.training.checkpoint import Checkpoints
from trm_jax.training.devices import cpu_keeps_batch_whole, over_seeds, place_seeds, replicate, run_mesh, to_host
from trm_jax.training.predict import scores
from trm_jax.training.processes import broadcast_from_first, is_first_process
from trm_jax.training.run_directory import RunDirectory
from trm_jax.training.start import starting_weights


class Best(NamedTuple):
    """The evaluated weights with the highest validation score of each seed; those of a depth curriculum's first phase
    only as long as there are no others."""

    params: Any
    score: Any  # (S,)
    step: Any  # (S,)


class TrainingRun(NamedTuple):
    """What a checkpoint holds."""

    state: TrainState
    best: Best
    seconds: Any  # (S,) time all seeds together have trained, without compiling


class Diverged(RuntimeError):
    """A loss or gradient that is NaN or infinite."""


def fit(task: Task, config: Config, directory: Path, name: str = "run") -> TrainingRun:
    """Train all seeds of a config on a task in ``directory``, or take up where it was interrupted.

    The task's metric on validation, after the last supervision step, decides the best weights. Ends bitwise equal
    whether it was interrupted or not, and on other devices equal up to rounding. With several processes all of them
    must call it together, with the same arguments and a directory they all see.
    Raises ValueError when the directory holds another run, Diverged when a loss is NaN or infinite.
    """
    with RunDirectory(directory, run_options(task, config)) as run:
        return _fit(task, config, run, name)


@cache
def eval_weights(config: Config) -> Callable[[TrainState], Any]:
    """Compiled function from the state of all seeds to the weights that are evaluated; one program for a config."""
    return over_seeds(partial(train_step.eval_params, config), run_mesh(config))


def _fit(task: Task, config: Config, run: RunDirectory, name: str) -> TrainingRun:
    seeds = np.array(config.run.seeds)
    mesh = run_mesh(config)
    _say_idle(config, mesh)
    samples, validation = _samples(task, config)
    data = replicate(mesh, samples)
    evaluated = eval_weights(config)
    training = _start(config, data, mesh, seeds)
    checkpoints = Checkpoints(run.path / "checkpoints")
    if config.run.init and checkpoints.latest() is None:
        training = _from_weights(config, training, mesh)
    if checkpoints.latest() is not None:
        training = checkpoints.restore(training)
    step = int(to_host(training.state.step)[0])
    run.truncate_metrics(step)
    state, best = training.state, training.best
    seconds = to_host(training.seconds)
    compiled: dict[tuple[int, int], Callable] = {}
    hidden = not is_first_process()
    with tqdm(total=config.run.steps, initial=step, desc=name, unit="step", file=sys.stderr, disable=hidden) as bar:
        while step < config.run.steps and not _out_of_patience(config, best, step):
            N_sup, end = _phase(config, step)
            K = min(config.run.chunk, end - step)
            if (K, N_sup) not in compiled:
                phase = config.override(**{"recursion.N_sup": N_sup})
                chunk = over_seeds(_chunk(task, phase, K), mesh, donate=True)
                compiled[K, N_sup] = chunk.lower(state, data).compile()
            started = time.perf_counter()
            state, metrics = jax.block_until_ready(compiled[K, N_sup](state, data))
            seconds = seconds + (time.perf_counter() - started)
            step += K
            row = _row(config, metrics, step, name, run.path)
            done = step == config.run.steps
            if done or step % config.run.evaluate_every == 0:
                weights = evaluated(state)
                by_step = scores(task, config, weights, validation)
                last = {key: values[:, -1] for key, values in by_step.items()}
                best = _better(config, best, weights, last[task.metric], step)
                row |= {f"validation_{key}": _to_list(values) for key, values in last.items()}
                row["best_step"] = to_host(best.step).tolist()
                bar.set_postfix({task.metric: f"{np.mean(last[task.metric]):.3f}"})
            run.log(row)
            if done or step % config.run.checkpoint_every == 0:
                checkpoints.save(step, TrainingRun(state, best, _replicated(mesh, seconds)), run.options)
            bar.update(K)
    checkpoints.close()
    return TrainingRun(state, best, _replicated(mesh, seconds))


def _phase(config: Config, step: int) -> tuple[int, int]:
    """Supervision steps of the update after ``step``, and the step until which they stay: the depth curriculum."""
    first = first_phase(config)
    return (config.recursion.curriculum_N_sup, first) if step < first else (config.recursion.N_sup, config.run.steps)


def first_phase(config: Config) -> int:
    """Updates of the depth curriculum's first phase, in whole chunks; 0 without one."""
    return round(config.recursion.curriculum_fraction * config.run.steps / config.run.chunk) * config.run.chunk


def _chunk(task: Task, config: Config, K: int) -> Callable:
    return lambda state, data: train_step.train_chunk(config, task, K, state, data)


def _start(config: Config, data: TrainingData, mesh, seeds: np.ndarray) -> TrainingRun:
    state = _initial_state(_shape_of_state(config))(place_seeds(mesh, seeds), data)
    none = replicate(mesh, np.full(len(seeds), -np.inf, np.float32))
    steps = replicate(mesh, np.zeros(len(seeds), np.int32))
    best = Best(jax.tree.map(jax.numpy.zeros_like, state.params), none, steps)
    return TrainingRun(state, best, replicate(mesh, np.zeros(len(seeds), np.float32)))


def _from_weights(config: Config, training: TrainingRun, mesh) -> TrainingRun:
    """The same state with the weights of ``run.init`` in every seed; optimizer and average begin anew."""
    weights = starting_weights(config)
    params = jax.tree.map(lambda leaf: np.repeat(leaf[None], len(config.run.seeds), axis=0), weights)
    state = training.state._replace(params=place_seeds(mesh, params))
    if config.optim.ema_start == "weights":
        state = state._replace(ema=place_seeds(mesh, params))
    return training._replace(state=state)


def _shape_of_state(config: Config) -> Config:
    """The config with only those options that the state before the first update depends on."""
    run = replace(RunConfig(), batch=config.run.batch, seeds=config.run.seeds, data_parallel=config.run.data_parallel)
    loss = LossConfig(supervision=config.loss.supervision)
    return Config(config.model, RecursionConfig(T=1), loss, OptimConfig(ema_start=config.optim.ema_start), run)


@cache
def _initial_state(config: Config) -> Callable:
    """Compiled state before the first update; arms that differ only in how they train share the program."""
    return over_seeds(lambda seed, data: train_step.init(config, data, seed), run_mesh(config))


def _replicated(mesh, seconds: np.ndarray):
    """Seconds as the first process measured them, on every device."""
    return replicate(mesh, broadcast_from_first(seconds))


def _say_idle(config: Config, mesh) -> None:
    """One line where devices stay idle that the run might have used."""
    if mesh.size < jax.device_count() and not cpu_keeps_batch_whole(config, jax.devices()) and is_first_process():
        seed, data = mesh.devices.shape
        print(
            f"uses {mesh.size} of {jax.device_count()} devices: {seed} for {len(config.run.seeds)} seeds, times {data} "
            f"for batches of {config.run.batch}",
            file=sys.stderr,
        )


def _samples(task: Task, config: Config) -> tuple[TrainingData, Examples]:
    """What to train on and to validate with, in the range of the model; one line where inputs are in both.

    The best weights would then be chosen by what was learnt by heart. Raises ValueError for samples that the model
    cannot take.
    """
    data, validation = train_step.training_data(task.examples("train"), config.run.steps), task.examples("validation")
    check_tokens(config.model, data.arrays, "training data")
    check_tokens(config.model, validation.arrays, "validation data")
    repeated, total = repeated_inputs(data.arrays, validation.arrays), len(validation.arrays["inputs"])
    if repeated and is_first_process():
        print(f"{repeated} of {total} validation inputs are training inputs too", file=sys.stderr)
    return data, validation


def _out_of_patience(config: Config, best: Best, step: int) -> bool:
    """Whether no seed has improved for as many evaluations as ``run.patience`` allows."""
    waited = step - max(int(to_host(best.step).max()), first_phase(config))
    return 0 < config.run.patience * config.run.evaluate_every <= waited


def _better(config: Config, best: Best, params, score: np.ndarray, step: int) -> Best:
    """Replace the best weights of those seeds whose score has risen.

    Those of the depth curriculum's first phase have not learned to take N_sup steps: any of the second replace them.
    """
    first = first_phase(config)
    old = np.where((to_host(best.step) <= first) & (step > first), -np.inf, to_host(best.score))
    new = Best(params, np.asarray(score, np.float32), np.full(len(score), step, np.int32))
    return tree_where(score > old, new, best)


def _row(config: Config, metrics, step: int, name: str, directory: Path) -> dict[str, Any]:
    """Metrics of the chunk's last step, one value per seed, after a check that all of its steps were numbers."""
    host = to_host(metrics)  # each (S, K)
    broken = ~np.isfinite(host["loss"]) | ~np.isfinite(host["gradient_norm"])
    if broken.any():
        first = int(broken.any(axis=0).argmax())
        seed = config.run.seeds[int(broken[:, first].argmax())]
        at = step - broken.shape[1] + first + 1
        checkpoints = directory / "checkpoints"
        kept = f"the last good one is kept in {checkpoints}" if any(checkpoints.glob("[0-9]*")) else "none was kept yet"
        raise Diverged(
            f"{name}: the loss or gradient of seed {seed} is NaN or infinite at step {at}; of the checkpoints {kept}. "
            "Lower optim.learning_rate or raise optim.warmup, and choose a new name"
        )
    return {"step": step, **{key: _to_list(values[:, -1]) for key, values in host.items()}}


def _to_list(values) -> list[float]:
    return [round(float(value), 6) for value in np.asarray(values)]
