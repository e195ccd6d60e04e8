"""Questions asked of mazes, and sizes at which they are asked."""

from trm_jax.official.recipe import without_shape
from trm_jax.study.arms import Options, Study

STUDIES = {
    "depth": Study(
        "Does more recursion find longer ways, at equal updates and at equal compute?",
        {
            "deep": {},
            "shallow": {"recursion.N_sup": 1, "recursion.n": 1},
            "shallow_equal_compute": {"recursion.N_sup": 1, "recursion.n": 1, "run.steps": 3000},
        },
        base={
            "task.sides": (9,), "task.train": 2000, "task.test": 500, "task.same_for_seeds": False,
            "model.width": 32, "model.mixer": "attention", "model.relations": "neighbours", "recursion.N_sup": 4,
            "recursion.T": 1, "recursion.n": 2, "optim.learning_rate": 1e-3, "optim.weight_decay": 0.1,
            "optim.ema": 0.98, "run.steps": 500, "run.batch": 32, "run.seeds": (0, 1, 2),
        },
        reference="deep",
        rule="More recursion finds longer ways at equal compute if `shallow_equal_compute` is lower than `deep` by "
        "the study's test.",
        name="depth",
    )
}  # fmt: skip

PRESETS: dict[str, Options] = {
    "smoke": {
        "run.steps": 20, "run.seeds": (0, 1), "run.chunk": 10, "run.evaluate_every": 10, "run.checkpoint_every": 10,
        "run.batch": 8, "task.train": 50, "task.validation": 20, "task.test": 20, "task.sides": (9,),
        "recursion.N_sup": 2, "optim.warmup": 5, "model.layers": 1, "recursion.n": 1,
    },
    "cpu": {},
    "official-maze": without_shape("official-maze")
    | {"task.train": 1000, "task.sides": (30,), "task.kind": "scattered", "task.shortest": 40},
}  # fmt: skip
