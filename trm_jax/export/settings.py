"""How a package is made and measured: options that can be explained without what makes it."""

from dataclasses import dataclass
from typing import Literal

from trm_jax.support.schema import require

Precision = Literal["float16", "int8"]


@dataclass(frozen=True)
class Settings:
    """How a package is made and measured."""

    precisions: tuple[Precision, ...] = ("float16", "int8")
    """Files to make beside those in float32, which share their weights."""
    repeats: int = 400
    """Timed calls of each file."""
    tolerance: float = 1e-4
    """Largest difference between a float32 file and JAX, in logits (relative where they exceed 1) or probabilities."""
    int8_limit: float = 0.05
    """Largest error of the int8 logits in units of their standard deviation; products stay float until it is met."""

    def __post_init__(self) -> None:
        require(self.repeats >= 1, f"repeats must be at least 1, got {self.repeats}")
