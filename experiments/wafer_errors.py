"""Where does a wafer classifier go wrong, and is it the classifier or the label? From stored predictions alone.

    python experiments/wafer_errors.py --run runs/wafer-edge
    python experiments/wafer_errors.py --preset smoke          # after wafer_train.py --preset smoke

Writes errors.csv (every wrong answer with its probabilities and its answers step by step), label_errors.csv (likely
wrong labels, ranked), errors.html (one page to leaf through, filter and export, for a process engineer), and a summary
with the most confident errors as a picture, report.md and report.html; about half a minute for 50,000 wafers.
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
    seed: int = 0
    """Which of the run's seeds answers, counted from 0."""
    pictures: int = 16
    """Most confident errors in the picture."""
    max_on_page: int = 5000
    """Errors on the page, at most; all are in errors.csv."""
    output: Path | None = None
    """Folder for the files; RUN/errors if not given."""


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.evaluation.error_page import write_errors  # here: --help needs none of this
    from trm_jax.wafer.evaluation.pooled import pool

    if arguments.output:
        check_folder(arguments.output)
    require(arguments.pictures >= 1, f"--pictures must be 1 or more, got {arguments.pictures}")
    require(arguments.max_on_page >= 1, f"--max-on-page must be 1 or more, got {arguments.max_on_page}")
    directory, wafers, _, folds = arguments.read()
    output = arguments.output or directory / "errors"
    sentences = write_errors(
        output,
        pool(folds, wafers),
        wafers,
        splits=[fold.split.name for fold in folds],
        provenance=provenance(data=wafers.source),
        seed=arguments.seed,
        pictures=arguments.pictures,
        max_on_page=arguments.max_on_page,
    )
    print("\n".join(sentences))
    print(f"\nPage: {output / 'errors.html'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
