"""Recursions and gradient modes, on functions whose results and derivatives are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.core.network import recursion

T, n, N_sup = 3, 4, 3


def affine(weight, shift):
    """A net for one number per state: z = w (x + y + z) + b."""
    return lambda x, y, z: weight * (x + y + z) + shift


def answer(weight, shift):
    return lambda y, z: weight * (y + z) + shift


@pytest.mark.parametrize("gradient", ["full", "last_cycle", "one_step"])
@pytest.mark.parametrize("unroll", [False, True])
def test_alternating_recursion_equals_its_closed_form(gradient, unroll):
    w, b, x = 0.5, 0.25, 2.0
    y, z = 1.0, -1.0
    new_y, new_z = recursion.alternating(
        affine(w, b), answer(w, b), x, jnp.float32(y), jnp.float32(z), T=T, n=n, gradient=gradient, unroll=unroll
    )
    for _ in range(T):
        # n affine updates z -> w z + c have the closed form w^n z + c (1 - w^n) / (1 - w).
        constant = w * (x + y) + b
        z = w**n * z + constant * (1 - w**n) / (1 - w)
        y = w * (y + z) + b
    np.testing.assert_allclose([new_y, new_z], [y, z], rtol=1e-6)


@pytest.mark.parametrize("gradient", ["full", "last_cycle", "one_step"])
def test_joint_recursion_equals_a_matrix_power(gradient):
    matrix = np.array([[0.3, 0.2], [-0.4, 0.5]], np.float32)

    def update(x, y, z):
        new = matrix @ jnp.stack([y, z])
        return new[0], new[1]

    state = recursion.joint(update, 0.0, jnp.float32(1.0), jnp.float32(2.0), T=1, n=n, gradient=gradient)
    expected = np.linalg.matrix_power(matrix, n) @ np.array([1.0, 2.0])
    np.testing.assert_allclose(state, expected, rtol=1e-5)


def step_gradients(gradient: str):
    """Gradient of the answer with respect to a weight of its own for every evaluation, (T, n) and (T,)."""
    calls = {"z": 0, "y": 0}

    def loss(weights):
        weights_z, weights_y = weights
        calls["z"] = calls["y"] = 0

        def update_z(x, y, z):
            weight = weights_z.reshape(-1)[calls["z"]]
            calls["z"] += 1
            return jnp.tanh(weight * (x + y + z))

        def update_y(y, z):
            weight = weights_y[calls["y"]]
            calls["y"] += 1
            return jnp.tanh(weight * (y + z))

        y, _ = recursion.alternating(update_z, update_y, 0.3, 0.1, -0.2, T=T, n=n, gradient=gradient, unroll=True)
        return y

    weights = jnp.linspace(0.4, 0.9, T * n).reshape(T, n), jnp.linspace(0.5, 0.8, T)
    return jax.grad(loss)(weights)


def test_full_gradient_reaches_every_evaluation():
    gradient_z, gradient_y = step_gradients("full")
    assert (gradient_z != 0).all() and (gradient_y != 0).all()


def test_last_cycle_gradient_is_exactly_zero_before_the_last_cycle():
    gradient_z, gradient_y = step_gradients("last_cycle")
    assert (gradient_z[:-1] == 0).all() and (gradient_y[:-1] == 0).all()
    assert (gradient_z[-1] != 0).all() and gradient_y[-1] != 0


def test_one_step_gradient_is_exactly_zero_but_for_the_last_update_of_z_and_of_y():
    gradient_z, gradient_y = step_gradients("one_step")
    assert (gradient_z.reshape(-1)[:-1] == 0).all() and (gradient_y[:-1] == 0).all()
    assert gradient_z[-1, -1] != 0 and gradient_y[-1] != 0


def written_out(weight, x, y, z, gradient):
    """The definition of the modes as plain loops with one weight."""
    stop = jax.lax.stop_gradient

    def frozen(value):
        return stop(value)

    for cycle in range(T):
        for update in range(n):
            live = {
                "full": True,
                "last_cycle": cycle == T - 1,
                "one_step": cycle == T - 1 and update == n - 1,
            }[gradient]
            z = jnp.tanh(weight * (x + y + z)) if live else frozen(jnp.tanh(weight * (x + y + z)))
        new_y = jnp.tanh(weight * (y + z))
        y = new_y if gradient == "full" or cycle == T - 1 else frozen(new_y)
        # A mode that cuts between cycles cuts both states there.
        if gradient != "full" and cycle < T - 1:
            z = frozen(z)
    return y + 0.5 * z


@pytest.mark.parametrize("segment", [0, 2, 10])  # within a cycle, and two cycles of five evaluations
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("gradient", ["full", "last_cycle", "one_step"])
def test_gradients_equal_the_written_out_loops(gradient, unroll, segment):
    def scanned(weight):
        y, z = recursion.alternating(
            lambda x, y, z: jnp.tanh(weight * (x + y + z)),
            lambda y, z: jnp.tanh(weight * (y + z)),
            0.3,
            jnp.float32(0.1),
            jnp.float32(-0.2),
            T=T,
            n=n,
            gradient=gradient,
            unroll=unroll,
            segment=segment,
        )
        return y + 0.5 * z

    value, slope = jax.value_and_grad(scanned)(0.7)
    expected, expected_slope = jax.value_and_grad(written_out)(0.7, 0.3, 0.1, -0.2, gradient)
    np.testing.assert_allclose([value, slope], [expected, expected_slope], rtol=1e-5)


@pytest.mark.parametrize(("gradient", "live"), [("full", 2 * n), ("last_cycle", n), ("one_step", 1)])
def test_joint_gradient_reaches_the_last_passes_only(gradient, live):
    def loss(weights):
        calls = iter(range(2 * n))

        def update(x, y, z):
            weight = weights[next(calls)]
            return jnp.tanh(weight * (x + y + z)), jnp.tanh(weight * (x - y + z))

        return recursion.joint(update, 0.3, 0.1, -0.2, T=2, n=n, gradient=gradient, unroll=True)[0]

    gradients = np.asarray(jax.grad(loss)(jnp.linspace(0.4, 0.9, 2 * n)))
    assert (gradients != 0).tolist() == [index >= 2 * n - live for index in range(2 * n)]


def supervised(weights, detach, unroll, N_sup=N_sup):
    _, outputs = recursion.supervise(
        lambda y, z: (jnp.tanh(weights * (y + z)), jnp.tanh(weights * z)),
        lambda y: y,
        jnp.float32(0.5),
        jnp.float32(0.2),
        N_sup=N_sup,
        detach=detach,
        unroll=unroll,
    )
    return outputs


@pytest.mark.parametrize("unroll", [False, True])
def test_supervision_reads_every_step(unroll):
    outputs = supervised(jnp.float32(0.9), True, unroll)
    y, z = 0.5, 0.2
    for k in range(N_sup):
        y, z = np.tanh(0.9 * (y + z)), np.tanh(0.9 * z)
        np.testing.assert_allclose(outputs[k], y, rtol=1e-6)


@pytest.mark.parametrize("unroll", [False, True])
def test_detaching_cuts_the_gradient_between_steps_and_only_there(unroll):
    def last(weight, detach):
        return supervised(weight, detach, unroll)[-1]

    def one_step_from(weight, y, z):
        return jnp.tanh(weight * (y + z))

    weight, y, z = jnp.float32(0.9), jnp.float32(0.5), jnp.float32(0.2)
    for _ in range(N_sup - 1):
        y, z = jnp.tanh(weight * (y + z)), jnp.tanh(weight * z)
    local = jax.grad(one_step_from)(weight, y, z)
    np.testing.assert_allclose(jax.grad(last)(weight, True), local, rtol=1e-6)
    assert abs(jax.grad(last)(weight, False) - local) > 1e-2


def test_a_step_reaches_its_own_initial_state_although_steps_are_detached():
    def first_output(y):
        _, outputs = recursion.supervise(
            lambda y, z: (jnp.tanh(y), z), lambda y: y, y, jnp.float32(0.0), N_sup=2, detach=True
        )
        return outputs

    gradient = jax.jacobian(first_output)(jnp.float32(0.5))
    assert gradient[0] != 0 and gradient[1] == 0
