"""Flags of the compiler, which ends the process at one it does not know; needs no jax."""

import importlib.util
import mmap
import os
from pathlib import Path

QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)
"""What compiles fast; the programs are slower and round differently."""
ONE_DEVICE = "--xla_force_host_platform_device_count=1"


def known(flags: str) -> str:
    """Those of the flags ``--name=value ...`` whose names stand in the compiler that is installed."""
    found = importlib.util.find_spec("jaxlib")
    libraries = sorted(Path(found.origin).parent.glob("*.so")) if found and found.origin else []
    names = {flag.removeprefix("--").partition("=")[0] for flag in flags.split()}
    there: set[str] = set()
    for library in libraries:
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            there |= {name for name in names - there if content.find(name.encode() + b"\0") >= 0}
    return " ".join(flag for flag in flags.split() if flag.removeprefix("--").partition("=")[0] in there)


def add(flags: str) -> None:
    """Set flags before jax starts, where they are known; what the user has set in XLA_FLAGS wins."""
    os.environ["XLA_FLAGS"] = f"{known(flags)} {os.environ.get('XLA_FLAGS', '')}".strip()
