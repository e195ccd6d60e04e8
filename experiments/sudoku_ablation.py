"""Which part of a Tiny Recursive Model matters? Arms that differ in one thing, several seeds, intervals.

    make ablation                                            # the preset cpu, all six arms
    python experiments/sudoku_ablation.py --preset smoke     # under a minute, proves that it runs
    python experiments/sudoku_ablation.py --arms full wide --arm "wide: model.width=48" --name wider

4x4 puzzles with exactly one solution; test solutions are no relabelling of a training solution. Everything is
written to runs/NAME. An interrupted run goes on where it was when the same command is given again.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from trm_jax.config import Config

ROOT = Path(__file__).resolve().parent.parent

ARMS: dict[str, dict[str, Any]] = {
    "full": {},
    "stop_gradient": {"recursion.gradient": "last_cycle"},
    "attention": {"model.mixer": "attention", "model.positions": "rotary_2d"},
    "four_layers": {"model.layers": 4, "recursion.n": 1},
    "no_z": {"model.use_z": False},
    "no_ema": {"optim.ema": 0.0},
}

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "run.steps": 20, "run.seeds": (0, 1), "run.chunk": 10, "run.evaluate_every": 10, "run.checkpoint_every": 10,
        "run.batch": 16, "data.train": 200, "data.validation": 32, "data.test": 64, "recursion.N_sup": 2,
        "optim.warmup": 5,
    },
    "cpu": {},
    "full": {
        "run.steps": 20000, "run.seeds": tuple(range(16)), "run.batch": 768, "run.chunk": 100,
        "run.evaluate_every": 1000, "run.checkpoint_every": 1000, "data.train": 1000, "data.box": (3, 3),
        "data.blanks": (40, 55), "model.width": 512, "model.mixer": "swiglu", "model.hidden_multiple": 256,
        "recursion.N_sup": 16, "recursion.T": 3, "recursion.n": 6, "loss.supervision": "carried",
        "loss.cross_entropy": "stablemax", "optim.learning_rate": 1e-4, "optim.warmup": 2000, "optim.ema": 0.999,
        "optim.weight_decay": 1.0, "model.dtype": "bfloat16",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Arguments:
    """Train the arms of the ablation and print a table of exact accuracy with 95 % intervals over seeds."""

    preset: Literal["smoke", "cpu", "full"] = "cpu"
    """Size: smoke (a minute), cpu (two cores), full (paper-size width, for a GPU)."""
    name: str = ""
    """Name of the run under --output; the preset's name if empty."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Arms to train, by name."""
    arm: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """An arm of your own, "NAME: option=value ...", e.g. "wide: model.width=48"; may be given several times."""
    options: tuple[str, ...] = ()
    """Options for all arms, e.g. data.blanks=[9,9] run.steps=1000; values as in JSON, words without quotes."""
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
    """Config of every arm by name. Raises ValueError for an unknown arm or option."""
    known = dict(ARMS)
    for text in arguments.arm:
        name, _, words = text.partition(":")
        known[name.strip()] = parse_options(words.split())
    unknown = [name for name in arguments.arms if name not in known]
    if unknown:
        raise ValueError(f"unknown arm {', '.join(unknown)}; there are {', '.join(known)}")
    own = [text.partition(":")[0].strip() for text in arguments.arm]
    names = dict.fromkeys([*arguments.arms, *own])
    base = Config().override(**PRESETS[arguments.preset]).override(**parse_options(list(arguments.options)))
    return {name: base.override(**known[name]) for name in names}


