"""Parity with the official PyTorch TRM: with numbers it printed, and with its definition written again in numpy."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core import losses, train_step
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import Examples, TokenTask
from trm_jax.official import weights as official
from trm_jax.official.tensor_files import read_state_dict

GOLDEN = ["mixer", "attention"]
TOLERANCE = 1e-4  # largest difference as a share of the largest value
B = 3


def apart(found, expected) -> float:
    """Largest difference, as a share of the largest expected value."""
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


# The official model once more, in float64 numpy, from models/recursive_reasoning/trm.py and models/layers.py of
# SamsungSAILMontreal/TinyRecursiveModels. Names of weights and config fields are theirs.


def official_hidden(config, width):
    return -(-round(config["expansion"] * width * 2 / 3) // 256) * 256


def official_prefix(config):
    return config["puzzle_emb_len"] or math.ceil(config["puzzle_emb_ndim"] / config["hidden_size"])


def official_shapes(config):
    """Shapes of the official state dict, (out, in)."""
    width, tokens = config["hidden_size"], config["seq_len"] + official_prefix(config)
    shapes = {
        "H_init": (width,),
        "L_init": (width,),
        "embed_tokens.embedding_weight": (config["vocab_size"], width),
        "lm_head.weight": (config["vocab_size"], width),
        "q_head.weight": (2, width),
        "q_head.bias": (2,),
    }
    if config["puzzle_emb_ndim"]:
        shapes["puzzle_emb.weights"] = (config["num_puzzle_identifiers"], config["puzzle_emb_ndim"])
    if config["pos_encodings"] == "learned":
        shapes["embed_pos.embedding_weight"] = (tokens, width)
    for layer in range(config["L_layers"]):
        name = f"L_level.layers.{layer}"
        if not config["mlp_t"]:
            shapes |= {f"{name}.self_attn.qkv_proj.weight": (3 * width, width)}
            shapes |= {f"{name}.self_attn.o_proj.weight": (width, width)}
        for mlp, size in {"mlp_t": tokens, "mlp": width}.items():
            if mlp == "mlp" or config["mlp_t"]:
                hidden = official_hidden(config, size)
                shapes[f"{name}.{mlp}.gate_up_proj.weight"] = (2 * hidden, size)
                shapes[f"{name}.{mlp}.down_proj.weight"] = (size, hidden)
    return {f"inner.{name}": shape for name, shape in shapes.items()}


class OfficialTRM:
    """Evaluation of the official model in float64."""

    def __init__(self, config, weights):
        self.config = config
        self.weights = {name.removeprefix("inner."): np.float64(value) for name, value in weights.items()}
        self.prefix = official_prefix(config)

    def embed(self, inputs, puzzles):
        width = self.config["hidden_size"]
        x = self.weights["embed_tokens.embedding_weight"][inputs]
        if self.config["puzzle_emb_ndim"]:
            vectors = self.weights["puzzle_emb.weights"][puzzles]
            padded = np.zeros((len(inputs), self.prefix * width))
            padded[:, : vectors.shape[1]] = vectors
            x = np.concatenate([padded.reshape(-1, self.prefix, width), x], axis=1)
        if self.config["pos_encodings"] == "learned":
            x = 0.707106781 * (x + self.weights["embed_pos.embedding_weight"])
        return math.sqrt(width) * x

    def rms_norm(self, x):
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.config.get("rms_norm_eps", 1e-5))

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T

    def swiglu(self, x, name):
        gate, up = np.split(self.linear(x, f"{name}.gate_up_proj"), 2, axis=-1)
        return self.linear(gate / (1 + np.exp(-gate)) * up, f"{name}.down_proj")

    def rotate(self, x):
        """Rotary positions on (B, L, H, head width)."""
        width = x.shape[-1]
        speeds = 1 / self.config.get("rope_theta", 10000.0) ** (np.arange(0, width, 2) / width)
        angles = np.outer(np.arange(x.shape[1]), np.tile(speeds, 2))[:, None]
        first, second = np.split(x, 2, axis=-1)
        return x * np.cos(angles) + np.concatenate([-second, first], axis=-1) * np.sin(angles)

    def attention(self, x, name):
        heads = self.config["num_heads"]
        qkv = self.linear(x, f"{name}.qkv_proj").reshape(*x.shape[:2], 3 * heads, -1)
        query, key, value = qkv[:, :, :heads], qkv[:, :, heads : 2 * heads], qkv[:, :, 2 * heads :]
        if self.config["pos_encodings"] == "rope":
            query, key = self.rotate(query), self.rotate(key)
        scores = np.einsum("bqhc,bkhc->bhqk", query, key) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return self.linear(np.einsum("bhqk,bkhc->bqhc", shares, value).reshape(x.shape), f"{name}.o_proj")

    def net(self, h):
        for layer in range(self.config["L_layers"]):
            name = f"L_level.layers.{layer}"
            if self.config["mlp_t"]:
                h = h.swapaxes(1, 2)
                h = self.rms_norm(h + self.swiglu(h, f"{name}.mlp_t")).swapaxes(1, 2)
            else:
                h = self.rms_norm(h + self.attention(h, f"{name}.self_attn"))
            h = self.rms_norm(h + self.swiglu(h, f"{name}.mlp"))
        return h

    def steps(self, inputs, puzzles):
        """What every supervision step gives from a fresh carry, in the keys of the golden files; one step more than
        halt_max_steps, for the target of the continue loss."""
        x = self.embed(inputs, puzzles)
        z_H, z_L = (np.broadcast_to(self.weights[name], x.shape) for name in ("H_init", "L_init"))
        found = []
        for _ in range(self.config["halt_max_steps"] + 1):
            for _ in range(self.config["H_cycles"]):
                for _ in range(self.config["L_cycles"]):
                    z_L = self.net(z_L + (z_H + x))
                z_H = self.net(z_H + z_L)
            logits = self.linear(z_H, "lm_head")[:, self.prefix :]
            halting = self.linear(z_H[:, 0], "q_head") + self.weights["q_head.bias"]
            q_halt, q_continue = halting.T
            found.append({"logits": logits, "q_halt": q_halt, "q_continue": q_continue, "z_H": z_H, "z_L": z_L})
        return found


# Golden files.


@dataclasses.dataclass
class Golden:
    """A golden file, imported."""

    arrays: dict
    official: dict
    config: Config
    state: dict
    params: dict

    def step(self, k: int) -> dict:
        """Outputs after supervision step k, counted from 1."""
        return {name: self.arrays[f"step{k}/{name}"] for name in ("logits", "q_halt", "z_H", "z_L")}


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request, data_root) -> Golden:
    folder = data_root / "golden"
    if not folder.is_dir():
        pytest.skip(f"no golden files in {folder}; set TRM_DATA")
    with np.load(folder / f"official_trm_{request.param}.npz") as file:
        arrays = dict(file)
    options = json.loads(str(arrays["config"]))
    config = official.import_config(options)
    state = {name[8:]: value for name, value in arrays.items() if name.startswith("weights/")}
    return Golden(arrays, options, config, state, official.import_weights(config, state))


def test_each_supervision_step_equals_the_official_one_from_the_same_carry(golden):
    config, batch = golden.config, (golden.arrays["inputs"], golden.arrays["puzzle_identifiers"])

    @jax.jit
    def step(params, y, z):
        y, z = model.supervision_step(config, params, model.embed(config, params, *batch), y, z)
        output = model.heads(config, params, y)
        return {"logits": output.logits, "q_halt": output.q_halt, "z_H": y, "z_L": z}

    y, z = model.initial(config, golden.params, len(batch[0]))
    for k in range(1, golden.official["halt_max_steps"] + 1):
        found, expected = step(golden.params, y, z), golden.step(k)
        for name, value in expected.items():
            assert apart(found[name], value) < TOLERANCE, (k, name)
        y, z = expected["z_H"], expected["z_L"]


def test_a_free_run_strays_no_further_than_rounding_does(golden):
    """The mixer file is chaotic: float64 itself ends 1 % off what float32 printed, so that is the measure there."""
    batch = golden.arrays["inputs"], golden.arrays["puzzle_identifiers"]
    exact = OfficialTRM(golden.official, golden.state).steps(*batch)
    outputs = jax.jit(lambda params: model.forward(golden.config, params, *batch))(golden.params)
    for k in range(golden.official["halt_max_steps"]):
        expected = golden.step(k + 1)
        for name, found in {"logits": outputs.logits[k], "q_halt": outputs.q_halt[k]}.items():
            allowed = max(1e-5, 3 * apart(exact[k][name], expected[name]))
            assert apart(found, expected[name]) < allowed < 0.1, (k + 1, name)


def test_training_loss_and_every_gradient_equal_the_official_ones(golden):
    config, arrays = golden.config.override(**{"recursion.unroll": True}), golden.arrays  # compiles faster
    size = len(arrays["inputs"])

    def loss(params):
        x = model.embed(config, params, arrays["inputs"], arrays["puzzle_identifiers"])
        y, _ = model.supervision_step(config, params, x, *model.initial(config, params, size))
        terms = losses.step_loss(config.loss, model.heads(config, params, y), arrays["labels"])
        return size * terms.total, terms  # the official loss is a sum over the batch

    (total, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(golden.params)
    assert apart(total, arrays["train/loss"]) < TOLERANCE
    assert apart(size * terms.cross_entropy, arrays["train/lm_loss"]) < TOLERANCE
    assert apart(size * terms.halt, arrays["train/q_halt_loss"]) < TOLERANCE
    gradient = official.export_weights(config, gradient)
    expected = {name[5:]: value for name, value in arrays.items() if name.startswith("grad/")}
    assert gradient.keys() - expected.keys() == {"inner.H_init", "inner.L_init"}
    for name, value in expected.items():
        assert apart(gradient[name], value) < TOLERANCE, name
    assert not gradient["inner.H_init"].any() and not gradient["inner.L_init"].any()


# Every other official configuration, with random weights.

COMMON = {
    "seq_len": 9, "vocab_size": 5, "num_puzzle_identifiers": 4, "puzzle_emb_ndim": 0, "puzzle_emb_len": 0,
    "H_cycles": 2, "L_cycles": 2, "H_layers": 0, "L_layers": 1, "hidden_size": 16, "expansion": 4, "num_heads": 2,
    "pos_encodings": "rope", "halt_max_steps": 2, "halt_exploration_prob": 0.1, "forward_dtype": "float32",
    "mlp_t": False, "no_ACT_continue": True,
}  # fmt: skip
VARIANTS = {
    "rope": {"rope_theta": 100.0},
    "learned positions": {"pos_encodings": "learned"},
    "no positions": {"pos_encodings": "none", "rms_norm_eps": 0.01},
    "prefix of 16, short puzzle vector": {"puzzle_emb_ndim": 40, "puzzle_emb_len": 16},
    "prefix by ceil division": {"puzzle_emb_ndim": 40, "pos_encodings": "learned"},
    "token mixing": {"mlp_t": True, "pos_encodings": "none"},
    "token mixing that ignores rope": {"mlp_t": True, "num_heads": 16},
    "token mixing, prefix, learned positions": {
        "mlp_t": True, "pos_encodings": "learned", "puzzle_emb_ndim": 16, "puzzle_emb_len": 16,
    },
    "other sizes": {
        "hidden_size": 36, "expansion": 12, "num_heads": 3, "L_layers": 3, "H_cycles": 1, "L_cycles": 3,
        "halt_max_steps": 3, "vocab_size": 11, "seq_len": 5,
    },
    "continue loss": {"no_ACT_continue": False, "H_cycles": 1, "L_cycles": 1},
}  # fmt: skip


def variant(name):
    """Official config, official weights, inputs and puzzle identifiers."""
    config = COMMON | VARIANTS[name]
    rng = np.random.default_rng(list(VARIANTS).index(name))
    state = {
        key: (rng.normal(size=shape) / shape[-1] ** 0.5 if len(shape) == 2 else rng.normal(size=shape))
        for key, shape in official_shapes(config).items()
    }
    inputs = rng.integers(0, config["vocab_size"], (B, config["seq_len"]))
    return config, {key: value.astype(np.float32) for key, value in state.items()}, inputs, np.array([2, 0, 3])


@pytest.mark.parametrize("variant_name", VARIANTS)
def test_evaluation_equals_the_official_model_in_numpy(variant_name):
    options, state, *batch = variant(variant_name)
    config = official.import_config(options)
    params = official.import_weights(config, state)
    expected = OfficialTRM(options, state).steps(*batch)
    outputs = jax.jit(lambda params: model.forward(config, params, *batch))(params)
    assert len(outputs.logits) == options["halt_max_steps"]
    for k in range(options["halt_max_steps"]):
        for name, found in {
            "logits": outputs.logits,
            "q_halt": outputs.q_halt,
            "q_continue": outputs.q_continue,
        }.items():
            assert found[k].shape == expected[k][name].shape
            assert apart(found[k], expected[k][name]) < TOLERANCE, (k + 1, name)


def test_the_puzzle_vector_changes_the_answer_and_only_through_its_prefix():
    options, state, inputs, puzzles = variant("prefix of 16, short puzzle vector")
    config = official.import_config(options)
    params = official.import_weights(config, state)
    x = model.embed(config, params, inputs, puzzles)
    other = model.embed(config, params, inputs, (puzzles + 1) % 4)
    # 40 values fill two and a half tokens of 16; the others are zero.
    assert x.shape == (B, 25, 16) and not np.any(x[:, 2, 8:]) and not np.any(x[:, 3:16])
    assert np.array_equal(x[:, 3:], other[:, 3:]) and (np.abs(x - other)[:, :2] > 0).all()


def test_the_continue_target_equals_the_official_one_at_every_step():
    options, state, inputs, puzzles = variant("continue loss")
    labels = np.random.default_rng(0).integers(0, 5, inputs.shape)
    config = official.import_config(options)
    assert config.loss.continue_loss
    # One sample, so that the batch is known; the rate of step 0 is 0, so the second step has the same weights.
    config = config.override(**{"run.batch": 1, "loss.exploration": 0.0, "recursion.unroll": True})
    state = state | {"inner.q_head.bias": np.float32([-5.0, 5.0])}  # nothing halts before the last step
    expected = OfficialTRM(options, state).steps(inputs[:1], puzzles[:1])
    arrays = {"inputs": jnp.asarray(inputs[:1]), "labels": jnp.asarray(labels[:1])}
    data = train_step.training_data(Examples(arrays), config.run.steps)
    shapes = jax.eval_shape(lambda: train_step.init(config, data, 0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes._replace(key=None))
    carry = zeros.carry._replace(halted=np.ones(1, bool))
    current = zeros._replace(params=official.import_weights(config, state), key=jax.random.key(0), carry=carry)
    step = jax.jit(lambda state: train_step.train_step(config, TokenTask(), state, data))
    for k in range(2):
        current, metrics = step(current)
        following, last = expected[k + 1], k + 1 == options["halt_max_steps"]
        better = following["q_halt"] if last else np.maximum(following["q_halt"], following["q_continue"])
        target = 1 / (1 + np.exp(-better))
        answer = expected[k]
        right = np.array([(answer["logits"].argmax(axis=-1) == labels[:1]).all()], float)
        logits = answer["logits"][0]
        s = np.where(logits >= 0, logits + 1, 1 / (1 - np.minimum(logits, 0)))
        lm_loss = -np.log(s / s.sum(axis=-1, keepdims=True))[np.arange(9), labels[0]].mean()
        halting = official_binary(answer["q_halt"], right) + official_binary(answer["q_continue"], target)
        assert apart(metrics["loss"], lm_loss + 0.5 * halting.sum()) < TOLERANCE
        assert current.carry.halted.tolist() == [last]


def official_binary(logit, target):
    return np.maximum(logit, 0) - logit * target + np.log1p(np.exp(-np.abs(logit)))


# In and out, and what is refused.


@pytest.mark.parametrize("name", VARIANTS)
def test_export_gives_back_config_and_weights_bitwise(name):
    options, state, *_ = variant(name)
    config = official.import_config(options)
    exported = official.export_weights(config, official.import_weights(config, state))
    assert exported.keys() == state.keys()
    for key, value in state.items():
        assert exported[key].dtype == np.float32 and exported[key].flags.c_contiguous
        assert exported[key].tobytes() == value.tobytes(), key
    again = official.export_config(config)
    same = options | {"puzzle_emb_len": official_prefix(options)}
    if options["mlp_t"] and options["pos_encodings"] == "rope":
        same["pos_encodings"] = "none"
    assert again.items() >= same.items()
    assert official.import_config(again) == config


def test_golden_weights_go_out_bitwise_as_they_came_in(golden):
    exported = official.export_weights(golden.config, golden.params)
    assert exported.keys() == golden.state.keys()
    assert all(exported[name].tobytes() == value.tobytes() for name, value in golden.state.items())


def test_the_training_recipe_is_the_official_one():
    config = official.import_config(COMMON | {"H_cycles": 3, "L_cycles": 6, "halt_max_steps": 16})
    depth, loss, optim = config.recursion, config.loss, config.optim
    assert (depth.T, depth.n, depth.N_sup, depth.gradient) == (3, 6, 16, "last_cycle")
    assert (loss.supervision, loss.cross_entropy, loss.halt_weight) == ("carried", "stablemax", 0.5)
    assert (loss.exploration, loss.continue_loss) == (0.1, False)
    assert (optim.learning_rate, optim.beta1, optim.beta2, optim.weight_decay) == (1e-4, 0.9, 0.95, 1.0)
    assert (optim.schedule, optim.warmup, optim.ema) == ("constant", 2000, 0.999)
    sparse = {name: COMMON[name] for name in official.REQUIRED}
    assert official.import_config(sparse | {"puzzle_emb_ndim": 16}).model.prefix_tokens == 16
    assert official.import_config(sparse | {"puzzle_emb_ndim": 16}).model.dtype == "bfloat16"


def test_wrapper_prefixes_of_a_real_checkpoint_are_cut_off():
    state = read_state_dict(Path(__file__).parents[1] / "golden" / "official_state.pt")
    assert all(name.startswith("_orig_mod.model.inner.") for name in state)
    config = official.import_config(COMMON | {"hidden_size": 4, "pos_encodings": "rope", "num_heads": 2})
    exported = official.export_weights(config, official.import_weights(config, state))
    assert {f"_orig_mod.model.{name}" for name in exported} == state.keys()
    assert all(np.array_equal(exported[name[16:]], np.float32(value)) for name, value in state.items())


LM_HEAD, BIAS = "inner.lm_head.weight", "inner.q_head.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(LM_HEAD), rf"missing {LM_HEAD}; left over nothing$"),
        (lambda state: state.update(extra=np.ones(2)), r"missing nothing; left over extra$"),
        (lambda state: (state.pop(LM_HEAD), state.pop(BIAS)), rf"missing (?=.*{LM_HEAD})(?=.*{BIAS})"),
        (lambda state: state.update({LM_HEAD: state[LM_HEAD].T}), rf"{LM_HEAD} has shape \(16, 5\)"),
        (lambda state: state.update({BIAS: np.zeros((2, 1))}), rf"{BIAS} has shape \(2, 1\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, message):
    options, state, *_ = variant("rope")
    change(state)
    with pytest.raises(ValueError, match=message) as caught:
        official.import_weights(official.import_config(options), state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_encodings": "alibi"}, "pos_encodings must be one of none, learned, rope, got 'alibi'"),
        ({"forward_dtype": "float16"}, "dtype must be one of float32, bfloat16, got 'float16'"),
        ({"hidden_size": 15}, "heads=2 must divide the width of the net, 15"),
        ({"puzzle_emb_ndim": 40, "puzzle_emb_len": 2}, "prefix_width=40 does not fit"),
        ({"puzzle_emb_len": 16}, "prefix_tokens needs a prefix_width"),
        ({"H_cycles": 0}, "T must be at least 1, got 0"),
        ({"halt_max_steps": "16"}, "N_sup must be int, got '16'"),
        ({"halt_exploration_prob": 2}, "exploration is a probability"),
        ({"hidden_size": "16"}, "hidden_size|width"),
        ({"hidden_size": 0}, "hidden_size|width"),
        ({"expansion": None}, "expansion"),
        ({"rope_theta": "base"}, "rope_theta|rotary_base"),
        ({"pos_encodings": ["rope"]}, "pos_encodings"),
        ({"mlp_t": "false"}, "mlp_t"),
        ({"no_ACT_continue": "false"}, "no_ACT_continue"),
    ],
)
def test_values_that_the_official_code_does_not_know_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        official.import_config(COMMON | change)


@pytest.mark.parametrize("name", official.REQUIRED)
def test_a_config_without_a_required_field_is_refused_by_its_name(name):
    with pytest.raises(ValueError, match=rf"lacks {name}$"):
        official.import_config({key: value for key, value in COMMON.items() if key != name})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model.form": "joint", "recursion.T": 1}, "form=joint"),
        ({"model.combine": "concat"}, "combine=concat"),
        ({"model.use_z": False}, "use_z=False"),
        ({"model.separate_nets": True}, "separate_nets=True"),
        ({"model.norm": "pre"}, "norm=pre"),
        ({"model.norm_scale": True}, "norm_scale=True"),
        ({"model.readout": "pooled"}, "readout=pooled"),
        ({"model.halt_token": "mean"}, "halt_token=mean"),
        ({"model.hidden_multiple": 8}, "hidden_multiple=8"),
        ({"model.mixer": "linear", "model.positions": "none"}, "mixer=linear"),
        ({"model.mixer": "convolution", "model.positions": "none"}, "mixer=convolution"),
        ({"model.positions": "rotary_2d"}, "positions=rotary_2d"),
        ({"model.initial_state": "zero"}, "initial_state=zero"),
        ({"model.classes": 3}, "classes=3"),
        ({"model.members": 2, "model.prefix_tokens": 0, "model.prefix_width": 0}, "members=2"),
    ],
)
def test_models_that_the_official_code_cannot_express_are_not_exported(options, message):
    config = official.import_config(COMMON).override(**options)
    for export in (official.export_config, lambda config: official.export_weights(config, {})):
        with pytest.raises(ValueError, match=rf"the official code has no model\.{message}"):
            export(config)
