"""The training loop on the host: compiled chunks, evaluation, checkpoints, resuming, and stopping on a NaN."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from trm_jax.core import train_step
from trm_jax.core.config import Config, LossConfig, OptimConfig, RecursionConfig
from trm_jax.core.sharding import tree_where
from trm_jax.core.task import Task, default_options, require_one_net, run_options
from trm_jax.core.train_step import TrainingData, TrainState
from trm_jax.support.terminal import progress
from trm_jax.support.terminal.cli import Paused
from trm_jax.training.checkpoint import Checkpoints, starting_weights
from trm_jax.training.deadline import Deadline
from trm_jax.training.devices import (
    cpu_keeps_batch_whole,
    over_seeds,
    place_seeds,
    placed,
    replicate,
    run_mesh,
    seeds_at_once,
    to_host,
)
from trm_jax.training.late import LateMetrics
from trm_jax.training.memory import advice_when_exhausted, memory_limit, needed, require_fit
from trm_jax.training.predict import Samples, scores
from trm_jax.training.processes import broadcast_from_first, is_first_process
from trm_jax.training.run_directory import STEPS, RunDirectory
from trm_jax.training.samples import by_seed, check_samples, place_samples, samples_of


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
    Raises ValueError when the directory holds another run or memory is too small, or for a model of several members,
    Diverged when a loss is NaN or infinite, Paused when ``run.minutes`` are over.
    """
    require_one_net(config)
    with (
        RunDirectory(directory, run_options(task, config), default_options(task), task.report_options) as run,
        advice_when_exhausted(config, name),
        Checkpoints(directory / "checkpoints") as checkpoints,
    ):
        return _fit(task, config, run, checkpoints, name)


def eval_weights(config: Config) -> Callable[[TrainState], Any]:
    """Compiled function from the state of all seeds to the weights that are evaluated; one for all that agree on it."""
    optim = OptimConfig(ema=config.optim.ema, ema_start=config.optim.ema_start)
    return _eval_weights(Config(config.model, RecursionConfig(T=1), optim=optim, run=placed(config.run)))


@cache
def _eval_weights(config: Config) -> Callable[[TrainState], Any]:
    return over_seeds(partial(train_step.eval_params, config), run_mesh(config), at_once=seeds_at_once(config))


def _fit(task: Task, config: Config, run: RunDirectory, checkpoints: Checkpoints, name: str) -> TrainingRun:
    mesh = run_mesh(config)
    _say_idle(config, mesh)
    validation = samples_of(task, config, "validation")
    check_samples(config, samples_of(task, config, "train"), validation)
    evaluated, intervals = eval_weights(config), (config.run.evaluate_every, config.run.checkpoint_every)
    training, data = begin(task, config, mesh)
    if config.run.init and checkpoints.latest() is None:
        training = _from_weights(config, training, mesh)
    if checkpoints.latest() is not None:
        training = checkpoints.restore(training)
    step = int(to_host(training.state.step)[0])
    run.truncate_metrics(step)
    state, best = training.state, training.best
    chunks = LateMetrics(partial(_row, config, name, run.path), to_host(training.seconds))
    deadline = Deadline(config.run.minutes)
    compiled: dict[tuple[int, int], Callable] = {}
    with _said(lambda: step, config, run), progress.steps(name, config.run.steps, step, is_first_process()) as bar:
        while step < config.run.steps and not _out_of_patience(config, best, step):
            N_sup, end = _phase(config, step)
            K = min(config.run.chunk, end - step)
            if (K, N_sup) not in compiled:
                _log(run, chunks.rows())
                bar.set_description(f"{name}, compiling")
                compiled[K, N_sup] = _compile(task, config, K, N_sup, mesh, state, data)
                bar.set_description(name)
                deadline.start()
            state = chunks.run(compiled[K, N_sup], state, data, step + K)
            step += K
            done = step == config.run.steps
            evaluates, saves = (done or step % every == 0 for every in intervals)
            rows = chunks.rows(behind=0 if evaluates or saves or deadline.limited else 1)
            if evaluates:
                best, judged = _evaluate(task, config, evaluated(state), validation, best, step)
                rows[-1] |= judged
                bar.set_postfix({task.metric: f"{np.mean(judged[f'validation_{task.metric}']):.3f}"})
            _log(run, rows)
            late = not done and deadline.reached()
            if saves or late:
                checkpoints.save(step, TrainingRun(state, best, _replicated(mesh, chunks.seconds)), run.options)
            bar.update(K)
            if late:
                raise Paused(f"{name} stopped at step {step} of {config.run.steps}: give the same command to go on")
    _log(run, chunks.rows())
    return TrainingRun(state, best, _replicated(mesh, chunks.seconds))


