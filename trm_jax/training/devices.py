"""The axes `seed` and `data`: one compiled program that runs a function for many models; the place that donates.

The same code runs on one device, on several, and on several processes: all that changes is the mesh.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from trm_jax.core.accelerator import cudnn_attention, on_cpu
from trm_jax.core.config import Config, RunConfig

WIDE = 256


def run_mesh(config: Config, devices: list[Any] | None = None) -> Mesh:
    """Devices of a run, as `seed_mesh` with as many devices to a batch as ``run.data_parallel`` allows.

    Where it says nothing, all that are left, unless `cpu_keeps_batch_whole` holds.
    """
    devices = jax.devices() if devices is None else devices
    shares = 1 if cpu_keeps_batch_whole(config, devices) else config.run.data_parallel or len(devices)
    return seed_mesh(len(config.run.seeds), devices, config.run.batch, shares)


def cpu_keeps_batch_whole(config: Config, devices: list[Any]) -> bool:
    """Whether a batch stays on one device although others are left: in a wide net on one CPU, whose products use
    every core anyway (docs/log.md has the times)."""
    one_cpu = devices[0].platform == "cpu" and len({device.process_index for device in devices}) == 1
    return one_cpu and not config.run.data_parallel and config.model.net_width >= WIDE


def seed_mesh(seeds: int, devices: list[Any] | None = None, batch: int = 1, shares: int = 1) -> Mesh:
    """Devices on the axes ``seed`` and ``data``, so that every device has equal work.

    As many as can be used: those on ``seed`` divide the number of seeds and need no communication, those on ``data``,
    up to ``shares``, divide the batch; of equally large meshes the one with more on ``seed``. Neighbours on ``data``
    are neighbours in the machine (`jax.make_mesh`). Raises ValueError when a process would be left without work,
    because it must take part in every program.
    """
    devices = jax.devices() if devices is None else devices
    groups = [count for count in range(1, len(devices) + 1) if seeds % count == 0]
    most = {seed: min(shares, len(devices) // seed) for seed in groups}
    shapes = [(seed, max(count for count in range(1, most[seed] + 1) if batch % count == 0)) for seed in groups]
    seed, data = max(shapes, key=lambda shape: (shape[0] * shape[1], shape[0]))
    used = devices[: seed * data]
    idle = {device.process_index for device in devices} - {device.process_index for device in used}
    if idle:
        raise ValueError(
            f"{seeds} seeds and batches of {batch} can use {len(used)} of {len(devices)} devices, which leaves "
            f"process {min(idle)} without work; start fewer processes, or change run.seeds, run.batch or "
            "run.data_parallel"
        )
    return jax.make_mesh((seed, data), ("seed", "data"), axis_types=(AxisType.Auto,) * 2, devices=used)


def seeds_at_once(config: Config) -> int:
    """Seeds that a device computes side by side; 0 for all it has.

    One on CPU, where a matrix product with its own weights for each seed has no fast kernel (docs/log.md has the
    times), and one where cuDNN would be asked for a bias of each seed.
    """
    if config.run.seeds_at_once:
        return config.run.seeds_at_once
    return int(on_cpu() or (config.model.relations != "none" and cudnn_attention(config.model)))


def placed(run: RunConfig) -> RunConfig:
    """Only what says where a run computes, so that runs that differ in the rest share their programs."""
    return replace(
        RunConfig(), batch=run.batch, seeds=run.seeds, data_parallel=run.data_parallel, seeds_at_once=run.seeds_at_once
    )


def over_seeds(function: Callable, mesh: Mesh, donate: bool = False, at_once: int = 1, mapped: int = 1) -> Any:
    """Compile ``function(state, *shared)`` for a leading axis S of the state, sharded over the devices of the mesh.

    The first ``mapped`` arguments have the axis S, the others are the same for all seeds. A device vectorises
    ``at_once`` of its seeds (0: all), one such group after another. ``donate`` lets the result take the memory of the
    state.
    """

    def local(*arguments):
        of_seeds, shared = arguments[:mapped], arguments[mapped:]

        def seed(own):
            return function(*own, *shared)

        mine = len(jax.tree.leaves(of_seeds)[0])
        if at_once == 0 or at_once >= mine > 1:
            return jax.vmap(seed)(of_seeds)
        return jax.lax.map(seed, of_seeds, batch_size=at_once if at_once > 1 else None)

    def run(*arguments):
        specs = tuple(P("seed") if index < mapped else P() for index in range(len(arguments)))
        # Only `seed` is split by hand; along `data` the compiler divides the work, as `shard_batch` asks it to.
        sharded = jax.shard_map(
            local, mesh=mesh, in_specs=specs, out_specs=P("seed"), axis_names={"seed"}, check_vma=False
        )
        return sharded(*arguments)

    # Without a fixed sharding a carried state would come back split along `data`, and the next call compile anew.
    result = NamedSharding(mesh, P("seed"))
    return jax.jit(run, donate_argnums=(0,) if donate else (), out_shardings=result)


def place_seeds(mesh: Mesh, tree):
    """Put arrays with a leading axis S on the devices of the mesh."""
    return _place(NamedSharding(mesh, P("seed")), tree)


def replicate(mesh: Mesh, tree):
    """Put arrays that all seeds share on every device of the mesh. Each process must give the same values."""
    return _place(NamedSharding(mesh, P()), tree)


def _place(sharding: NamedSharding, tree):
    def put(leaf):
        if sharding.is_fully_addressable:
            return jax.device_put(leaf, sharding)
        host = np.asarray(leaf)
        host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype))
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree)


def to_host(tree):
    """Arrays as numpy, whole on every process wherever their parts lie; all processes must call it together."""
    return multihost_utils.process_allgather(tree, tiled=True)
