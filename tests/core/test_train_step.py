"""The training step: gradients, carried slots, exploration, chunks, and that it learns."""

import itertools
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Toy, on_device

from trm_jax.core import losses, predict, train_step
from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.sudoku import puzzles
from trm_jax.sudoku.solver import Box

PUZZLES = puzzles.generate(8, Box(2, 2), (8, 8), seed=0)
INPUTS, LABELS = (jnp.asarray(tokens) for tokens in puzzles.to_tokens(PUZZLES))
DATA = on_device({"inputs": INPUTS, "labels": LABELS})
PLAIN = Toy({})
ROOT = jax.random.key(5)
SMALL = Config().override(
    **{
        "model.width": 16,
        "model.layers": 1,
        "recursion.n": 2,
        "recursion.T": 1,
        "recursion.N_sup": 3,
        "run.batch": 8,
        "optim.warmup": 5,
        "run.steps": 100,
    }
)
TINY = SMALL.override(**{"recursion.n": 1, "recursion.N_sup": 1})
CARRIED = SMALL.override(**{"loss.supervision": "carried", "recursion.N_sup": 4, "loss.exploration": 0.0})
IN_ORDER = Toy({}, lambda key, batch: DATA.arrays)
"""Replaces the drawn batch by the data in order: no randomness left."""


@cache
def _init(config):
    return jax.jit(partial(train_step.init, config))


def start(config, data=DATA, seed=0):
    """The first state; what it does not depend on is set to one value, so that tests share a program."""
    same = {"loss.exploration": 0.0, "loss.continue_loss": False, "run.accumulate": 1}
    return _init(config.override(**same))(data, seed)


def compiled(config, task=PLAIN):
    """The training step of a state and data."""
    return jax.jit(partial(train_step.train_step, config, task))


shared = cache(compiled)
"""The same for all tests that change nothing inside it."""


@cache
def carried_states():
    """States before and after each of nine carried updates."""
    states = [start(CARRIED)]
    for _ in range(9):
        states.append(shared(CARRIED)(states[-1], DATA)[0])
    return states


refill = jax.jit(partial(train_step._refill, CARRIED))


@cache
def answers(config):
    """Classes after every step that weights give the inputs."""
    return jax.jit(lambda params: predict.predict(config, params, INPUTS).classes)


def assert_equal_trees(one, two):
    one, two = (jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf), tree)
                for tree in (one, two))  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, one, two)


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("mixer", ["linear", "swiglu", "attention", "convolution"])
def test_one_batch_is_learnt_by_heart(mixer):
    config = SMALL.override(
        **{"model.mixer": mixer, "model.width": 32, "optim.weight_decay": 0.0, "optim.ema": 0.9, "run.steps": 150,
           "optim.learning_rate": 1e-2,
           "model.positions": "rotary_2d" if mixer == "attention" else "none"}
    )  # fmt: skip
    state = start(config)
    before = answers(config)(state.params)[-1]
    state, metrics = jax.jit(partial(train_step.train_chunk, config, IN_ORDER, 150))(state, DATA)
    predicted = answers(config)(jax.jit(partial(train_step.eval_params, config))(state))[-1]
    assert not (np.asarray(before) == LABELS).all(axis=-1).any()
    assert (np.asarray(predicted) == LABELS).all()
    assert metrics["exact"][-1] == 1.0 and metrics["loss"][-1] < 0.1 * metrics["loss"][0]


def test_frozen_parts_stay_bitwise_and_all_others_are_trained():
    moving = SMALL.override(**{"optim.warmup": 0, "optim.clip": 0.0})  # the norm to clip by is that of what is trained
    frozen = moving.override(**{"optim.frozen": ("readout", "halting")})
    before = start(moving)
    chex.assert_trees_all_equal_structs(start(frozen), before)  # checkpoints fit whatever was frozen
    after, free = (compiled(config)(before, DATA)[0].params for config in (frozen, moving))
    assert (free["readout"]["kernel"] != before.params["readout"]["kernel"]).all()
    still = {name: before.params[name] for name in ("readout", "halting")}
    chex.assert_trees_all_equal(after, free | still)
    with pytest.raises(ValueError, match=r"optim.frozen: the net has no part stem, but .*readout"):
        compiled(SMALL.override(**{"optim.frozen": ("stem",)}))(before, DATA)


