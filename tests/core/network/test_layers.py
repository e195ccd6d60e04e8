"""Layers against closed forms, symmetries, and independent numpy implementations in float64."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import equations

from trm_jax.core.config import Config, ModelConfig
from trm_jax.core.network import model
from trm_jax.core.network.layers import (
    RELATIONS,
    Block,
    Linear,
    RMSNorm,
    SelfAttention,
    Stack,
    SwiGLU,
    TokenLinear,
    relation_kinds,
    rotary_angles,
    rotate,
)

MIXERS = ["linear", "swiglu", "attention", "convolution"]
GRID = (3, 4)
WIDTH, HEADS = 16, 2
EPSILON = 1e-2  # large enough that a test notices where it stands


def config_for(**options) -> ModelConfig:
    return ModelConfig(grid=GRID, width=WIDTH, heads=HEADS, norm_epsilon=EPSILON, **options)


def states(config: ModelConfig | None = None, seed: int = 0, batch: int = 2) -> np.ndarray:
    tokens = (config or config_for()).tokens
    return np.random.default_rng(seed).normal(size=(batch, tokens, WIDTH)).astype(np.float32)


def random_weights(module, x, seed: int = 1):
    """Weights in the structure of the module, none of them zero or one, also where the module starts so."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.asarray(x))).get("params", {})
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: (rng.normal(size=leaf.shape) / leaf.shape[0] ** 0.5).astype(np.float32), shapes)


def run(module, weights, x):
    """Output of the module, operation by operation: compiling every case as a whole takes longer."""
    return np.asarray(module.apply({"params": weights}, jnp.asarray(x)))


def close(found, expected, rtol: float = 1e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


# The layers once more, in float64 and in their textbook form.


def rms_norm(x, scale=1.0):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPSILON) * scale


def swiglu(weights, x):
    gate, up = np.split(x @ np.float64(weights["gate_up"]["kernel"]), 2, axis=-1)
    return (gate / (1 + np.exp(-gate)) * up) @ np.float64(weights["down"]["kernel"])


def rotate_half(x):
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([-second, first], axis=-1)


def official_rotary(x, base):
    """Rotary positions in the form of the official code; x is (B, L, H, head width)."""
    tokens, width = x.shape[1], x.shape[-1]
    frequencies = np.outer(np.arange(tokens), 1 / base ** (np.arange(0, width, 2) / width))
    angles = np.concatenate([frequencies, frequencies], axis=-1)[:, None]
    return x * np.cos(angles) + rotate_half(x) * np.sin(angles)


