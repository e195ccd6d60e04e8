"""Which part of a Tiny Recursive Model matters? Arms that differ in one thing, several seeds, paired intervals.

    make ablation                                            # study components, preset cpu: about 12 minutes, two cores
    python experiments/sudoku_ablation.py --preset smoke     # under a minute: proves that it runs, and nothing else
    python experiments/sudoku_ablation.py --study width      # another question
    python experiments/sudoku_ablation.py --arms full --arm "wide: model.width=48" --name wide   # an arm of your own

Puzzles have exactly one solution, and no test solution is a relabelling of a training solution. All arms of a study
share seeds, data order, number of updates and evaluation. Everything is written to runs/NAME; an interrupted run goes
on where it was when the same command is given again.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro
from sudoku_studies import PRESETS, STUDIES

from trm_jax.config import Config

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Arguments:
    """Train the arms of a study; print exact accuracy with 95 % intervals over seeds and write a report."""

    study: Literal["components", "paper", "latent_updates", "width", "supervision", "budget", "data"] = "components"
    """Question to answer; each names its arms (see sudoku_studies.py)."""
    preset: Literal["smoke", "cpu", "full"] = "cpu"
    """Size: smoke (a minute), cpu (two cores), full (9x9 and paper-size width, for a GPU)."""
    name: str = ""
    """Name of the run under --output; STUDY-PRESET if empty."""
    arms: tuple[str, ...] = ()
    """Arms of the study to train; all if empty."""
    arm: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An arm of your own, "NAME: option=value ...", e.g. "wide: model.width=48"; may be given several times."""
    options: tuple[str, ...] = ()
    """Options for all arms, e.g. data.blanks=[9,9] run.steps=1000; values as in JSON, words without quotes."""
    predicted: tuple[str, ...] = ()
    """Your own ranking of the arms, largest loss first, to compare with what is measured."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def parse_options(words: list[str]) -> dict[str, Any]:
    """Options from ``section.name=value`` words. Raises ValueError for a word without an equals sign."""
    options = {}
    for word in words:
        path, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"expected option=value, got {word!r}")
        try:
            options[path] = json.loads(text)
        except json.JSONDecodeError:
            options[path] = text
    return options


def build_arms(arguments: Arguments) -> dict[str, Config]:
    """Config of every arm by name, the reference arm first. Raises ValueError for an unknown arm or option."""
    study = STUDIES[arguments.study]
    own = {}
    for text in arguments.arm:
        name, colon, words = text.partition(":")
        if not colon or not name.strip():
            raise ValueError(f'an arm is "NAME: option=value ...", got {text!r}')
        own[name.strip()] = parse_options(words.split())
    known = study.arms | own
    unknown = [name for name in arguments.arms if name not in known]
    if unknown:
        raise ValueError(f"unknown arm {', '.join(unknown)}; the study {arguments.study} has {', '.join(study.arms)}")
    names = dict.fromkeys([study.reference, *(arguments.arms or study.arms), *own])
    base = Config().override(**study.base).override(**PRESETS[arguments.preset])
    base = base.override(**parse_options(list(arguments.options)))
    return {name: base.override(**known[name]) for name in names}


def run_arm(study: str, name: str, config: Config, task, directory: Path) -> list[dict[str, Any]]:
    """Train an arm and look at the test puzzles once: a row for each seed and number of blanks."""
    from trm_jax import accounting, model, sudoku_task, train
    from trm_jax.fit import fit
    from trm_jax.seeds import over_seeds, seed_mesh

    validate = sudoku_task.evaluator(config, task.splits.validation, task.box)
    progress = fit(
        config,
        task.data,
        lambda params: sudoku_task.last_step(validate(params)),
        "exact",
        directory,
        task.augment,
        name,
    )
    weights = over_seeds(lambda state: train.evaluated_params(config, state), seed_mesh(len(config.run.seeds)))
    score = sudoku_task.evaluator(config, task.splits.test, task.box, by_blanks=True)
    final, best = score(weights(progress.state)), score(progress.best.params)
    one = sudoku_task.one_seed(progress.state.params)
    inputs = task.data["inputs"][:1]
    shared = {
        "study": study,
        "arm": name,
        "parameters": model.count_parameters(config.model, one),
        "layer_applications": config.layer_applications,
        "flops": accounting.matmul_flops(lambda params: model.forward(config, params, inputs), one),
    }
    return [
        shared
        | {"seed": seed, "blanks": blanks, "best_exact": float(best[blanks]["exact"][index, -1])}
        | {key: float(values[index, -1]) for key, values in final[blanks].items()}
        | {"train_seconds": round(float(progress.seconds[index]), 1)}
        for blanks in final
        for index, seed in enumerate(config.run.seeds)
    ]


def learning_curve(directory: Path) -> pd.DataFrame:
    """Validation accuracy and loss of every seed of an arm over the steps."""
    config = Config.from_json((directory / "config.json").read_text())
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return pd.DataFrame(
        [
            {"step": row["step"], "seed": seed, "validation_exact": row["validation_exact"][i], "loss": row["loss"][i]}
            for row in rows
            if "validation_exact" in row
            for i, seed in enumerate(config.run.seeds)
        ]
    )


def protocol(config: Config, task) -> list[str]:
    """What was done, in sentences made from the config and the data."""
    side, (low, high) = task.box.side, config.data.blanks
    leak = "no test solution is a relabelling of a training solution"
    if task.splits.overlap:
        leak = f"{task.splits.overlap:.0%} of the test solutions are relabellings of training solutions"
    source = f"Puzzles with exactly one solution and {low} to {high} blanks"
    if config.data.train_file:
        source = f"Puzzles from {config.data.train_file}, tested on {config.data.test_file}"
    counts = np.unique((task.splits.test.puzzles == 0).sum(axis=1), return_counts=True)
    tested = ", ".join(f"{count} with {blanks} blanks" for blanks, count in zip(*counts, strict=True))
    train, validation, _, _, _ = task.splits
    augmented = ", augmented by Sudoku symmetries" if config.data.augment else ""
    return [
        f"{source}, {side}x{side}; {leak}.",
        f"{len(train.puzzles)} training puzzles{augmented}; {config.run.steps} updates of {config.run.batch} puzzles; "
        f"{len(validation.puzzles)} validation puzzles; test puzzles: {tested}, looked at once.",
        "All arms share seeds, data order, number of updates and evaluation; the final weights are scored after the "
        "last supervision step.",
    ]


def run(arguments: Arguments) -> None:
    """Train what is missing, report after every arm, and print the table."""
    from trm_jax import report, sudoku_task
    from trm_jax.report_tables import accuracy_table
    from trm_jax.runlog import environment, write_text
    from trm_jax.runtime import configure

    arms = {name: sudoku_task.for_board(config) for name, config in build_arms(arguments).items()}
    configure()
    directory = arguments.output / (arguments.name or f"{arguments.study}-{arguments.preset}")
    made, study = environment(), STUDIES[arguments.study]
    provenance = {
        "command": "python " + " ".join(sys.argv),
        "commit": made["commit"],
        "machine": made["machine"],
        "devices": ", ".join(made["devices"]),
        "versions": ", ".join(f"{name} {version}" for name, version in made["packages"].items()),
    }
    tasks: dict[Any, Any] = {}
    rows: list[dict[str, Any]] = []
    curves: dict[str, pd.DataFrame] = {}
    for name, config in arms.items():
        if config.data not in tasks:
            tasks[config.data] = sudoku_task.prepare(config)
        task = tasks[config.data]
        rows += run_arm(arguments.study, name, config, task, directory / "arms" / name)
        curves[name] = learning_curve(directory / "arms" / name)
    table = pd.DataFrame(rows)
    configs = {name: json.loads(config.to_json()) for name, config in arms.items()}
    write_text(directory / "results.json", json.dumps({"rows": rows, "arms": configs, "made by": provenance}, indent=1))
    config, task = arms[study.reference], tasks[arms[study.reference].data]
    report.write_report(
        directory,
        table,
        curves,
        reference=study.reference,
        title=study.question,
        protocol=protocol(config, task),
        provenance=provenance,
        predicted=arguments.predicted or None,
        resolution=1 / int(np.unique((task.splits.test.puzzles == 0).sum(axis=1), return_counts=True)[1].min()),
    )
    for blanks, group in table.groupby("blanks"):
        shown = accuracy_table(group)
        print(f"\n{blanks} blanks\n{pd.DataFrame(shown.rows, columns=shown.columns).to_string(index=False)}")
    print(f"\nReport: {directory / 'report.html'}")


def main() -> None:
    """Run the command line; bad input gets one line and exit code 1."""
    arguments = tyro.cli(Arguments, description=__doc__)
    try:
        run(arguments)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
