"""Arms with several seeds, for any task: train what is missing, look at the test samples once, write the report."""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from trm_jax.core.network import model
from trm_jax.core.task import Task
from trm_jax.study.arms import Arm, Study, check_names
from trm_jax.study.results.findings import Wording
from trm_jax.study.results.report import write_report
from trm_jax.study.results.tables import accuracy_table
from trm_jax.support.files import write_text
from trm_jax.support.provenance import environment, provenance
from trm_jax.support.schema import changed_fields
from trm_jax.support.terminal.progress import duration
from trm_jax.training.checkpoint import save_seeds
from trm_jax.training.devices import to_host
from trm_jax.training.loop import eval_weights, fit
from trm_jax.training.predict import scores_by_level
from trm_jax.training.processes import is_first_process, on_first_process
from trm_jax.training.run_directory import RunDirectory, read_metrics, read_options
from trm_jax.training.samples import by_seed, samples_of

SMOKE = "SMOKE TEST: it proves that the program runs. The numbers below mean nothing."
REUSED = "reused_from.txt"  # in the directory of an arm that was copied


def run_study(
    study: Study,
    arms: dict[str, Arm],
    directory: Path,
    predicted: Sequence[str] = (),
    reuse: bool = True,
    smoke: bool = False,
) -> None:
    """Train the arms in ``directory``, write results.json and the report there, and print the tables.

    What is trained already is taken over, from any run beside the directory where ``reuse`` allows it. ``predicted``
    is the user's own ranking of the arms, largest loss first; ``smoke`` says that the numbers mean nothing.
    Raises ValueError where the arms would be tested on different samples, the directory holds other arms, or one that
    is predicted is not compared.
    """
    check_names(study, predicted, [name for name in arms if name != study.reference])
    on_first_process(lambda: refuse_other_arms(directory, arms))
    reference = arms[study.reference]
    test = _first_seed(reference).examples("test")
    for arm in arms.values():
        if not np.array_equal(_first_seed(arm).examples("test").arrays["inputs"], test.arrays["inputs"]):
            raise ValueError("the arms would be tested on different samples; give them the same task options")
    if is_first_process():
        print("\n".join([SMOKE] * smoke + _first_seed(reference).protocol()))
    rows: list[dict[str, Any]] = []
    done: dict[str, Arm] = {}
    began, costs = time.monotonic(), [arm.config.run.steps * arm.config.layer_applications for arm in arms.values()]
    for place, (name, arm) in enumerate(arms.items(), 1):
        target = directory / "arms" / name
        if reuse and jax.process_count() == 1:
            reuse_arm(arm, target, directory.parent)
        text = f"arm {place} of {len(arms)}, {name}"
        rows += [{"study": study.name, "arm": name, **row} for row in run_arm(arm, target, text)]
        done[name] = arm
        known = [guess for guess in predicted if guess in done]
        if done.keys() >= reported(directory):  # a whole report stays whole while the same command runs again
            on_first_process(partial(conclude, study, done, directory, rows, known, smoke))
        left = (time.monotonic() - began) * sum(costs[place:]) / max(1, sum(costs[:place]))
        if is_first_process() and place < len(arms):
            print(f"{text}: done, about {duration(left)} left for the others", file=sys.stderr, flush=True)
    if is_first_process():
        print_tables(rows, directory)


def refuse_other_arms(directory: Path, arms: Mapping[str, Any]) -> None:
    """Raise ValueError for a directory whose report is about arms that this run would drop from it."""
    dropped = reported(directory) - set(arms)
    if dropped:
        names = ", ".join(sorted(dropped))
        raise ValueError(f"{directory} holds results of other arms ({names}); choose another --name")


def reported(directory: Path) -> set[str]:
    """Names of the arms that the report of a directory is about."""
    results = directory / "results.json"
    return set(json.loads(results.read_text())["arms"]) if results.exists() else set()


def reuse_arm(arm: Arm, target: Path, runs: Path) -> None:
    """Copy a finished arm of any run under ``runs`` that this one would repeat bitwise, and note where it is from.

    Only the same options, commit, versions, devices and machine will do, and neither uncommitted changes nor samples
    from files. Raises ValueError while another process trains in the arm that would be copied.
    """
    current = environment()
    from_file = any(isinstance(value, str) and value for key, value in arm.options["task"].items() if "file" in key)
    if from_file or "+" in current["commit"] or current["commit"] == "unknown" or target.exists():
        return
    for file in sorted(runs.glob("*/arms/*/config.json")):
        source = file.parent
        finished = (source / "checkpoints" / str(arm.config.run.steps)).is_dir()
        if not finished or read_options(source) != arm.options:
            continue
        if json.loads((source / "environment.json").read_text()) == current:
            copy = target.parents[1] / f"{target.name}.{os.getpid()}.tmp"
            with RunDirectory(source, arm.options):
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("lock"))
            if not (copy / REUSED).exists():
                write_text(copy / REUSED, str(source.relative_to(runs)))
            target.parent.mkdir(exist_ok=True)
            os.replace(copy, target)
            print(f"arm {target.name} reused from {source}")
            return


