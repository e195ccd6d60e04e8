"""What augmentation may do to a wafer, and that it does nothing else."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trm_jax.wafer.augment import Augmentation, add_failures, augment_wafers, quarter_turns
from trm_jax.wafer.maps.grid import FULL

SIZE, COUNT = 12, 1000
STILL = {"noise": (0.0, 0.0)}


def wafer():
    """A wafer with no symmetry at all: a notched disc with three failing dies."""
    rows, columns = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    dies = rows**2 + columns**2 < (SIZE / 2) ** 2
    dies[0, 3] = dies[5, 11] = False
    failing = np.zeros((SIZE, SIZE), bool)
    failing[2, 4] = failing[3, 8] = failing[7, 9] = True
    return (np.stack([failing, dies], axis=-1) * FULL).astype(np.uint8)


def changed(options, seed=0):
    grids = jnp.asarray(np.broadcast_to(wafer(), (COUNT, SIZE, SIZE, 2)))
    return np.asarray(jax.jit(partial(augment_wafers, options=options))(jax.random.key(seed), grids))


def images():
    """The eight images of a square under turns and mirrors, by independent numpy."""
    turned = [np.rot90(wafer(), turns) for turns in range(4)]
    return [image.tobytes() for one in turned for image in (one, one[:, ::-1])]


def shares(grids, of):
    found = [grid.tobytes() for grid in grids]
    return np.array([found.count(image) for image in of]) / len(found)


def test_only_turns_and_mirrors_move_a_wafer():
    assert shares(changed(Augmentation(untouched=0.0, compose=True, **STILL)), images()).sum() == 1
    assert len(set(images())) == 8


def test_the_share_of_noise_and_the_cells_it_hits_have_keys_of_their_own():
    """With one key the first cell would be hit where its draw is below itself: never."""
    grid = jnp.asarray(np.stack([np.zeros((4, 4)), np.ones((4, 4))], axis=-1), jnp.uint8)
    noisy = jax.vmap(lambda key: add_failures(key, grid, (0.0, 1.0)))(jax.random.split(jax.random.key(0), 400))
    np.testing.assert_allclose(np.asarray(noisy)[..., 0].mean(axis=0), 0.5, atol=0.1)


def test_composition_reaches_all_eight_images():
    found = shares(changed(Augmentation(untouched=0.0, compose=True, **STILL)), images())
    assert (found > 0.08).all()


def test_one_kind_at_a_time_and_the_stated_share_stays_as_it_is():
    found = shares(changed(Augmentation(**STILL)), images())
    # Untouched 0.3, and a third of the rest is noise, which is off here; turns and mirrors always move.
    assert found[0] == pytest.approx(0.3 + 0.7 / 3, abs=0.04)
    turned = found[[2, 4, 6]].sum()
    mirrored = found[[1, 5]].sum()
    assert turned == pytest.approx(0.7 / 3, abs=0.04) and mirrored == pytest.approx(0.7 / 3, abs=0.04)
    assert found[[3, 7]].sum() == 0  # diagonal mirrors are a turn and a mirror
    assert shares(changed(Augmentation(untouched=1.0)), images())[0] == 1


def test_noise_turns_the_stated_share_of_passing_dies_and_nothing_else():
    grids = np.zeros((100, 64, 64, 2), np.uint8)
    grids[:, :, :60, 1] = grids[:, :, :3, 0] = FULL
    grids[:, :, 3:5, 0] = 99  # cells that fail in part may still get worse, up to their die part
    keys = jax.random.split(jax.random.key(0), len(grids))
    noisy = np.asarray(jax.vmap(lambda key, grid: add_failures(key, grid, (0.01, 0.02)))(keys, jnp.asarray(grids)))
    np.testing.assert_array_equal(noisy[..., 1], grids[..., 1])
    assert (noisy[..., 0] >= grids[..., 0]).all() and (noisy[..., 0] <= noisy[..., 1]).all()
    passing = (grids[0, ..., 1] > 0) & (grids[0, ..., 0] == 0)
    per_wafer = (noisy[:, passing, 0] > 0).mean(axis=1)
    assert 0.0145 < per_wafer.mean() < 0.0155
    assert per_wafer.min() < 0.0125 and per_wafer.max() > 0.0175  # the share itself is drawn


@pytest.mark.parametrize("turns", range(4))
def test_quarter_turns(turns):
    np.testing.assert_array_equal(quarter_turns(jnp.asarray(wafer()), jnp.asarray(turns)), np.rot90(wafer(), turns))


def test_the_shape_of_the_wafer_is_kept_exactly():
    grids = changed(Augmentation(untouched=0.0, compose=True))
    masks = {np.frombuffer(image, np.uint8).reshape(SIZE, SIZE, 2)[..., 1].tobytes() for image in images()}
    assert {grid[..., 1].tobytes() for grid in grids} <= masks


def test_the_same_key_gives_the_same_grids():
    options = Augmentation(compose=True)
    np.testing.assert_array_equal(changed(options, 3), changed(options, 3))
    assert (changed(options, 3) != changed(options, 4)).any()
