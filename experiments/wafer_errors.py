"""Where does a wafer classifier go wrong, and is it the classifier or the label? From stored predictions alone.

    python experiments/wafer_errors.py --run runs/wafer-edge
    python experiments/wafer_errors.py --preset smoke          # after wafer_train.py --preset smoke

Writes errors.csv (every wrong answer with its probabilities and its answers step by step), label_errors.csv (likely
wrong labels, ranked), errors.html (one page to leaf through, filter and export, for a process engineer), errors.md and
the most confident errors as a picture; about half a minute for 50,000 wafers.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from trm_jax.reporting import markdown
from trm_jax.reporting.style import svg
from trm_jax.support.cli import main
from trm_jax.support.files import write_text
from trm_jax.support.provenance import environment
from trm_jax.support.schema import require
from trm_jax.wafer.evaluation import errors, figures, pooled
from trm_jax.wafer.evaluation.error_page import page
from trm_jax.wafer.evaluation.runs import join_runs, read_run
from trm_jax.wafer.maps.maps import CLASSES
from trm_jax.wafer.presets import run_and_wafers
from trm_jax.wafer.splits import folds


@dataclass(frozen=True)
class Arguments:
    """List, picture and page the errors of a run of wafer_train."""

    run: Path | None = None
    """Directory of the run: a folder for each split, with predictions and config; needed unless smoke."""
    more_seeds: tuple[Path, ...] = ()
    """Runs of the same recipe with other seeds: label errors are judged by all of them."""
    data: Path | None = None
    """Prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic wafers."""
    synthetic: int = 0
    """Number of generated wafers that the run was trained on, instead of data."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: the run that `wafer_train.py --preset smoke` leaves, on its generated wafers."""
    seed: int = 0
    """Which of the run's seeds answers, counted from 0; label errors are judged by all."""
    pictures: int = 16
    """Most confident errors in the picture."""
    most: int = 5000
    """Most errors on the page; all are in errors.csv."""
    output: Path | None = None
    """Folder for the files; RUN/errors if not given."""


def write_summary(directory: Path, table, labels, sentences: list[str], provenance: dict[str, str]) -> None:
    """errors.md: the sentences, the confusion pairs and the likeliest label errors."""
    pairs = [
        (row.true, row.predicted, row.errors, f"{row.share:.1%}", f"{row.confidence:.3f}")
        for row in errors.confused_pairs(table).head(10).itertuples()
    ]
    doubtful = [
        (row.wafer, row.row, row.label, row.suggested, f"{row.p_label:.3f}", f"{row.p_suggested:.3f}")
        for row in labels.head(20).itertuples()
    ]
    parts = [
        "# Wrong answers",
        markdown.bullets(sentences),
        "![the most confident wrong answers](confident_errors.svg)",
        "## Confused pairs",
        markdown.table(["True", "Predicted", "Errors", "Share of all errors", "Mean confidence"], pairs),
        f"## Likely label errors: {len(labels):,}, the first 20",
        markdown.table(
            ["Wafer", "Row", "Label", "Suggested", "Probability of the label", "of the suggestion"], doubtful
        ),
        markdown.bullets(f"{key}: `{value}`" for key, value in provenance.items()),
    ]
    write_text(directory / "errors.md", "\n\n".join(parts) + "\n")


def run(arguments: Arguments) -> None:
    """Read, list, draw and write."""
    require(arguments.pictures >= 1 and arguments.most >= 1, "--pictures and --most must be 1 or more")
    directory, wafers = run_and_wafers(arguments.run, arguments.preset, arguments.synthetic, arguments.data)
    splits = folds(wafers)
    used = join_runs([read_run(path, wafers, splits) for path in (directory, *arguments.more_seeds)])
    tested = pooled.pool(used, wafers)
    table = errors.error_table(tested, wafers, [fold.split.name for fold in used], arguments.seed)
    labels = errors.label_table(tested, wafers)
    sentences = errors.findings(table, tested, arguments.seed)
    output = arguments.output or directory / "errors"
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / "errors.csv", table.to_csv(index=False, float_format="%.6g"))
    write_text(output / "label_errors.csv", labels.to_csv(index=False, float_format="%.6g"))
    made = environment()
    provenance = {"command": shlex.join(["python", *sys.argv]), "commit": made["commit"], "data": wafers.source}
    write_text(output / "errors.html", page(table, wafers, sentences, provenance, len(tested.logits), arguments.most))
    top = table.head(arguments.pictures)
    shares = top[[f"p_{name}" for name in CLASSES]].to_numpy(np.float64)
    maps = [wafers.map(index) for index in top["wafer"].tolist()]
    figure = figures.confident_errors(maps, top["true"].tolist(), shares, CLASSES, wafers.source)
    write_text(output / "confident_errors.svg", svg(figure))
    write_summary(output, table, labels, sentences, provenance)
    print("\n".join(sentences))
    print(f"\nPage: {output / 'errors.html'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
