"""The package as a whole: what importing it brings in, and that its arrows point one way."""

import ast
import itertools
import json
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
    "training": {"support", "core", "official", "reporting"},
    "official": {"support", "core", "reporting"},
    "sudoku": {"support", "core"},
    "maze": {"support", "core"},
    "sequences": {"support", "core"},
    "wafer": {"support", "core", "training", "reporting", "edge"},
    "wafer.maps": {"support"},
    "study": {"support", "core", "training", "reporting", "official", "sudoku", "maze", "wafer"},
    "edge": {"support", "wafer.maps"},
    "export": {
        "support",
        "core",
        "training",
        "reporting",
        "edge",
        "official",
        "sudoku",
        "maze",
        "sequences",
        "wafer",
        "wafer.maps",
    },
    "think": {"support", "core", "training", "reporting", "sudoku", "maze", "wafer", "wafer.maps", "export"},
    "__main__": {"support", "edge"},
    "face": {"core", "study", "sudoku", "export", "wafer", "wafer.maps"},
    "options": {"support", "reporting", "core", "sudoku", "sequences", "maze", "wafer", "study"},
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


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_promises_are_exceptions_which_stay_under_python_o(path):
    """The only asserts are those that tell a type checker that something is not None."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assert):
            assert ast.unparse(node.test).endswith(" is not None"), f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("top", ["trm_jax", "tests"])
def test_no_room_is_crowded(top):
    rooms = [room for room in (ROOT / top).rglob("*") if room.is_dir() and room.name != "__pycache__"]
    crowded = {str(room.relative_to(ROOT)): sum(map(Path.is_file, room.iterdir())) for room in (ROOT / top, *rooms)}
    assert max(crowded.values()) <= 12, crowded


def test_the_lock_file_has_every_pinned_version_with_hashes():
    pinned = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    locked = (ROOT / "requirements.lock").read_text().replace(" ; ", " \\").split("\n")
    entries = {name.split(" ")[0]: following for name, following in itertools.pairwise(locked) if name[:1].isalnum()}
    for requirement in pinned:
        assert entries[requirement.lower().replace("_", "-")].startswith("    --hash=sha256:"), requirement


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in result.stdout.split()}


def test_importing_needs_no_jax():
    names = ["trm_jax", "trm_jax.core.config", "trm_jax.sudoku.puzzles", "trm_jax.wafer.maps.source"]
    assert not {"jax", "flax", "optax"} & modules_after(f"import {', '.join(names)}")


def test_the_engine_needs_few_packages():
    """All of support, core and training, where only tyro, jax, flax, optax, orbax, numpy and tqdm are installed."""
    others = ["PIL", "chex", "fastapi", "jax2onnx", "jinja2", "markdown_it", "matplotlib", "onnx", "onnxruntime",
              "pandas", "safetensors", "skimage", "sklearn", "torch"]  # fmt: skip
    paths = [path for room in ("support", "core", "training") for path in sorted(PACKAGE.glob(f"{room}/**/[!_]*.py"))]
    names = ", ".join(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    loaded = modules_after(f"sys.modules.update(dict.fromkeys({others})); import {names}")
    assert len(paths) > 25 and loaded >= {"jax", "flax", "optax", "orbax"}


def test_official_checkpoints_are_used_without_what_writes_onnx_files():
    """It holds jax back; only the command onnx asks for it."""
    blocked = ["jax2onnx", "onnx", "onnxruntime"]
    loaded = modules_after(f"sys.modules.update(dict.fromkeys({blocked})); import trm_jax.export.official")
    assert "trm_jax" in loaded


SCRIPTS = [path for path in sorted((ROOT / "experiments").glob("*.py")) if "__main__" in path.read_text()]


def test_every_experiment_explains_its_options_without_jax_and_as_a_person_would():
    """One process for all of them, since most of the time is that of starting."""
    code = f"""
import contextlib, io, json, runpy, sys
for path in {list(map(str, SCRIPTS))!r}:
    sys.argv, said = [path, "--help"], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        runpy.run_path(path, run_name="__main__")
    heavy = {{"jax", "matplotlib", "sklearn", "scipy", "onnx", "pandas"}} & set(sys.modules)
    print(json.dumps([path, said.getvalue(), sorted(heavy)]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [path for path, *_ in told] == list(map(str, SCRIPTS)) and len(SCRIPTS) > 20 and not result.stderr
    for path, text, heavy in told:
        assert not heavy and text.count("--") >= 2, (path, heavy)
        assert not any(odd in text for odd in ("{None}", "default: None", "--no-dry-run")), path