def grid_rotary(x, config):
    """Each pair of channels as a complex number that turns with its row or its column."""
    half = x.shape[-1] // 2
    pairs = x[..., :half] + 1j * x[..., half:]
    speeds = config.rotary_base ** (-np.arange(half // 2) / (half // 2))
    for cell in range(config.cells):
        row, column = cell // config.grid[1], cell % config.grid[1]
        turn = np.exp(1j * np.concatenate([row * speeds, column * speeds]))
        pairs[:, config.prefix_tokens + cell] *= turn
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def attention(weights, x, config):
    turn = {
        "none": lambda states: states,
        "rotary_1d": lambda states: official_rotary(states, config.rotary_base),
        "rotary_2d": lambda states: grid_rotary(states, config),
    }[config.positions]
    query, key, value = (
        part.reshape(*x.shape[:2], config.heads, -1)
        for part in np.split(x @ np.float64(weights["qkv"]["kernel"]), 3, axis=-1)
    )
    scores = np.einsum("blhc,bmhc->bhlm", turn(query), turn(key)) / np.sqrt(query.shape[-1])
    if config.relations != "none":
        scores = scores + np.float64(weights["relations"])[:, relation_kinds(config)]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    mixed = np.einsum("bhlm,bmhc->blhc", probabilities, value).reshape(x.shape)
    return mixed @ np.float64(weights["out"]["kernel"])


def convolution(weights, x, config):
    """Every cell by itself: the sum over the neighbours that it has."""
    rows, columns = config.grid
    window = np.float64(weights["window"]["kernel"]).reshape(3, 3, WIDTH, WIDTH)
    cells, mixed = x.reshape(-1, rows, columns, WIDTH), np.zeros((len(x), rows, columns, WIDTH))
    for row, column, down, right in np.ndindex(rows, columns, 3, 3):
        at = (row + down - 1, column + right - 1)
        if 0 <= at[0] < rows and 0 <= at[1] < columns:
            mixed[:, row, column] += cells[:, *at] @ window[down, right]
    return mixed.reshape(x.shape)


def block(weights, x, config):
    def residual(layer, norm, x):
        scale = np.float64(weights[norm]["scale"]) if config.norm_scale else 1.0
        return rms_norm(x + layer(x), scale) if config.norm == "post" else x + layer(rms_norm(x, scale))

    mix = {
        "swiglu": lambda x: swiglu(weights["mix"], x),
        "linear": lambda x: np.einsum("bld,lm->bmd", x, np.float64(weights["mix"].get("kernel"))),
        "attention": lambda x: attention(weights["mix"], x, config),
        "convolution": lambda x: convolution(weights["mix"], x, config),
    }[config.mixer]
    x = np.float64(x)
    if config.mixer == "swiglu":
        x = residual(mix, "mix_norm", x.transpose(0, 2, 1)).transpose(0, 2, 1)
    else:
        x = residual(mix, "mix_norm", x)
    return residual(lambda x: swiglu(weights["mlp"], x), "mlp_norm", x)


@pytest.mark.parametrize("use_scale", [False, True])
def test_rms_norm_equals_its_closed_form(use_scale):
    x = 0.1 * states()  # near epsilon, so that epsilon counts
    module = RMSNorm(EPSILON, use_scale)
    weights = random_weights(module, x)
    assert bool(weights) == use_scale
    close(run(module, weights, x), rms_norm(np.float64(x), weights.get("scale", 1.0)))


def test_rms_norm_starts_with_a_scale_of_one():
    x = states()
    scaled, plain = RMSNorm(EPSILON, True), RMSNorm(EPSILON, False)
    assert np.array_equal(scaled.init_with_output(jax.random.key(0), x)[0], plain.apply({}, x))


def test_rms_norm_of_bfloat16_is_the_float32_result_rounded_once():
    x = jnp.asarray(states(batch=20), jnp.bfloat16)
    module = RMSNorm(EPSILON, True)
    weights = {"scale": jnp.linspace(0.7, 1.3, WIDTH)}
    found = run(module, weights, x)
    once = rms_norm(np.float64(x), np.float64(weights["scale"])).astype(jnp.bfloat16)
    narrow = jnp.asarray(rms_norm(np.float64(x)), jnp.bfloat16) * jnp.asarray(weights["scale"], jnp.bfloat16)
    assert found.dtype == jnp.bfloat16
    assert np.mean(np.asarray(found) != once) < 0.01
    assert np.mean(np.asarray(narrow) != once) > 0.1  # what a scale applied in bfloat16 would give


def test_swiglu_equals_numpy():
    x = states()
    module = SwiGLU(24)
    weights = random_weights(module, x)
    assert weights["gate_up"]["kernel"].shape == (WIDTH, 48) and weights["down"]["kernel"].shape == (24, WIDTH)
    close(run(module, weights, x), swiglu(weights, np.float64(x)))


@pytest.mark.parametrize("shape", [(5, WIDTH), (2, 5, WIDTH), (2, 3, 5, WIDTH)])
@pytest.mark.parametrize("use_bias", [False, True])
def test_linear_is_a_matrix_product_over_the_last_axis(shape, use_bias):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    module = Linear(7, use_bias)
    weights = random_weights(module, x)
    assert set(weights) == ({"kernel", "bias"} if use_bias else {"kernel"})
    close(run(module, weights, x), np.float64(x) @ weights["kernel"] + weights.get("bias", 0.0))


def test_linear_starts_as_truncated_lecun_normal_without_bias():
    weights = Linear(400, use_bias=True).init(jax.random.key(0), jnp.zeros((1, 225)))["params"]
    kernel = np.asarray(weights["kernel"])
    assert kernel.std() == pytest.approx(1 / 15, rel=0.01) and abs(kernel.mean()) < 1e-3
    # A normal cut at two standard deviations keeps 0.8796 of its width.
    assert np.abs(kernel).max() == pytest.approx(2 / 15 / 0.87962566, rel=0.01)
    assert not np.any(weights["bias"])


def test_token_linear_equals_einsum():
    x = states()
    weights = random_weights(TokenLinear(), x)
    expected = np.einsum("bld,lm->bmd", np.float64(x), weights["kernel"])
    close(run(TokenLinear(), weights, x), expected)


def test_a_convolution_reaches_one_cell_further_with_every_application():
    config = config_for(mixer="convolution", norm="pre")
    x, other = states(config, batch=1), states(config, batch=1)
    other[0, 0] += 1
    weights = random_weights(Block(config), x)
    for reach in (1, 2, 3):
        x, other = run(Block(config), weights, x), run(Block(config), weights, other)
        rows, columns = np.divmod(np.arange(config.cells), GRID[1])
        assert np.array_equal((x != other).any(axis=-1)[0], np.maximum(rows, columns) <= reach)


@pytest.mark.parametrize("norm_scale", [False, True])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("mixer", MIXERS)
def test_block_equals_numpy(mixer, norm, norm_scale):
    config = config_for(mixer=mixer, norm=norm, norm_scale=norm_scale)
    x = states(config)
    weights = random_weights(Block(config), x)
    found = run(Block(config), weights, x)
    close(found, block(weights, x, config))
    other = config_for(mixer=mixer, norm="pre" if norm == "post" else "post", norm_scale=norm_scale)
    assert np.abs(found - block(weights, x, other)).max() > 0.1


def test_swiglu_mixing_normalises_over_tokens_and_linear_mixing_over_channels():
    mean_square = {}
    for mixer in ("swiglu", "linear"):
        config = ModelConfig(grid=GRID, width=WIDTH, mixer=mixer)
        x = states(config)
        weights = random_weights(Block(config), x)
        _, seen = Block(config).apply({"params": weights}, x, capture_intermediates=True)
        mixed = np.asarray(seen["intermediates"]["mix_norm"]["__call__"][0])
        mixed = mixed.swapaxes(1, 2) if mixed.shape[-1] == config.tokens else mixed  # (B, L, D)
        mean_square[mixer] = {axis: (mixed**2).mean(axis=axis) for axis in (1, 2)}
    close(mean_square["swiglu"][1], np.ones((2, WIDTH)), rtol=1e-3)
    close(mean_square["linear"][2], np.ones((2, 12)), rtol=1e-3)
    assert np.ptp(mean_square["swiglu"][2]) > 0.1 and np.ptp(mean_square["linear"][1]) > 0.1


@pytest.mark.parametrize("mixer", MIXERS)
def test_without_weights_a_pre_norm_block_is_the_identity_and_a_post_norm_block_normalises(mixer):
    x = 3 * states()
    outputs = {}
    for norm in ("pre", "post"):
        module = Block(config_for(mixer=mixer, norm=norm))
        zeros = jax.tree.map(np.zeros_like, random_weights(module, x))
        outputs[norm] = run(module, zeros, x)
    assert np.array_equal(outputs["pre"], x)
    over_tokens = rms_norm(x.swapaxes(1, 2)).swapaxes(1, 2)
    close(outputs["post"], rms_norm(over_tokens if mixer == "swiglu" else rms_norm(x)))


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_block_with_an_identity_start_is_the_identity_until_it_is_trained(mixer):
    x = jnp.asarray(states())
    for starts, same in ((True, True), (False, False)):
        module = Block(config_for(mixer=mixer, norm="pre", identity_start=starts))
        weights = jax.jit(module.init)(jax.random.key(0), x)["params"]
        assert np.array_equal(run(module, weights, x), x) == same
        squares = jax.jit(jax.grad(lambda weights, module=module: (module.apply({"params": weights}, x) ** 2).sum()))
        gradient = squares(weights)
        last = [leaf for path, leaf in jax.tree.leaves_with_path(gradient) if "norm" not in str(path)]
        assert any(np.any(leaf) for leaf in last)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_stack_applies_its_blocks_in_order_and_ends_pre_norm_with_a_norm(norm):
    config = config_for(norm=norm, norm_scale=True, layers=3)
    x = states(config)
    weights = random_weights(Stack(config), x)
    assert set(weights) == {"block_0", "block_1", "block_2"} | ({"norm"} if norm == "pre" else set())
    expected = x
    for index in range(3):
        expected = block(weights[f"block_{index}"], expected, config)
    if norm == "pre":
        expected = rms_norm(expected, weights["norm"]["scale"])
    close(run(Stack(config), weights, x), expected)


def scores_everywhere(config: ModelConfig):
    """Score of one query at token i with one key at token j, (L, L)."""
    query, key = np.random.default_rng(0).normal(size=(2, 1, 1, 1, WIDTH // HEADS)).astype(np.float32)
    places = (1, 1, config.tokens, WIDTH // HEADS)
    turned = [np.asarray(rotate(jnp.broadcast_to(v, places), rotary_angles(config)))[0, 0] for v in (query, key)]
    return turned[0] @ turned[1].T


def test_rotary_1d_scores_depend_on_the_distance_only():
    config = config_for(mixer="attention", positions="rotary_1d", prefix_tokens=2, prefix_width=5)
    scores = scores_everywhere(config)
    diagonals = [np.diagonal(scores, distance) for distance in range(-13, 14)]
    for diagonal in diagonals:
        close(diagonal, np.full_like(diagonal, diagonal[0]), rtol=1e-4)
    assert np.diff(np.sort([diagonal[0] for diagonal in diagonals])).min() > 1e-5  # all 27 distances are told apart


def test_rotary_2d_scores_depend_on_the_row_and_column_distance_only():
    config = config_for(mixer="attention", positions="rotary_2d")
    scores = scores_everywhere(config).reshape(*GRID, *GRID)
    close(scores[1:, :, 1:], scores[:-1, :, :-1], rtol=1e-4)
    close(scores[:, 1:, :, 1:], scores[:, :-1, :, :-1], rtol=1e-4)
    by_distance = {
        (down - 2, right - 3): scores[max(0, 2 - down), max(0, 3 - right), max(0, down - 2), max(0, right - 3)]
        for down in range(5)
        for right in range(7)
    }
    values = np.sort(list(by_distance.values()))
    assert len(values) == 35 and np.diff(values).min() > 1e-5  # rows, columns and signs are all told apart


def test_rotary_1d_equals_the_official_rotate_half_form_and_counts_the_prefix():
    config = config_for(mixer="attention", positions="rotary_1d", prefix_tokens=3, prefix_width=5, rotary_base=100.0)
    x = np.random.default_rng(0).normal(size=(2, HEADS, config.tokens, 8)).astype(np.float32)
    found = rotate(jnp.asarray(x), rotary_angles(config))
    expected = official_rotary(np.float64(x).transpose(0, 2, 1, 3), 100.0).transpose(0, 2, 1, 3)
    assert config.tokens == 15
    close(found, expected)
    assert np.array_equal(found[:, :, 0], x[:, :, 0])
    assert np.abs(found - x)[:, :, 1:].max(axis=(0, 1, 3)).min() > 0.1


def test_rotary_2d_leaves_the_prefix_alone_and_equals_complex_turns():
    config = config_for(mixer="attention", positions="rotary_2d", prefix_tokens=2, prefix_width=5)
    x = np.random.default_rng(0).normal(size=(2, HEADS, config.tokens, 8)).astype(np.float32)
    found = rotate(jnp.asarray(x), rotary_angles(config))
    assert np.array_equal(found[:, :, :3], x[:, :, :3])  # the prefix, and the cell in row 0 and column 0
    assert np.abs(found - x)[:, :, 3:].max(axis=(0, 1, 3)).min() > 0.1
    close(found, grid_rotary(np.float64(x).transpose(0, 2, 1, 3), config).transpose(0, 2, 1, 3))


@pytest.mark.parametrize(("positions", "prefix"), [("none", 0), ("rotary_1d", 0), ("rotary_2d", 0), ("rotary_2d", 2)])
def test_attention_equals_numpy(positions, prefix):
    config = config_for(mixer="attention", positions=positions, prefix_tokens=prefix, prefix_width=5 * (prefix > 0))
    x = states(config)
    module = SelfAttention(config)
    weights = random_weights(module, x)
    close(run(module, weights, x), attention(weights, np.float64(x), config))


def test_relations_of_two_cells_are_those_of_the_board():
    config = ModelConfig(grid=(4, 6), mixer="attention", relations="boxes", box=(2, 3), prefix_tokens=1, prefix_width=2)
    kinds = relation_kinds(config)
    assert kinds.shape == (25, 25) and (kinds == kinds.T).all()
    assert (kinds[0] == RELATIONS).all() and (kinds[1:, 1:] < RELATIONS).all()
    cells = [(row, column) for row in range(4) for column in range(6)]
    for a, (row, column) in enumerate(cells, start=1):
        for b, (other_row, other_column) in enumerate(cells, start=1):
            same_box = row // 2 == other_row // 2 and column // 3 == other_column // 3
            assert kinds[a, b] == (row == other_row) + 2 * (column == other_column) + 4 * same_box
    lines = relation_kinds(dataclasses.replace(config, relations="lines", prefix_tokens=0, prefix_width=0))
    np.testing.assert_array_equal(lines, kinds[1:, 1:] % 4)
    near = relation_kinds(dataclasses.replace(config, relations="neighbours", prefix_tokens=0, prefix_width=0))
    assert [near[7, cell] for cell in (8, 6, 13, 1)] == [4, 5, 6, 7] and near[7, 10] == 1 and near[7, 19] == 2
    assert (near >= 4).sum() == 2 * (4 * 5 + 3 * 6)


@pytest.mark.parametrize("relations", ["lines", "boxes", "neighbours"])
@pytest.mark.parametrize("prefix", [0, 1])
def test_attention_with_relations_equals_numpy(relations, prefix):
    options = {"prefix_tokens": prefix, "prefix_width": 5 * prefix, "relations": relations, "box": (1, GRID[1])}
    config = config_for(mixer="attention", positions="rotary_2d", **options)
    x = states(config)
    module = SelfAttention(config)
    weights = random_weights(module, x)
    assert weights["relations"].shape == (config.heads, RELATIONS + 1)
    close(run(module, weights, x), attention(weights, np.float64(x), config))
    without = dict(weights, relations=jnp.zeros_like(weights["relations"]))
    assert np.abs(run(module, weights, x) - run(module, without, x)).max() > 1e-2


@pytest.mark.parametrize(("positions", "equivariant"), [("none", True), ("rotary_1d", False), ("rotary_2d", False)])
def test_attention_is_permutation_equivariant_only_without_positions(positions, equivariant):
    module = SelfAttention(config_for(mixer="attention", positions=positions))
    x = states()
    weights = random_weights(module, x)
    order = np.random.default_rng(2).permutation(x.shape[1])
    permuted_last = run(module, weights, x)[:, order]
    permuted_first = run(module, weights, x[:, order])
    assert np.abs(permuted_last - x[:, order]).max() > 0.1
    difference = np.abs(permuted_last - permuted_first).max()
    assert difference < 1e-5 if equivariant else difference > 0.01


def products(jaxpr):
    """Types of the operands of every matrix product in a program."""
    for equation in equations(jaxpr):
        if equation.primitive.name == "dot_general":
            yield from (variable.aval.dtype for variable in equation.invars)


def test_a_rotation_in_bfloat16_is_the_float32_result_rounded_once():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 2, 9, 8)), jnp.bfloat16)
    angles = jnp.asarray(np.random.default_rng(1).uniform(0, 6, (9, 4)), jnp.float32)
    once = rotate(x.astype(jnp.float32), angles).astype(jnp.bfloat16)
    assert rotate(x, angles).dtype == jnp.bfloat16
    np.testing.assert_array_equal(rotate(x, angles), once)
    assert np.mean(np.asarray(rotate(x, angles.astype(jnp.bfloat16))) != once) > 0.1  # angles in bfloat16 would show


def test_the_softmax_of_attention_in_bfloat16_is_the_float32_result_rounded_once(monkeypatch):
    config, seen = config_for(mixer="attention", dtype="bfloat16"), []
    softmax = nn.softmax

    def spied(scores, axis):
        seen.append(scores)
        return softmax(scores, axis=axis)

    monkeypatch.setattr(nn, "softmax", spied)
    x = jnp.asarray(states(), jnp.bfloat16)
    module = SelfAttention(config)
    weights = random_weights(module, x)
    found = run(module, weights, x)
    scores = seen[-1]  # those before it are from making the weights
    assert scores.dtype == jnp.float32
    shares = np.exp(np.float64(scores)) / np.exp(np.float64(scores)).sum(axis=-1, keepdims=True)
    narrow = softmax(scores.astype(jnp.bfloat16), axis=-1)
    assert np.mean(np.asarray(narrow) != shares.astype(jnp.bfloat16)) > 0.1  # what a softmax in bfloat16 would give
    kernels = {name: jnp.asarray(weights[name]["kernel"], jnp.bfloat16) for name in ("qkv", "out")}
    value = (x @ kernels["qkv"])[..., 2 * WIDTH :].reshape(*x.shape[:2], HEADS, -1).swapaxes(1, 2)
    mixed = (jnp.asarray(shares.astype(jnp.bfloat16)) @ value).swapaxes(1, 2).reshape(x.shape) @ kernels["out"]
    assert np.mean(np.asarray(mixed) != found) < 0.02


@pytest.mark.parametrize("mixer", MIXERS)
def test_bfloat16_stays_near_float64_without_being_float32(mixer):
    config = config_for(mixer=mixer, positions="rotary_1d" if mixer == "attention" else "none", dtype="bfloat16")
    x = states()
    weights = random_weights(Block(config), x)
    found = run(Block(config), weights, x.astype(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    error = np.sqrt(np.mean((np.float64(found) - block(weights, x, config)) ** 2))  # of values with a mean square of 1
    assert 1e-3 < error < 0.02


@pytest.mark.parametrize("mixer", MIXERS)
def test_bfloat16_runs_every_product_in_bfloat16_with_weights_and_logits_in_float32(mixer):
    positions = "rotary_1d" if mixer == "attention" else "none"
    config = Config().override(**{"model.mixer": mixer, "model.positions": positions, "model.dtype": "bfloat16"})
    params = jax.eval_shape(lambda: model.initialise(config.model, jax.random.key(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}

    def step(params, inputs):
        x, (y, z) = model.embed(config, params, inputs), model.initial(config, params, 4)
        y, z = model.supervision_step(config, params, x, y, z)
        return (x, y, z), model.heads(config, params, y)

    inputs = jax.ShapeDtypeStruct((4, 16), jnp.int32)
    carried, output = jax.eval_shape(step, params, inputs)
    assert {leaf.dtype for leaf in carried} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in output} == {jnp.dtype(jnp.float32)}
    found = set(products(jax.make_jaxpr(step)(params, inputs).jaxpr))
    assert found == {jnp.dtype(jnp.bfloat16)}
