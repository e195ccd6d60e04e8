"""Every option of a run, as frozen dataclasses that refuse what they do not know.

Legend of the whole project: S seeds, B batch, L tokens, D width, V vocabulary, K steps per compiled chunk; x question,
y answer, z latent state, each (B, L, D); N_sup supervision steps, T cycles a step, n latent updates a cycle.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from trm_jax.support.schema import check_types, from_plain, require
from trm_jax.wafer.options import WaferConfig


@dataclass(frozen=True)
class ModelConfig:
    """What has weights: the net, its input and its outputs."""

    vocabulary: int = 6
    """Number of input tokens V."""
    classes: int = 6
    """Number of output classes: V for a per-cell read-out, the number of labels for a pooled one."""
    grid: tuple[int, int] = (4, 4)
    """Rows and columns of the token grid; use (1, L) for a plain sequence."""
    patch: int = 0
    """Cells a side of the square of a wafer grid that one token stands for; 0 where the input is tokens."""
    image: int = 26
    """Cells a side of a wafer grid (with patch only)."""
    stem_widths: tuple[int, ...] = ()
    """Channels of the convolutions before the patches, each of which halves the sides (with patch only)."""
    stem_convolutions: tuple[int, ...] = ()
    """Convolutions in each block of the stem; one each if empty."""
    forward_only: bool = False
    """Compute in the forms that predict fast, and whose gradients are slow on CPU: XLA's convolution in the stem
    instead of matrix products, products in batches instead of flat ones. For prediction and export."""
    views: Literal[1, 2, 4] = 1
    """Images of a wafer grid under mirrors and half turns that are read side by side, each with states of its own; the
    answer is the mean of theirs (with patch only). Weights do not depend on it."""
    width: int = 32
    """Width D of x, y and z."""
    layers: int = 2
    """Blocks in the net; 0 leaves the norm alone, so that the stem is all that learns: a control."""
    heads: int = 4
    """Attention heads (mixer attention only)."""
    mixer: Literal["linear", "swiglu", "attention", "depthwise"] = "linear"
    """Token mixing: one linear map (teaching form), SwiGLU with token-axis norm (official), self-attention, or a 3x3
    filter for every channel of the token grid."""
    positions: Literal["none", "learned", "rotary_1d", "rotary_2d"] = "none"
    """Position information; rotary positions act inside attention only."""
    rotary_base: float = 10000.0
    """Base of the rotary frequencies."""
    norm: Literal["pre", "post"] = "post"
    """Normalise the input of each sub-layer, or the sum after it."""
    norm_scale: bool = False
    """Give every RMSNorm a learned scale."""
    identity_start: bool = False
    """Start with zeros in the last matrix of every residual branch: the net begins as the identity."""
    norm_epsilon: float = 1e-5
    """Added to the mean square in RMSNorm."""
    expansion: float = 4.0
    """SwiGLU hidden width is expansion * width * 2/3, rounded up to hidden_multiple."""
    hidden_multiple: int = 8
    """The SwiGLU hidden width is a multiple of this (256 in the official code)."""
    form: Literal["alternating", "joint"] = "alternating"
    """Alternating: n updates of z, then one of y. Joint: every pass gives a new y and a new z by two projections."""
    combine: Literal["add", "concat"] = "add"
    """How x, y and z enter the net: added (net width D) or concatenated (net width 3 D, or 2 D without z)."""
    use_z: bool = True
    """Keep the latent state z; without it the answer y is the only state."""
    separate_nets: bool = False
    """One net for z and another for y instead of a shared one (alternating form only)."""
    initial_state: Literal["learned", "fixed", "zero"] = "fixed"
    """Initial y and z: trained vectors, untrained random vectors (official), or zeros."""
    readout: Literal["cell", "pooled", "mean_max"] = "cell"
    """Class logits for every cell, or one set for the mean over tokens, or for their mean and their maximum."""
    readout_bias: bool = False
    """Give the read-out a bias."""
    halt_token: Literal["first", "mean"] = "first"
    """The halting head reads the first token of y (official) or the mean over tokens."""
    prefix_tokens: int = 0
    """Puzzle-embedding tokens that stand before the grid (16 in official checkpoints)."""
    prefix_width: int = 0
    """Length of the learned vector of a puzzle; padded with zeros to prefix_tokens * width. 0: no puzzle embedding."""
    puzzles: int = 1
    """Number of puzzle identifiers with an embedding of their own."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation; weights, norms and losses stay in float32."""

    @property
    def cells(self) -> int:
        """Tokens of the grid, without the prefix."""
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        """L: prefix and grid tokens."""
        return self.prefix_tokens + self.cells

    @property
    def state_tokens(self) -> int:
        """Tokens of x, y and z: those of all views."""
        return self.views * self.tokens

    @property
    def net_width(self) -> int:
        """Width at which the blocks run."""
        states = 3 if self.use_z else 2
        return self.width * states if self.combine == "concat" else self.width

    def hidden(self, width: int) -> int:
        """SwiGLU hidden width for an input of this width (official rounding with hidden_multiple 256)."""
        return self.hidden_multiple * math.ceil(round(self.expansion * width * 2 / 3) / self.hidden_multiple)

    def __post_init__(self) -> None:
        check_types(self)
        positive = ("vocabulary", "classes", "width", "heads", "hidden_multiple", "puzzles")
        for name in positive:
            require(getattr(self, name) >= 1, f"model.{name} must be at least 1, got {getattr(self, name)}")
        require(self.layers >= 0, f"model.layers must not be negative, got {self.layers}")
        require(min(self.grid) >= 1, f"model.grid must be two positive numbers, got {self.grid}")
        self._check_stem()
        if self.mixer == "attention":
            require(
                self.net_width % self.heads == 0,
                f"model.heads={self.heads} must divide the width of the net, {self.net_width}",
            )
            multiple = {"rotary_1d": 2, "rotary_2d": 4}.get(self.positions, 1)
            head_width = self.net_width // self.heads
            require(
                head_width % multiple == 0,
                f"model.positions={self.positions} needs a head width divisible by {multiple}, got {head_width}",
            )
        elif self.positions.startswith("rotary"):
            raise ValueError(f"model.positions={self.positions} acts in attention only; mixer={self.mixer} has none")
        require(
            self.mixer != "depthwise" or self.prefix_tokens == 0,
            "model.mixer=depthwise filters a grid; prefix tokens have no place on it: set model.prefix_tokens=0",
        )
        require(
            not self.separate_nets or (self.form == "alternating" and self.use_z),
            "model.separate_nets needs form=alternating and use_z=true: there is one net to a pass otherwise",
        )
        require(
            self.prefix_width <= self.prefix_tokens * self.width,
            f"model.prefix_width={self.prefix_width} does not fit into prefix_tokens * width = "
            f"{self.prefix_tokens * self.width}",
        )
        require(
            self.prefix_tokens == 0 or self.prefix_width > 0,
            "model.prefix_tokens needs a prefix_width (the length of a puzzle's vector)",
        )

    def _check_stem(self) -> None:
        require(
            self.views == 1 or (self.patch > 0 and self.readout != "cell"),
            f"model.views={self.views} needs wafer grids as input and one answer for all of them: set model.patch and "
            "a pooled model.readout",
        )
        require(
            len(self.stem_convolutions) in (0, len(self.stem_widths)) and min(self.stem_convolutions, default=1) >= 1,
            f"model.stem_convolutions={self.stem_convolutions} must be a positive number for each of "
            f"model.stem_widths={self.stem_widths}, or empty",
        )
        if not self.patch:
            require(not self.stem_widths, "model.stem_widths needs wafer grids as input: set model.patch")
            return
        require(self.image >= 4, f"model.image must be at least 4, got {self.image}")
        shrinks = 2 ** len(self.stem_widths)
        require(
            self.patch % shrinks == 0,
            f"model.patch={self.patch} must be a multiple of {shrinks}: {len(self.stem_widths)} convolutions halve "
            "the sides",
        )
        side = -(-self.image // self.patch)
        require(
            self.grid == (side, side),
            f"model.grid={self.grid} must be {(side, side)} for model.image={self.image} and model.patch={self.patch}",
        )


@dataclass(frozen=True)
class RecursionConfig:
    """How often the net is applied and how far the gradient reaches back."""

    N_sup: int = 3
    """Supervision steps: each ends in a read-out, a loss and a halting probability."""
    first_N_sup: int = 0
    """Supervision steps of the first updates, where first_share is above 0: a depth curriculum."""
    first_share: float = 0.0
    """Share of the updates, from the first on, that run first_N_sup supervision steps; the others run N_sup, and only
    their weights are kept as the best."""
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
        check_types(self)
        for name in ("N_sup", "T", "n"):
            require(getattr(self, name) >= 1, f"recursion.{name} must be at least 1, got {getattr(self, name)}")
        require(0 <= self.first_share < 1, f"recursion.first_share must be in [0, 1), got {self.first_share}")
        require(
            self.first_share == 0 or self.first_N_sup >= 1,
            f"recursion.first_share needs recursion.first_N_sup of at least 1, got {self.first_N_sup}",
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
    halt_weight: float = 0.5
    """Weight of the halting loss (binary cross-entropy against 'the whole sequence is right')."""
    continue_loss: bool = False
    """Train a second halting output to predict the value of going on (ACT, Graves 2016; HRM)."""
    exploration: float = 0.1
    """Carried only: probability that a sample must run a random minimum of 2..N_sup steps."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.halt_weight >= 0, f"loss.halt_weight must not be negative, got {self.halt_weight}")
        require(0 <= self.exploration <= 1, f"loss.exploration is a probability, got {self.exploration}")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, its schedule, and the moving average of the weights."""

    learning_rate: float = 2e-2
    """Peak learning rate."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: cosine decay to the end of the run, or constant."""
    warmup: int = 50
    """Optimizer steps of linear warm-up from 0."""
    final_fraction: float = 0.0
    """Share of the peak learning rate that is left after the last step (cosine)."""
    beta1: float = 0.9
    """Decay of Adam's first moment."""
    beta2: float = 0.95
    """Decay of Adam's second moment."""
    weight_decay: float = 1.0
    """Decoupled weight decay of matrices; biases, norm scales and initial states have none."""
    clip: float = 1.0
    """Largest global norm of the gradient."""
    ema: float = 0.97
    """Decay of the moving average of the weights that is evaluated, debiased; 0 evaluates the weights themselves."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.learning_rate > 0, f"optim.learning_rate must be positive, got {self.learning_rate}")
        require(self.clip > 0, f"optim.clip must be positive, got {self.clip}")
        require(self.warmup >= 0, f"optim.warmup must not be negative, got {self.warmup}")
        require(0 <= self.ema < 1, f"optim.ema must be in [0, 1), got {self.ema}")
        for name in ("beta1", "beta2"):
            require(0 <= getattr(self, name) < 1, f"optim.{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True)
class DataConfig:
    """The puzzles: generated, with exactly one solution each, or read from files."""

    box: tuple[int, int] = (2, 2)
    """Rows and columns of a Sudoku box: 2 2 for 4x4, 2 3 for 6x6, 3 3 for 9x9."""
    blanks: tuple[int, int] = (8, 10)
    """Smallest and largest number of blank cells."""
    first_blanks: tuple[int, int] = (6, 8)
    """The same for the puzzles that the first updates draw, where first_share is above 0."""
    first_share: float = 0.0
    """Share of the updates, from the first on, that draw puzzles with first_blanks; the others have ``blanks``."""
    train: int = 20000
    """Training puzzles."""
    validation: int = 256
    """Validation puzzles (choose with these)."""
    test: int = 3000
    """Test puzzles (report these, once)."""
    split: Literal["class", "random"] = "class"
    """Class: test solutions are no relabelling of a training solution. Random: the naive split, which leaks."""
    augment: bool = True
    """Apply Sudoku symmetries inside the training step, never one that leads to a held-out solution."""
    loss_cells: Literal["all", "blanks"] = "all"
    """Cells that count in the loss."""
    seed: int = 0
    """Seed of the puzzles; shared by all arms and all training seeds."""
    train_file: str = ""
    """CSV file with Sudoku-Extreme columns to train and validate on, instead of generated puzzles."""
    test_file: str = ""
    """CSV file to test on; needed with train_file."""

    def __post_init__(self) -> None:
        check_types(self)
        require(min(self.box) >= 1, f"data.box must be two positive numbers, got {self.box}")
        require(bool(self.train_file) == bool(self.test_file), "data.train_file and data.test_file go together")
        cells = (self.box[0] * self.box[1]) ** 2
        for name in ("blanks", "first_blanks") if self.first_share else ("blanks",):
            low, high = getattr(self, name)
            require(0 <= low <= high <= cells, f"data.{name} must be a range within 0..{cells}, got {(low, high)}")
        require(0 <= self.first_share <= 1, f"data.first_share must be between 0 and 1, got {self.first_share}")
        require(
            self.first_share == 0 or not self.train_file,
            "data.first_share needs generated puzzles: leave it at 0 with data.train_file",
        )
        require(
            self.first_share == 0 or self.split == "class",
            "data.first_share needs data.split=class, which keeps test solutions out of both training sets",
        )
        for name in ("train", "validation", "test"):
            require(getattr(self, name) >= 1, f"data.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class RunConfig:
    """How long, how often, how many at once."""

    steps: int = 400
    """Optimizer steps."""
    batch: int = 64
    """Samples in a batch B."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    """Training seeds; all of them run in one compiled program."""
    chunk: int = 50
    """Steps K in one compiled call."""
    evaluate_every: int = 100
    """Steps between evaluations on validation (a multiple of chunk)."""
    checkpoint_every: int = 100
    """Steps between checkpoints (a multiple of chunk)."""
    patience: int = 0
    """Stop when no seed has a better score on validation after so many evaluations; 0 for the full length."""
    seed_axis: Literal["auto", "vmap", "map"] = "auto"
    """How seeds that share a device run: vectorised, one after another, or what is faster on this platform."""
    data_parallel: int = 0
    """Most devices that share a batch, of those that seeds leave over; 0: what measured best on this platform."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("steps", "batch", "chunk", "evaluate_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"run.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("evaluate_every", "checkpoint_every"):
            require(
                getattr(self, name) % self.chunk == 0,
                f"run.{name}={getattr(self, name)} must be a multiple of run.chunk={self.chunk}",
            )
        require(self.patience >= 0, f"run.patience must not be negative, got {self.patience}")
        require(self.data_parallel >= 0, f"run.data_parallel must not be negative, got {self.data_parallel}")
        require(len(self.seeds) >= 1, "run.seeds must name at least one seed")
        require(len(set(self.seeds)) == len(self.seeds), f"run.seeds must differ, got {self.seeds}")


@dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    recursion: RecursionConfig = field(default_factory=RecursionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    data: DataConfig = field(default_factory=DataConfig)
    wafer: WaferConfig = field(default_factory=WaferConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_types(self)
        require(
            self.model.form == "alternating" or self.recursion.T == 1,
            f"recursion.T={self.recursion.T} has no meaning in the joint form; set T=1 and choose n passes",
        )
        require(
            self.model.initial_state != "learned" or self.recursion.gradient == "full",
            f"model.initial_state=learned is not trained with recursion.gradient={self.recursion.gradient}; use fixed",
        )
        carried = self.loss.supervision == "carried"
        require(
            not (carried and self.model.initial_state == "learned"),
            "model.initial_state=learned is not trained with loss.supervision=carried; use fixed",
        )
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
        nested: dict[str, dict[str, Any]] = {}
        for path, value in options.items():
            section, _, name = path.partition(".")
            nested.setdefault(section, {})[name] = value
        changed = {}
        for section, values in nested.items():
            if section not in {f.name for f in fields(self)}:
                raise ValueError(f"unknown section {section!r}; there are {', '.join(f.name for f in fields(self))}")
            part = getattr(self, section)
            known = {f.name: f.type for f in fields(part)}
            for name in values:
                if name not in known:
                    raise ValueError(f"unknown option {section}.{name}; {section} has {', '.join(known)}")
            changed[section] = dataclasses.replace(part, **{k: from_plain(v, known[k]) for k, v in values.items()})
        return dataclasses.replace(self, **changed)

    def to_json(self) -> str:
        """Every option as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Inverse of to_json. Raises ValueError for an unknown option or a value of the wrong type."""
        return from_plain(json.loads(text), cls)
