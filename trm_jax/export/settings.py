"""How a package is made and measured: options that can be explained without what makes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

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


@dataclass(frozen=True, kw_only=True)
class OfficialSettings(Settings):
    """Score, take over, give back, fine-tune or export a checkpoint of the official code."""

    command: tyro.conf.Positional[Literal["evaluate", "import", "export", "finetune", "onnx"]]
    """What to do."""
    checkpoint: Path
    """File of the official code (step_N, .pt, .ckpt, .safetensors, .npz), or directory of weights of ours."""
    config: Path | None = None
    """Its all_config.yaml, or a JSON of the same fields; all_config.yaml beside the checkpoint if not given."""
    data: Path | None = None
    """Folder in the official layout, or CSV file of Sudoku puzzles."""
    key: str = ""
    """Name of the weights in a file that holds more."""
    puzzles: Literal["keep", "enlarge", "reset"] = "keep"
    """Puzzle vectors where their number differs: keep (an error), enlarge (new ones at the mean), reset (all there)."""
    output: Path | None = None
    """What is written: a directory by import, finetune (a run) and onnx, a file by export (.pt, .safetensors, .npz)."""
    steps: int = 0
    """evaluate: supervision steps, more than trained with if you like; 0 for those."""
    rollouts: int = 0
    """evaluate: tries of each test example with noise in the states; of Sudoku also chosen by the rules."""
    noise: float = 0.3
    """evaluate: size of the noise of --rollouts."""
    limit: int = 0
    """evaluate: test examples, the first ones; 0 for all."""
    options: tuple[str, ...] = ()
    """finetune: options, e.g. run.steps=5000 optim.learning_rate=3e-5; values as in JSON."""
    puzzle: int | None = None
    """onnx: puzzle identifier whose vector becomes part of the files, where there are several."""
    calibration: int = 180
    """onnx: training inputs that set the ranges of int8."""
    samples: int = 500
    """onnx: test inputs to compare the files on."""
