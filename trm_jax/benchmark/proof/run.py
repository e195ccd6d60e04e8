"""Records of an accelerator, one after another into one file, so that what was measured is never measured again."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from jax.errors import JaxRuntimeError
from tqdm import tqdm

from trm_jax.benchmark.jax_side import Mismatch
from trm_jax.benchmark.proof.parts import PARTS, Record
from trm_jax.benchmark.proof.sizes import SIZES
from trm_jax.support.files import write_text
from trm_jax.support.provenance import environment
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import Paused

SAME = ("commit", "packages", "devices", "machine")
"""What must not change between the records of a file."""


def read(file: Path, preset: str) -> dict[str, Any]:
    """What a file holds so far. Raises ValueError for one of another preset, machine, device, version or commit."""
    current = {name: value for name, value in environment().items() if name in SAME}
    if not file.exists():
        return {"preset": preset, "made by": current, "records": {}}
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
        made_by, old = results["made by"], results["preset"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{file} is not a file of this program; choose another --output") from None
    different = [name for name in SAME if made_by[name] != current[name]] + ["preset"] * (old != preset)
    require(not different, f"{file} has records of another {', '.join(different)}; choose another --output")
    return results


def measure(directory: Path, preset: str, parts: tuple[str, ...], minutes: float) -> dict[str, Any]:
    """Measure what is missing of some parts (all if empty) and write every record as it comes.

    A record that cannot be made, as for want of memory, says why. Raises ValueError for an unknown part, Paused when
    the minutes are over.
    """
    unknown = [part for part in parts if part not in PARTS]
    require(not unknown, f"unknown part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    file, started, longest = directory / "accelerator.json", time.monotonic(), 0.0
    results = read(file, preset)
    records = results["records"]
    cases = [case for part, make in PARTS.items() if part in (parts or PARTS) for case in make(SIZES[preset])]
    missing = [case for case in cases if case[0] not in records]
    with tqdm(missing, desc="accelerator", unit="record", file=sys.stderr) as bar:
        for index, (name, call) in enumerate(bar):
            bar.set_postfix_str(name)
            begun = time.monotonic()
            if minutes and begun - started + longest > 60 * minutes:
                raise Paused(f"{len(missing) - index} records are missing: give the same command to go on")
            records[name] = _record(call)
            longest = max(longest, time.monotonic() - begun)
            directory.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(results, indent=1))
    return results


def _record(call: Any) -> Record:
    try:
        return call()
    except Mismatch as error:
        return {"held": False, "failed": str(error)}
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"failed": "not enough memory"}


def broken(results: dict[str, Any]) -> list[str]:
    """Names of the records that say that something does not hold."""
    return [name for name, record in results["records"].items() if record.get("held") is False]
