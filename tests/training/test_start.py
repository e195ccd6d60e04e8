"""A training starts from weights: ours or official, with the puzzle table kept, enlarged or reset."""

from functools import partial

import jax
import numpy as np
import pytest
from toys import Sized

from trm_jax.core.config import Config
from trm_jax.core.network.model import initialise
from trm_jax.core.start import fitted
from trm_jax.official.tensor_files import write_state_dict
from trm_jax.official.weights import PREFIX, export_weights
from trm_jax.training import loop
from trm_jax.training.checkpoint import save_weights, starting_weights
from trm_jax.training.devices import to_host

CONFIG = Config().override(
    **{"model.width": 8, "model.heads": 2, "model.layers": 1, "model.mixer": "attention", "model.hidden_multiple": 256,
       "model.prefix_tokens": 1, "model.prefix_width": 8, "model.puzzles": 3, "recursion.N_sup": 1, "recursion.T": 1,
       "recursion.n": 1, "run.batch": 4, "run.steps": 1, "run.seeds": (4, 7), "run.chunk": 1, "run.evaluate_every": 1,
       "run.checkpoint_every": 1, "optim.warmup": 0, "optim.learning_rate": 1e-6, "optim.schedule": "constant",
       "optim.puzzle_learning_rate": 0.0, "optim.ema_start": "weights"}
)  # fmt: skip
ARRAYS = {
    "inputs": np.random.default_rng(0).integers(1, 6, (9, 16)).astype(np.int32),
    "labels": np.random.default_rng(1).integers(2, 6, (9, 16)).astype(np.int32),
    "puzzle": np.random.default_rng(2).integers(0, 3, 9).astype(np.int32),
}


def weights():
    params = jax.tree.map(np.asarray, initialise(CONFIG.model, jax.random.key(5)))
    return {**params, "puzzles": np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)}


def written(path, puzzles, rows):
    """The config of a training of so many puzzles that starts from a new file of the weights."""
    if path.suffix:
        state = export_weights(CONFIG, weights())
        write_state_dict(path, {PREFIX + name: value for name, value in state.items()})
    else:
        save_weights(path, weights(), CONFIG, Sized(ARRAYS))
    return CONFIG.override(**{"run.init": str(path), "run.init_puzzles": puzzles, "model.puzzles": rows})


@pytest.mark.parametrize(
    ("kind", "puzzles", "rows"), [("ours", "keep", 3), ("official.pt", "enlarge", 5), ("official.npz", "reset", 2)]
)
def test_weights_are_taken_up_from_every_kind_of_file_and_only_the_table_changes_its_size(
    tmp_path, kind, puzzles, rows
):
    given, config = weights(), written(tmp_path / kind, puzzles, rows)
    mean = given["puzzles"].mean(axis=0, keepdims=True)
    expected = {
        "keep": given["puzzles"],
        "enlarge": np.vstack([given["puzzles"], mean, mean]),
        "reset": np.vstack([mean] * 2),
    }
    found = starting_weights(config)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, {**given, "puzzles": expected[puzzles]})


def test_every_seed_begins_with_the_given_weights(tmp_path):
    config = written(tmp_path / "official.pt", "enlarge", 5)
    run, given = loop.fit(Sized(ARRAYS), config, tmp_path / "run"), starting_weights(config)
    for found in (run.state.params, run.state.ema):
        # One update at a rate of 1e-6, whatever the seed.
        jax.tree.map(
            lambda leaf, start: np.testing.assert_allclose(leaf, np.stack([start] * 2), atol=5e-6),
            to_host(found), given,
        )  # fmt: skip
    assert int(to_host(run.state.step)[0]) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.puzzles": 5}, "have 3 puzzle vectors, the model 5: choose puzzles=reset .* or puzzles=enlarge"),
        ({"model.puzzles": 2}, r"have 3 puzzle vectors, the model 2: choose puzzles=reset \(all begin at the mean\)$"),
        ({"model.layers": 2}, r"net.block_1.mix.qkv.kernel is missing for \(8, 24\)"),
        ({"model.width": 16}, r"initial_y \(8,\) for \(16,\)"),
        ({"model.mixer": "swiglu"}, r"net.block_0.mix.qkv.kernel \(8, 24\) for nothing"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        fitted(CONFIG.override(**change).model, weights())


def test_what_is_no_checkpoint_is_refused_before_a_step_and_the_option_is_named(tmp_path):
    for name, error in {"nothing.pt": FileNotFoundError, "": ValueError}.items():
        config = CONFIG.override(**{"run.init": str(tmp_path / name)})
        with pytest.raises(error, match="no file at" if name else r"run\.init=.* is not a checkpoint"):
            loop.fit(Sized(ARRAYS), config, tmp_path / f"run-{name}")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("inputs", 6, r"training data: inputs has values from 0 to 6, the model takes 0 to 5 \(model.vocabulary\)"),
        ("labels", 6, r"training data: labels has values from 0 to 6, the model takes 0 to 5 \(model.classes\)"),
        ("puzzle", 3, r"training data: puzzle has values from 0 to 3, the model takes 0 to 2 \(model.puzzles\)"),
        ("puzzle", -1, r"training data: puzzle has values from -1 to 2"),
        ("puzzle", None, r"training data: no puzzle identifiers, and the model has 3 puzzle vectors"),
        ("inputs", "short", r"training data: inputs \(9, 15\) are not \(N, 16\)"),
    ],
)
def test_samples_that_the_model_cannot_take_are_refused_where_jax_would_clamp_them(tmp_path, name, value, message):
    arrays = {key: values.copy() for key, values in ARRAYS.items()}
    if value is None:
        del arrays[name]
    elif value == "short":
        arrays[name] = arrays[name][:, 1:]
    else:
        arrays[name].flat[3] = value
    with pytest.raises(ValueError, match=message):
        loop.fit(Sized(arrays), CONFIG, tmp_path / "run")