def test_a_net_that_returns_zeros_solves_nothing():
    zeros = jax.tree.map(np.zeros_like, start(SMALL).params)
    predicted = puzzles.to_digits(np.asarray(answers(SMALL)(zeros)))
    scores = puzzles.score(predicted, PUZZLES.puzzles, PUZZLES.solutions, Box(2, 2))
    assert scores["exact"].max() == scores["valid"].max() == 0


def test_a_chunk_equals_the_loop_of_its_steps_bitwise():
    config = CARRIED.override(**{"loss.exploration": 0.5})
    begin = start(config, DATA, 3)
    looped, rows = begin, []
    for _ in range(6):
        looped, metrics = shared(config)(looped, DATA)
        rows.append(metrics)
    chunked, metrics = jax.jit(partial(train_step.train_chunk, config, PLAIN, 6))(begin, DATA)
    assert_equal_trees(looped, chunked)
    np.testing.assert_array_equal([row["loss"] for row in rows], metrics["loss"])
    assert int(chunked.step) == 6 and not np.array_equal(chunked.params["tokens"], begin.params["tokens"])


def test_the_summed_loss_is_the_sum_over_all_supervision_steps():
    @jax.jit
    def by_step(params):
        outputs = model.forward(SMALL, params, INPUTS)
        each = [jax.tree.map(lambda leaf, k=k: leaf[k], outputs) for k in range(3)]
        return [losses.step_loss(SMALL.loss, output, LABELS).total for output in each]

    state = start(SMALL)
    steps = by_step(state.params)
    _, metrics = shared(SMALL, IN_ORDER)(state, DATA)
    assert steps[0] != steps[1] != steps[2]
    np.testing.assert_allclose(metrics["loss"], sum(map(float, steps)), rtol=1e-6)


def test_the_metrics_are_the_last_exact_accuracy_and_the_gradient_norm_before_clipping(monkeypatch):
    state, config = start(TINY), TINY.override(**{"optim.clip": 1e-3})
    honest = losses.deep_supervision

    def told(*arguments):
        total, terms = honest(*arguments)
        return total, terms._replace(exact=jnp.array([0.25, 0.5, 0.75]))

    def summed(params):
        return honest(config.loss, model.forward(config, params, INPUTS), LABELS)[0]

    monkeypatch.setattr(losses, "deep_supervision", told)
    _, metrics = compiled(config, IN_ORDER)(state, DATA)
    assert metrics["exact"] == 0.75
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(jax.jit(jax.grad(summed))(state.params))))
    assert norm > 100 * config.optim.clip
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)


def key_bits(key) -> tuple[int, ...]:
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_weights_and_data_order_have_keys_of_their_own():
    state, initialise = start(SMALL, DATA, 3), jax.jit(partial(model.initialise, SMALL.model))
    root = jax.random.key(3)
    assert key_bits(state.key) != key_bits(root)
    for key in (state.key, root):
        assert not np.array_equal(initialise(key)["tokens"], state.params["tokens"])


@pytest.mark.parametrize("weights", [None, np.ones((1, 8))])
def test_indices_and_augmentation_have_keys_of_their_own(weights):
    keys = []
    config, data = SMALL.override(**{"run.batch": 64}), on_device(DATA.arrays, weights=weights)
    drawn = train_step.draw_batch(config, Toy({}, lambda key, batch: (keys.append(key), batch)[1]), data, ROOT, 0)
    used = [ROOT, *keys]
    assert key_bits(keys[0]) != key_bits(ROOT)
    for key in used:  # neither of them draws these samples
        uniform = jax.random.uniform(key, (64,))
        index = jax.random.randint(key, (64,), 0, 8) if weights is None else jnp.floor(uniform * 8).astype(int)
        assert not np.array_equal(INPUTS[index], drawn["inputs"])


def test_batch_and_exploration_have_keys_of_their_own(monkeypatch):
    state, used = start(CARRIED), {}

    def draw(config, task, data, key, step):
        used["batch"] = key
        return data.arrays

    def minimum(config, key, shape):
        used["exploration"] = key
        return jnp.zeros(shape, jnp.int32)

    def loss(config, params, slots, steps):
        total = sum(leaf.sum() for leaf in jax.tree.leaves(params))
        terms = losses.LossTerms(*[total] * len(losses.LossTerms._fields))
        return total, (terms, slots)

    monkeypatch.setattr(train_step, "draw_batch", draw)
    monkeypatch.setattr(train_step, "minimum_steps", minimum)
    monkeypatch.setattr(train_step, "_carried_loss", loss)
    keys = jax.jit(lambda state: train_step.train_step(CARRIED, PLAIN, state, DATA) and used)(state)
    assert len({*map(key_bits, keys.values()), key_bits(state.key), key_bits(jax.random.fold_in(state.key, 0))}) == 4


