"""Options of what has weights: the net, its input and its outputs."""

import math
from dataclasses import dataclass
from typing import Literal

from trm_jax.support.schema import check_types, require


@dataclass(frozen=True)
class ImageEncoder:
    """Convolutions and square patches that make tokens of square images with values 0..255."""

    image: int = 26
    """Cells a side of an image."""
    channels: int = 2
    """Channels of an image."""
    patch: int = 2
    """Cells a side of the square that one token stands for."""
    widths: tuple[int, ...] = ()
    """Channels of the convolution blocks before the patches, each of which halves the sides."""
    convolutions: tuple[int, ...] = ()
    """Convolutions in each block; one each if empty."""
    views: Literal[1, 2, 4] = 1
    """Images under mirrors and half turns that are read side by side, each with states of its own; the answer is the
    mean of theirs. Weights do not depend on it."""

    def __post_init__(self) -> None:
        check_types(self, "model.encoder.")
        require(self.image >= 4, f"model.encoder.image must be at least 4, got {self.image}")
        require(self.channels >= 1, f"model.encoder.channels must be at least 1, got {self.channels}")
        factor = 2 ** len(self.widths)
        require(
            self.patch >= 1 and self.patch % factor == 0,
            f"model.encoder.patch={self.patch} must be a multiple of {factor}: {len(self.widths)} blocks halve it",
        )
        require(
            len(self.convolutions) in (0, len(self.widths)) and min(self.convolutions, default=1) >= 1,
            f"model.encoder.convolutions={self.convolutions} must be a positive number for each of "
            f"model.encoder.widths={self.widths}, or empty",
        )