def _evaluate(
    task: Task, config: Config, weights: Any, validation: Samples, best: Best, step: int
) -> tuple[Best, dict[str, Any]]:
    """The best weights so far, and what the weights of this step add to its row of metrics."""
    by_step = scores(task, config, weights, validation)
    last = {key: values[:, -1] for key, values in by_step.items()}
    best = _better(config, best, weights, last[task.metric], step)
    row: dict[str, Any] = {f"validation_{key}": _to_list(values) for key, values in last.items()}
    row |= {STEPS: [_to_list(values) for values in by_step[task.metric]], "best_step": to_host(best.step).tolist()}
    return best, row


def _compile(task: Task, config: Config, K: int, N_sup: int, mesh, state: TrainState, data: TrainingData) -> Callable:
    """K steps of all seeds as one program. Raises ValueError where its memory does not fit, before it runs."""
    program = compile_chunk(task, config.override(**{"recursion.N_sup": N_sup}), K, mesh, state, data)
    require_fit(config, needed(program), memory_limit(mesh))
    return program


def _log(run: RunDirectory, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        run.log(row)


def _phase(config: Config, step: int) -> tuple[int, int]:
    """Supervision steps of the update after ``step``, and the step until which they stay: the depth curriculum."""
    first = first_phase(config)
    return (config.recursion.curriculum_N_sup, first) if step < first else (config.recursion.N_sup, config.run.steps)


def first_phase(config: Config) -> int:
    """Updates of the depth curriculum's first phase, in whole chunks; 0 without one."""
    return round(config.recursion.curriculum_fraction * config.run.steps / config.run.chunk) * config.run.chunk


def compile_chunk(task: Task, config: Config, K: int, mesh, state: TrainState, data: TrainingData):
    """The compiled program of K updates of all seeds."""

    def chunk(state, data):
        return train_step.train_chunk(config, task, K, state, data)

    mapped = 1 + by_seed(task, config)
    return over_seeds(chunk, mesh, True, seeds_at_once(config), mapped).lower(state, data).compile()


@contextmanager
def _said(step: Callable[[], int], config: Config, run: RunDirectory) -> Iterator[None]:
    """Ctrl-C inside says where the run was."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped at step {step():,} of {config.run.steps:,}; the same command goes on ({run.path})"
        ) from None


def begin(task: Task, config: Config, mesh) -> tuple[TrainingRun, TrainingData]:
    """The run before its first update, and what it draws from."""
    seeds, data = np.array(config.run.seeds), place_samples(task, config, mesh)
    state = _initial_state(_shape_of_state(config), by_seed(task, config))(place_seeds(mesh, seeds), data)
    none = replicate(mesh, np.full(len(seeds), -np.inf, np.float32))
    steps = replicate(mesh, np.zeros(len(seeds), np.int32))
    best = Best(jax.tree.map(jax.numpy.zeros_like, state.params), none, steps)
    return TrainingRun(state, best, replicate(mesh, np.zeros(len(seeds), np.float32))), data


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
    loss, optim = LossConfig(supervision=config.loss.supervision), OptimConfig(ema_start=config.optim.ema_start)
    return Config(config.model, RecursionConfig(T=1), loss, optim, placed(config.run))


@cache
def _initial_state(config: Config, by_seed: bool) -> Callable:
    """Compiled state before the first update; arms that differ only in how they train share the program."""
    return over_seeds(lambda seed, data: train_step.init(config, data, seed), run_mesh(config), mapped=1 + by_seed)


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


def _out_of_patience(config: Config, best: Best, step: int) -> bool:
    """Whether no seed has improved for as many evaluations as ``run.patience`` allows."""
    if config.run.patience == 0:
        return False
    waited = step - max(int(to_host(best.step).max()), first_phase(config))
    return config.run.patience * config.run.evaluate_every <= waited


def _better(config: Config, best: Best, params, score: np.ndarray, step: int) -> Best:
    """Replace the best weights of those seeds whose score has risen.

    Those of the depth curriculum's first phase have not learned to take N_sup steps: any of the second replace them.
    """
    first = first_phase(config)
    old = np.where((to_host(best.step) <= first) & (step > first), -np.inf, to_host(best.score))
    new = Best(params, np.asarray(score, np.float32), np.full(len(score), step, np.int32))
    return tree_where(score > old, new, best)


def _row(config: Config, name: str, directory: Path, metrics, step: int) -> dict[str, Any]:
    """Means over the chunk's steps, one value per seed, after a check that all of its steps were numbers."""
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
    return {"step": step, **{key: _to_list(values.mean(axis=1, dtype=np.float64)) for key, values in host.items()}}


def _to_list(values) -> list[float]:
    return [round(float(value), 6) for value in np.asarray(values)]
