"""Every option of a run, as frozen dataclasses that refuse what they do not know.

Legend of the whole project: S seeds, B batch, L tokens, D width, V vocabulary, K steps per compiled chunk; x question,
y answer, z latent state, each (B, L, D); N_sup supervision steps, T cycles a step, n latent updates a cycle.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from trm_jax.core.model_config import ModelConfig
from trm_jax.support.schema import check_types, from_dict, replace_nested, require


@dataclass(frozen=True)
class RecursionConfig:
    """How often the net is applied and how far the gradient reaches back."""

    N_sup: int = 3
    """Supervision steps: each ends in a read-out, a loss and a halting probability."""
    curriculum_N_sup: int = 0
    """Supervision steps of the first updates, where curriculum_fraction is above 0: a depth curriculum."""
    curriculum_fraction: float = 0.0
    """Share of the updates, from the first on, that run curriculum_N_sup supervision steps; the others run N_sup, and
    only their weights are kept as the best."""
    T: int = 2
    """Cycles in a supervision step (1 for the joint form)."""
    n: int = 2
    """Latent updates in a cycle (alternating) or passes in a step (joint)."""
    gradient: Literal["full", "last_cycle", "one_step"] = "full"
    """Gradient through the whole step, its last cycle (the paper), or its last evaluations (HRM)."""
    detach_between_steps: bool = True
    """Cut the gradient between supervision steps."""
    remat: bool = True
    """Recompute the net in the backward pass instead of storing what happens inside it."""
    segment: int = 0
    """Store the state of every so many-th evaluation only and compute the others again, so that memory grows less
    with n and T: one evaluation more in time, two where a cycle is longer than a segment; 0 stores every state."""
    unroll: bool = False
    """Write the recursion out instead of scanning: a larger program, sometimes faster, and what export needs."""

    def __post_init__(self) -> None:
        check_types(self, "recursion.")
        for name in ("N_sup", "T", "n"):
            require(getattr(self, name) >= 1, f"recursion.{name} must be at least 1, got {getattr(self, name)}")
        fraction = self.curriculum_fraction
        require(0 <= fraction < 1, f"recursion.curriculum_fraction must be in [0, 1), got {fraction}")
        require(
            fraction == 0 or self.curriculum_N_sup >= 1,
            f"recursion.curriculum_N_sup must be at least 1 with a curriculum, got {self.curriculum_N_sup}",
        )
        require(self.segment >= 0, f"recursion.segment must not be negative, got {self.segment}")


@dataclass(frozen=True)
class LossConfig:
    """What is minimised, and how supervision steps become updates."""

    supervision: Literal["sum", "carried"] = "sum"
    """Sum: the losses of all N_sup steps make one update. Carried: an update per step, the state carried (official)."""
    cross_entropy: Literal["softmax", "stablemax"] = "softmax"
    """Normaliser of the cross-entropy."""
    class_weights: tuple[float, ...] = ()
    """Factor of each class in the cross-entropy, not normalised; empty for equal weights."""
    label_smoothing: float = 0.0
    """Share of the target that all classes get alike, and the label less (Szegedy et al. 2016, section 7)."""
    distillation: float = 0.0
    """Weight of the cross-entropy against the task's soft targets, the rest against labels (Hinton et al. 2015)."""
    halt_weight: float = 0.5
    """Weight of the halting loss (binary cross-entropy against 'the whole sequence is right')."""
    continue_loss: bool = False
    """Train a second halting output to predict the value of going on (ACT, Graves 2016; HRM)."""
    exploration: float = 0.1
    """Carried only: probability that a sample must run a random minimum of 2..N_sup steps."""

    def __post_init__(self) -> None:
        check_types(self, "loss.")
        require(0 <= self.label_smoothing < 1, f"loss.label_smoothing must be in 0..1, got {self.label_smoothing}")
        require(0 <= self.distillation <= 1, f"loss.distillation must be in 0..1, got {self.distillation}")
        require(self.halt_weight >= 0, f"loss.halt_weight must not be negative, got {self.halt_weight}")
        require(0 <= self.exploration <= 1, f"loss.exploration is a probability, got {self.exploration}")


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer, its schedule, and the moving average of the weights."""

    algorithm: Literal["adamw", "adam_atan2"] = "adamw"
    """AdamW, or Adam with the arc tangent of mean and root mean square instead of their quotient (official)."""
    learning_rate: float = 2e-2
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: cosine decay to the end of the run, or constant."""
    warmup: int = 50
    """Optimizer steps of linear warm-up from 0."""
    first_update: Literal[0, 1] = 0
    """Number of the first update in the schedule: 0 begins the warm-up with a rate of 0, 1 above it (official)."""
    final_fraction: float = 0.0
    """Share of the peak learning rate that is left after the last step (cosine)."""
    beta1: float = 0.9
    """Decay of Adam's first moment."""
    beta2: float = 0.95
    """Decay of Adam's second moment."""
    weight_decay: float = 1.0
    """Decoupled weight decay of the weights in ``decay``."""
    decay: Literal["matrices", "all"] = "matrices"
    """What decays: matrices (not biases, norm scales and relations), or every trained weight (official)."""
    frozen: tuple[str, ...] = ()
    """Parts of the net that are left as they begin, such as stem; readout and halting are others."""
    clip: float = 1.0
    """Largest global norm of the gradient; 0 does not clip (official)."""
    ema: float = 0.97
    """Decay of the moving average of the weights that is evaluated; 0 evaluates the weights themselves."""
    ema_start: Literal["zero", "weights"] = "zero"
    """The average starts from zeros, debiased, or from the first weights (official)."""
    puzzle_learning_rate: float = 1e-4
    """Peak learning rate of the puzzle table, trained by sign-SGD: only the rows that a batch draws move and decay."""
    puzzle_weight_decay: float = 1.0
    """Decoupled weight decay of those rows."""

    def __post_init__(self) -> None:
        check_types(self, "optim.")
        require(self.learning_rate > 0, f"optim.learning_rate must be positive, got {self.learning_rate}")
        require(self.clip >= 0, f"optim.clip must not be negative, got {self.clip}")
        require(self.warmup >= 0, f"optim.warmup must not be negative, got {self.warmup}")
        require(0 <= self.ema < 1, f"optim.ema must be in [0, 1), got {self.ema}")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optim.{name} must be in [0, 1), got {getattr(self, name)}")
        rate = self.puzzle_learning_rate
        require(rate >= 0, f"optim.puzzle_learning_rate must not be negative, got {rate}")


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, how many at once."""

    steps: int = 400
    """Optimizer steps."""
    batch: int = 64
    """Samples in a batch B."""
    accumulate: int = 1
    """Parts of a batch whose gradients are computed one after another and summed: less memory for the same update."""
    eval_batch: int = 256
    """Samples evaluated at a time."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    """Training seeds; all of them run in one compiled program."""
    seeds_at_once: int = 0
    """Seeds that a device trains side by side, one group after another; 0: one on CPU, elsewhere all of them, or one
    where cuDNN's attention has a bias of relations, which it cannot take for several."""
    chunk: int = 50
    """Steps K in one compiled call."""
    evaluate_every: int = 100
    """Steps between evaluations on validation (a multiple of chunk)."""
    checkpoint_every: int = 100
    """Steps between checkpoints (a multiple of chunk)."""
    patience: int = 0
    """Stop when no seed has a better score on validation after so many evaluations; 0 for the full length."""
    minutes: float = 0.0
    """Stop at a checkpoint before the process has run so long; the same command goes on from it. 0 for no limit."""
    tensorboard: bool = False
    """Write TensorBoard event files of everything in metrics.jsonl too, into events/ of the run's folder; a finished
    run gets them when it is given again."""
    init: str = ""
    """Checkpoint whose weights the training starts from, ours or official; without the optimizer's state."""
    init_puzzles: Literal["keep", "enlarge", "reset"] = "keep"
    """Puzzle vectors of ``init``: keep all; keep them and begin new ones at their mean; begin all at their mean."""
    data_parallel: int = 0
    """Most devices that share a batch, of those that seeds leave over; 0: what measured best on this platform."""

    def __post_init__(self) -> None:
        check_types(self, "run.")
        for name in ("steps", "batch", "accumulate", "eval_batch", "chunk", "evaluate_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"run.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("evaluate_every", "checkpoint_every"):
            require(
                getattr(self, name) % self.chunk == 0,
                f"run.{name}={getattr(self, name)} must be a multiple of run.chunk={self.chunk}",
            )
        require(
            self.batch % self.accumulate == 0,
            f"run.accumulate={self.accumulate} must divide run.batch={self.batch}",
        )
        for name in ("patience", "data_parallel", "seeds_at_once", "minutes"):
            require(getattr(self, name) >= 0, f"run.{name} must not be negative, got {getattr(self, name)}")
        require(len(self.seeds) >= 1, "run.seeds must name at least one seed")
        require(len(set(self.seeds)) == len(self.seeds), f"run.seeds must differ, got {self.seeds}")


@dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    recursion: RecursionConfig = field(default_factory=RecursionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_types(self)
        require(
            self.model.form == "alternating" or self.recursion.T == 1,
            f"recursion.T={self.recursion.T} has no meaning in the joint form; set T=1 and choose n passes",
        )
        carried = self.loss.supervision == "carried"
        require(
            not carried or self.recursion.detach_between_steps,
            "loss.supervision=carried always detaches; set recursion.detach_between_steps=true",
        )
        require(
            len(self.loss.class_weights) in (0, self.model.classes),
            f"loss.class_weights has {len(self.loss.class_weights)} entries for {self.model.classes} classes",
        )
        require(
            self.optim.schedule == "constant" or self.optim.warmup < self.run.steps,
            f"optim.warmup={self.optim.warmup} must be less than run.steps={self.run.steps}",
        )

    @property
    def layer_applications(self) -> int:
        """Layers applied in a forward pass over all supervision steps: the effective depth, counted."""
        evaluations = self.recursion.n + (1 if self.model.form == "alternating" else 0)
        return self.recursion.N_sup * self.recursion.T * evaluations * self.model.layers

    def override(self, **options: Any) -> "Config":
        """Return a copy with dotted options changed, e.g. ``override(**{"recursion.gradient": "one_step"})``.

        Raises ValueError for an unknown option or a value of the wrong type.
        """
        return replace_nested(self, options)

    def to_json(self) -> str:
        """Every option as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Inverse of to_json. Raises ValueError for an unknown option or a value of the wrong type."""
        return from_dict(json.loads(text), cls)


_IMAGE = {
    "image": "image",
    "patch": "patch",
    "stem_widths": "widths",
    "stem_convolutions": "convolutions",
    "views": "views",
}
"""Options of a model that read wafer grids, and what they are called in its encoder."""
_RENAMED = {
    "first_share": "curriculum_fraction",
    "first_N_sup": "curriculum_N_sup",
    "first_blanks": "curriculum_blanks",
}
_DROPPED = ("forward_only", "seed_axis", "loss_cells")
"""Options of how something is computed, or that nothing used."""


def migrate(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a run by section; those of today stay as they are.

    Until commit f7cb5b1 the model held the options of a wafer encoder, and sections ``data`` (Sudoku) and ``wafer``
    stood side by side in the config of every run.
    """
    if "task" in options or "data" not in options:
        return options
    sections = {name: _renamed(section) for name, section in options.items()}
    model, puzzles, maps = sections["model"], sections.pop("data"), sections.pop("wafer", {})
    encoder = {new: model.pop(old) for old, new in _IMAGE.items() if old in model}
    model["encoder"] = {**encoder, "channels": 2} if encoder.get("patch") else None
    task = {"name": "wafer", **maps} if model["encoder"] else {"name": "sudoku", **puzzles}
    return {"task": task, **sections}


def _renamed(section: dict[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in section.items() if name not in _DROPPED}
