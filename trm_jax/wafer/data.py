"""Wafer maps to train and measure with: those that are found, or generated ones."""

import sys
from pathlib import Path

from trm_jax.wafer.maps.maps import Wafers
from trm_jax.wafer.maps.source import find, read
from trm_jax.wafer.synthetic import synthetic_wafers

SYNTHETIC = 2000
"""Wafers that are generated where there are no data."""


def load(path: Path | None = None) -> Wafers:
    """Wafer maps for training: those that ``find`` finds, or generated ones. Says on stderr how many were left out."""
    found = find(path)
    if found is None:
        return synthetic_wafers(SYNTHETIC)
    wafers, rejected, _ = read(found, progress=sys.stderr.isatty())
    if rejected:
        example = f"row {rejected[0].row} {rejected[0].reason}"
        print(f"{found}: {len(rejected):,} broken maps left out, the first: {example}", file=sys.stderr)
    return wafers
