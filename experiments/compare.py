"""Compare runs that were made apart: the options in which they differ, paired differences, curves, one report.

    python experiments/compare.py runs/first runs/second --arms full
    python experiments/compare.py runs/components-cpu --arms full no_z --output runs/full-or-no-z

A run is the folder of a study, such as runs/components-cpu. The first arm is the reference; seeds are paired by number.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from trm_jax.support.files import ROOT, check_folder
from trm_jax.support.terminal.cli import main


@dataclass(frozen=True)
class Arguments:
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of studies."""
    arms: tuple[str, ...] = ()
    """Arms of these names; all if empty."""
    output: Path = ROOT / "runs" / "compare"
    """Folder of the report, which replaces an older one."""


def run(arguments: Arguments) -> None:
    check_folder(arguments.output)
    from trm_jax.study import compare  # here, so that --help needs no jax
    from trm_jax.study.runner import print_tables

    arms = compare.read_arms(arguments.runs, arguments.arms)
    compare.compare(arms, arguments.output)
    print(compare.differing(arms).to_string(index=False))
    print_tables([row for arm in arms for row in arm.rows.to_dict("records")], arguments.output)


if __name__ == "__main__":
    main(Arguments, run, __doc__)
