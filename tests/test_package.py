"""The package as a whole: what importing it brings in, and that its arrows point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "trm_jax"
LAYERS = [
    [
        "options",
        "command",
        "files",
        "machine",
        "wafer_config",
        "config",
        "recursion",
        "losses",
        "stats",
        "accounting",
        "data",
        "state_dict",
        "plots",
        "wafer_plots",
        "wafer_metrics",
        "wafer_predictions",
        "published",
        "confidence",
        "markdown",
    ],
    ["layers", "stem", "edge"],
    ["model"],
    ["optim", "seeds", "evaluate", "official", "halting"],
    ["train"],
    ["checkpoint", "runlog", "runtime"],
    [
        "baselines",
        "fit",
        "sudoku_task",
        "wafer_task",
        "wafer_checkpoint",
        "wafer_classify",
        "findings",
        "report_tables",
        "report",
        "wafer_result_plots",
        "wafer_report",
        "export",
        "export_graph",
    ],
    ["quantize", "wafer_runs"],
    ["wafer_evaluation"],
    ["wafer_evaluation_groups"],
    ["wafer_evaluation_plots", "wafer_evaluation_results", "wafer_errors", "wafer_error_page"],
    ["wafer_evaluation_trust"],
    ["wafer_evaluation_text"],
    ["wafer_evaluation_report"],
]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trm_jax"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found - {"__version__"}


def layer(name: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_from_above(path):
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if name == "__init__":
        assert not imports(path)
        return
    # The augmentation needs nothing but data; everything else may use its own layer and those below.
    assert all(layer(other) <= layer(name) for other in imports(path)), imports(path)


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in result.stdout.split()}


@pytest.mark.parametrize("statement", ["import trm_jax", "import trm_jax.config", "import trm_jax.data.sudoku"])
def test_importing_needs_no_jax(statement):
    assert not {"jax", "flax", "optax"} & modules_after(statement)


SCRIPTS = [path for path in sorted((ROOT / "experiments").glob("*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_experiment_explains_its_options_without_computing(path):
    result = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, check=True)
    assert result.stdout.count("default") + result.stdout.count("required") >= 6 and "unknown" not in result.stderr
