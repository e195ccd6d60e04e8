"""How large the cases of `experiments/accelerator.py` are, in which precisions, and what they are held to."""

from dataclasses import dataclass, field
from typing import Any

from trm_jax.core.config import Config

MIXERS = ("linear", "swiglu", "attention")
PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"model.matmul_precision": "highest"},
    "tf32": {"model.matmul_precision": "high"},
    "bfloat16": {"model.dtype": "bfloat16"},
}
"""What a GPU calls them; the second is three bfloat16 passes on TPU, and exact on CPU."""
BOUNDS = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 1e-1}
"""Largest difference from float32 on CPU, of the largest value of the array."""
PEAKS = {
    "H100": (66.9e12, 494.7e12, 989.4e12),
    "H200": (66.9e12, 494.7e12, 989.4e12),
    "A100": (19.5e12, 156e12, 312e12),
    "L40S": (91.6e12, 183e12, 362e12),
}
"""Operations a second that the maker states, dense, in each of the precisions (data sheets of the SXM forms)."""


@dataclass(frozen=True)
class Size:
    """How large everything is."""

    widths: tuple[int, ...] = (128, 256, 512)
    boards: dict[tuple[int, int], int] = field(default_factory=lambda: {(9, 9): 768, (30, 30): 64})
    """Batch for each grid."""
    seeds: tuple[int, ...] = (1, 2, 4, 8)
    T: int = 3
    n: int = 6
    layers: int = 2
    head_width: int = 64
    compiled: bool = True
    """Compare with torch.compile too, which takes up to a minute to prepare."""
    matrix: int = 8192
    """Side of the product that tells what the device can do."""
    seconds: float = 0.5
    """Length of a turn; there are three."""

    def config(self, width: int, mixer: str, grid: tuple[int, int], precision: str = "bfloat16") -> Config:
        """The official model in this size and precision."""
        options: dict[str, Any] = {
            "model.width": width, "model.mixer": mixer, "model.grid": grid, "model.vocabulary": 10,
            "model.classes": 10, "model.heads": width // self.head_width, "model.hidden_multiple": self.head_width,
            "model.layers": self.layers, "recursion.T": self.T, "recursion.n": self.n, "recursion.N_sup": 1,
            "recursion.gradient": "last_cycle", "run.batch": self.boards[grid], "run.seeds": (0,),
            "run.data_parallel": 1,
        }  # fmt: skip
        options |= {"model.positions": "rotary_2d"} if mixer == "attention" else {}
        return Config().override(**options, **PRECISIONS[precision])


SIZES = {
    "standard": Size(),
    "smoke": Size(
        (16,), {(3, 3): 8}, (1, 2), T=1, n=2, layers=1, head_width=8, compiled=False, matrix=256, seconds=0.02
    ),
}
