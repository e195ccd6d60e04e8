"""Make a checkpoint that ships from a run on all lots: the best seed on validation, calibrated, with a model card.

    python experiments/wafer_train.py --all-lots --name edge
    python experiments/wafer_ship.py --run runs/edge --evaluation runs/wafer-edge/evaluation \
        --output checkpoints/wafer-edge
    python experiments/wafer_ship.py --preset smoke            # after wafer_train.py --preset smoke --all-lots

The card takes its results from the cross-validation of the same recipe (wafer_evaluate.py), never from these weights.
"""

import json
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
from scipy.special import softmax

from trm_jax.core import model
from trm_jax.core.config import Config
from trm_jax.edge.monitor import FEWEST_LOTS, reference
from trm_jax.reporting.interval import Interval
from trm_jax.support import flops
from trm_jax.support.cli import main
from trm_jax.support.provenance import environment
from trm_jax.support.schema import require
from trm_jax.training.checkpoint import load_weights
from trm_jax.wafer.checkpoint import Calibration, Shipped, refuse_existing, save_checkpoint
from trm_jax.wafer.evaluation import metrics
from trm_jax.wafer.evaluation.calibration import fit_temperature
from trm_jax.wafer.evaluation.metrics import WM811K_LABELLED, WM811K_NONE
from trm_jax.wafer.evaluation.pooled import lots
from trm_jax.wafer.evaluation.results import DECIDED, FULL_MIX, SCORES
from trm_jax.wafer.evaluation.risk_control import guaranteed_threshold
from trm_jax.wafer.evaluation.stored import (
    Predicted,
    best_update,
    load_predicted,
    read_curve,
    read_prediction_options,
    recipe,
    stopped_at,
)
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.cache import notice
from trm_jax.wafer.maps.maps import CLASSES, Wafers
from trm_jax.wafer.presets import SMOKE_RUN, run_and_wafers
from trm_jax.wafer.splits import Split, all_lots

SHOWN = ("accuracy", "macro_f1", "balanced_accuracy", "ece_tempered")


@dataclass(frozen=True)
class Arguments:
    """Choose a seed, calibrate it, and write the checkpoint."""

    run: Path | None = None
    """Run of wafer_train.py --all-lots; needed unless --preset smoke."""
    output: Path | None = None
    """Checkpoint to write; needed unless --preset smoke."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: the run that `wafer_train.py --preset smoke --all-lots` leaves, on its generated wafers."""
    evaluation: Path | None = None
    """Folder that wafer_evaluate.py wrote for the cross-validation of the same recipe."""
    data: Path | None = None
    """The wafers that the run was trained on: cache, .npz, .pkl or folder; else $TRM_DATA, or ../shared/data."""
    alpha: float = 0.02
    """Error rate that is allowed among automatic decisions."""
    delta: float = 0.1
    """Probability that the guarantee may fail, over the draw of the validation lots."""
    threshold: float | None = None
    """Halting probability above which the device will stop early; what it monitors is compared with that."""


def calibrate(logits: np.ndarray, wafers: Wafers, index: np.ndarray, alpha: float, delta: float) -> Calibration:
    """Temperature and review threshold from validation wafers; 1, review everything, where nothing is guaranteed."""
    truth = wafers.label[index].astype(np.int64)
    temperature = fit_temperature(logits, truth)
    shares = softmax(logits / temperature, axis=1)
    right = shares.argmax(axis=1) == truth
    found = guaranteed_threshold(shares.max(axis=1), right, lots(wafers, index), alpha, delta)
    return Calibration(temperature, 1.0 if found is None else found)


def monitored(answers: Predicted, seed: int, depth: int, made: Calibration, wafers: Wafers, threshold: float | None):
    """What the device compares its wafers with: the validation wafers and the answers to them; nothing for few lots."""
    units = lots(wafers, answers.index)
    if len(np.unique(units)) < FEWEST_LOTS:
        print(f"no monitoring reference: validation has {len(np.unique(units))} lots, {FEWEST_LOTS} are needed")
        return {}
    last = stopped_at(answers.halt[seed, :depth], threshold)
    logits = answers.logits[seed, last, np.arange(len(answers.index))]
    shown = replace(wafers.take(answers.index), group=units)
    return reference(shown, softmax(logits / made.temperature, axis=1), last + 1, made.review_threshold)


def read_evaluation(arguments: Arguments, trained: dict[str, Any]) -> dict[str, Any]:
    """What wafer_evaluate.py wrote, or nothing without a directory. Raises ValueError for another recipe or promise."""
    directory = arguments.evaluation
    if directory is None:
        return {}
    path = directory / "results.json"
    require(path.is_file(), f"{directory} is no folder of wafer_evaluate: it has no results.json")
    try:
        evaluated = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}; evaluate again") from None
    require(evaluated.get("recipe") == trained, f"{directory} is of another recipe than --run; its scores say nothing")
    for name, value in (("alpha", arguments.alpha), ("delta", arguments.delta)):
        found = evaluated.get("rates", {}).get(name)
        require(found == value, f"{directory} was made with --{name} {found}, not {value:g}; evaluate again with it")
    return evaluated


