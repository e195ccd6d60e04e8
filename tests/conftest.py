"""What several test files need."""

import os
from pathlib import Path

# Before jax starts: compiling costs more than running here, and seeds need two devices.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
# The same programs occur in many tests.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".cache" / "tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the shared data: $TRM_DATA, else shared/data beside the repository. Skips the test without it."""
    root = Path(os.environ.get("TRM_DATA", "").strip() or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no data in {root}; set TRM_DATA")
    return root
