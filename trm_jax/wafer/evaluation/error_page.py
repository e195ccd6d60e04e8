"""The files about a classifier's errors: tables, a summary, and one HTML page to filter, sort, print and export them.

Maps travel as three-valued digits, five to a byte, deflated together; the browser unpacks and draws them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from trm_jax.reporting import page
from trm_jax.support.files import write_text
from trm_jax.wafer.evaluation import errors, figures
from trm_jax.wafer.evaluation.pooled import Pooled
from trm_jax.wafer.figures import FAIL_COLOUR, PASS_COLOUR
from trm_jax.wafer.maps.answer_page import pack, shared
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

COLUMNS = ("wafer", "row", "group", "split", "true", "predicted", "confidence", "halt", "seeds_wrong", "steps",
           "label_issue", "suggested", "doubt")  # fmt: skip
"""Of the table of errors, in the order in which the page has them; the probabilities follow."""


def write_errors(
    directory: Path,
    pooled: Pooled,
    wafers: Wafers,
    *,
    splits: Sequence[str],
    provenance: Mapping[str, str],
    seed: int = 0,
    pictures: int = 16,
    max_on_page: int = 5000,
) -> list[str]:
    """Write the tables of errors and of label errors, the summary and the page; returns what the errors have in common.

    ``splits`` are the names of the splits, ``seed`` is the position of the seed that answers. Raises ValueError for a
    seed that does not exist.
    """
    table, labels = errors.error_table(pooled, wafers, splits, seed), errors.label_table(pooled, wafers)
    sentences, top = errors.findings(table, pooled, seed), table.head(pictures)
    text = page.template("trm_jax.wafer.evaluation", "errors.md").render(
        sentences=sentences,
        pairs=errors.confused_pairs(table).head(10),
        labels=labels.head(20),
        issues=len(labels),
        provenance=provenance,
    )
    probabilities = top[[f"p_{name}" for name in CLASSES]].to_numpy(np.float64)
    maps = [wafers.map(index) for index in top["wafer"].tolist()]
    figure = figures.confident_errors(maps, top["true"].tolist(), probabilities, CLASSES, wafers.source)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "errors.csv", table.to_csv(index=False, float_format="%.6g"))
    write_text(directory / "label_errors.csv", labels.to_csv(index=False, float_format="%.6g"))
    seeds = len(pooled.logits)
    write_text(directory / "errors.html", error_page(table, wafers, sentences, provenance, seeds, max_on_page))
    page.write_report(directory, text, {"confident_errors": figure})
    return sentences


def error_page(
    table: pd.DataFrame,
    wafers: Wafers,
    sentences: Sequence[str],
    provenance: Mapping[str, str],
    seeds: int,
    max_errors: int,
) -> str:
    """The page of the ``max_errors`` most confident errors of an `errors.error_table`."""
    shown = table.head(max_errors)
    data = {
        "columns": list(COLUMNS),
        "classes": list(CLASSES),
        "rows": shown[list(COLUMNS)].round(4).to_numpy(object).tolist(),
        "shares": np.rint(1000 * shown[[f"p_{name}" for name in CLASSES]].to_numpy(float)).astype(int).tolist(),
        "sizes": np.stack([wafers.height[shown["wafer"]], wafers.width[shown["wafer"]]], axis=1).tolist(),
        "maps": pack([wafers.map(index) for index in shown["wafer"].tolist()]),
        "seeds": seeds,
        "pass": PASS_COLOUR,
        "fail": FAIL_COLOUR,
    }
    return page.template("trm_jax.wafer.evaluation", "errors.html").render(
        title=f"Wrong answers: {wafers.source}",
        sentences=sentences,
        provenance=provenance,
        left_out=len(table) - len(shown),
        data=data,
        code=Markup(shared("maps.js")),
    )
