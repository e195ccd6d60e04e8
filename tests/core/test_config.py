"""Options: refused when unknown or wrong, kept through JSON, and every one of them consumed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Toy, on_device

from trm_jax.core import train_step
from trm_jax.core.config import Config
from trm_jax.core.model_config import ImageEncoder
from trm_jax.core.network import model
from trm_jax.support.schema import changed_fields

SMALL = Config().override(
    **{
        "model.width": 8,
        "model.layers": 1,
        "model.hidden_multiple": 1,
        "recursion.N_sup": 2,
        "recursion.n": 2,
        "run.batch": 3,
        "run.steps": 10,
        "optim.warmup": 2,
    }
)
DATA = {
    "inputs": jnp.asarray(np.random.default_rng(0).integers(1, 6, (5, 16)), jnp.int32),
    "labels": jnp.asarray(np.random.default_rng(1).integers(2, 6, (5, 16)), jnp.int32),
}


def test_json_round_trip_keeps_every_option():
    config = SMALL.override(**{"loss.class_weights": (1.0, 2.0, 1.0, 1.0, 1.0, 0.5), "model.encoder.image": 8})
    assert config.model.encoder == ImageEncoder(image=8)
    assert Config.from_json(config.to_json()) == config
    changed = changed_fields(dataclasses.asdict(config), dataclasses.asdict(SMALL))
    assert "loss.class_weights" in changed and "model.encoder" in changed and "model.encoder.image" in changed
    assert all(name.startswith("model.encoder") for name in changed if name != "loss.class_weights")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("model.widht", 32, "unknown option model.widht"),
        ("modle.width", 32, "unknown section 'modle'"),
        ("model.width", "32", "model.width must be int"),
        ("model.width", 0, "model.width must be at least 1"),
        ("model.width", True, "must be int"),
        ("model.mixer", "mlp", "one of linear, swiglu, attention, convolution"),
        ("model.positions", "rotary_2d", "acts in attention only"),
        ("model.relations", "lines", "acts in attention only"),
        ("optim.learning_rate", float("nan"), "must be float"),
        ("optim.ema", 1.0, "optim.ema must be in"),
        ("run.seeds", [1, 1], "must differ"),
        ("run.evaluate_every", 75, "multiple of run.chunk"),
        ("run.accumulate", 3, "run.accumulate=3 must divide run.batch=64"),
        ("run.minutes", -1.0, "run.minutes must not be negative"),
        ("loss.class_weights", [1.0], "1 entries for 6 classes"),
        ("model.separate_nets", 1, "must be bool"),
        ("recursion.T", 0, "recursion.T must be at least 1"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(option, value, message):
    with pytest.raises(ValueError, match=message):
        Config().override(**{option: value})


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="no meaning in the joint form"):
        Config().override(**{"model.form": "joint"})
    with pytest.raises(ValueError, match="separate_nets needs"):
        Config().override(**{"model.separate_nets": True, "model.use_z": False})
    with pytest.raises(ValueError, match=r"model.encoder.patch=6 must be a multiple of 4"):
        Config().override(**{"model.encoder.patch": 6, "model.encoder.widths": (8, 8)})
    with pytest.raises(ValueError, match=r"model.encoder.views=2 needs one answer for all of them"):
        Config().override(**{"model.grid": (13, 13), "model.encoder.views": 2})
    with pytest.raises(ValueError, match=r"model.encoder.convolutions=\(1, 2\) must be a positive number for each"):
        Config().override(**{"model.encoder.widths": (8,), "model.encoder.convolutions": (1, 2)})
    with pytest.raises(ValueError, match=r"recursion\.curriculum_N_sup must be at least 1"):
        Config().override(**{"recursion.curriculum_fraction": 0.5})
    with pytest.raises(ValueError, match=r"model.grid=\(4, 4\) must be \(7, 7\)"):
        Config().override(**{"model.encoder.patch": 4})
    with pytest.raises(ValueError, match=r"unknown option model.encoder.colour; model.encoder has image"):
        Config().override(**{"model.encoder.colour": 4})
    with pytest.raises(ValueError, match=r"model.box=\(3, 2\) must be two positive numbers that divide model.grid"):
        Config().override(**{"model.mixer": "attention", "model.relations": "boxes", "model.box": (3, 2)})
    with pytest.raises(ValueError, match="mixer=convolution has no place for prefix tokens"):
        Config().override(**{"model.mixer": "convolution", "model.prefix_tokens": 1, "model.prefix_width": 8})
    with pytest.raises(ValueError, match=r"model.answers=3 needs a pooled model.readout"):
        Config().override(**{"model.answers": 3})
    with pytest.raises(ValueError, match=r"model.members=2 needs a model without puzzle vectors"):
        Config().override(**{"model.members": 2, "model.prefix_tokens": 1, "model.prefix_width": 8})
    with pytest.raises(ValueError, match="must divide the width"):
        Config().override(**{"model.mixer": "attention", "model.heads": 5})
    with pytest.raises(ValueError, match="unknown option 'speed'"):
        Config.from_json('{"run": {"speed": 3}}')


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # The paper's Sudoku model: 16 steps of 3 cycles of 6 + 1 evaluations of 2 layers.
        ({"recursion.N_sup": 16, "recursion.T": 3, "recursion.n": 6}, 16 * 42),
        ({"model.form": "joint", "recursion.T": 1, "recursion.n": 12, "recursion.N_sup": 1}, 24),
        ({"recursion.N_sup": 1, "recursion.T": 1, "recursion.n": 1, "model.layers": 4}, 8),
    ],
)
def test_effective_depth_is_counted(options, expected):
    assert Config().override(**options).layer_applications == expected


def example(config: Config):
    """Data in the shape that the model takes."""
    labels = DATA["labels"] if config.model.readout == "cell" else DATA["labels"][:, 0]
    labels = DATA["labels"][:, : config.model.answers] if config.model.answers > 1 else labels
    if not config.model.encoder:
        puzzle = {"puzzle": np.zeros(len(labels), np.int32)} if config.model.prefix_width else {}
        return {"inputs": DATA["inputs"], "labels": labels, **puzzle}
    side = config.model.encoder.image
    grids = np.random.default_rng(2).integers(0, 256, (5, side, side, 2), np.uint8)
    return {"inputs": jnp.asarray(grids), "labels": labels}


@functools.cache
def program(config: Config) -> str:
    """What initialisation, a training step and evaluation compute, as text with every constant."""

    data = on_device(example(config))

    def run(seed):
        state, metrics = train_step.train_step(config, Toy({}), train_step.init(config, data, seed), data)
        evaluated = train_step.eval_params(config, state)
        return metrics, evaluated, model.forward(config, evaluated, data.arrays["inputs"], data.arrays.get("puzzle"))

    traced = jax.make_jaxpr(run)(0)
    return f"{traced} {[np.asarray(constant).tolist() for constant in traced.consts]}"


ATTENTION = {"model.mixer": "attention", "model.heads": 1, "model.positions": "rotary_1d"}
PREFIX = {"model.prefix_tokens": 1, "model.prefix_width": 4}
IMAGES = {
    "model.encoder": {"patch": 4, "image": 8},
    "model.grid": (2, 2),
    "model.readout": "pooled",
}
# Option: (new value, options that must be on for it to matter)
CHANGES = {
    "model.vocabulary": (7, {}),
    "model.classes": (7, {}),
    "model.grid": ((2, 8), ATTENTION | {"model.positions": "rotary_2d"}),
    "model.encoder": ({"patch": 4, "image": 8, "widths": (4,)}, IMAGES),
    "model.encoder.patch": (5, IMAGES),
    "model.encoder.image": (7, IMAGES),
    "model.encoder.widths": ((4,), IMAGES),
    "model.encoder.convolutions": ((2,), IMAGES | {"model.encoder.widths": (4,)}),
    "model.encoder.views": (2, IMAGES),
    "model.width": (12, {}),
    "model.layers": (2, {}),
    "model.heads": (2, ATTENTION),
    "model.mixer": ("swiglu", {}),
    "model.positions": ("learned", {}),
    "model.rotary_base": (10.0, ATTENTION),
    "model.relations": ("lines", ATTENTION),
    "model.box": ((2, 2), ATTENTION | {"model.relations": "boxes"}),
    "model.norm": ("pre", {}),
    "model.norm_scale": (True, {}),
    "model.identity_start": (True, {}),
    "model.norm_epsilon": (0.1, {}),
    "model.expansion": (2.0, {}),
    "model.hidden_multiple": (16, {}),
    "model.form": ("joint", {"recursion.T": 1}),
    "model.combine": ("concat", {}),
    "model.use_z": (False, {}),
    "model.question_last": (False, {"model.use_z": False}),
    "model.separate_nets": (True, {}),
    "model.initial_state": ("zero", {}),
    "model.readout": ("mean_max", {}),
    "model.answers": (2, {"model.readout": "pooled"}),
    "model.readout_bias": (True, {}),
    "model.halt_token": ("mean", {}),
    "model.prefix_tokens": (2, PREFIX),
    "model.prefix_width": (5, PREFIX),
    "model.puzzles": (3, PREFIX),
    "model.dtype": ("bfloat16", {}),
    "model.matmul_precision": ("highest", {}),
    "recursion.N_sup": (3, {}),
    "recursion.T": (3, {}),
    "recursion.n": (3, {}),
    "recursion.gradient": ("one_step", {}),
    "recursion.detach_between_steps": (False, {}),
    "loss.supervision": ("carried", {}),
    "loss.cross_entropy": ("stablemax", {}),
    "loss.class_weights": ((1.0, 1.0, 5.0, 1.0, 1.0, 1.0), {}),
    "loss.label_smoothing": (0.1, {}),
    "loss.halt_weight": (5.0, {}),
    "loss.continue_loss": (True, {}),
    "optim.algorithm": ("adam_atan2", {}),
    "optim.learning_rate": (1e-2, {}),
    "optim.first_update": (1, {}),
    "optim.decay": ("all", {}),
    "optim.ema_start": ("weights", {}),
    "optim.puzzle_learning_rate": (1e-3, PREFIX),
    "optim.puzzle_weight_decay": (0.5, PREFIX),
    "optim.schedule": ("constant", {}),
    "optim.warmup": (3, {}),
    "optim.final_fraction": (0.9, {}),
    "optim.beta1": (0.5, {}),
    "optim.beta2": (0.5, {}),
    "optim.weight_decay": (0.9, {}),
    "optim.clip": (1e-3, {}),
    "optim.ema": (0.5, {}),
    "optim.frozen": (("readout",), {}),
    "run.steps": (20, {}),
    "run.batch": (4, {}),
}
# Proved elsewhere, because they change the program and not its result, or act outside the training step.
ELSEWHERE = {
    "recursion.remat": "test_model.py",
    "model.members": "test_members.py",
    "model.encoder.channels": "test_encoders.py",
    "recursion.curriculum_N_sup": "test_loop.py",
    "recursion.curriculum_fraction": "test_loop.py",
    "recursion.unroll": "test_model.py",
    "recursion.segment": "test_model.py",
    "loss.distillation": "test_losses.py",
    "loss.exploration": "test_train_step.py",
    "run.seeds": "test_loop.py",
    "run.chunk": "test_loop.py",
    "run.evaluate_every": "test_loop.py",
    "run.checkpoint_every": "test_loop.py",
    "run.data_parallel": "test_devices.py",
    "run.init": "test_start.py",
    "run.init_puzzles": "test_start.py",
    "run.patience": "test_loop.py",
    "run.accumulate": "test_train_step.py",
    "run.eval_batch": "test_predict.py",
    "run.seeds_at_once": "test_devices.py",
    "run.minutes": "test_loop.py",
    "run.tensorboard": "test_run_directory.py",
}


def test_every_option_has_a_proof_that_it_is_consumed():
    options = {
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(Config)
        for field in dataclasses.fields(getattr(SMALL, section.name))
    } | {f"model.encoder.{field.name}" for field in dataclasses.fields(ImageEncoder)}
    assert options == set(CHANGES) | set(ELSEWHERE)


@pytest.mark.parametrize("option", CHANGES)
def test_changing_an_option_changes_the_program(option):
    value, needed = CHANGES[option]
    base = SMALL.override(**needed)
    assert program(base) != program(base.override(**{option: value}))