def run_arm(arm: Arm, directory: Path, name: str) -> list[dict[str, Any]]:
    """Train an arm and look at the test samples once: a row for each seed and level of difficulty."""
    task, config = arm.task, arm.config
    training = fit(task, config, directory, name)
    test, weights = samples_of(task, config, "test"), eval_weights(config)(training.state)
    final = scores_by_level(task, config, weights, test)
    best = scores_by_level(task, config, training.best.params, test)
    if jax.process_count() == 1:  # to predict with, export or start from
        save_seeds(directory, to_host(training.best.params), config, task)
    params = jax.tree.map(lambda leaf: leaf[0], training.state.params)
    seconds = to_host(training.seconds)
    shared = {
        "parameters": model.count_parameters(config.model, params),
        "layer_applications": config.layer_applications,
        "flops": model.forward_flops(config, params),
    }
    return [
        shared
        | {"seed": seed, "difficulty": f"{level} {task.level_name}" if level else f"all {task.example_name[1]}"}
        | {"best_exact": float(best[level][task.metric][index, -1])}
        | {key: float(values[index, -1]) for key, values in final[level].items()}
        | {"train_seconds": round(float(seconds[index]) / len(config.run.seeds), 1)}
        for level in final
        for index, seed in enumerate(config.run.seeds)
    ]


def learning_curve(directory: Path) -> pd.DataFrame:
    """Validation accuracy and loss of every seed of an arm over the steps."""
    seeds = read_options(directory)["run"]["seeds"]
    return pd.DataFrame(
        [
            {"step": row["step"], "seed": seed, "validation_exact": row["validation_exact"][i], "loss": row["loss"][i]}
            for row in read_metrics(directory)
            if "validation_exact" in row
            for i, seed in enumerate(seeds)
        ]
    )


def protocol(arms: Mapping[str, Arm], reference: str, rule: str = "") -> list[str]:
    """What was done, in sentences made from the configs and the data."""
    task, run = arms[reference].task, arms[reference].config.run
    examples = task.example_name[1]
    changed = sorted({name for arm in arms.values() for name in changed_fields(arms[reference].options, arm.options)})
    own = [f"Every seed draws its own {examples} and split."] if by_seed(task, arms[reference].config) else []
    return [
        *_first_seed(arms[reference]).protocol(),
        *own,
        f"{run.steps} updates of {run.batch} {examples}. The arms differ in "
        f"{', '.join(f'`{name}`' for name in changed) or 'nothing'} and nothing else: seeds, test {examples} and "
        "evaluation are the same. The final weights are scored after the last supervision step.",
        *(f"In `{name}` {arm.task.remark()}" for name, arm in arms.items() if arm.task.remark()),
        *([f"Rule, written before the run: {rule}"] if rule else []),
    ]


def conclude(
    study: Study, arms: dict[str, Arm], directory: Path, rows, predicted: Sequence[str], smoke: bool = False
) -> None:
    """Write results.json and the report, with what made them."""
    sources = _sources(directory, arms)
    options = {name: arm.options for name, arm in arms.items()}
    write_text(directory / "results.json", json.dumps({"rows": rows, "arms": options, "made by": sources}, indent=1))
    task = arms[study.reference].task
    wording = Wording(*task.example_name, by_seed(task, arms[study.reference].config), task.right)
    test = _first_seed(arms[study.reference]).examples("test")
    counts = [len(test.arrays["labels"])] if test.levels is None else np.unique(test.levels, return_counts=True)[1]
    table = pd.DataFrame(rows)
    write_report(
        directory,
        table,
        {name: learning_curve(directory / "arms" / name) for name in arms},
        reference=study.reference,
        title=study.question,
        protocol=protocol(arms, study.reference, study.rule),
        provenance=sources,
        predicted=predicted,
        wording=wording,
        paper=study.paper,
        resolution=1 / min(counts),
        smoke=smoke,
    )


def print_tables(rows: Sequence[Mapping[str, Any]], directory: Path) -> None:
    """The accuracies of all arms at every difficulty, and where the report is."""
    for level, group in pd.DataFrame(rows).groupby("difficulty", sort=False):
        print(f"\n{level}\n{accuracy_table(group).to_string(index=False)}")
    print(f"\nReport: {directory / 'report.html'}")


def _first_seed(arm: Arm) -> Task:
    """The task of an arm as its first seed sees it."""
    return arm.task.for_seed(arm.config.run.seeds[0])


def _sources(directory: Path, arms: Mapping[str, Arm]) -> dict[str, str]:
    """Command, commits, machines and versions behind all arms."""
    current = environment()
    trained = [json.loads((directory / "arms" / name / "environment.json").read_text()) for name in arms]
    sources = provenance(
        commit=", ".join(sorted({run["commit"] for run in trained})),
        machine=", ".join(sorted({run["machine"] for run in trained})),
        devices=", ".join(current["devices"]),
        versions=", ".join(f"{name} {version}" for name, version in current["packages"].items()),
    )
    notes = {name: directory / "arms" / name / REUSED for name in arms}
    copied = [f"{name} from {note.read_text()}" for name, note in notes.items() if note.exists()]
    return sources | ({"arms trained in other runs": ", ".join(copied)} if copied else {})
