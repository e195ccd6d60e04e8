"""Checkpoints and configs as users have them: each is read, or refused for what it is."""

import json
import re

import numpy as np
import pytest

from trm_jax.core.network import model
from trm_jax.official import config as configs
from trm_jax.official.tensor_files import read_state_dict
from trm_jax.official.weights import export_weights, import_config, import_weights

REFUSED = {
    "int8.pt": "is quantized: _orig_mod.model.inner.H_init and 14 others are int8, and no scale is in the file",
    "fp8.safetensors": "others are F8_E4M3",
    "whole_model.pt": "asks for models.recursive_reasoning.trm.TinyRecursiveReasoningModel_ACTV1",
    "legacy.pt": "is in the old format of PyTorch",
    "cut.pt": "is cut off",
    "empty.pt": "is empty",
    "html.pt": "is a web page",
    "lfs.pt": "is a Git-LFS pointer",
    "lfs.safetensors": "is a Git-LFS pointer",
}
UNFIT = {
    "nan.pt": r"inner\.\S+ has 1 values of \d+ that are NaN or infinite",
    "nano_flat.pt": r"the names are not those of the official code .*z_H_init",
    "ema_shadow.pt": r"inner.H_init and inner.L_init are fixed initial states, buffers that moving averages",
    "other_puzzles.pt": r"have 300 puzzle vectors, the model 5: choose puzzles=reset",
    "arch_trm_singlez.pt": r"^the weights are of the architecture trm_singlez \(no inner.H_init\), the config is not$",
}


@pytest.fixture(scope="module")
def found(data_root):
    folder = data_root / "trm_cases"
    if not folder.is_dir():
        pytest.skip(f"no cases in {folder}")
    return folder


@pytest.fixture(scope="module")
def options(found):
    return json.loads((found / "checkpoints" / "arch_trm_singlez.json").read_text())


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_no_weights_are_refused_for_what_they_are(found, name):
    with pytest.raises(ValueError, match=re.escape(REFUSED[name])) as caught:
        read_state_dict(found / "checkpoints" / name)
    assert "\n" not in str(caught.value) and "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "aside"),
    [
        ("nested_model.pt", "optimizer, step, config"),
        ("flat_with_step_int.pt", "step"),
        ("lightning.ckpt", "epoch, global_step, pytorch-lightning_version, hyper_parameters, loops, callbacks"),
    ],
)
def test_weights_in_a_larger_dict_are_found_and_the_rest_is_named(found, options, capsys, name, aside):
    state = read_state_dict(found / "checkpoints" / name)
    assert capsys.readouterr().err == f"{found / 'checkpoints' / name}: left aside {aside}\n"
    exported = export_weights(import_config(options), import_weights(import_config(options), state))
    assert len(exported) == len(state) == 15
    assert all(np.array_equal(exported[key.removeprefix("_orig_mod.model.")], value) for key, value in state.items())


def test_another_key_can_be_given_and_a_wrong_one_is_answered_with_those_there_are(found):
    path = found / "checkpoints" / "nested_model.pt"
    assert read_state_dict(path, key="model").keys() == read_state_dict(path).keys()
    with pytest.raises(ValueError, match="has no weights under 'ema'; there are some under model"):
        read_state_dict(path, key="ema")


@pytest.mark.parametrize("name", UNFIT)
def test_weights_that_mislead_are_refused(found, options, name):
    state = read_state_dict(found / "checkpoints" / name)
    with pytest.raises(ValueError, match=UNFIT[name]) as caught:
        import_weights(import_config(options), state)
    assert "\n" not in str(caught.value)


def test_a_puzzle_table_of_another_size_is_reset_to_its_mean_or_enlarged_with_it(found, options):
    state = read_state_dict(found / "checkpoints" / "other_puzzles.pt")
    table = state["_orig_mod.model.inner.puzzle_emb.weights"]
    assert table.shape == (300, 64) and table.any()
    reset = import_weights(import_config(options), state, puzzles="reset")["puzzles"]
    assert np.array_equal(reset, np.repeat(table.mean(axis=0, keepdims=True), 5, axis=0))
    more = import_weights(import_config(options | {"num_puzzle_identifiers": 302}), state, puzzles="enlarge")["puzzles"]
    assert np.array_equal(more[:300], table) and np.array_equal(more[300:], reset[:2])


def test_two_sets_of_weights_that_become_one_are_refused(found, options):
    state = read_state_dict(found / "checkpoints" / "nested_model.pt")
    twice = state | {name.replace("_orig_mod.model", "ema"): 2 * value for name, value in state.items()}
    with pytest.raises(ValueError, match=r"inner\.H_init and ema\.inner\.H_init are both inner\.H_init"):
        import_weights(import_config(options), twice)
    state["_orig_mod.model.inner.q_head.bias"] = np.arange(2)
    with pytest.raises(ValueError, match=r"inner\.q_head\.bias is int64, not floating"):
        import_weights(import_config(options), state)


