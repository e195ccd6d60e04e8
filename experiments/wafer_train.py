"""Train the recursive wafer classifier, on folds of whole lots or, to ship it, on all lots.

    python experiments/wafer_train.py                       # four folds, two seeds each: the numbers to report
    python experiments/wafer_train.py --folds 3 --name try --options model.width=96   # one fold, another model
    python experiments/wafer_train.py --all-lots --name edge  # the weights that ship: no test part, a sixth validates
    python experiments/wafer_train.py --preset smoke        # synthetic wafers, under a minute: proves that it runs

Macro-F1 on validation, whole lots too, chooses the weights and stops; they and no others are kept as runs/NAME/SPLIT/
weights-SEED and asked about the test wafers, once (test.npz, validation.npz: logits after every supervision step).
Only scores on validation are printed, to compare recipes by; those on test wafers are for `wafer_evaluate.py`.
An interrupted run goes on where it was when the same command is given again.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.support import flops as accounting
from trm_jax.support.cli import main
from trm_jax.support.files import write_text
from trm_jax.support.schema import parse_options, require
from trm_jax.training.checkpoint import save_weights
from trm_jax.training.devices import to_host
from trm_jax.training.loop import fit
from trm_jax.training.processes import configure
from trm_jax.wafer import task as wafer_task
from trm_jax.wafer.data import load
from trm_jax.wafer.evaluation.metrics import seed_scores
from trm_jax.wafer.evaluation.stored import Predicted, load_predicted, save_predicted
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.mixtures import mixed_wafers
from trm_jax.wafer.presets import PRESETS, SMOKE_WAFERS
from trm_jax.wafer.splits import Split, all_lots, folds
from trm_jax.wafer.synthetic import synthetic_wafers

ROOT = Path(__file__).resolve().parent.parent
MIXES = 500
"""Wafers with two patterns that every split is asked about, as unknown ones."""


@dataclass(frozen=True)
class Arguments:
    """Train on every fold, keep the weights that validation chose, and ask them about the test wafers."""

    data: Path | None = None
    """Prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic wafers."""
    preset: Literal["smoke", "edge", "cnn", "paper"] = "edge"
    """Size: smoke (1,200 synthetic wafers), edge (the model that ships), cnn (no recursion: the baseline), paper (a
    token for every cell, for a GPU)."""
    folds: tuple[int, ...] = ()
    """Numbers of the folds to train; all if empty."""
    all_lots: bool = False
    """Train on all lots but a validating sixth, for weights to ship."""
    leave_out: Literal["", *CLASSES] = ""  # type: ignore[valid-type]
    """Class that is neither trained on nor validated with: is it noticed as unknown when it is tested?"""
    options: tuple[str, ...] = ()
    """Options, e.g. model.width=96 run.seeds=[0,1,2]; values as in JSON, words without quotes."""
    views: Literal[1, 2, 4] = 2
    """Mirrored and turned images of each wafer whose answers are averaged, by the weights that are kept too."""
    prior: float = 0.25
    """How much of the logarithm of a class's share is added to its logit: rare classes are drawn more often."""
    extra_steps: int = 2
    """Supervision steps beyond those trained with that are predicted too."""
    name: str = ""
    """Name of the run under --output; wafer-PRESET if empty."""
    output: Path = ROOT / "runs"
    """Folder of all runs."""


def prepare(arguments: Arguments) -> tuple[Config, Wafers, list[Split]]:
    """Config, wafers and the splits to train. Raises ValueError for an unknown option or fold."""
    config = Config().override(**PRESETS[arguments.preset]).override(**parse_options(arguments.options))
    generated = arguments.preset == "smoke" and arguments.data is None
    wafers = synthetic_wafers(SMOKE_WAFERS) if generated else load(arguments.data)
    return config, wafers, choose_splits(arguments, wafers)


def choose_splits(arguments: Arguments, wafers: Wafers) -> list[Split]:
    """The splits to train. Raises ValueError for an unknown fold."""
    require(not (arguments.all_lots and arguments.folds), "--folds and --all-lots exclude each other")
    splits = [all_lots(wafers)] if arguments.all_lots else folds(wafers)
    unknown = set(arguments.folds) - set(range(len(splits)))
    require(not unknown, f"there is no fold {min(unknown, default=0)}; there are 0 to {len(splits) - 1}")
    chosen = [splits[number] for number in arguments.folds or range(len(splits))]
    if not arguments.leave_out:
        return chosen
    return [wafer_task.without(split, wafers.label, CLASSES.index(arguments.leave_out)) for split in chosen]


