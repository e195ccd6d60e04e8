"""Arms with several seeds, for any task: train what is missing, look at the test samples once, write the report."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.core.task import Task, override, run_options
from trm_jax.study.findings import Wording
from trm_jax.study.published import Paper
from trm_jax.study.report import write_report
from trm_jax.study.tables import accuracy_table
from trm_jax.support.files import write_text
from trm_jax.support.flops import matmul_flops
from trm_jax.support.provenance import environment, provenance
from trm_jax.support.schema import changed_fields, parse_options
from trm_jax.training.checkpoint import save_seeds
from trm_jax.training.devices import to_host
from trm_jax.training.loop import eval_weights, fit
from trm_jax.training.predict import scores_by_level
from trm_jax.training.processes import is_first_process, on_first_process
from trm_jax.training.run_directory import RunDirectory, read_options

REUSED = "reused_from.txt"  # in the directory of an arm that was copied
Options = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A question, the arms that answer it (options on top of the base), and options for all of them."""

    question: str
    arms: dict[str, Options]
    base: Options = field(default_factory=dict)
    reference: str = "full"
    name: str = "study"
    paper: Paper | None = None
    """What was published about arms of these names, to set beside the results."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    task: Task
    config: Config

    @property
    def options(self) -> dict[str, Any]:
        """All options by section, as JSON knows them."""
        return json.loads(json.dumps(run_options(self.task, self.config)))


def build_arms(
    study: Study,
    task: Task,
    common: Mapping[str, Any],
    names: Sequence[str] = (),
    added: Sequence[str] = (),
) -> dict[str, Arm]:
    """The arms to train by name, the reference arm first.

    ``common`` are options of all arms. ``names`` chooses among the arms of the study; ``added`` are arms of the user,
    each "NAME: option=value ...". Raises ValueError for an unknown arm or option.
    """
    extra = {}
    for text in added:
        title, colon, words = text.partition(":")
        if not colon or not title.strip():
            raise ValueError(f'an arm is "NAME: option=value ...", got {text!r}')
        extra[title.strip()] = parse_options(words.split())
    known = study.arms | extra
    unknown = [arm for arm in names if arm not in known]
    if unknown:
        raise ValueError(f"unknown arm {', '.join(unknown)}; the study {study.name} has {', '.join(study.arms)}")
    chosen = dict.fromkeys([study.reference, *(names or study.arms), *extra])
    return {arm: Arm(*override(task, Config(), study.base | dict(common) | known[arm])) for arm in chosen}


def run_study(
    study: Study, arms: dict[str, Arm], directory: Path, predicted: Sequence[str] = (), reuse: bool = True
) -> None:
    """Train the arms in ``directory``, write results.json and the report there, and print the tables.

    What is trained already is taken over, from any run beside the directory where ``reuse`` allows it. ``predicted``
    is the user's own ranking of the arms, largest loss first.
    Raises ValueError where the arms would be tested on different samples, or the directory holds other arms.
    """
    on_first_process(lambda: refuse_other_arms(directory, arms))
    reference = arms[study.reference]
    test = reference.task.examples("test")
    for arm in arms.values():
        if not np.array_equal(arm.task.examples("test").arrays["inputs"], test.arrays["inputs"]):
            raise ValueError("the arms would be tested on different samples; give them the same task options")
    if is_first_process():
        print("\n".join(reference.task.protocol()))
    rows: list[dict[str, Any]] = []
    for name, arm in arms.items():
        target = directory / "arms" / name
        if reuse and jax.process_count() == 1:
            reuse_arm(arm, target, directory.parent)
        rows += [{"study": study.name, "arm": name, **row} for row in run_arm(arm, target, name)]
    on_first_process(lambda: conclude(study, arms, directory, rows, predicted))


def refuse_other_arms(directory: Path, arms: Mapping[str, Any]) -> None:
    """Raise ValueError for a directory whose report is about arms that this run would drop from it."""
    results = directory / "results.json"
    dropped = set(json.loads(results.read_text())["arms"]) - set(arms) if results.exists() else set()
    if dropped:
        names = ", ".join(sorted(dropped))
        raise ValueError(f"{directory} holds results of other arms ({names}); choose another --name")


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
    test, weights = task.examples("test"), eval_weights(config)(training.state)
    final = scores_by_level(task, config, weights, test)
    best = scores_by_level(task, config, training.best.params, test)
    keep_best(arm, training.best.params, directory)
    params = jax.tree.map(lambda leaf: leaf[0], training.state.params)
    seconds = to_host(training.seconds)
    first = [test.arrays[key][:1] for key in ("inputs", "puzzle") if key in test.arrays]
    shared = {
        "parameters": model.count_parameters(config.model, params),
        "layer_applications": config.layer_applications,
        "flops": matmul_flops(lambda params: model.forward(config, params, *first), params),
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


def keep_best(arm: Arm, best: Any, directory: Path) -> None:
    """Write the best weights of every seed as ``weights-SEED``, to predict with, export or start from."""
    if jax.process_count() > 1:
        return
    save_seeds(directory, to_host(best), arm.config, arm.task)


def learning_curve(directory: Path) -> pd.DataFrame:
    """Validation accuracy and loss of every seed of an arm over the steps."""
    seeds = read_options(directory)["run"]["seeds"]
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return pd.DataFrame(
        [
            {"step": row["step"], "seed": seed, "validation_exact": row["validation_exact"][i], "loss": row["loss"][i]}
            for row in rows
            if "validation_exact" in row
            for i, seed in enumerate(seeds)
        ]
    )


def protocol(arms: Mapping[str, Arm], reference: str) -> list[str]:
    """What was done, in sentences made from the configs and the data."""
    task, run = arms[reference].task, arms[reference].config.run
    examples = task.example_name[1]
    changed = sorted({name for arm in arms.values() for name in changed_fields(arms[reference].options, arm.options)})
    return [
        *task.protocol(),
        f"{run.steps} updates of {run.batch} {examples}. The arms differ in "
        f"{', '.join(f'`{name}`' for name in changed) or 'nothing'} and nothing else: seeds, test {examples} and "
        "evaluation are the same. The final weights are scored after the last supervision step.",
        *(f"In `{name}` {arm.task.remark()}" for name, arm in arms.items() if arm.task.remark()),
    ]


def conclude(study: Study, arms: dict[str, Arm], directory: Path, rows, predicted: Sequence[str]) -> None:
    """Write results.json and the report, with what made them, and print the tables."""
    sources = _sources(directory, arms)
    options = {name: arm.options for name, arm in arms.items()}
    write_text(directory / "results.json", json.dumps({"rows": rows, "arms": options, "made by": sources}, indent=1))
    task = arms[study.reference].task
    wording = Wording(*task.example_name)
    _, counts = np.unique(_levels(task), return_counts=True)
    table = pd.DataFrame(rows)
    write_report(
        directory,
        table,
        {name: learning_curve(directory / "arms" / name) for name in arms},
        reference=study.reference,
        title=study.question,
        protocol=protocol(arms, study.reference),
        provenance=sources,
        predicted=predicted,
        wording=wording,
        paper=study.paper,
        resolution=1 / counts.min(),
    )
    for level, group in table.groupby("difficulty", sort=False):
        shown = accuracy_table(group)
        print(f"\n{level}\n{shown.to_string(index=False)}")
    print(f"\nReport: {directory / 'report.html'}")


def _levels(task: Task) -> np.ndarray:
    test = task.examples("test")
    return np.zeros(len(test.arrays["labels"])) if test.levels is None else test.levels


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
