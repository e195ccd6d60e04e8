"""One page with answers to look at: map, answer, second guess and reason; filters, keys, and corrections as CSV.

The page needs no other file and no connection. The same page reviews: then every label goes to `edge.review` at once.
"""

import base64
import gzip
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.support.files import write_text
from trm_jax.wafer.maps.answers import LARGEST, NO_DOUBTS, Answer, Doubts, Thresholds, answers
from trm_jax.wafer.maps.validate import NAMES, ReadResult
from trm_jax.wafer.maps.wafers import CLASSES

DIGITS = 5
"""Cells in a byte: 3 ** 5 = 243 values."""
MAX_MAPS = 2000
"""Maps of a page, those to review and broken ones first."""
THUMBNAILS = 6
"""Maps of each of the largest clusters that are shown together."""
TEMPLATES = Path(__file__).with_name("templates")


def pack(maps: Sequence[np.ndarray]) -> str:
    """Maps of cells 0, 1, 2, one after another and each filled up to whole bytes, as base64 of gzip."""
    weights = 3 ** np.arange(DIGITS)
    parts = []
    for cells in maps:
        filled = np.zeros(-(-cells.size // DIGITS) * DIGITS, np.int64)
        filled[: cells.size] = cells.ravel()
        parts.append((filled.reshape(-1, DIGITS) @ weights).astype(np.uint8).tobytes())
    return base64.b64encode(gzip.compress(b"".join(parts), 9, mtime=0)).decode()


def write_page(
    path: Path,
    read: ReadResult,
    probabilities: np.ndarray,
    steps: np.ndarray,
    review_threshold: Thresholds,
    doubts: Doubts = NO_DOUBTS,
    cluster: np.ndarray | None = None,
) -> None:
    """Write the page of all answers, whole or not at all; arguments and errors as those of `answers.answers`."""
    lines = list(answers(read, probabilities, steps, review_threshold, doubts, cluster=cluster))
    write_text(path, page(page_data(read, lines, MAX_MAPS), f"Answers: {read.wafers.source}"))


def page_data(read: ReadResult, lines: Sequence[Answer], max_maps: int) -> dict[str, Any]:
    """What the page shows: broken maps and those to review first, the least confident first; and the largest clusters.

    A few maps of each of these are on the page, whatever their confidence; of all others it knows the names, so that a
    label of the cluster is theirs, too.
    """
    lines = sorted(lines, key=lambda line: (line.decision == "auto", line.confidence or 0.0, line.row))
    members = [[line for line in lines if line.cluster == number] for number in range(1, LARGEST + 1)]
    shown = {line.row for cluster in members for line in cluster[:THUMBNAILS]}
    kept = {line.row for line in sorted(lines, key=lambda line: line.row not in shown)[:max_maps]}
    order = [line for line in lines if line.row in kept]
    index = {int(row): place for place, row in enumerate(read.wafers.row)}
    maps = [read.wafers.map(index[line.row]) if line.row in index else np.zeros((0, 0), np.uint8) for line in order]
    kinds = [kind for kind in NAMES if kind in read.names]

    def name(line: Answer) -> list[Any]:
        return [line.row, *(read.names[kind][line.row] for kind in kinds)]

    return {
        "classes": CLASSES,
        "names": ["row", *kinds],
        "left_out": len(lines) - len(order),
        "counts": {kind: sum(line.decision == kind for line in lines) for kind in ("auto", "review", "rejected")},
        "rows": [
            {
                "name": name(line),
                "decision": line.decision,
                "shares": [round(1000 * share) for share in line.probabilities],
                "reason": line.reason,
                "label": line.label,
                "cluster": line.cluster,
            }
            for line in order
        ],
        "clusters": [
            {
                "count": len(cluster),
                "others": [[*name(line), line.prediction] for line in cluster if line.row not in kept],
            }
            for cluster in members
            if cluster
        ],
        "sizes": [cells.shape for cells in maps],
        "maps": pack(maps),
        "notes": read.notes,
    }


def page(data: dict[str, Any], title: str, review: bool = False) -> str:
    """The page as HTML; with ``review`` it shows one map at a time and sends every label to the server it is from."""
    # Nothing in a string of JSON may end the script.
    text = json.dumps(data | {"review": review}, ensure_ascii=True).replace("<", "\\u003c")
    return with_shared(TEMPLATES / "answers.html").replace("{{title}}", html.escape(title)).replace('"{{data}}"', text)


def shared(name: str) -> str:
    """What pages with maps share: maps.css or maps.js."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def with_shared(template: Path) -> str:
    """A template of a page with ``{{style}}`` and ``{{code}}`` filled in."""
    text = template.read_text(encoding="utf-8")
    return text.replace("{{style}}", shared("maps.css")).replace("{{code}}", shared("maps.js"))
