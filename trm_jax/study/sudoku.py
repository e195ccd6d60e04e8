"""Questions asked of Sudoku, and sizes at which they are asked."""

from dataclasses import replace

from trm_jax.official.recipe import without_shape
from trm_jax.study.arms import Options, Study
from trm_jax.study.results.published import TINY_RECURSIVE_MODELS


def _named(option: str, values, short: str) -> dict[str, Options]:
    return {f"{short}_{value}": {option: value} for value in values}


_STUDIES: dict[str, Study] = {
    "demo": Study(
        "Does a net that thinks in steps beat the same net that answers at once?",
        {"recursive": {}, "at_once": {"recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1}},
        base={
            "model.mixer": "attention", "model.positions": "rotary_2d", "task.blanks": (10, 10), "task.train": 5000,
            "task.test": 500, "run.steps": 150, "run.seeds": (0, 1, 2), "run.evaluate_every": 50,
        },
        reference="recursive",
    ),
    "components": Study(
        "What does each component contribute?",
        {
            "full": {},
            "stop_gradient": {"recursion.gradient": "last_cycle"},
            "attention": {"model.mixer": "attention", "model.positions": "rotary_2d"},
            "four_layers": {"model.layers": 4, "recursion.T": 1},
            "no_z": {"model.use_z": False},
            "no_ema": {"optim.ema": 0.0},
        },
    ),
    "paper": Study(
        "Do the other rows of the paper's ablation hold here?",
        {
            "full": {},
            "one_step": {"recursion.gradient": "one_step"},
            "less_recursion": {"recursion.T": 1},
            "separate_nets": {"model.separate_nets": True},
            "single_z": {"model.use_z": False, "model.question_last": False},
            "continue_loss": {"loss.continue_loss": True},
        },
    ),
    "latent_updates": Study(
        "How many latent updates n?", _named("recursion.n", (2, 4, 8), "n"), reference="n_2"
    ),
    "width": Study("How wide?", _named("model.width", (32, 48, 64), "width"), reference="width_32"),
    "supervision": Study(
        "How many supervision steps?", _named("recursion.N_sup", (1, 3, 5), "N_sup"), reference="N_sup_3"
    ),
    "budget": Study(
        "A fixed budget of 36 evaluations: more supervision steps or more latent updates?",
        {
            f"N_sup_{N_sup}_n_{n}": {"recursion.N_sup": N_sup, "recursion.T": 2, "recursion.n": n}
            for N_sup, n in ((1, 17), (2, 8), (3, 5), (6, 2))
        },
        reference="N_sup_3_n_5",
    ),
    "data": Study(
        "From how many puzzles on does EMA stop helping?",
        {
            f"{size}_puzzles{name}": {"task.train": size, **options}
            for size in (100, 500, 1000)
            for name, options in (("", {}), ("_no_ema", {"optim.ema": 0.0}))
        },
        reference="1000_puzzles",
    ),
    "depth": Study(
        "Does more recursion solve harder puzzles, at equal updates and at equal compute?",
        {
            "deep": {},
            "shallow": {"recursion.N_sup": 1, "recursion.n": 1},
            "shallow_equal_compute": {"recursion.N_sup": 1, "recursion.n": 1, "run.steps": 2400},
            "untied": {"recursion.N_sup": 1, "recursion.n": 1, "model.layers": 12, "model.separate_nets": True},
            "no_z": {"model.use_z": False},
            "no_relations": {"model.relations": "none"},
        },
        base={
            "task.box": (2, 3), "task.blanks": (23, 25), "task.train": 3000, "task.test": 1000,
            "task.same_for_seeds": False, "model.width": 64,
            "model.mixer": "attention", "model.positions": "rotary_2d", "model.relations": "boxes",
            "recursion.N_sup": 4, "recursion.T": 1, "recursion.n": 2, "optim.learning_rate": 3e-3,
            "optim.weight_decay": 0.1, "optim.ema": 0.98, "run.seeds": (0, 1, 2, 3, 4, 5),
        },
        reference="deep",
        rule="More recursion solves harder puzzles at equal compute if `shallow_equal_compute` is lower than `deep` at "
        "the largest number of blanks, and both halves of the seeds find it. The weights of `deep` are shared by 24 "
        "layer applications; `untied` has as many layers with weights of their own.",
    ),
    "transfer": Study(
        "Does learning with few blanks first help with many?",
        {"many": {}, "few_then_many": {"task.curriculum_fraction": 0.5}, "few": {"task.curriculum_fraction": 1.0}},
        base={"task.blanks": (11, 11), "task.curriculum_blanks": (6, 8)},
        reference="many",
    ),
}  # fmt: skip

STUDIES = {name: replace(study, name=name, paper=TINY_RECURSIVE_MODELS) for name, study in _STUDIES.items()}

# smoke has as many puzzles for validation as for test: one prediction program for both.
PRESETS: dict[str, Options] = {
    "smoke": {
        "run.steps": 20, "run.seeds": (0, 1), "run.chunk": 10, "run.evaluate_every": 10, "run.checkpoint_every": 10,
        "run.batch": 16, "task.train": 200, "task.validation": 96, "task.test": 96, "recursion.N_sup": 2,
        "optim.warmup": 5, "model.layers": 1, "recursion.n": 1, "task.blanks": (10, 10),
    },
    "cpu": {},
    "official-sudoku": without_shape("official-sudoku")
    | {"task.train": 1000, "task.box": (3, 3), "task.blanks": (40, 55)},
}  # fmt: skip
