"""Did something get slower? Compares ratios of two runs, which survive another machine or a busy one, not times."""

import json
from pathlib import Path
from typing import Any

from trm_jax.support.schema import require

NOISE = 1.1
NEEDED = {"name", "peer", "ratio_low", "ratio_high", "share_low", "share_high"}


def read_rows(path: Path, preset: str) -> list[dict[str, Any]]:
    """Rows of a benchmark.json of the same preset, whose cases are the same.

    Raises ValueError when it is none, FileNotFoundError when it is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no baseline {path}; make one with --output DIR and give DIR/benchmark.json")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        rows, made = results["rows"], results["preset"]
        require(bool(rows) and all(set(row) >= NEEDED for row in rows), "rows lack a field")
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no benchmark.json of this program; make one with --output DIR") from None
    require(made == preset, f"{path} was made with --preset {made}, whose cases are others; give the same preset")
    return rows


def slower(rows: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Sentences on what got slower beyond the noise, and on what could not be compared.

    Slower means that the whole interval of the new ratio to the peer lies above NOISE times the whole old interval,
    or the whole interval of the share of the matrix product below the old one divided by NOISE.
    """
    old = {(row["name"], row["peer"]): row for row in baseline}
    found, unknown = [], []
    for row in rows:
        before = old.get((row["name"], row["peer"]))
        against = f" against {row['peer']}" if row["peer"] else ""
        if before is None:
            unknown.append(f"{row['name']}{against}: not in the baseline")
            continue
        for what, new, past, is_slower in (
            (f"time{against}", _interval(row, "ratio"), _interval(before, "ratio"), _above),
            ("share of the matrix product", _interval(row, "share"), _interval(before, "share"), _below),
        ):
            if new and past and is_slower(new, past):
                found.append(
                    f"{row['name']}: {what} was {past[0]:.3g} to {past[1]:.3g} and is {new[0]:.3g} to {new[1]:.3g}"
                )
    return list(dict.fromkeys(found)), unknown


def _interval(row: dict[str, Any], name: str) -> tuple[float, float] | None:
    return None if row[f"{name}_low"] is None else (row[f"{name}_low"], row[f"{name}_high"])


def _above(new: tuple[float, float], past: tuple[float, float]) -> bool:
    return new[0] > NOISE * past[1]


def _below(new: tuple[float, float], past: tuple[float, float]) -> bool:
    return new[1] < past[0] / NOISE
