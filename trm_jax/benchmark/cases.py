"""What is measured: shapes, forms and gradient modes of the project's own studies, as configs with names.

Without jax and without PyTorch: a process measures one of the two sides alone.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np

from trm_jax.core.config import Config

OTHERS = ("start", "memory", "growth")
"""Groups that are not in `all_cases`: processes of their own, and curves."""
SMOKE = (
    "training/alternating/linear/full/width32",
    "training/alternating/attention/last_cycle/width32",
    "inference/batch64",
    "halting/samples256",
)


@dataclass(frozen=True)
class Case:
    """A thing to measure."""

    name: str
    kind: Literal["training", "seeds", "inference", "halting"]
    config: Config
    steps: int = 1
    """Training steps in one compiled call."""
    compiled: bool = False
    """Compare with torch.compile as well, which takes PyTorch up to a minute to prepare."""
    seeds: tuple[int, ...] = ()
    """Numbers of seeds (kind seeds only)."""
    slots: int = 1
    """Slots through which the samples go (kind halting only)."""

    @property
    def batch(self) -> int:
        """Samples B."""
        return self.config.run.batch


def training_cases() -> list[Case]:
    """4x4 puzzles: form, mixing, gradient mode and width; joint with as many evaluations as alternating (T=1, n=6).

    With T=1 the last cycle is the whole step, so the joint form has no mode of its own there.
    """
    cases = []
    for width, form, mixer, gradient in product(
        (32, 64), ("alternating", "joint"), ("linear", "attention"), ("full", "last_cycle", "one_step")
    ):
        if form == "joint" and gradient == "last_cycle":
            continue
        options = {"model.form": form, "model.mixer": mixer, "model.width": width, "recursion.gradient": gradient}
        joint = {"recursion.T": 1, "recursion.n": 6} if form == "joint" else {}
        compiled = form == "alternating" and (gradient == "full" or (width, mixer) == (64, "linear"))
        name = f"training/{form}/{mixer}/{gradient}/width{width}"
        cases.append(Case(name, "training", Config().override(**options, **joint), steps=5, compiled=compiled))
    for width in (32, 64):
        stored = Config().override(**{"model.width": width, "recursion.remat": False})
        cases.append(Case(f"training/alternating/linear/full/width{width}/stored", "training", stored, steps=5))
    return cases


def shape_cases() -> list[Case]:
    """Other shapes: the joint teaching form, 9x9 puzzles at the paper's width, wafer maps of 7x7 patches."""
    teaching = {"model.form": "joint", "model.combine": "concat", "model.width": 48, "recursion.T": 1}
    teaching |= {"recursion.n": 12, "recursion.N_sup": 1}
    grid9 = {"model.grid": (9, 9), "model.width": 512, "model.vocabulary": 10, "model.classes": 10, "run.batch": 4}
    grid9 |= {"model.hidden_multiple": 256, "model.heads": 8, "recursion.N_sup": 1}
    wafer = {"model.grid": (7, 7), "model.width": 64, "model.vocabulary": 64, "model.classes": 9, "recursion.n": 3}
    wafer |= {"model.readout": "pooled", "model.halt_token": "mean"}
    rotary = {"model.mixer": "attention", "model.positions": "rotary_2d"}
    return [
        Case("teaching/joint/concat/width144", "training", Config().override(**teaching), steps=2, compiled=True),
        Case("grid9/linear/width512", "training", Config().override(**grid9)),
        Case("grid9/attention/width512", "training", Config().override(**grid9, **rotary)),
        Case("wafer/linear/width64", "training", Config().override(**wafer), compiled=True),
        Case("wafer/attention/width64", "training", Config().override(**wafer, **rotary)),
    ]


def inference_cases() -> list[Case]:
    """One forward pass over all supervision steps; and real early stopping, where N_sup is large enough to gain."""
    batches = {batch: Config().override(**{"run.batch": batch}) for batch in (1, 64, 256, 1024)}
    cases = [
        Case(f"inference/batch{batch}", "inference", batches[batch], compiled=batch < 1024) for batch in (1, 64, 1024)
    ]
    for batch, slots in ((1, 1), (256, 16), (1024, 32)):
        config = batches[batch].override(**{"recursion.N_sup": 8})
        cases.append(Case(f"halting/samples{batch}", "halting", config, slots=slots))
    return cases


def all_cases(preset: str) -> list[Case]:
    """The cases of a preset (smoke: a few of them, cut small), without what is named in OTHERS."""
    seeds = Case("seeds", "seeds", Config(), steps=2, seeds=(1, 2, 4, 8, 16))
    cases = [*training_cases(), *shape_cases(), seeds, *inference_cases()]
    if preset == "standard":
        return cases
    small = [replace(case, steps=2, compiled=False) for case in cases if case.name in SMOKE]
    small.append(replace(seeds, steps=1, seeds=(1, 2)))
    # One layer: most of the time of so short a run goes into compiling.
    return [replace(case, config=case.config.override(**{"model.layers": 1})) for case in small]


def choose(cases: list[Case], words: tuple[str, ...]) -> list[Case]:
    """Cases whose name begins with one of the words; all if there are none. Raises ValueError for an unknown word."""
    for word in words:
        if word not in OTHERS and not any(case.name.startswith(word) for case in cases):
            known = [*dict.fromkeys(case.name.split("/")[0] for case in cases), *OTHERS]
            raise ValueError(f"no case of this preset begins with {word!r}; there are {', '.join(known)}")
    return [case for case in cases if not words or case.name.startswith(words)]


def random_data(config: Config, size: int) -> dict[str, np.ndarray]:
    """Tokens (size, cells) and labels without meaning: the time of a step does not depend on them."""
    generator = np.random.default_rng(0)
    shape = (size, config.model.cells)
    labels = shape if config.model.readout == "cell" else shape[:1]
    return {
        "inputs": generator.integers(0, config.model.vocabulary, shape, dtype=np.int32),
        "labels": generator.integers(0, config.model.classes, labels, dtype=np.int32),
    }
