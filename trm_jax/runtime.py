"""Settings of the jax runtime that an experiment makes once, before it computes anything."""

import os
from pathlib import Path

import jax


def configure(cache: Path | None = None) -> None:
    """Let every core be a device of its own on CPU, so that seeds can be sharded, and keep compiled programs on disk.

    Must run before the first computation. ``cache`` defaults to ``$TRM_CACHE``, else ``~/.cache/trm_jax``.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", _cores())
    cache = cache or Path(os.environ.get("TRM_CACHE", Path.home() / ".cache" / "trm_jax"))
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
