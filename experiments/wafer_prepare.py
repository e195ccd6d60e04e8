"""Prepare wafer maps once, so that every later run maps them into memory instead of reading and checking them.

    python experiments/wafer_prepare.py --input LSWMD.pkl --output runs/wafers     # all 811,457 maps: 7 minutes, 3 GB
    python experiments/wafer_prepare.py --input maps_of_our_fab --labelled-only    # a folder of .csv or .png files
    python experiments/wafer_prepare.py --preset smoke         # generated maps: proves that it runs

Prints how many maps, labels and copies there are. Broken maps are left out and listed in rejected.csv with their
reason. The result is a directory to give as data wherever wafer maps are read.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from trm_jax.support.files import ROOT, check_folder
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.wafer.data import load
from trm_jax.wafer.maps import cache, source
from trm_jax.wafer.maps.plausible import inspect, parse_codes
from trm_jax.wafer.maps.validate import ReadResult
from trm_jax.wafer.maps.wafers import UNKNOWN


@dataclass(frozen=True)
class Arguments:
    input: Path | None = None
    """LSWMD.pkl, an .npz, a folder of maps, or a cache; TRM_DATA or ../shared/data if not given."""
    pass_bins: str = ""
    """Bins of passing dies, such as 1 or 1,2, for files that have bins instead of the codes 0, 1, 2."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: generated maps instead of an input."""
    output: Path | None = None
    """Directory to write; runs/wafers if not given, runs/wafers-smoke with the preset smoke."""
    labelled_only: bool = False
    """Leave out maps without a label, which are four fifths of WM-811K."""
    clean_only: bool = False
    """Leave out later copies of identical maps, and identical maps with contradicting labels."""
    codes: str = ""
    """How the cells are coded where they are not 0, 1, 2: `swapped`, or such as pass=1,fail=0,outline=disc."""
    force: bool = False
    """Replace a cache of another source."""
    progress: bool = True
    """Show a bar while reading."""


def select(loaded: ReadResult, arguments: Arguments) -> ReadResult:
    """The maps to keep. Raises ValueError if there are none."""
    wafers = loaded.wafers
    kept = (wafers.label != UNKNOWN) | (not arguments.labelled_only)
    kept &= wafers.clean | (not arguments.clean_only)
    require(bool(kept.any()), f"none of the {len(wafers):,} maps is kept; drop --labelled-only or --clean-only")
    return ReadResult(wafers.take(kept), loaded.rejected)


def source_of(arguments: Arguments) -> tuple[dict[str, Any], Callable[[], ReadResult]]:
    """What a cache says about where its maps are from, and how to read them. Raises ValueError or FileNotFoundError."""
    origin: dict[str, Any] = {
        "selection": {"labelled_only": arguments.labelled_only, "clean_only": arguments.clean_only}
        | ({"codes": arguments.codes} if arguments.codes else {})
    }
    if arguments.preset == "smoke":
        require(arguments.input is None, "--preset smoke prepares generated maps; leave out --input")
        wafers = load(smoke=True)
        checksum = hashlib.sha256(wafers.flat.tobytes()).hexdigest()
        return origin | {"source": wafers.source, "sha256": checksum, "notice": ""}, lambda: ReadResult(wafers, [])
    path = source.find(arguments.input)
    if path is None:
        raise FileNotFoundError("there are no wafer maps to prepare; give --input, or set TRM_DATA")
    origin["source"], origin["sha256"] = path.name, cache.source_sha256(path)
    origin["notice"] = cache.notice(path)
    return origin, lambda: source.read(path, arguments.progress, pass_bins=arguments.pass_bins)


def run(arguments: Arguments) -> None:
    parse_codes(arguments.codes)
    origin, read = source_of(arguments)
    output = arguments.output or ROOT / "runs" / ("wafers-smoke" if arguments.preset == "smoke" else "wafers")
    check_folder(output)
    if not arguments.force and cache.is_prepared(output, origin):
        print(f"{output} is already prepared from {origin['source']}")
        return
    loaded, doubts, notes = inspect(read(), arguments.codes)
    manifest = cache.write_cache(output, select(loaded, arguments), origin)
    for note in notes:
        print(note)
    for index, reason in sorted(doubts.items())[:1]:
        print(f"{len(doubts):,} maps are unlike real ones, the first: row {loaded.wafers.row[index]} {reason}")
    for name, count in manifest["counts"].items():
        text = ", ".join(f"{key} {value:,}" for key, value in count.items()) if name == "classes" else f"{count:,}"
        print(f"{name:12}{text}")
    print(f"written to {output}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
