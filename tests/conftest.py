"""What several test files need."""

import os
from pathlib import Path

import pytest

from trm_jax.support import xla_flags

# Before jax starts, here and in the processes that tests start: compiling costs more than running, and the same
# programs occur in many tests.
xla_flags.add(xla_flags.QUICK)
CACHE = str(Path(__file__).parent.parent / ".cache" / "tests")
os.environ |= {
    "TRM_CACHE": CACHE, "JAX_COMPILATION_CACHE_DIR": CACHE, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"
}  # fmt: skip

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # seeds need two


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the shared data: $TRM_DATA, else shared/data beside the repository. Skips the test without it."""
    root = Path(os.environ.get("TRM_DATA", "").strip() or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no data in {root}; set TRM_DATA")
    return root