def run_arm(name: str, config: Config, task, directory: Path) -> list[dict[str, Any]]:
    """Train an arm, look at the test puzzles once, and return one row per seed."""
    from trm_jax import accounting, model, sudoku_task, train
    from trm_jax.fit import fit
    from trm_jax.seeds import over_seeds, seed_mesh

    validate = sudoku_task.evaluator(config, task.splits.validation, task.box)
    test = sudoku_task.evaluator(config, task.splits.test, task.box)
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
    final, best = test(weights(progress.state)), test(progress.best.params)
    one = sudoku_task.one_seed(progress.state.params)
    inputs = task.data["inputs"][:1]
    shared = {
        "study": "components",
        "arm": name,
        "blanks": "-".join(map(str, sorted(set(config.data.blanks)))),
        "parameters": model.count_parameters(config.model, one),
        "layer_applications": config.layer_applications,
        "flops": accounting.matmul_flops(lambda params: model.forward(config, params, inputs), one),
    }
    return [
        shared
        | {"seed": seed, "best_exact": float(best["exact"][i, -1]), "train_seconds": float(progress.seconds[i])}
        | {key: float(final[key][i, -1]) for key in ("exact", "valid", "cells", "cells_blanks")}
        for i, seed in enumerate(config.run.seeds)
    ]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % interval of the exact accuracy of each arm, in percent, with what the arm costs."""
    from trm_jax.stats import mean_interval

    table = []
    for arm, group in rows.groupby("arm", sort=False):
        exact = mean_interval(group["exact"])
        table.append(
            {
                "arm": arm,
                "exact %": f"{100 * exact.mean:.1f}",
                "95 % interval": f"{max(0, 100 * exact.low):.1f} to {min(100, 100 * exact.high):.1f}",
                "lowest seed": f"{100 * group['exact'].min():.1f}",
                "best checkpoint %": f"{100 * group['best_exact'].mean():.1f}",
                "seeds": len(group),
                "parameters": int(group["parameters"].iloc[0]),
                "layers applied": int(group["layer_applications"].iloc[0]),
                "MFLOP a puzzle": f"{group['flops'].iloc[0] / 1e6:.1f}",
            }
        )
    return pd.DataFrame(table)


def report(rows: pd.DataFrame, arms: dict[str, Config], overlap: float, command: str) -> str:
    """The table with what made it, as Markdown."""
    from trm_jax.runlog import environment

    config, made = next(iter(arms.values())), environment()
    split = "no test solution is a relabelling of a training solution" if overlap == 0 else (
        f"{100 * overlap:.0f} % of the test solutions are relabellings of training solutions"
    )  # fmt: skip
    side = config.data.box[0] * config.data.box[1]
    return "\n".join(
        [
            "# Ablation",
            "",
            f"{config.data.test} test puzzles of {side}x{side} with {rows['blanks'].iloc[0]} blanks and one solution "
            f"each; {split}. {config.run.steps} updates of {config.run.batch} puzzles for every arm; final weights; "
            f"95 % intervals over seeds (Student's t).",
            "",
            _markdown(summary(rows)),
            "",
            f"Command: `{command}`. Commit {made['commit']}. Machine: {made['machine']}, "
            f"jax {made['packages']['jax']} on {made['devices'][0]}.",
            "",
        ]
    )


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def run(arguments: Arguments) -> None:
    """Train what is missing, then write results.csv, results.json and report.md, and print the report."""
    from trm_jax import sudoku_task
    from trm_jax.runlog import write_text
    from trm_jax.runtime import configure

    arms = {name: sudoku_task.for_board(config) for name, config in build_arms(arguments).items()}
    configure()
    directory = arguments.output / (arguments.name or arguments.preset)
    tasks: dict[Any, Any] = {}
    rows: list[dict[str, Any]] = []
    for name, config in arms.items():
        if config.data not in tasks:
            tasks[config.data] = sudoku_task.prepare(config)
            print(f"test solutions seen in training (up to relabelling): {tasks[config.data].splits.overlap:.1%}")
        rows += run_arm(name, config, tasks[config.data], directory / "arms" / name)
        # Written after every arm: an interrupted study still shows what it has.
        table = pd.DataFrame(rows)
        text = report(table, arms, tasks[config.data].splits.overlap, "python " + " ".join(sys.argv))
        write_text(directory / "results.csv", table.to_csv(index=False))
        results = {"rows": rows, "arms": {arm: dataclasses.asdict(config) for arm, config in arms.items()}}
        write_text(directory / "results.json", json.dumps(results, indent=1))
        write_text(directory / "report.md", text)
    print("\n" + text + f"\nWritten to {directory}")


def main() -> None:
    """Run the command line; bad input gets one line and exit code 1."""
    arguments = tyro.cli(Arguments, description=__doc__)
    try:
        run(arguments)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
