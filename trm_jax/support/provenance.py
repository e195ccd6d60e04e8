"""What made a number: command, commit, machine and versions."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from trm_jax.support.machine import processor

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def git_commit(directory: Path = Path(__file__).parent) -> str:
    """Commit of the code that runs, with "+changes" where the tree differs from it, or "unknown" outside git."""
    commands = (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (
            subprocess.run(["git", "-C", str(directory), *c], capture_output=True, text=True, check=True).stdout.strip()
            for c in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def environment() -> dict[str, Any]:
    """What a number depends on besides the config: versions, devices, machine, commit."""
    import jax

    return {
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "devices": [device.device_kind for device in jax.devices()],
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def provenance(**more: str) -> dict[str, str]:
    """What stands under every report: the command, the commit, the machine, the version of jax, and ``more``."""
    current = environment()
    command = shlex.join(["python", *sys.argv])
    return {
        "command": command,
        "commit": current["commit"],
        "machine": current["machine"],
        "jax": current["packages"]["jax"],
        **more,
    }
