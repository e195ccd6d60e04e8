"""What is a trained wafer classifier worth, and when may its answers be trusted? From stored predictions alone.

    python experiments/wafer_evaluate.py --run runs/wafer-edge --baselines runs/baselines-cpu
    python experiments/wafer_evaluate.py --run runs/wafer-edge --alpha 0.01 --delta 0.05
    python experiments/wafer_evaluate.py --preset smoke        # after wafer_train.py --preset smoke
    python experiments/wafer_evaluate.py --run runs/wafer-edge --left-out Donut=runs/wafer-without-donut
    python experiments/wafer_evaluate.py --run runs/seed-0 --more-seeds runs/seed-1 --controls shallow=runs/shallow

Scores with intervals by whole lots at every supervision step, a paired comparison with every baseline, the readiness
check, the threshold above which wafers are decided automatically, and how well unknown patterns are noticed. Writes
report.md, results.csv, results.json and figures/; 50,000 wafers, two seeds and five steps took 39 s on a busy core.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from trm_jax.core import model
from trm_jax.core.config import ModelConfig
from trm_jax.support.cli import main
from trm_jax.support.provenance import environment
from trm_jax.support.schema import require
from trm_jax.wafer.checkpoint import load_checkpoint
from trm_jax.wafer.classify import halting_times
from trm_jax.wafer.evaluation import pooled as wafer_evaluation
from trm_jax.wafer.evaluation.report import write_report
from trm_jax.wafer.evaluation.results import Other, compute
from trm_jax.wafer.evaluation.runs import Fold, join_runs, read_run
from trm_jax.wafer.maps.maps import CLASSES, Wafers, class_index
from trm_jax.wafer.presets import run_and_wafers
from trm_jax.wafer.splits import Split, folds


@dataclass(frozen=True)
class Arguments:
    """Evaluate a run of wafer_train and write a report."""

    run: Path | None = None
    """Directory of the run: a folder for each split, with predictions, config and curve; needed unless smoke."""
    more_seeds: tuple[Path, ...] = ()
    """Runs of the same recipe with other seeds, judged together with it."""
    controls: tuple[str, ...] = ()
    """Runs of wafer_train with another recipe on the same splits, as NAME=DIRECTORY, to compare with, on the splits
    that both have; runs of one name are other seeds of it on the same splits."""
    baselines: Path | None = None
    """Directory of a run of wafer_baselines on the same splits, to compare with."""
    left_out: tuple[str, ...] = ()
    """Runs that never trained on a class, as CLASS=DIRECTORY: how well the class is noticed as unknown."""
    data: Path | None = None
    """Prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic wafers."""
    synthetic: int = 0
    """Number of generated wafers that the run was trained on, instead of data."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: the run that `wafer_train.py --preset smoke` leaves, on its generated wafers."""
    alpha: float = 0.02
    """Error rate that is allowed among automatically decided wafers."""
    delta: float = 0.1
    """Probability that the guarantee may fail, over the draw of the validation lots."""
    set_error: float = 0.05
    """Probability that a conformal set of classes may miss the true one."""
    timed: int = 1024
    """Test wafers of the first split to time early stopping on, with the weights of its first seed; 0 for none."""
    output: Path | None = None
    """Folder for the report; RUN/evaluation if not given."""


