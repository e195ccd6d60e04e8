"""The package as a whole: what importing it brings in, and that its arrows point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "trm_jax"
# What each package may import besides itself. Nothing points back, no task knows another, the engine knows no task.
ARROWS = {
    "support": set(),
    "reporting": {"support"},
    "core": {"support"},
    "training": {"support", "core", "official"},
    "official": {"support", "core", "reporting"},
    "sudoku": {"support", "core"},
    "sequences": {"support", "core"},
    "wafer": {"support", "core", "training", "reporting", "edge"},
    "wafer.maps": {"support"},
    "study": {"support", "core", "training", "reporting", "official", "sudoku"},
    "edge": {"support", "wafer.maps"},
    "export": {
        "support",
        "core",
        "training",
        "reporting",
        "edge",
        "official",
        "sudoku",
        "sequences",
        "wafer",
        "wafer.maps",
    },
    "benchmark": {"support", "core", "training", "reporting", "sudoku"},
}


def package(module: str) -> str:
    """Package that a dotted module name below trm_jax belongs to."""
    first, *rest = module.split(".")
    return "wafer.maps" if first == "wafer" and rest[:1] == ["maps"] else first


def imports(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trm_jax"):
            parts = node.module.split(".")[1:]
            modules |= {".".join([*parts, alias.name]) for alias in node.names}
    return {package(module) for module in modules - {"__version__"}}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path):
    name = package(".".join(path.relative_to(PACKAGE).with_suffix("").parts))
    allowed = ARROWS.get(name, set()) | {name} | ({"wafer.maps"} if name == "wafer" else set())
    assert imports(path) <= allowed, imports(path) - allowed


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in result.stdout.split()}


@pytest.mark.parametrize(
    "name", ["trm_jax", "trm_jax.core.config", "trm_jax.sudoku.puzzles", "trm_jax.wafer.maps.source"]
)
def test_importing_needs_no_jax(name):
    assert not {"jax", "flax", "optax"} & modules_after(f"import {name}")


SCRIPTS = [path for path in sorted((ROOT / "experiments").glob("*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_experiment_explains_its_options_without_computing(path):
    result = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.count("default") + result.stdout.count("required") >= 6 and "unknown" not in result.stderr
