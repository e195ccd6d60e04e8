"""Which part of a Tiny Recursive Model matters? Arms that differ in one thing, several seeds, paired intervals.

    make ablation                                            # study components, preset cpu: 14 minutes, two cores
    python experiments/sudoku_ablation.py --preset smoke     # proves in a minute that it runs
    python experiments/sudoku_ablation.py --study width      # another question
    python experiments/sudoku_ablation.py --arms full --arm "wide: model.width=48" --name wide   # an arm of your own

Puzzles have exactly one solution, and no test solution is a relabelling of a training solution. All arms of a study
share seeds, data order, number of updates and evaluation. Everything is written to runs/NAME; an interrupted run goes
on where it was when the same command is given again. The preset smoke is nearly all compiling, so it compiles for one
device and without optimisation: its programs are slower and round differently than those of the other presets.
"""

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import pandas as pd
import tyro

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.study import report
from trm_jax.study.findings import Wording
from trm_jax.study.published import TINY_RECURSIVE_MODELS
from trm_jax.study.tables import accuracy_table
from trm_jax.sudoku import task as sudoku_task
from trm_jax.sudoku.puzzles import Splits
from trm_jax.sudoku.studies import PRESETS, STUDIES
from trm_jax.support import flops
from trm_jax.support.cli import errors_in_one_line
from trm_jax.support.files import write_text
from trm_jax.support.schema import differences, parse_options
from trm_jax.training.devices import to_host
from trm_jax.training.loop import evaluated_weights, fit
from trm_jax.training.processes import configure, is_first_process, on_first_process
from trm_jax.training.run_directory import RunDirectory, environment

ROOT = Path(__file__).resolve().parent.parent
PUZZLES = Wording("puzzle", "puzzles")
REUSED = "reused_from.txt"  # in the directory of an arm that was copied
QUICK_COMPILING = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false "
    "--xla_force_host_platform_device_count=1"
)