def test_seeds_differ_in_weights_and_in_data_order():
    first, second = (start(SMALL, DATA, seed) for seed in (0, 1))
    assert not np.array_equal(first.params["tokens"], second.params["tokens"])
    draw = jax.jit(partial(train_step.draw_batch, SMALL, PLAIN, DATA))
    one, other = (draw(state.key, 0) for state in (first, second))
    assert not np.array_equal(one["inputs"], other["inputs"])


def test_every_step_draws_another_batch_and_the_same_one_again_on_resuming():
    seen = []

    def spy(key, batch):
        jax.debug.callback(lambda inputs: seen.append(np.asarray(inputs)), batch["inputs"])
        return batch

    step = compiled(TINY, Toy({}, spy))
    after, _ = step(start(TINY), DATA)
    step(after, DATA)
    step(after, DATA)
    jax.effects_barrier()
    assert not np.array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[1], seen[2])


@pytest.mark.parametrize(("fraction", "steps", "first"), [(0.5, 100, 50), (0.25, 10, 2), (1.0, 10, 10)])
def test_every_phase_draws_by_its_own_weights(fraction, steps, first):
    config = SMALL.override(**{"run.steps": steps, "run.batch": 2000, "optim.warmup": 1})
    weights = np.array([[0, 0, 0, 1, 3], [2, 1, 1, 0, 0]])
    rows = {"inputs": np.arange(5), "labels": np.arange(5)}
    data = on_device(rows, steps, weights=weights, phases=(0.0, fraction))
    for step in {0, first - 1, first, steps - 1} - {steps}:
        drawn = train_step.draw_batch(config, PLAIN, data, jax.random.key(3), jnp.asarray(step))["labels"]
        share = np.bincount(drawn, minlength=5) / 2000
        expected = weights[0 if step < first else 1]
        np.testing.assert_allclose(share, expected / expected.sum(), atol=0.04)
        assert not share[expected == 0].any()


def test_without_weights_all_samples_are_drawn_alike():
    config = SMALL.override(**{"run.batch": 4000})
    data = on_device({"inputs": np.arange(5), "labels": np.arange(5)})
    drawn = train_step.draw_batch(config, PLAIN, data, jax.random.key(3), 0)["labels"]
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 4000, 0.2, atol=0.03)


@pytest.mark.parametrize(
    "arrays",
    [{"inputs": INPUTS}, {"inputs": INPUTS, "labels": LABELS[:3]}, {"inputs": INPUTS[:0], "labels": LABELS[:0]}],
)
def test_samples_that_do_not_belong_together_are_refused(arrays):
    with pytest.raises(ValueError, match="arrays inputs and labels with equally many samples, got shapes"):
        on_device(arrays)


def test_training_counts_its_updates_to_know_what_to_draw():
    seen = []

    def spy(key, batch):
        jax.debug.callback(lambda labels: seen.append(int(np.asarray(labels).max())), batch["labels"])
        return batch

    config = TINY.override(**{"run.steps": 6, "optim.warmup": 1})
    arrays = {name: np.concatenate([array, array]) for name, array in DATA.arrays.items()}
    arrays["labels"] = np.concatenate([np.full_like(LABELS, 2), np.full_like(LABELS, 3)])
    weights = np.repeat([[0, 1], [1, 0]], 8, axis=1)
    both = on_device(arrays, 6, weights=weights, phases=(0.0, 0.5))
    task = Toy({}, spy)
    jax.block_until_ready(jax.jit(partial(train_step.train_chunk, config, task, 6))(start(config, both), both))
    jax.effects_barrier()
    assert seen == [3, 3, 3, 2, 2, 2]


def test_labels_stay_with_their_slot_until_it_halts():
    states = carried_states()
    pairs = {tuple(i): tuple(label) for i, label in zip(np.asarray(INPUTS), np.asarray(LABELS), strict=True)}
    for before, after in itertools.pairwise(states[1:]):
        kept = ~np.asarray(before.carry.halted)
        for name in ("inputs", "labels"):
            np.testing.assert_array_equal(before.carry.batch[name][kept], after.carry.batch[name][kept])
        for slot in range(8):
            batch = after.carry.batch
            assert pairs[tuple(np.asarray(batch["inputs"][slot]))] == tuple(np.asarray(batch["labels"][slot]))


