"""Type what the README says on a machine that has nothing of it yet, and say how long each command took.

    make first-hour                    # a clone, an environment and compiled programs of their own, then removed

Exits with 1 where a command fails, where the first answer for a wafer map takes longer than two minutes from the clone,
or where the study takes longer than five or finds no real difference. The packages come from where pip is set to look.
"""

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"trm classify": 120.0, "trm demo": 300.0}
"""Seconds after the clone began in which a command must be done."""
REAL_DIFFERENCE = 5.0
"""Points of exact accuracy."""


def typed(readme: str) -> list[str]:
    """The commands of the sections Install and Try it, in order."""
    text = readme.partition("\n## Install\n")[2].partition("\n## What we found\n")[0]
    lines = [line for block in re.findall(r"^```\n(.*?)^```", text, flags=re.M | re.S) for line in block.splitlines()]
    return [line for line in lines if re.match(r"(python|source|pip|trm) ", line)]


def difference(output: str) -> float:
    """Points between the best and the worst arm of the table that a study prints; 0 without a table."""
    shares = [float(share) for share in re.findall(r"^\s*`\w+`\s+([\d.]+)", output, flags=re.M)]
    return max(shares) - min(shares) if shares else 0.0


def main() -> None:
    """Clone, type, and judge."""
    complaints, began = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clone, before = Path(folder) / "clone", "true"
        outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        fresh = outside | {
            "TRM_CACHE": f"{folder}/cache",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        lines = [
            f"git clone --quiet --depth 1 {ROOT.as_uri()} {clone}",
            *typed((ROOT / "README.md").read_text("utf-8")),
        ]
        print(f"{'seconds':>8} {'in all':>8} {'cpu':>8}  command", flush=True)
        for line in lines:
            started, used = time.monotonic(), _processor()
            place = clone if clone.exists() else Path(folder)
            done = subprocess.run(
                ["bash", "-c", f"{before} && {line}"], cwd=place, env=fresh, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
            now = time.monotonic()
            print(f"{now - started:8.1f} {now - began:8.1f} {_processor() - used:8.1f}  {line}", flush=True)
            if done.returncode:
                sys.exit(f"{done.stdout}\nfailed with exit code {done.returncode}: {line}")
            if line.startswith("source "):
                before = line
            limit = next((seconds for name, seconds in LIMITS.items() if line.startswith(name)), None)
            if limit is not None and now - began > limit:
                complaints.append(f"{line} was done after {now - began:.0f} s, more than {limit:.0f}")
            if line.startswith("trm demo") and difference(done.stdout) < REAL_DIFFERENCE:
                complaints.append(f"the study found a difference of {difference(done.stdout):.1f} points only")
    if complaints:
        sys.exit("\n".join(complaints))


def _processor() -> float:
    """Seconds of processor that the commands have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