@dataclass(frozen=True)
class Arguments:
    """Train the arms of a study; print exact accuracy with 95 % intervals over seeds and write a report."""

    study: Literal["components", "paper", "latent_updates", "width", "supervision", "budget", "data", "transfer"] = (
        "components"
    )
    """Question to answer; each names its arms (see sudoku_studies.py)."""
    preset: Literal["smoke", "cpu", "full"] = "cpu"
    """Size of all arms: smoke (a minute), cpu (two cores), full (9x9 and the width of the paper, for a GPU; it
    has nothing to do with the arm of that name)."""
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
    reuse: bool = True
    """Copy an arm that another run under --output has finished, with the same options, commit and machine."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


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
    data = {key: value for key, value in PRESETS[arguments.preset].items() if key.startswith("data.")}
    options = parse_options(list(arguments.options))
    data |= {key: value for key, value in options.items() if key.startswith("data.")}
    base = sudoku_task.for_board(Config().override(**(study.base | data)))
    base = base.override(**PRESETS[arguments.preset]).override(**options)
    return {name: base.override(**known[name]) for name in names}


def reuse(config: Config, target: Path, output: Path) -> None:
    """Copy a finished arm of any run under ``output`` that this one would repeat bitwise, and note where it is from.

    Only the same options, commit, versions, devices and machine will do, and neither uncommitted changes nor puzzles
    from files. Raises ValueError while another process trains in the arm found.
    """
    here = environment()
    unsure = config.data.train_file or "+" in here["commit"] or here["commit"] == "unknown"
    if unsure or target.exists():
        return
    for file in sorted(output.glob("*/arms/*/config.json")):
        source = file.parent
        finished = (source / "checkpoints" / str(config.run.steps)).is_dir()
        made = source / "environment.json"
        if finished and file.read_text() == config.to_json() and json.loads(made.read_text()) == here:
            copy = target.parents[1] / f"{target.name}.{os.getpid()}.tmp"
            with RunDirectory(source, config):
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("lock"))
            if not (copy / REUSED).exists():
                write_text(copy / REUSED, str(source.relative_to(output)))
            target.parent.mkdir(exist_ok=True)
            os.replace(copy, target)
            print(f"arm {target.name} reused from {source}")
            return


def run_arm(study: str, name: str, config: Config, task, directory: Path) -> list[dict[str, Any]]:
    """Train an arm and look at the test puzzles once: a row for each seed and number of blanks."""
    validate = sudoku_task.evaluator(config, {"validation": task.splits.validation}, task.box)
    progress = fit(
        config,
        task.data,
        lambda params: sudoku_task.last_step(validate(params)["validation"]),
        "exact",
        directory,
        task.augment,
        name,
    )
    weights = evaluated_weights(config)
    test = sudoku_task.evaluator(config, sudoku_task.by_blanks(task.splits.test), task.box)
    final, best = test(weights(progress.state)), test(progress.best.params)
    one, seconds = sudoku_task.one_seed(progress.state.params), to_host(progress.seconds)
    inputs = task.data["inputs"][:1]
    shared = {
        "study": study,
        "arm": name,
        "parameters": model.count_parameters(config.model, one),
        "layer_applications": config.layer_applications,
        "flops": flops.matmul_flops(lambda params: model.forward(config, params, inputs), one),
    }
    return [
        shared
        | {"seed": seed, "difficulty": f"{blanks} blanks", "best_exact": float(best[blanks]["exact"][index, -1])}
        | {key: float(values[index, -1]) for key, values in final[blanks].items()}
        | {"train_seconds": round(float(seconds[index]) / len(config.run.seeds), 1)}
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


def protocol(arms: dict[str, Config], reference: str, splits: Splits) -> list[str]:
    """What was done, in sentences made from the configs and the data."""
    config = arms[reference]
    side = config.data.box[0] * config.data.box[1]
    leak = "no test solution is a relabelling of a training solution"
    if splits.overlap:
        leak = f"{splits.overlap:.1%} of the test solutions are relabellings of training solutions"
    source = f"Puzzles with exactly one solution and {_numbers(*config.data.blanks)} blanks"
    if config.data.train_file:
        source = f"Puzzles from {config.data.train_file}, tested on {config.data.test_file}"
    augmented = ", augmented by Sudoku symmetries" if config.data.augment else ""
    taught = [
        f"In `{name}` the first {arm.data.first_share:.0%} of the updates draw other training puzzles instead, as many "
        f"and from the same classes of solutions, with {_numbers(*arm.data.first_blanks)} blanks."
        for name, arm in arms.items()
        if arm.data.first_share
    ]
    changed = sorted({name for other in arms.values() for name in differences(config, other)})
    return [
        f"{source}, {side}x{side}; {leak}.",
        f"{len(splits.train.puzzles)} training puzzles{augmented}; {config.run.steps} updates of {config.run.batch} "
        f"puzzles; {len(splits.validation.puzzles)} validation puzzles, {len(splits.test.puzzles)} test puzzles.",
        f"The arms differ in {', '.join(f'`{name}`' for name in changed) or 'nothing'} and nothing else: seeds, test "
        f"puzzles and evaluation are the same. The final weights are scored after the last supervision step.",
        *taught,
    ]


def _numbers(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def claim(directory: Path, arms: dict[str, Config]) -> None:
    """Refuse a directory whose report is about arms that this run would drop from it. Raises ValueError."""
    results = directory / "results.json"
    gone = set(json.loads(results.read_text())["arms"]) - set(arms) if results.exists() else set()
    if gone:
        raise ValueError(f"{directory} holds results of other arms ({', '.join(sorted(gone))}); choose another --name")


def write_results(directory: Path, study: str, arms: dict[str, Config], rows, splits: Splits, predicted) -> None:
    """Write results.json and the report, with what made them."""
    made, reference = environment(), STUDIES[study].reference
    trained = [json.loads((directory / "arms" / name / "environment.json").read_text()) for name in arms]
    provenance = {
        "command": shlex.join(["python", *sys.argv]),
        "commit": ", ".join(sorted({one["commit"] for one in trained})),
        "machine": ", ".join(sorted({one["machine"] for one in trained})),
        "devices": ", ".join(made["devices"]),
        "versions": ", ".join(f"{name} {version}" for name, version in made["packages"].items()),
    }
    notes = {name: directory / "arms" / name / REUSED for name in arms}
    copied = [f"{name} from {note.read_text()}" for name, note in notes.items() if note.exists()]
    if copied:
        provenance["arms trained in other runs"] = ", ".join(copied)
    configs = {name: json.loads(config.to_json()) for name, config in arms.items()}
    write_text(directory / "results.json", json.dumps({"rows": rows, "arms": configs, "made by": provenance}, indent=1))
    report.write_report(
        directory,
        pd.DataFrame(rows),
        {name: learning_curve(directory / "arms" / name) for name in arms},
        reference=reference,
        title=STUDIES[study].question,
        protocol=protocol(arms, reference, splits),
        provenance=provenance,
        predicted=predicted,
        wording=PUZZLES,
        paper=TINY_RECURSIVE_MODELS,
        resolution=1 / min(len(part.puzzles) for part in sudoku_task.by_blanks(splits.test).values()),
    )


def run(arguments: Arguments) -> None:
    """Train what is missing, then write and print the results."""
    arms = build_arms(arguments)
    directory = arguments.output / (arguments.name or f"{arguments.study}-{arguments.preset}")
    on_first_process(lambda: claim(directory, arms))
    tasks = {config.data: sudoku_task.prepare(config) for config in arms.values()}
    tests = [task.splits.test for task in tasks.values()]
    if any(not np.array_equal(test.puzzles, tests[0].puzzles) for test in tests):
        raise ValueError("the arms would be tested on different puzzles; give them the same data options")
    splits = tasks[arms[STUDIES[arguments.study].reference].data].splits
    if is_first_process():
        print(f"Test solutions that are relabellings of a training solution: {splits.overlap:.1%}")
    rows: list[dict[str, Any]] = []
    for name, config in arms.items():
        if arguments.reuse and jax.process_count() == 1:
            reuse(config, directory / "arms" / name, arguments.output)
        rows += run_arm(arguments.study, name, config, tasks[config.data], directory / "arms" / name)
    on_first_process(lambda: conclude(arguments, directory, arms, rows, splits))


def conclude(arguments: Arguments, directory: Path, arms: dict[str, Config], rows, splits: Splits) -> None:
    """Write the report and print its tables."""
    write_results(directory, arguments.study, arms, rows, splits, arguments.predicted)
    for difficulty, group in pd.DataFrame(rows).groupby("difficulty", sort=False):
        print(f"\n{difficulty}\n{accuracy_table(group).to_string(index=False)}")
    print(f"\nReport: {directory / 'report.html'}")


@errors_in_one_line()
def main() -> None:
    """Run the command line."""
    arguments = tyro.cli(Arguments, description=__doc__)
    if arguments.preset == "smoke":
        os.environ["XLA_FLAGS"] = f"{QUICK_COMPILING} {os.environ.get('XLA_FLAGS', '')}"  # the user's flags come last
    configure()
    run(arguments)


if __name__ == "__main__":
    main()
