"""Questions asked of mazes, and sizes at which they are asked."""

from trm_jax.official.recipe import without_shape
from trm_jax.study.arms import Options, Study

STUDIES = {
    "depth": Study(
        "Does more recursion find longer ways, at equal updates and equal compute?",
        {
            "deep": {},
            "shallow": {"recursion.N_sup": 1},
            "no_exploration": {"loss.exploration": 0.0},
        },
        base={
            "task.sides": (9,), "task.train": 2000, "task.test": 500, "task.same_for_seeds": False,
            "model.width": 32, "model.mixer": "attention", "model.relations": "neighbours", "recursion.N_sup": 16,
            "recursion.T": 1, "recursion.n": 2, "loss.supervision": "carried", "loss.exploration": 1.0,
            "optim.learning_rate": 1e-3, "optim.weight_decay": 0.1, "optim.ema": 0.98, "run.steps": 2000,
            "run.batch": 32, "run.seeds": (0, 1, 2, 3, 4), "run.evaluate_every": 250,
        },
        reference="deep",
        rule="More recursion finds longer ways at equal compute if `shallow` is lower than `deep` by the study's test: "
        "an update is one supervision step in all arms, so all cost the same. Going on after a maze is solved is what "
        "keeps the answer if `no_exploration`, in which a maze leaves the batch as soon as the net believes it solved, "
        "is lower than `deep`.",
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