def run_directory(arguments: Arguments) -> Path:
    """Where the run lies."""
    return arguments.output / (arguments.name or f"wafer-{arguments.preset}")


def claim(directory: Path, arguments: Arguments, wafers: Wafers) -> None:
    """Refuse a directory that holds a run on other wafers, or one that predicted otherwise. Raises ValueError."""
    made = {"source": wafers.source, "wafers": len(wafers), "left out": arguments.leave_out}
    text = json.dumps(made | {"views": arguments.views, "prior": arguments.prior}, indent=1)
    path = directory / "wafers.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{directory} holds a run on other wafers, or with other --views or --prior; choose another --name"
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def train(config: Config, grids: np.ndarray, wafers: Wafers, split: Split, arguments: Arguments) -> Predicted:
    """Train all seeds on one split; returns their answers on its validation part.

    Those on the test part are only stored, so that whoever compares recipes does not choose by them. A split that is
    done is not asked again.
    """
    directory = run_directory(arguments) / split.name
    task = wafer_task.prepare(config, grids, wafers.label, split)
    progress = fit(config, task.data, task.validate, "macro_f1", directory, task.augment, split.name)
    best = to_host(progress.best.params)
    config, best = wafer_task.for_prediction(config, best, wafers.label[split.train], arguments.views, arguments.prior)
    steps = config.recursion.N_sup + arguments.extra_steps
    for index, seed in enumerate(config.run.seeds):
        target = directory / f"weights-{seed}"
        if not target.exists():
            save_weights(target, wafer_task.one_seed(best, index), config)
    asked = {"validation": (grids[split.validation], split.validation)}
    if len(split.test):
        asked |= ask_mixes(config, wafers, split)
        asked["test"] = (grids[split.test], split.test)
    for name, (inputs, chosen) in asked.items():
        path = directory / f"{name}.npz"
        if not path.exists():
            save_predicted(path, wafer_task.predict(config, best, inputs, chosen, steps))
    return load_predicted(directory / "validation.npz")


def ask_mixes(config: Config, wafers: Wafers, split: Split) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Grids of wafers with two patterns and their numbers, by name; nothing where none can be made."""
    try:
        mixes = mixed_wafers(wafers, split.test, MIXES)
    except ValueError as error:
        print(f"{split.name}: no wafers with two patterns are asked about: {error}", file=sys.stderr)
        return {}
    return {"unknown-mixes": (wafer_task.grids_of(config, mixes), np.arange(MIXES))}


def summary(config: Config, wafers: Wafers, name: str, answers: Predicted) -> str:
    """Accuracy and macro-F1 on validation of every seed after the steps trained with, a line each."""
    predicted = answers.logits[:, config.recursion.N_sup - 1].argmax(axis=-1)
    found = seed_scores(wafers.label[answers.index], predicted, len(CLASSES))
    return "\n".join(
        f"{name} seed {seed}, validation: accuracy {accuracy:.4f}, macro-F1 {macro_f1:.4f}"
        for seed, accuracy, macro_f1 in zip(config.run.seeds, found.accuracy, found.macro_f1, strict=True)
    )


def run(arguments: Arguments) -> None:
    """Train what is missing and print a line for every split and seed."""
    config, wafers, splits = prepare(arguments)
    params = model.initialise(config.model, jax.random.key(0))
    answering = config.override(**{"model.views": arguments.views, "model.forward_only": True})
    flops = accounting.matmul_flops(
        lambda inputs: model.forward(answering, params, inputs), model.blank_inputs(config.model, 1)
    )
    print(
        f"{wafers.source}: {len(wafers):,} wafers; {model.count_parameters(config.model, params):,} parameters, "
        f"{flops / 1e9:.3f} GFLOP a map in {arguments.views} views, {config.layer_applications} layer applications"
    )
    claim(run_directory(arguments), arguments, wafers)
    used = np.concatenate([part for split in splits for part in (split.train, split.validation, split.test)])
    grids = wafer_task.some_grids(config, wafers, used)
    for split in splits:
        answers = train(config, grids, wafers, split, arguments)
        print(summary(config, wafers, split.name, answers))


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
