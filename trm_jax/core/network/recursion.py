"""The recursions, as pure functions over `jax.lax.scan` that take the net as an argument.

x question, y answer, z latent state, each (B, L, D); z may be None where the answer is the only state.
The gradient modes have exact meanings, which the tests prove by zeros and by written-out loops:

- ``full``: through every evaluation of the supervision step;
- ``last_cycle``: cycles 1..T-1 without gradient, the last one in full (Jolicoeur-Martineau 2025, section 4.1);
- ``one_step``: only the last evaluation that updates z and the last that updates y (Wang et al. 2025, HRM, eq. 6).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from trm_jax.core.accelerator import on_cpu


def repeat(function: Callable[[Any], Any], state: Any, times: int, unroll: bool = False, segment: int = 0) -> Any:
    """Apply ``function`` to ``state`` so many times: as a scan, or written out.

    With a ``segment`` the backward pass stores every so many-th state only and computes those between them again.
    """
    if 0 < segment < times:
        segments, rest = divmod(times, segment)
        run = recompute(lambda state: repeat(function, state, segment, unroll), unroll)
        return repeat(function, repeat(run, state, segments, unroll), rest, unroll)
    if unroll or times <= 1:  # a scan of one step would compile a loop for nothing
        for _ in range(times):
            state = function(state)
        return state
    return jax.lax.scan(lambda carry, _: (function(carry), None), state, None, length=times)[0]


def recompute(function: Callable, unroll: bool = False) -> Callable:
    """The function, with what happens inside it computed again in the backward pass instead of stored.

    Where it runs inside a scan no barrier is needed to keep the two passes apart; processors keep it, whose programs
    are timed with it.
    """
    return jax.checkpoint(function, prevent_cse=unroll or on_cpu())


def alternating(
    update_z: Callable, update_y: Callable, x, y, z, *, T: int, n: int, gradient: str = "full",
    unroll: bool = False, segment: int = 0,
):  # fmt: skip
    """One supervision step of the paper: T times (n times ``z = update_z(x, y, z)``, then ``y = update_y(y, z)``).

    Returns the new (y, z).
    """

    def latents(y, z, times):
        return repeat(lambda z: update_z(x, y, z), z, times, unroll, segment)

    def cycle(state):
        y, z = state
        z = latents(y, z, n)
        return update_y(y, z), z

    if gradient == "full":
        cycles = max(1, segment // (n + 1)) if segment else 0  # as many evaluations, in whole cycles
        return repeat(cycle, (y, z), T, unroll, cycles)
    y, z = stop_gradient(repeat(cycle, (y, z), T - 1, unroll))
    if gradient == "one_step":
        z = stop_gradient(latents(y, z, n - 1))
        z = update_z(x, y, z)
        return update_y(y, z), z
    return cycle((y, z))


def single(
    update: Callable, finish: Callable, x, y, *, T: int, n: int, gradient: str = "full",
    unroll: bool = False, segment: int = 0,
):  # fmt: skip
    """One supervision step of the official trm_singlez: T times (n times ``y = update(x, y)``, then ``y = finish(y)``).

    Returns the new y.
    """

    def passes(y, times):
        return repeat(lambda y: update(x, y), y, times, unroll, segment)

    def cycle(y):
        return finish(passes(y, n))

    if gradient == "full":
        return repeat(cycle, y, T, unroll, max(1, segment // (n + 1)) if segment else 0)
    y = stop_gradient(repeat(cycle, y, T - 1, unroll))
    return finish(stop_gradient(passes(y, n))) if gradient == "one_step" else cycle(y)


def joint(update: Callable, x, y, z, *, T: int, n: int, gradient: str = "full", unroll: bool = False, segment: int = 0):
    """One supervision step of T cycles of n passes ``y, z = update(x, y, z)``.

    The teaching form has T = 1; a net without z runs its alternating schedule through here too.
    Returns the new (y, z).
    """

    def passes(state, times):
        return repeat(lambda state: update(x, *state), state, times, unroll, segment)

    if gradient == "full":
        return passes((y, z), T * n)
    live = 1 if gradient == "one_step" else n
    return passes(stop_gradient(passes((y, z), T * n - live)), live)


def supervise(step: Callable, read: Callable, y, z, *, N_sup: int, detach: bool, unroll: bool = False):
    """Run N_sup supervision steps and read the answer after each one.

    ``step`` maps (y, z) to the new (y, z); ``read`` maps y to what is kept of it. With ``detach`` no gradient crosses
    from one step to the one before.
    Returns the last (y, z) and the outputs, each with a leading axis N_sup.
    """

    def supervision_step(state, _):
        y, z = step(*state)
        output = read(y)
        return (stop_gradient((y, z)) if detach else (y, z)), output

    if not unroll:
        return jax.lax.scan(supervision_step, (y, z), None, length=N_sup)
    state, outputs = (y, z), []
    for _ in range(N_sup):
        state, output = supervision_step(state, None)
        outputs.append(output)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
