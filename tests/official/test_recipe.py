"""Ten updates of the official training, written out in numpy from pretrain.py, adam_atan2 and sparse_embedding.py."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from trm_jax.core import losses, optim, train_step
from trm_jax.core.config import Config, LossConfig
from trm_jax.core.network import model
from trm_jax.core.task import IGNORE, Examples, TokenTask
from trm_jax.official.recipe import PRESETS
from trm_jax.official.weights import import_config

TINY = {
    "model.width": 8, "model.heads": 2, "model.layers": 1, "model.grid": (1, 6), "model.vocabulary": 5,
    "model.classes": 5, "model.hidden_multiple": 8, "model.prefix_tokens": 1, "model.prefix_width": 8,
    "model.puzzles": 12, "model.dtype": "float32", "recursion.N_sup": 3, "recursion.T": 2, "recursion.n": 1,
    "recursion.remat": False, "run.batch": 4, "run.seeds": (0,), "loss.exploration": 0.5, "optim.warmup": 4,
    "optim.learning_rate": 1e-2, "optim.puzzle_learning_rate": 3e-2, "optim.puzzle_weight_decay": 0.5,
}  # fmt: skip
UPDATES = 10


def tiny(schedule: str) -> Config:
    options = {"optim.schedule": schedule, "optim.final_fraction": 0.1, "run.steps": UPDATES, "optim.ema": 0.9}
    return Config().override(**(PRESETS["official-sudoku"] | TINY | options))


def data(config: Config):
    rng = np.random.default_rng(0)
    arrays = {name: rng.integers(0, 5, (9, 6)).astype(np.int32) for name in ("inputs", "labels")}
    arrays["labels"][:, 0] = IGNORE
    puzzles = rng.integers(0, 12, 9).astype(np.int32)
    return train_step.training_data(Examples(arrays | {"puzzle": puzzles}), config.run.steps)


def rate(config: Config, base: float, update: int) -> float:
    """cosine_schedule_with_warmup_lr_lambda of pretrain.py, whose first update has number 1."""
    o, total = config.optim, config.run.steps
    if update < o.warmup:
        return base * update / o.warmup
    least = 1.0 if o.schedule == "constant" else o.final_fraction
    progress = (update - o.warmup) / max(1, total - o.warmup)
    return base * (least + max(0.0, (1 - least) * 0.5 * (1 + np.cos(np.pi * progress))))


class Plain:
    """Slots, optimizer and average of the official trainer as plain loops; the net and its gradient are shared."""

    def __init__(self, config, data, state):
        self.config, self.data, self.key = config, data, state.key
        self.params = {path: np.float64(leaf) for path, leaf in flatten_dict(jax.device_get(state.params)).items()}
        self.shadow = dict(self.params)
        self.mean, self.square = ({path: np.zeros_like(leaf) for path, leaf in self.params.items()} for _ in range(2))
        self.slots = [None] * config.run.batch
        self.gradient = jax.jit(jax.value_and_grad(self.loss, has_aux=True))

    def loss(self, params, inputs, labels, puzzle, y, z):
        """lm_loss + 0.5 q_halt_loss of ACTLossHead, over the batch size."""
        x = model.embed(self.config, params, inputs, puzzle)
        y, z = model.supervision_step(self.config, params, x, y, z)
        output = model.heads(self.config, params, y)
        cells = losses.cross_entropy(LossConfig(cross_entropy="stablemax"), output.logits, labels).sum(axis=1)
        cells = cells / (labels != IGNORE).sum(axis=1)
        right = ((output.logits.argmax(axis=-1) == labels) | (labels == IGNORE)).all(axis=1)
        halting = jax.nn.softplus(output.q_halt) - output.q_halt * right
        return (cells.sum() + 0.5 * halting.sum()) / len(inputs), (y, z, output.q_halt)

    def update(self, k):
        config, size = self.config, self.config.run.batch
        batch_key, explore_key = jax.random.split(jax.random.fold_in(self.key, k))
        fresh = jax.device_get(train_step.draw_batch(config, TokenTask(), self.data, batch_key, k))
        least = np.asarray(train_step.minimum_steps(config, explore_key, (size,)))
        for slot in range(size):
            if self.slots[slot] is None:
                first = [np.tile(self.params[name,].astype(np.float32), (7, 1)) for name in ("initial_y", "initial_z")]
                sample = {name: values[slot] for name, values in fresh.items()}
                self.slots[slot] = {**sample, "y": first[0], "z": first[1], "steps": 0}
        batch = {
            name: np.stack([slot[name] for slot in self.slots]) for name in ("inputs", "labels", "puzzle", "y", "z")
        }
        params = unflatten_dict({path: leaf.astype(np.float32) for path, leaf in self.params.items()})
        (loss, (y, z, q_halt)), gradient = self.gradient(params, *batch.values())
        for slot in range(size):
            steps = self.slots[slot]["steps"] + 1
            stops = steps >= config.recursion.N_sup or (q_halt[slot] > 0 and steps >= least[slot])
            here = {"y": np.asarray(y[slot]), "z": np.asarray(z[slot]), "steps": steps}
            self.slots[slot] = None if stops else {**self.slots[slot], **here}
        self.step(flatten_dict(jax.device_get(gradient)), batch["puzzle"], k + 1)
        return float(loss)

    def step(self, gradient, puzzle, number):
        o = self.config.optim
        lr, beta1, beta2 = rate(self.config, o.learning_rate, number), o.beta1, o.beta2
        for path, slope in gradient.items():
            if path[0] in ("initial_y", "initial_z", "puzzles"):
                continue
            self.mean[path] = beta1 * self.mean[path] + (1 - beta1) * slope
            self.square[path] = beta2 * self.square[path] + (1 - beta2) * np.float64(slope) ** 2
            root = np.sqrt(self.square[path]) / np.sqrt(1 - beta2**number)
            decayed = self.params[path] * (1 - lr * o.weight_decay)
            self.params[path] = decayed - lr / (1 - beta1**number) * np.arctan2(self.mean[path], root)
            self.shadow[path] = o.ema * self.shadow[path] + (1 - o.ema) * self.params[path]
        lr, table = rate(self.config, o.puzzle_learning_rate, number), self.params["puzzles",]
        for row in set(puzzle.tolist()):
            table[row] = table[row] * (1 - lr * o.puzzle_weight_decay) - lr * np.sign(gradient["puzzles",][row])
        self.shadow["puzzles",] = table


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_ten_updates_are_those_of_the_official_trainer(schedule):
    config = tiny(schedule)
    examples = data(config)
    state = train_step.init(config, examples, 0)
    rng = np.random.default_rng(1)
    table = rng.normal(size=(12, 8)).astype(np.float32)
    halting = {"kernel": rng.normal(size=(8, 2)).astype(np.float32), "bias": np.float32([0.1, -5])}
    params = {**state.params, "puzzles": table, "halting": halting}
    state = state._replace(params=params, ema=params)
    plain = Plain(config, examples, state)
    update = jax.jit(lambda state: train_step.train_step(config, TokenTask(), state, examples))
    kept = 0
    for k in range(UPDATES):
        state, metrics = update(state)
        assert float(metrics["loss"]) == pytest.approx(plain.update(k), rel=1e-4), k
        assert state.carry.halted.tolist() == [slot is None for slot in plain.slots]
        kept += sum(slot is not None for slot in plain.slots)
    assert 0 < kept < UPDATES * config.run.batch  # some slots halted and some went on
    for found, expected in ((state.params, plain.params), (train_step.eval_params(config, state), plain.shadow)):
        for path, value in flatten_dict(jax.device_get(found)).items():
            np.testing.assert_allclose(value, expected[path], atol=2e-4, err_msg=str(path))
    undrawn = sorted(set(range(12)) - set(np.asarray(examples.arrays["puzzle"]).tolist()))
    assert undrawn and np.array_equal(state.params["puzzles"][np.array(undrawn)], table[undrawn])
    moved = np.abs(plain.params["halting", "bias"] - halting["bias"])
    assert moved.min() > 1e-2  # biases decay too, as no mask spares them


def test_adam_atan2_does_not_depend_on_the_scale_of_the_gradient():
    gradient = {"w": np.float32([[3.0, -1e-3, 0.0]])}
    transform = optim.scale_by_adam_atan2(0.9, 0.95)
    for scale in (1.0, 1e-12):
        scaled = jax.tree.map(lambda leaf, scale=scale: leaf * np.float32(scale), gradient)
        update, _ = transform.update(scaled, transform.init(gradient))
        np.testing.assert_allclose(update["w"], [[np.arctan(0.1) / 0.1, -np.arctan(0.1) / 0.1, 0.0]], rtol=1e-3)


def test_the_presets_are_the_official_commands():
    arch = {
        "H_cycles": 3, "L_layers": 2, "hidden_size": 512, "num_heads": 8, "expansion": 4, "puzzle_emb_ndim": 512,
        "puzzle_emb_len": 16, "halt_max_steps": 16, "halt_exploration_prob": 0.1, "num_puzzle_identifiers": 1,
    }  # fmt: skip
    sudoku = arch | {"seq_len": 81, "vocab_size": 11, "L_cycles": 6, "mlp_t": True, "pos_encodings": "none"}
    maze = arch | {"seq_len": 900, "vocab_size": 6, "L_cycles": 4, "pos_encodings": "rope"}
    for name, official in {"official-sudoku": sudoku, "official-maze": maze}.items():
        expected, found = import_config(official), Config().override(**PRESETS[name])
        for section in ("recursion", "loss", "optim"):
            assert getattr(found, section) == getattr(expected, section)
        assert found.model == expected.model
        assert (found.run.batch, found.run.steps) == (768, 65104)
