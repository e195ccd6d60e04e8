"""Settings of the jax runtime that an experiment makes once, before it computes anything, and its processes."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trm_jax.support.machine import cores

# After this time without a sign of life from a process, or of a process waiting for the others at its end, all stop.
HEARTBEAT_SECONDS = 60
SHUTDOWN_SECONDS = 20


def configure(cache: Path | None = None) -> None:
    """Let every core be a device of its own on CPU, so that seeds can be sharded, and keep compiled programs on disk.

    Joins the other processes of the run where `process_arguments` finds any. Must run before the first computation.
    ``cache`` defaults to ``$TRM_CACHE``, else ``~/.cache/trm_jax``. Raises ValueError, or RuntimeError when the
    processes do not find each other.
    """
    import jax  # here and below, so that a command can explain its options without it

    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())
    cache = cache or Path(os.environ.get("TRM_CACHE", Path.home() / ".cache" / "trm_jax"))
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    # On a TPU libtpu is there, and jax has seen chips: else it sets the variable.
    tpu = importlib.util.find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in os.environ
    arguments = process_arguments(os.environ, tpu)
    if arguments is not None:
        jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM, which must end a run
        jax.distributed.initialize(
            **arguments, heartbeat_timeout_seconds=HEARTBEAT_SECONDS, shutdown_timeout_seconds=SHUTDOWN_SECONDS
        )


def process_arguments(environment: Mapping[str, str], tpu: bool = False) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`, or None where the environment tells of one process only.

    ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` say it all. Under SLURM (srun), Open MPI
    (mpirun) and on a TPU jax finds the processes by itself. Raises ValueError for half of a description.
    """
    address, *numbers = (
        environment.get(f"JAX_{name}", "") for name in ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")
    )
    if address and all(number.isdecimal() for number in numbers):
        return {"coordinator_address": address, "num_processes": int(numbers[0]), "process_id": int(numbers[1]),
                "cluster_detection_method": "deactivate"}  # fmt: skip
    if address or any(numbers):
        raise ValueError(
            "several processes need JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID; got "
            f"{address!r}, {numbers[0]!r} and {numbers[1]!r}"
        )
    # A step that srun starts has a list of nodes; the shell of an allocation, where nothing else runs, has none.
    tasks = environment.get("SLURM_NTASKS", "1") if "SLURM_STEP_NODELIST" in environment else "1"
    several = max(int(tasks), int(environment.get("OMPI_COMM_WORLD_SIZE", "1"))) > 1
    return {} if several or tpu else None


def is_first_process() -> bool:
    """Whether this process writes files and speaks to the user."""
    import jax

    return jax.process_index() == 0


def broadcast_from_first(array: np.ndarray) -> np.ndarray:
    """The array that the first process has; shape and dtype must be the same on all."""
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(array)


def on_first_process(function: Callable[[], Any]) -> None:
    """Call a function on the first process while the others wait. All raise ValueError if it does, in its words."""
    error = None
    if is_first_process():
        try:
            function()
        except ValueError as raised:
            error = raised
    words = np.frombuffer(str(error or "").encode()[:1000].ljust(1000, b"\0"), np.uint8)
    message = broadcast_from_first(words).tobytes().rstrip(b"\0").decode(errors="ignore")
    if error or message:
        raise error or ValueError(message)
