"""What is a trained wafer classifier worth, and when may its answers be trusted? From stored predictions alone.

    python experiments/wafer_evaluate.py --run runs/wafer-edge --baselines runs/baselines-cpu
    python experiments/wafer_evaluate.py --run runs/wafer-edge --alpha 0.01 --delta 0.05
    python experiments/wafer_evaluate.py --preset smoke        # after wafer_train.py --preset smoke
    python experiments/wafer_evaluate.py --run runs/wafer-edge --left-out Donut=runs/wafer-without-donut
    python experiments/wafer_evaluate.py --run runs/seed-0 --more-seeds runs/seed-1 --controls shallow=runs/shallow

Scores with intervals by whole lots at every supervision step, a paired comparison with other classifiers, the readiness
check, the threshold above which wafers are decided automatically, and how well unknown patterns are noticed. Writes
report.md, report.html, results.csv, results.json and figures/, in under a minute for 50,000 wafers.
"""

from dataclasses import dataclass
from pathlib import Path

from trm_jax.support.files import check_folder
from trm_jax.support.provenance import provenance
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.wafer.evaluation.arguments import RunArguments


@dataclass(frozen=True)
class Arguments(RunArguments):
    controls: tuple[str, ...] = ()
    """Runs of wafer_train with another recipe on the same splits, as NAME=DIRECTORY, to compare with, on the splits
    that both have; runs of one name are other seeds of it, and what is compared is the mean of their scores."""
    baselines: Path | None = None
    """Directory of a run of wafer_baselines on the same splits, to compare with."""
    left_out: tuple[str, ...] = ()
    """Runs that never trained on a class, as CLASS=DIRECTORY: how well the class is noticed as unknown."""
    alpha: float = 0.02
    """Error rate that is allowed among automatically decided wafers; the validation part of a fold has too few lots to
    promise much less."""
    delta: float = 0.1
    """Probability that the guarantee may fail, over the draw of the validation lots."""
    timed: int = 1024
    """Test wafers of the first split to time early stopping on, with the weights of its first seed; 0 for none, and
    none where nets are judged together."""
    output: Path | None = None
    """Folder for the report; RUN/evaluation if not given, RUN/evaluation-together with --together."""


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.classify import count_parameters, time_halting  # here: --help needs none of this
    from trm_jax.wafer.evaluation.comparisons import read_baselines, read_controls, read_left_out
    from trm_jax.wafer.evaluation.pooled import HALTS, pool
    from trm_jax.wafer.evaluation.report import write_report
    from trm_jax.wafer.evaluation.results import compute

    if arguments.output:
        check_folder(arguments.output)
    require(
        not (arguments.together and arguments.left_out), "--left-out is about nets one by one: leave out --together"
    )
    require(arguments.timed >= 0, f"--timed is a number of wafers, got {arguments.timed}")
    directory, wafers, splits, folds = arguments.read()
    others = read_baselines(arguments.baselines, wafers, splits, folds) if arguments.baselines else {}
    others |= read_controls(arguments.controls, wafers, folds)
    left_out, config = read_left_out(arguments.left_out, wafers, splits), folds[0].config
    weights = directory / folds[0].split.name / f"weights-{config.run.seeds[0]}"
    timed = 0 if arguments.together else arguments.timed
    pooled = pool(folds, wafers)
    results = compute(
        folds,
        wafers,
        pooled,
        rates={"alpha": arguments.alpha, "delta": arguments.delta},
        parameters=count_parameters(config.model),
        others=others,
        left_out=left_out,
        milliseconds=time_halting(weights, wafers, folds[0].test.index[:timed], HALTS),
    )
    used = ", ".join(fold.split.name for fold in folds)
    output = arguments.output or directory / ("evaluation-together" if arguments.together else "evaluation")
    made_by = provenance(splits=f"{used} of {len(splits)}")
    print(write_report(output, results, folds, wafers, pooled, made_by))
    print(f"\nReport: {output / 'report.html'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
