"""The options by which commands name a stored run."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from trm_jax.wafer.evaluation.stored import StoredRun


@dataclass(frozen=True)
class RunArguments:
    """A run of wafer_train and the wafers that it was trained on."""

    run: Path | None = None
    """Directory of the run: a folder for each split, with predictions, config and curve; needed unless smoke."""
    more_seeds: tuple[Path, ...] = ()
    """Runs of the same recipe with other seeds, judged together with it."""
    together: bool = False
    """Judge all seeds as one classifier, which answers with the mean of their probabilities."""
    data: Path | None = None
    """Prepared cache, .npz, .pkl or folder of maps; else $TRM_DATA, ../shared/data, or synthetic wafers."""
    synthetic: int = 0
    """Number of generated wafers that the run was trained on, instead of data."""
    preset: Literal["none", "smoke"] = "none"
    """smoke: the run that `wafer_train.py --preset smoke` leaves, on its generated wafers."""

    def read(self) -> "StoredRun":
        """The run with its wafers. Raises ValueError where something is missing or does not belong together."""
        from trm_jax.wafer.data import run_and_wafers  # here, so that --help needs no more than this file
        from trm_jax.wafer.evaluation.stored import StoredRun, as_members, join_runs, read_run
        from trm_jax.wafer.splits import folds as all_folds

        directory, wafers = run_and_wafers(self.run, self.preset, self.synthetic, self.data)
        splits = all_folds(wafers)
        runs = [read_run(path, wafers, splits) for path in (directory, *self.more_seeds)]
        joined = join_runs(runs)
        return StoredRun(directory, wafers, splits, as_members(joined) if self.together else joined)
