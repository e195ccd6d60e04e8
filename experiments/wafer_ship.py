"""Make a checkpoint that ships from runs on all lots: the best seed on validation, or several as one, calibrated.

    python experiments/wafer_train.py --all-lots --name ship
    python experiments/wafer_ship.py --run runs/ship --folds runs/wafer-edge \
        --evaluation runs/wafer-edge/evaluation --output checkpoints/wafer-edge
    python experiments/wafer_ship.py --run runs/ship --more-seeds runs/ship-1 runs/ship-2 --together \
        --folds runs/plain runs/plain-1 runs/plain-2 --output checkpoints/wafer-ensemble
    python experiments/wafer_ship.py --preset smoke            # after wafer_train.py --preset smoke --all-lots

Temperature and thresholds come from the test wafers of the cross-validation --folds of the same recipe, since what is
fitted to the wafers that chose the weights flatters; how well they hold is measured on each fold by the other folds.
`wafer_unlike.py` then adds the score of unknown maps. The card takes its results from the cross-validation of the same
recipe (wafer_evaluate.py), never from these weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trm_jax.support.files import check_folder, refuse_existing
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.wafer.data import SMOKE_RUN, data_notice, run_and_wafers
from trm_jax.wafer.evaluation.trust.risk_control import Promise
from trm_jax.wafer.maps.wafers import CLASSES

PROMISE = Promise()


@dataclass(frozen=True)
class Arguments:
    run: Path | None = None
    """Run of wafer_train.py --all-lots; needed unless --preset smoke."""
    more_seeds: tuple[Path, ...] = ()
    """Runs like --run with other seeds: the best of all ships, or all of them --together."""
    together: bool = False
    """Ship all seeds as one classifier, which answers with the mean of their probabilities."""
    output: Path | None = None
    """Checkpoint to write; needed unless --preset smoke."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: the run that `wafer_train.py --preset smoke --all-lots` leaves, on its generated wafers."""
    folds: tuple[Path, ...] = ()
    """Runs of wafer_train.py on all folds, of the same recipe, with one seed or several, to calibrate with (--together:
    with as many as ship); needed unless --preset smoke."""
    evaluation: Path | None = None
    """Folder that wafer_evaluate.py wrote for the cross-validation of the same recipe."""
    data: Path | None = None
    """The wafers that the run was trained on: cache, .npz, .pkl or folder; else $TRM_DATA, or ../shared/data."""
    alpha: float = PROMISE.alpha
    """Error rate that is allowed among automatic decisions."""
    delta: float = PROMISE.delta
    """Probability that the guarantee may fail, over the draw of the lots that the thresholds are chosen on."""
    class_alpha: float = PROMISE.class_alpha
    """Error rate that automatic answers of a predicted class stay under in new blocks of lots."""
    reviewed: tuple[Literal[CLASSES], ...] = PROMISE.reviewed  # type: ignore[valid-type]
    """Classes that are never decided automatically: most of what is no wafer is called Random."""
    threshold: float | None = None
    """Halting probability above which the device will stop early; what it monitors is compared with that."""


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.checkpoint import save_checkpoint  # here: --help needs no jax
    from trm_jax.wafer.release.ship import candidate_of, drift_reference, model_card, read_evaluation

    smoke = arguments.preset == "smoke"
    output = arguments.output or (SMOKE_RUN.with_name("wafer-smoke-shipped") if smoke else None)
    if output is None:
        raise ValueError("give --output, or --preset smoke")
    if not smoke:
        require(len(arguments.folds) > 0, "give --folds, a run of wafer_train.py of the same recipe on all folds")
        refuse_existing(output)
    check_folder(output)
    directory, wafers = run_and_wafers(arguments.run, arguments.preset, 0, arguments.data)
    promise = Promise(arguments.alpha, arguments.delta, arguments.class_alpha, arguments.reviewed)
    runs = (directory, *arguments.more_seeds)
    candidate = candidate_of(runs, wafers, promise, arguments.folds, arguments.together)
    evaluated = read_evaluation(arguments.evaluation, candidate) if arguments.evaluation else {}
    card = model_card(output.resolve().name, candidate, evaluated, data_notice(wafers, arguments.data))
    reference = drift_reference(candidate, arguments.threshold)
    save_checkpoint(output, candidate.classifier, card, reference, replace=smoke)
    print(
        f"{output}: seed {' + '.join(map(str, candidate.seeds))}, validation macro-F1 {candidate.macro_f1:.3f}, "
        f"{candidate.classifier.calibration}"
    )
    if candidate.crossed:
        print(candidate.crossed.sentence())


if __name__ == "__main__":
    main(Arguments, run, __doc__)
