"""Wafer maps to train and measure with: those of a source, or generated ones."""

import sys
from pathlib import Path

from trm_jax.support.files import ROOT
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps import cache
from trm_jax.wafer.maps.source import find, read
from trm_jax.wafer.maps.wafers import Wafers

SYNTHETIC = 2000
"""Wafers that are generated where there are no data."""
SMOKE_WAFERS = 1200
"""Wafers that are generated for the preset smoke."""
SMOKE_RUN = ROOT / "runs" / "wafer-smoke"
"""Where `wafer_train.py --preset smoke` puts its run, and the scripts after it look for one."""


def load(path: Path | None = None, smoke: bool = False) -> Wafers:
    """Wafer maps of ``path``, else of the source that `find` knows, else generated ones; ``smoke`` generates at once.

    Says on stderr how many broken maps were left out. Raises FileNotFoundError or ValueError as `find` and `read` do.
    """
    if smoke and path is None:
        return synthetic_wafers(SMOKE_WAFERS)
    source = find(path)
    if source is None:
        return synthetic_wafers(SYNTHETIC)
    found = read(source, progress=sys.stderr.isatty())
    for note in found.notes:
        print(f"{source}: {note}", file=sys.stderr)
    if found.rejected:
        print(f"{source}: {len(found.rejected):,} broken maps, the first: {found.first_reason}", file=sys.stderr)
    return found.wafers


def data_notice(wafers: Wafers, path: Path | None = None) -> str:
    """The notice that goes with wafers that `load` read from ``path``."""
    source = None if wafers.source.startswith("synthetic") else find(path)
    if source is None:
        return "Generated wafers; no notice."
    return cache.notice(source) or f"No notice came with {wafers.source}."


def run_and_wafers(run: Path | None, preset: str, synthetic: int, data: Path | None) -> tuple[Path, Wafers]:
    """Directory of a run and the wafers it was trained on. Raises ValueError without either a run or preset smoke."""
    smoke = preset == "smoke"
    directory = run or (SMOKE_RUN if smoke else None)
    if directory is None:
        raise ValueError("give --run, or --preset smoke")
    return directory, synthetic_wafers(synthetic) if synthetic else load(data, smoke)
