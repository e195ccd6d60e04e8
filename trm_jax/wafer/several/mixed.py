"""What tasks of several patterns have in common: wafers of a fold, and mixes of two of them in every part."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from trm_jax.core.task import TokenTask
from trm_jax.support.schema import check_types, require
from trm_jax.wafer.data import load
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES, Wafers

PATTERNS = tuple(name for name in CLASSES if name != "none")
"""What is asked for, in the order of the answers."""
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class MixedTask(TokenTask):
    """A task about wafers with two patterns, made of two real ones of the same lots' part and size."""

    file: str = ""
    """Wafer maps with labels, as `wafer_train.py --data` takes them; where the project finds them if empty."""
    generated: int = 0
    """Number of generated wafers to take instead of a file; 0 for none."""
    fold: int = 3
    """The fold that is tested."""
    image: int = 52
    """Cells a side of a grid; that of model.encoder.image."""
    train_mixes: int = 12000
    """Training wafers with two patterns."""
    validation_mixes: int = 500
    """Validation wafers with two patterns."""
    test_mixes: int = 1000
    """Test wafers with two patterns."""
    seed: int = 0
    """Of the mixes."""

    example_name: ClassVar[tuple[str, str]] = ("wafer", "wafers")

    def __post_init__(self) -> None:
        check_types(self, "task.")
        for part in PARTS:
            count = getattr(self, f"{part}_mixes")
            require(count >= 1, f"task.{part}_mixes must be at least 1, got {count}")
        require(0 <= self.fold <= 3, f"task.fold must be 0 to 3, got {self.fold}")

    def wafers(self) -> Wafers:
        """The wafers that are mixed, read once."""
        return _read(self.file, self.generated)

    def source(self) -> str:
        """Where the wafers come from, and how they are divided, as the beginning of a sentence."""
        return f"{self.wafers().source}, fold {self.fold} is tested; lots stay whole"

    def seed_of(self, part: str) -> int:
        """Of the mixes of a part, which differ."""
        return len(PARTS) * self.seed + PARTS.index(part)


@cache
def _read(file: str, generated: int) -> Wafers:
    return synthetic_wafers(generated) if generated else load(Path(file) if file else None)
