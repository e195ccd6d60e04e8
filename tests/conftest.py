"""What several test files need."""

import gc
import os
from pathlib import Path

import pytest

from trm_jax.support import xla_flags

gc.disable()  # until every test file is imported: what they make stays

# Before jax starts, here and in the processes that tests start: compiling costs more than running, and the same
# programs occur in many tests.
xla_flags.add(xla_flags.QUICK)
CACHE = str(Path(__file__).parent.parent / ".cache" / "tests")
os.environ |= {
    "TRM_CACHE": CACHE, "JAX_COMPILATION_CACHE_DIR": CACHE, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"
}  # fmt: skip

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # seeds need two


def pytest_collection_finish():
    """The collector looks no more at what was imported: with torch and all of its kind it would look for long."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the shared data: $TRM_DATA, else shared/data beside the repository. Skips the test without it."""
    root = Path(os.environ.get("TRM_DATA", "").strip() or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no data in {root}; set TRM_DATA")
    return root
