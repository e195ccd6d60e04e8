"""A question asked of wafers with two patterns, and sizes at which it is asked."""

from trm_jax.study.arms import Options, Study
from trm_jax.wafer.presets import PRESETS as SIZES

OWN = ("model.classes", "model.encoder.image")
"""Options that the task sets."""


def sizes(name: str) -> Options:
    """A size of the classifier of nine classes, without what the task sets."""
    return {option: value for option, value in SIZES[name].items() if option not in OWN}


STUDIES = {
    "patterns": Study(
        "Does recursion find two patterns on a wafer?",
        {
            "recursive": {},
            "one_step": {"recursion.N_sup": 1, "recursion.curriculum_fraction": 0.0},
            "no_layers": {"model.layers": 0, "recursion.N_sup": 1, "recursion.curriculum_fraction": 0.0},
        },
        base=sizes("edge") | {"run.steps": 3000, "run.seeds": (0, 1, 2)},
        reference="recursive",
        rule="Recursion helps with two patterns if `no_layers`, the convolutions and the read-out alone, is lower than "
        "`recursive` on wafers with two patterns, by the study's test. What the steps add to the layers is what "
        "`recursive` is ahead of `one_step`.",
        name="patterns",
    )
}  # fmt: skip

PRESETS: dict[str, Options] = {
    "smoke": sizes("smoke")
    | {
        "task.generated": 1200, "task.image": 26, "task.train_mixes": 100, "task.validation_mixes": 20,
        "task.test_mixes": 20, "run.seeds": (0, 1), "run.steps": 20, "run.chunk": 10, "run.evaluate_every": 10,
        "run.checkpoint_every": 10,
    },
    "cpu": {},
}  # fmt: skip