def test_the_loss_is_that_of_the_carried_labels_and_not_of_the_new_batch():
    state = carried_states()[2]
    assert not state.carry.halted.any()
    foreign = on_device({"inputs": INPUTS, "labels": jnp.full_like(LABELS, 2)})
    _, ours = shared(CARRIED)(state, DATA)
    _, other = shared(CARRIED)(state, foreign)
    assert ours["loss"] == other["loss"]


def test_slots_run_all_steps_and_are_refilled_with_initial_states():
    states = carried_states()
    steps = np.array([state.carry.steps for state in states[1:]])
    # The halting head starts at -5: no sample stops early, so all slots count 1..4 and start again.
    np.testing.assert_array_equal(steps[:, 0], [1, 2, 3, 4, 1, 2, 3, 4, 1])
    assert states[4].carry.halted.all() and not states[3].carry.halted.any()
    fresh = refill(states[4], {"inputs": INPUTS, "labels": LABELS})
    y, z = model.initial(CARRIED, states[4].params, 8)
    np.testing.assert_array_equal(fresh.y, y)
    np.testing.assert_array_equal(fresh.z, z)
    np.testing.assert_array_equal(fresh.steps, 0)


def test_a_confident_sample_halts_early_and_only_its_slot_is_refilled():
    @jax.jit
    def halting(params, carry):
        x = model.embed(CARRIED, params, carry.batch["inputs"])
        y, _ = model.supervision_step(CARRIED, params, x, carry.y, carry.z)
        return model.heads(CARRIED, params, y).q_halt

    state = carried_states()[1]
    # Give the halting head a weight, so that samples differ, and a bias between them.
    params = dict(state.params)
    direction = jax.random.normal(jax.random.key(0), params["halting"]["kernel"].shape)
    params["halting"] = {"kernel": direction, "bias": jnp.zeros(2)}
    logits = np.asarray(halting(params, state.carry))
    params["halting"]["bias"] = jnp.array([-np.median(logits), 0.0])
    after, _ = shared(CARRIED)(state._replace(params=params), DATA)
    np.testing.assert_array_equal(after.carry.halted, logits > np.median(logits))
    assert 0 < after.carry.halted.sum() < 8


def test_a_sample_that_explores_halts_with_the_last_step_of_its_minimum(monkeypatch):
    monkeypatch.setattr(train_step, "minimum_steps", lambda config, key, shape: jnp.full(shape, 3))
    state, step = start(CARRIED), compiled(CARRIED)
    state = state._replace(params=state.params | {"halting": state.params["halting"] | {"bias": jnp.array([9.0, 0])}})
    halted = []
    for _ in range(3):
        state, _ = step(state, DATA)
        halted.append(bool(state.carry.halted.all()))
    assert halted == [False, False, True]


def test_exploration_is_drawn_for_every_sample():
    config = CARRIED.override(**{"loss.exploration": 0.5, "recursion.N_sup": 16})
    drawn = np.asarray(train_step.minimum_steps(config, jax.random.key(0), (4000,)))
    explores = drawn > 0
    assert abs(explores.mean() - 0.5) < 0.03
    assert set(drawn[explores]) == set(range(2, 17))
    never = train_step.minimum_steps(config.override(**{"loss.exploration": 0.0}), jax.random.key(0), (100,))
    assert not never.any()


def test_a_slot_that_goes_on_keeps_its_sample_while_others_are_refilled():
    state = carried_states()[1]
    halted = jnp.arange(8) % 2 == 0
    before = state.carry._replace(halted=halted)
    after = refill(state._replace(carry=before), {"inputs": INPUTS[::-1], "labels": LABELS[::-1]})
    np.testing.assert_array_equal(after.steps, np.where(halted, 0, before.steps))
    for name, fresh in (("inputs", INPUTS[::-1]), ("labels", LABELS[::-1])):
        np.testing.assert_array_equal(after.batch[name], jnp.where(halted[:, None], fresh, before.batch[name]))
    np.testing.assert_array_equal(after.z[1::2], before.z[1::2])
    assert not np.array_equal(after.z[::2], before.z[::2])