@dataclass(frozen=True)
class ModelConfig:
    """What has weights: the net, its input and its outputs."""

    vocabulary: int = 6
    """Number of input tokens V."""
    classes: int = 6
    """Number of output classes: V for a per-cell read-out, the number of labels for a pooled one."""
    grid: tuple[int, int] = (4, 4)
    """Rows and columns of the token grid; use (1, L) for a plain sequence."""
    encoder: ImageEncoder | None = None
    """How images become tokens; None where the input is tokens already."""
    width: int = 32
    """Width D of x, y and z."""
    layers: int = 2
    """Blocks in the net; 0 leaves the norm alone, so that the encoder is all that learns: a control."""
    heads: int = 4
    """Attention heads (mixer attention only)."""
    mixer: Literal["linear", "swiglu", "attention", "convolution"] = "linear"
    """Token mixing: one linear map (teaching form), SwiGLU with token-axis norm (official), self-attention, or a 3x3
    convolution over the grid, which reaches the neighbours only."""
    positions: Literal["none", "learned", "rotary_1d", "rotary_2d"] = "none"
    """Position information; rotary positions act inside attention only."""
    rotary_base: float = 10000.0
    """Base of the rotary frequencies."""
    relations: Literal["none", "lines", "boxes", "neighbours"] = "none"
    """A learned number for every head and kind of relation between two cells, added to the attention scores: same row
    and column (lines); and same box (boxes); or neighbours above, below, left and right (neighbours)."""
    box: tuple[int, int] = (1, 1)
    """Rows and columns of a box of the grid (with relations=boxes)."""
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
    question_last: bool = True
    """Without z: add the question in the last evaluation of a cycle too; the official trm_singlez leaves it out."""
    separate_nets: bool = False
    """One net for z and another for y instead of a shared one (alternating form only)."""
    initial_state: Literal["fixed", "zero"] = "fixed"
    """Initial y and z: untrained random vectors (official), or zeros."""
    readout: Literal["cell", "pooled", "mean_max"] = "cell"
    """Class logits for every cell, or one set for the mean over tokens, or for their mean and their maximum."""
    answers: int = 1
    """Answers that a pooled read-out gives side by side, each one of ``classes``: more than one thing asked of an
    input. Labels are (N, answers) then."""
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
    members: int = 1
    """Nets, each trained by itself, that answer together with the mean of their probabilities; for answering only."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation; weights, norms, scores, softmax and losses stay in float32."""
    matmul_precision: Literal["auto", "default", "high", "highest"] = "auto"
    """Precision of float32 matrix products, as jax names it. Auto: exact on CPU, elsewhere high, which is TF32 on
    NVIDIA and three bfloat16 passes on TPU; highest is exact everywhere; default is the fastest."""

    @property
    def cells(self) -> int:
        """Tokens of the grid, without the prefix."""
        return self.grid[0] * self.grid[1]

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Shape of the labels of one input: a class for every cell, for every answer, or for all of it."""
        return (self.cells,) if self.readout == "cell" else (self.answers,) if self.answers > 1 else ()

    @property
    def tokens(self) -> int:
        """L: prefix and grid tokens."""
        return self.prefix_tokens + self.cells

    @property
    def views(self) -> int:
        """Images of an input that are read side by side."""
        return self.encoder.views if self.encoder else 1

    @property
    def state_tokens(self) -> int:
        """Tokens of x, y and z: those of all views and members."""
        return self.members * self.views * self.tokens

    @property
    def net_width(self) -> int:
        """Width at which the blocks run."""
        states = 3 if self.use_z else 2
        return self.width * states if self.combine == "concat" else self.width

    def hidden(self, width: int) -> int:
        """SwiGLU hidden width for an input of this width (official rounding with hidden_multiple 256)."""
        return self.hidden_multiple * math.ceil(round(self.expansion * width * 2 / 3) / self.hidden_multiple)

    def __post_init__(self) -> None:
        check_types(self, "model.")
        positive = ("vocabulary", "classes", "width", "heads", "hidden_multiple", "puzzles", "answers", "members")
        for name in positive:
            require(getattr(self, name) >= 1, f"model.{name} must be at least 1, got {getattr(self, name)}")
        require(self.layers >= 0, f"model.layers must not be negative, got {self.layers}")
        require(min(self.grid) >= 1, f"model.grid must be two positive numbers, got {self.grid}")
        if self.encoder:
            self._check_encoder(self.encoder)
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
            self.mixer != "convolution" or self.prefix_tokens == 0,
            "model.mixer=convolution has no place for prefix tokens, which stand on no grid: set model.prefix_tokens=0",
        )
        require(
            self.relations == "none" or self.mixer == "attention",
            f"model.relations={self.relations} acts in attention only; mixer={self.mixer} has none",
        )
        divides = min(self.box) >= 1 and self.grid[0] % self.box[0] == 0 and self.grid[1] % self.box[1] == 0
        require(
            self.relations != "boxes" or divides,
            f"model.box={self.box} must be two positive numbers that divide model.grid={self.grid}",
        )
        require(
            not self.separate_nets or (self.form == "alternating" and self.use_z),
            "model.separate_nets needs form=alternating and use_z=true: there is one net to a pass otherwise",
        )
        require(
            self.question_last or (self.form == "alternating" and not self.use_z),
            "model.question_last=false needs form=alternating and use_z=false: with z y never sees the question",
        )
        require(
            self.answers == 1 or self.readout != "cell",
            f"model.answers={self.answers} needs a pooled model.readout: there is one answer for every cell otherwise",
        )
        require(
            self.members == 1 or self.prefix_width == 0,
            f"model.members={self.members} needs a model without puzzle vectors: set model.prefix_width=0",
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

    def _check_encoder(self, encoder: ImageEncoder) -> None:
        side = -(-encoder.image // encoder.patch)
        require(
            self.grid == (side, side),
            f"model.grid={self.grid} must be {(side, side)} for model.encoder.image={encoder.image} and "
            f"model.encoder.patch={encoder.patch}",
        )
        require(
            encoder.views == 1 or self.readout != "cell",
            f"model.encoder.views={encoder.views} needs one answer for all of them: set a pooled model.readout",
        )
