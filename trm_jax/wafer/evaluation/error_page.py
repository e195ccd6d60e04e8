"""One HTML page to leaf through a classifier's errors: filter, sort, print and export, without any other file.

Maps travel as three-valued digits, five to a byte, deflated together; the browser unpacks and draws them.
"""

import base64
import gzip
from collections.abc import Mapping, Sequence

import jinja2
import numpy as np
import pandas as pd

from trm_jax.wafer.figures import FAIL_COLOUR, PASS_COLOUR
from trm_jax.wafer.maps.maps import CLASSES, Wafers

DIGITS = 5
"""Cells in a byte: 3 ** 5 = 243 values."""
COLUMNS = ("wafer", "row", "group", "split", "true", "predicted", "confidence", "halt", "seeds_wrong", "steps",
           "label_issue", "suggested", "doubt")  # fmt: skip
"""Of the table of errors, in the order in which the page has them; the probabilities follow."""


def pack(maps: Sequence[np.ndarray]) -> str:
    """Maps of cells 0, 1, 2, one after another and each filled up to whole bytes, as base64 of gzip."""
    weights = 3 ** np.arange(DIGITS)
    parts = []
    for cells in maps:
        filled = np.zeros(-(-cells.size // DIGITS) * DIGITS, np.int64)
        filled[: cells.size] = cells.ravel()
        parts.append((filled.reshape(-1, DIGITS) @ weights).astype(np.uint8).tobytes())
    return base64.b64encode(gzip.compress(b"".join(parts), 9, mtime=0)).decode()


def page(
    table: pd.DataFrame,
    wafers: Wafers,
    sentences: Sequence[str],
    provenance: Mapping[str, str],
    seeds: int,
    most: int = 5000,
) -> str:
    """The page of the ``most`` most confident errors of an error_table (as wafer_errors.error_table gives it)."""
    shown = table.head(most)
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
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trm_jax.wafer.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("errors.html").render(
        title=f"Wrong answers: {wafers.source}",
        sentences=sentences,
        provenance=dict(provenance),
        left_out=len(table) - len(shown),
        data=data,
    )
