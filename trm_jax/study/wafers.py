"""Questions asked of wafers with two patterns, and sizes at which they are asked."""

from trm_jax.study.arms import Options, Study
from trm_jax.wafer.presets import PRESETS as SIZES

ONE_STEP: Options = {"recursion.N_sup": 1, "recursion.curriculum_fraction": 0.0}
BY_TOKEN = ("model.grid", "model.readout", "model.encoder.patch")
"""Options that follow from the task where every token is asked."""


def sizes(name: str, *others: str) -> Options:
    """A size of the classifier of nine classes, without what the task sets: classes, image, and these others."""
    own = ("model.classes", "model.encoder.image", *others)
    return {option: value for option, value in SIZES[name].items() if option not in own}


STUDIES = {
    "patterns": Study(
        "Does recursion find two patterns on a wafer?",
        {
            "recursive": {},
            "one_step": ONE_STEP,
            "no_layers": ONE_STEP | {"model.layers": 0},
        },
        base=sizes("edge") | {"run.steps": 3000, "run.seeds": (0, 1, 2)},
        reference="recursive",
        rule="Recursion helps with two patterns if `no_layers`, the convolutions and the read-out alone, is lower than "
        "`recursive` on wafers with two patterns, by the study's test. What the steps add to the layers is what "
        "`recursive` is ahead of `one_step`.",
        name="patterns",
    ),
    "masks": Study(
        "Does recursion tell the dies of two patterns apart?",
        {
            "recursive": {},
            "six_layers": ONE_STEP | {"model.layers": 6},
            "one_step": ONE_STEP,
        },
        base=sizes("edge", *BY_TOKEN)
        | {
            "model.encoder.widths": (16, 32), "model.encoder.convolutions": (1, 1), "model.width": 48,
            "recursion.curriculum_fraction": 0.0, "run.steps": 4500, "run.seeds": (0, 1, 2),
        },
        reference="recursive",
        rule="Recursion helps to tell the dies of two patterns apart if `six_layers`, layers of its own for as many "
        "applications in one step (with three steps), is lower than `recursive`, by the study's test. What more depth "
        "of the same weights adds is what `recursive` is ahead of `one_step`.",
        name="masks",
    ),
}  # fmt: skip

QUICK: Options = {
    "task.generated": 1200, "task.train_mixes": 100, "task.validation_mixes": 20, "task.test_mixes": 20,
    "run.seeds": (0, 1), "run.steps": 20, "run.chunk": 10, "run.evaluate_every": 10, "run.checkpoint_every": 10,
}  # fmt: skip
PRESETS: dict[str, dict[str, Options]] = {
    "smoke": {
        "patterns": sizes("smoke") | QUICK | {"task.image": 26},
        "masks": sizes("smoke", *BY_TOKEN) | QUICK | {"task.image": 16, "model.encoder.widths": (8, 16)},
    },
    "cpu": {"patterns": {}, "masks": {}},
}