def score_rows(numbers: dict[tuple[str, str, str], Interval]) -> list[tuple[str, str]]:
    """What the card says of all wafers: names and values with intervals."""
    keys = {name: ("score", "all", name) for name in SHOWN}
    return [(SCORES[name], str(numbers[key])) for name, key in keys.items() if key in numbers]


def class_rows(numbers: dict[tuple[str, str, str], Interval]) -> list[list[str]]:
    """For every class its name and what the card says of it: scores, share decided and share of those named otherwise,
    with intervals; empty where there is none."""
    rows = []
    for name in CLASSES:
        keys = [("score", "all", f"{score}_{name}") for score in metrics.BY_CLASS]
        keys += [(DECIDED, name, score) for score in ("coverage", "errors")]
        rows.append([name, *(str(numbers[key]) if key in numbers else "" for key in keys)])
    return rows


def said_of(arguments: Arguments, wafers: Wafers) -> str:
    """The notice that goes with the data."""
    found = None if arguments.preset == "smoke" else source.find(arguments.data)
    if found is None:
        return "Generated wafers; no notice."
    return notice(found) or f"No notice came with {wafers.source}."


def prepare(arguments: Arguments) -> tuple[Path, Path, Wafers]:
    """Directory of the run, of the checkpoint, and the wafers.

    Raises ValueError where one is missing, FileExistsError where the checkpoint exists.
    """
    output = arguments.output or (SMOKE_RUN.with_name("wafer-smoke-shipped") if arguments.preset == "smoke" else None)
    if output is None:
        raise ValueError("give --output, or --preset smoke")
    if arguments.preset != "smoke":
        refuse_existing(output)
    source, wafers = run_and_wafers(arguments.run, arguments.preset, 0, arguments.data)
    return source, output, wafers


def render_card(arguments: Arguments, shipped: Shipped, wafers: Wafers, split: Split, made: dict[str, Any]) -> str:
    """The model card; ``made`` says how the weights were chosen and what the recipe was found to be worth."""
    config, params = shipped.config, shipped.params
    numbers = {
        (row["part"], row["name"], row["score"]): Interval(row["value"], row["low"], row["high"])
        for row in made["evaluated"].get("numbers", [])
    }
    blank, counts = model.blank_inputs(config.model, 1), np.bincount(wafers.label[split.train], minlength=len(CLASSES))
    template = Path(source.__file__).parents[1] / "model_card.md"
    return jinja2.Template(template.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined).render(
        **made, alpha=arguments.alpha, delta=arguments.delta, config=config, calibration=shipped.calibration,
        scores=score_rows(numbers), classes=class_rows(numbers), together=made["evaluated"].get("errors together"),
        mixed=[numbers[key].value for name in ("accuracy", "macro_f1") if (key := (FULL_MIX, "all", name)) in numbers],
        full_share=f"{100 * WM811K_NONE / WM811K_LABELLED:.0f}",
        parameters=f"{model.count_parameters(config.model, params):,}",
        gflop=f"{flops.matmul_flops(lambda inputs: model.forward(config, params, inputs), blank) / 1e9:.3f}",
        source=wafers.source, trained=f"{len(split.train):,}", validated=f"{len(split.validation):,}",
        rare=", ".join(f"{CLASSES[index]} {counts[index]:,}" for index in np.argsort(counts)[:3]),
        notice=said_of(arguments, wafers), command=shlex.join(["python", *sys.argv]), commit=environment()["commit"],
    )  # fmt: skip


def run(arguments: Arguments) -> None:
    """Write the checkpoint and say what it is."""
    source, output, wafers = prepare(arguments)
    directory = source / "all-lots"
    answers, split = load_predicted(directory / "validation.npz"), all_lots(wafers)
    require(np.array_equal(answers.index, split.validation), f"{directory} was trained on other wafers; give --data")
    trained = Config.from_json((directory / "config.json").read_text(encoding="utf-8"))
    depth, seeds = trained.recursion.N_sup, trained.run.seeds
    logits = answers.logits[:, depth - 1]
    scores = metrics.seed_scores(wafers.label[answers.index], logits.argmax(axis=-1), len(CLASSES))
    best = int(scores.macro_f1.argmax())
    config, params = load_weights(directory / f"weights-{seeds[best]}")
    calibration = calibrate(logits[best], wafers, answers.index, arguments.alpha, arguments.delta)
    made = {
        "seeds": len(seeds), "seed": seeds[best], "update": best_update(read_curve(directory / "metrics.jsonl"), best),
        "steps": trained.run.steps, "macro_f1": float(scores.macro_f1[best]), "accuracy": float(scores.accuracy[best]),
        "evaluated": read_evaluation(arguments, recipe(trained, read_prediction_options(source / "wafers.json"))),
    }  # fmt: skip
    card = render_card(arguments, Shipped(config, params, calibration), wafers, split, made)
    compared = monitored(answers, best, depth, calibration, wafers, arguments.threshold)
    save_checkpoint(output, Shipped(config, params, calibration), card, compared, replace=arguments.preset == "smoke")
    print(f"{output}: seed {seeds[best]}, validation macro-F1 {scores.macro_f1[best]:.3f}, {calibration}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
