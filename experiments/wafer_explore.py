"""Look at wafer maps before training on them: class mix, examples, mean maps, profiles, features, similar classes.

    python experiments/wafer_explore.py                        # WM-811K if it is installed, else generated wafers
    python experiments/wafer_explore.py --data LSWMD.pkl --output runs/explore-lswmd
    python experiments/wafer_explore.py --preset smoke         # generated wafers: proves that it runs

Writes report.md, the page report.html, six figures and summary.json to runs/explore.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trm_jax.support.files import ROOT, check_folder
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main


@dataclass(frozen=True)
class Arguments:
    data: Path | None = None
    """Cache, .npz, .pkl or folder of maps; if not given, TRM_DATA, else shared/data beside the project, else
    generated wafers."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: generated wafers, whatever data there is."""
    output: Path | None = None
    """Folder for the figures, where files of the same names are replaced; runs/explore if not given, runs/explore-smoke
    with the preset smoke."""
    limit: int = 0
    """Most wafers of a class to look at, chosen at random; 0 for all. Class counts are always of all."""
    examples: int = 4
    """Example maps of each class, chosen at random."""
    size: int = 32
    """Cells a side of the common grid of the mean maps."""
    pairs: int = 8
    """Most similar pairs of classes to list."""
    seed: int = 0
    """Seed of everything that is chosen at random."""


def run(arguments: Arguments) -> None:
    from trm_jax.wafer.data import load  # here: --help needs none of this
    from trm_jax.wafer.explore import explore, write

    if arguments.output:
        check_folder(arguments.output)
    for name, minimum in (("limit", 0), ("seed", 0), ("examples", 1), ("pairs", 1)):
        value = getattr(arguments, name)
        require(value >= minimum, f"--{name} must be {minimum} or more, got {value}")
    smoke = arguments.preset == "smoke"
    require(not smoke or arguments.data is None, "--preset smoke looks at generated wafers; leave out --data")
    wafers = load(arguments.data, smoke)
    output = arguments.output or ROOT / "runs" / ("explore-smoke" if smoke else "explore")
    overview = explore(wafers, arguments.limit, arguments.examples, arguments.size, arguments.seed)
    write(output, wafers, overview, arguments.pairs)
    print(f"{sum(overview.counts.values()):,} labelled wafers ({wafers.source}): {output / 'report.html'}")


if __name__ == "__main__":
    main(Arguments, run, __doc__)