def read_baselines(directory: Path, wafers: Wafers, splits: Sequence[Split], used: Sequence[Fold]) -> dict[str, Other]:
    """Answers of every baseline to the test wafers of the splits that are used. Raises ValueError."""
    options = directory / "options.json"
    require(options.is_file(), f"{directory} is no run of wafer_baselines: it has no options.json")
    made = json.loads(options.read_text(encoding="utf-8"))
    expected = {"source": wafers.source, "wafers": len(wafers), "split": "lot", "folds": len(splits)}
    for name, value in expected.items():
        require(made.get(name) == value, f"{directory} was made with {name} {made.get(name)!r}, not {value!r}")
    names, ends = {fold.split.name for fold in used}, np.cumsum([len(split.test) for split in splits])
    found = {}
    for path in sorted(directory.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            probabilities = arrays["probabilities"]
        require(len(probabilities) == ends[-1], f"{path} has {len(probabilities):,} answers, not {ends[-1]:,}")
        parts = np.split(probabilities, ends[:-1])
        own = np.concatenate([p for p, s in zip(parts, splits, strict=True) if s.name in names])
        found[path.stem] = Other(own, np.ones(len(own), bool))
    require(bool(found), f"{directory} has no finished baseline")
    return found


def named(option: str, entries: Sequence[str]) -> list[tuple[str, Path]]:
    """Names and directories of an option that takes NAME=DIRECTORY. Raises ValueError."""
    parts = [entry.partition("=") for entry in entries]
    for entry, (name, _, place) in zip(entries, parts, strict=True):
        require(bool(name and place), f"{option} takes NAME=DIRECTORY, got {entry!r}")
    return [(name, Path(place)) for name, _, place in parts]


def read_left_out(entries: Sequence[str], wafers: Wafers, splits: Sequence[Split]) -> list[list[Fold]]:
    """Folds of the runs that never trained on a class, its wafers set apart."""
    found = []
    for name, place in named("--left-out", entries):
        label = class_index(name)
        require(label >= 0, f"--left-out: {name!r} is no class")
        run = read_run(place, wafers, splits, CLASSES[label])
        found.append(wafer_evaluation.left_out(run, wafers, label, CLASSES[label]))
    return found


def read_controls(entries: Sequence[str], wafers: Wafers, used: Sequence[Fold]) -> dict[str, Other]:
    """Answers of other recipes by name, which says so where they were trained on some of the splits only.

    Raises ValueError.
    """
    runs: dict[str, list[list[Fold]]] = {}
    for name, place in named("--controls", entries):
        runs.setdefault(name, []).append(read_run(place, wafers, [fold.split for fold in used]))
    index, found = np.concatenate([fold.test.index for fold in used]), {}
    for name, parts in runs.items():
        try:
            control = join_runs(parts)
        except ValueError as error:
            raise ValueError(f"--controls {name}: {error}") from None
        pooled = wafer_evaluation.pool(control, wafers)
        trained = "" if len(control) == len(used) else f" ({', '.join(fold.split.name for fold in control)})"
        answers = pooled.probabilities(pooled.depth, tempered=False)
        found[name + trained] = Other(answers, np.isin(index, pooled.index))
    return found


def time_halting(weights: Path, wafers: Wafers, index: np.ndarray) -> list[float]:
    """Milliseconds a wafer at each of HALTS with weights of the first split; empty without weights."""
    if not len(index):
        return []
    if not weights.is_dir():
        print(f"no weights at {weights}: early stopping is not timed", file=sys.stderr)
        return []
    return halting_times(load_checkpoint(weights), wafers.take(index), wafer_evaluation.HALTS)


def count_parameters(config: ModelConfig) -> int:
    """Numbers in one net that predicts, without making any."""
    config = replace(config, readout_bias=True)  # as `wafer_task.for_prediction` adds it
    return model.count_parameters(config, jax.eval_shape(partial(model.initialise, config), jax.random.key(0)))


def run(arguments: Arguments) -> None:
    """Read, compute, write and print the readiness check."""
    directory, wafers = run_and_wafers(arguments.run, arguments.preset, arguments.synthetic, arguments.data)
    splits = folds(wafers)
    used = join_runs([read_run(path, wafers, splits) for path in (directory, *arguments.more_seeds)])
    baselines = read_baselines(arguments.baselines, wafers, splits, used) if arguments.baselines else {}
    baselines |= read_controls(arguments.controls, wafers, used)
    tested = wafer_evaluation.pool(used, wafers)
    rates = {"alpha": arguments.alpha, "delta": arguments.delta, "sets": arguments.set_error}
    others = read_left_out(arguments.left_out, wafers, splits)
    parameters = count_parameters(used[0].config.model)
    require(arguments.timed >= 0, f"--timed is a number of wafers, got {arguments.timed}")
    timed = used[0].test.index[: arguments.timed]
    weights = directory / used[0].split.name / f"weights-{used[0].config.run.seeds[0]}"
    milliseconds = time_halting(weights, wafers, timed)
    results = compute(used, wafers, tested, baselines, others, parameters, rates, milliseconds)
    made = environment()
    provenance = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": made["commit"],
        "machine": made["machine"],
        "splits": ", ".join(fold.split.name for fold in used) + f" of {len(splits)}",
    }
    output = arguments.output or directory / "evaluation"
    print(write_report(output, results, used, wafers, tested, rates, provenance))
    print(f"\nReport: {output / 'report.md'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
