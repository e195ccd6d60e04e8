"""Options of wafer training: how maps become grids, which are drawn, and how they are changed."""

from dataclasses import dataclass
from typing import Literal

from trm_jax.support.schema import check_types, require


@dataclass(frozen=True)
class WaferConfig:
    """Wafer grids and their augmentation; nothing in it concerns Sudoku."""

    representation: Literal["nearest", "area", "max"] = "area"
    """How maps are resized: nearest die, failing share of each cell, or any failing die."""
    balance: float = 0.5
    """Classes are drawn in proportion to (their count) ** balance: 1 for the natural mix, 0 for equal shares."""
    untouched: float = 0.3
    """Probability that a grid stays as it is."""
    compose: bool = True
    """Turn, mirror and add noise to the same grid, instead of one of the three."""
    noise: tuple[float, float] = (0.01, 0.02)
    """Smallest and largest share of the passing cells that noise turns into failing ones."""

    def __post_init__(self) -> None:
        check_types(self)
        require(0 <= self.balance <= 1, f"wafer.balance must be in 0..1, got {self.balance}")
        require(0 <= self.untouched <= 1, f"wafer.untouched is a probability, got {self.untouched}")
        require(0 <= self.noise[0] <= self.noise[1] <= 1, f"wafer.noise must be two shares, got {self.noise}")
