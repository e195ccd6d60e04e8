"""Did something get slower? Compares ratios of two runs, which survive another machine or a busy one, not times."""

import json
from pathlib import Path
from typing import Any

from trm_jax.support.schema import require

NOISE = 1.1
NEEDED = {"name", "peer", "ratio_low", "ratio_high", "share_low", "share_high"}


def read_rows(path: Path, preset: str) -> list[dict[str, Any]]:
    """Rows of a benchmark.json of the same preset, whose cases are the same.

    Raises FileNotFoundError when it is missing, ValueError when it is another file or of another preset.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no baseline {path}; make one with --output DIR and give DIR/benchmark.json")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        rows, baseline_preset = results["rows"], results["preset"]
        require(bool(rows) and all(set(row) >= NEEDED for row in rows), "rows lack a field")
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a benchmark.json of this program; make one with --output DIR") from None
    require(
        baseline_preset == preset,
        f"{path} was made with --preset {baseline_preset}, whose cases are others; give the same preset",
    )
    return rows


def slower(rows: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Sentences on what got slower beyond the noise, and on what could not be compared.

    Slower means that the whole interval of the new ratio to the peer lies above NOISE times the whole old interval,
    or the whole interval of the share of the matrix product below the old one divided by NOISE.
    """
    old = {(row["name"], row["peer"]): row for row in baseline}
    regressions, unknown = [], []
    for row in rows:
        before = old.get((row["name"], row["peer"]))
        against = f" against {row['peer']}" if row["peer"] else ""
        if before is None:
            unknown.append(f"{row['name']}{against}: not in the baseline")
            continue
        for quantity, field in ((f"time{against}", "ratio"), ("share of the matrix product", "share")):
            (low, high), (old_low, old_high) = ((item[f"{field}_low"], item[f"{field}_high"]) for item in (row, before))
            if low is None or old_low is None:
                continue
            if low > NOISE * old_high if field == "ratio" else high < old_low / NOISE:
                regressions.append(
                    f"{row['name']}: {quantity} was {old_low:.3g} to {old_high:.3g} and is {low:.3g} to {high:.3g}"
                )
    return list(dict.fromkeys(regressions)), unknown