@pytest.mark.parametrize("name", ["single_z.npz", "checkpoints/arch_trm_singlez.pt"])
def test_the_official_single_z_is_exact_under_its_own_name(found, name):
    with np.load(found / "single_z.npz") as file:
        case = dict(file)
    options = json.loads(str(case["config"])) | {
        "name": "recursive_reasoning.trm_singlez@TinyRecursiveReasoningModel_ACTV1"
    }
    state = {key[8:]: value for key, value in case.items() if key.startswith("weights/")}
    config = import_config(options)
    if name.endswith(".pt"):  # the same architecture, other weights: names and shapes fit
        assert import_weights(config, read_state_dict(found / name)).keys() == import_weights(config, state).keys()
        return
    params = import_weights(config, state)
    inputs, puzzles = case["inputs"], case["puzzle_identifiers"]
    logits = {}
    for last in (False, True):
        variant = config.override(**{"model.question_last": last, "recursion.N_sup": 1})
        logits[last] = np.asarray(model.forward(variant, params, inputs, puzzles).logits[0])
    scale = np.abs(case["step1/logits"]).max()
    assert np.abs(logits[False] - case["step1/logits"]).max() < 1e-4 * scale
    assert np.abs(logits[True] - case["step1/logits"]).max() > 0.1 * scale
    exported = export_weights(config, params)
    assert exported.keys() == state.keys() and all(np.array_equal(exported[key], state[key]) for key in state)
    again = configs.export_config(config)
    assert import_config(again) == config and again.items() >= {key: options[key] for key in configs.REQUIRED}.items()


ALL_CONFIG = """
arch:
  name: recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1
  loss: {name: losses@ACTLossHead, loss_type: softmax_cross_entropy}
  H_cycles: 3
  L_cycles: 6
  H_layers: 0
  L_layers: 2
  hidden_size: 512
  num_heads: 8
  expansion: 4
  puzzle_emb_ndim: 512
  puzzle_emb_len: 16
  pos_encodings: none
  forward_dtype: bfloat16
  mlp_t: true
  no_ACT_continue: true
  halt_max_steps: 16
  halt_exploration_prob: 0.1
data_paths: [data/sudoku-extreme-1k-aug-1000]
global_batch_size: 384
lr: 3e-4
lr_min_ratio: 0.1
lr_warmup_steps: 500
beta1: 0.8
beta2: 0.9
weight_decay: 0.5
puzzle_emb_lr: 0.01
puzzle_emb_weight_decay: 0.1
ema: true
ema_rate: 0.99
seed: 0
"""
DATASET = {"seq_len": 81, "vocab_size": 11, "num_puzzle_identifiers": 1, "pad_id": 0}


def test_a_config_file_of_the_official_code_carries_model_and_recipe(tmp_path):
    path = tmp_path / "all_config.yaml"
    path.write_text(ALL_CONFIG)
    config = import_config(configs.read_config(path, DATASET))
    m, o = config.model, config.optim
    assert (m.width, m.mixer, m.cells, m.vocabulary, m.prefix_tokens, m.prefix_width, m.puzzles) == (
        512,
        "swiglu",
        81,
        11,
        16,
        512,
        1,
    )
    assert (config.recursion.T, config.recursion.n, config.recursion.N_sup) == (3, 6, 16)
    assert (config.loss.cross_entropy, config.run.batch, o.algorithm, o.schedule) == (
        "softmax",
        384,
        "adam_atan2",
        "cosine",
    )
    assert (o.learning_rate, o.final_fraction, o.warmup, o.beta1, o.beta2, o.weight_decay) == (
        3e-4,
        0.1,
        500,
        0.8,
        0.9,
        0.5,
    )
    assert (o.puzzle_learning_rate, o.puzzle_weight_decay, o.ema, o.ema_start, o.clip, o.decay) == (
        0.01,
        0.1,
        0.99,
        "weights",
        0,
        "all",
    )
    path.write_text(ALL_CONFIG.replace("ema: true", "ema: false").replace("lr_min_ratio: 0.1", "lr_min_ratio: 1.0"))
    again = import_config(configs.read_config(path, DATASET)).optim
    assert (again.ema, again.schedule) == (0, "constant")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("recursive_reasoning.trm@", "recursive_reasoning.hrm@"),
            "hrm@TinyRecursiveReasoningModel_ACTV1 is another arch",
        ),
        (("softmax_cross_entropy", "focal"), "loss_type=focal is not stablemax"),
        (("lr: 3e-4", "lr: fast"), "lr must be a number, got 'fast'"),
        (("  hidden_size: 512\n", ""), "the official config lacks hidden_size"),
    ],
)
def test_configs_that_mislead_are_refused(tmp_path, change, message):
    path = tmp_path / "all_config.yaml"
    path.write_text(ALL_CONFIG.replace(*change))
    with pytest.raises(ValueError, match=message):
        import_config(configs.read_config(path, DATASET))


def test_files_that_are_no_config_are_refused(tmp_path):
    path = tmp_path / "all_config.yaml"
    for content, message in {"[1, 2]": "holds list", "a: [": "neither YAML nor JSON"}.items():
        path.write_text(content)
        with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{message}"):
            configs.read_config(path)
    with pytest.raises(ValueError, match="no official config at"):
        configs.read_config(tmp_path / "none.yaml")