@pytest.mark.parametrize(
    ("bias", "options", "halts"),
    [
        ([10.0, 0.0], {}, True),
        ([10.0, 0.0], {"loss.exploration": 1.0}, False),
        ([-5.0, -6.0], {"loss.continue_loss": True}, True),
        ([-5.0, -6.0], {}, False),
        ([5.0, 6.0], {"loss.continue_loss": True}, False),
    ],
)
def test_a_sample_halts_by_its_logits_unless_it_explores(bias, options, halts):
    config = CARRIED.override(**options)
    state = start(config)
    params = state.params | {"halting": state.params["halting"] | {"bias": jnp.array(bias)}}
    after, _ = shared(config)(state._replace(params=params), DATA)
    assert (np.asarray(after.carry.halted) == halts).all()


@pytest.mark.parametrize("supervision", ["sum", "carried"])
def test_a_batch_in_parts_makes_the_same_update_with_less_memory(supervision):
    config = SMALL.override(**{"loss.supervision": supervision, "recursion.remat": False})
    parts = config.override(**{"run.accumulate": 4})
    state = start(config)
    whole, split = (compiled(each).lower(state, DATA).compile() for each in (config, parts))
    for _ in range(3):
        (other, other_metrics), (state, metrics) = split(state, DATA), whole(state, DATA)
        assert_close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
        jax.tree.map(assert_close, other_metrics, metrics)
        jax.tree.map(assert_close, (other.params, other.ema), (state.params, state.ema))
        if supervision == "carried":
            jax.tree.map(assert_close, other.carry, state.carry)
            assert np.ptp(state.carry.batch["inputs"], axis=0).any()  # the samples differ, so order counts
    used = [step.memory_analysis().temp_size_in_bytes for step in (whole, split)]
    assert used[1] < 0.6 * used[0], used


def test_tokens_lie_on_the_device_as_bytes_and_are_drawn_as_they_were():
    images = np.arange(2 * 16, dtype=np.uint8).reshape(2, 16)
    labels = np.array([[-100] * 16, [127] * 16])
    data = on_device({"inputs": images, "labels": labels, "puzzle": np.array([0, 70000])})
    kinds = {name: values.dtype for name, values in data.arrays.items()}
    assert kinds == {"inputs": np.uint8, "labels": np.int8, "puzzle": np.int64}
    batch = train_step.draw_batch(SMALL, PLAIN, data, jax.random.key(0), 0)
    assert {name: str(values.dtype) for name, values in batch.items()} == {
        "inputs": "uint8", "labels": "int32", "puzzle": "int32"
    }  # fmt: skip
    second = np.asarray(batch["puzzle"]) == 70000
    assert 0 < second.sum() < 8
    np.testing.assert_array_equal(batch["labels"], np.where(second[:, None], 127, -100) * np.ones((1, 16), int))


def test_no_gradient_crosses_from_one_carried_update_to_the_next():
    state = carried_states()[2]
    slots = state.carry

    def loss(y):
        return train_step._carried_loss(CARRIED, state.params, slots._replace(y=y), 0)[1][1].y.sum()

    assert not jax.jit(jax.grad(loss))(slots.y).any()


def test_continue_loss_trains_the_second_halting_output_and_nothing_else_does():
    for supervision in ("sum", "carried"):
        for continue_loss in (False, True):
            config = CARRIED.override(**{"loss.supervision": supervision, "loss.continue_loss": continue_loss})
            state = after = start(config, DATA, 0)
            # Both outputs start at -5, where a step more is worth what stopping is: the first update moves only one.
            for _ in range(3):
                after, _ = shared(config)(after, DATA)
            change = np.asarray(after.params["halting"]["bias"] - state.params["halting"]["bias"])
            assert change[0] != 0 and (change[1] != 0) == continue_loss


def test_evaluated_weights_are_the_debiased_average_of_the_updated_weights_or_the_weights():
    config = TINY.override(**{"optim.warmup": 0, "optim.ema": 0.9})
    one, _ = shared(config)(start(config), DATA)
    two, _ = shared(config)(one, DATA)
    expected = (0.9 * one.params["tokens"] + two.params["tokens"]) / 1.9
    averaged = train_step.eval_params(config, two)["tokens"]
    np.testing.assert_allclose(averaged, expected, rtol=1e-5, atol=1e-6)
    raw = train_step.eval_params(config.override(**{"optim.ema": 0.0}), two)
    np.testing.assert_array_equal(raw["tokens"], two.params["tokens"])
    assert float(jnp.abs(averaged - raw["tokens"]).max()) > 1e-3
