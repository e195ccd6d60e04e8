"""Published ablation results to compare with: single runs, of which independent reruns differ by several points."""

from dataclasses import dataclass
from typing import NamedTuple

from trm_jax.core.model_config import ModelConfig


class Row(NamedTuple):
    """A row of a paper's ablation table and the arms of our studies that ask the same question."""

    name: str
    exact: float
    """Percent of the test set answered exactly."""
    arms: tuple[str, ...]


@dataclass(frozen=True)
class Paper:
    """The ablation table of a paper."""

    citation: str
    data_set: str
    reference: float
    """Percent of the paper's reference model."""
    rows: tuple[Row, ...]

    def lookup(self, arm: str) -> Row | None:
        """The row for an arm, or None if there is none."""
        return next((row for row in self.rows if arm in row.arms), None)

    def difference(self, row: Row) -> float:
        """Share by which a row differs from the reference model."""
        return round(row.exact - self.reference, 1) / 100


# "Less is More: Recursive Reasoning with Tiny Networks" (arXiv 2510.04871); independent reruns of its reference range
# from 75.6 to 87. The reference: T = 3, n = 6, two layers, MLP mixing, EMA, and gradient through the last cycle, so an
# arm that passes gradient through the last cycle only has no row.
TINY_RECURSIVE_MODELS = Paper(
    "Jolicoeur-Martineau 2025",
    "Sudoku-Extreme",
    87.4,
    (
        Row("ACT continue loss", 86.1, ("continue_loss", "act_continue")),
        Row("separate nets for z and y", 82.4, ("separate_nets",)),
        Row("no EMA", 79.9, ("no_ema",)),
        Row("4 layers, n = 3", 79.5, ("four_layers",)),
        Row("seven latent states", 77.6, ("seven_z", "multi_z")),
        Row("self-attention", 74.7, ("attention",)),
        Row("less recursion, T = 2, n = 2", 73.7, ("less_recursion", "T2_n2")),
        Row("one state only", 71.9, ("no_z", "single_z")),
        Row("one-step gradient", 56.5, ("one_step",)),
    ),
)

MAZE_HARD = 85.3
"""Percent of Maze-Hard that the paper's self-attention model answers exactly (Jolicoeur-Martineau 2025, table 5)."""


def published_exact(config: ModelConfig) -> tuple[str, float] | None:
    """Data set and percent of the published model with the inputs and mixing of ``config``; None if there is none."""
    kind = (config.cells, config.vocabulary, config.mixer)
    attention = next(row.exact for row in TINY_RECURSIVE_MODELS.rows if "attention" in row.arms)
    return {
        (81, 11, "swiglu"): ("Sudoku-Extreme", TINY_RECURSIVE_MODELS.reference),
        (81, 11, "attention"): ("Sudoku-Extreme", attention),
        (900, 6, "attention"): ("Maze-Hard", MAZE_HARD),
    }.get(kind)
