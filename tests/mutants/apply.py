"""Put faults into a copy of the code, one at a time, and see which the tests do not find.

    make mutants                                       # all of faults.toml, two at a time
    python tests/mutants/apply.py --only exploration   # those whose description has this text

First all tests that are named must pass on the code as it is. The exit code is 1 if a fault lives that touches a leak,
a guarantee, an interval or a gradient, if more than 5 % live, or if one does not fit the code any more.
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAULTS = Path(__file__).with_name("faults.toml")
GRAVE = {"leak", "guarantee", "interval", "gradient"}
MOST_ALIVE = 0.05
SECONDS, HANGS = 600.0, -1
# Tests run in forks of a process that has imported these: without them importing takes longer than most tests.
IMPORTED = [
    "hypothesis",
    "flax.linen",
    "jax.numpy",
    "numpy",
    "optax",
    "pandas",
    "pytest",
    "scipy.stats",
    "sklearn.metrics",
]
PROCESSES = multiprocessing.get_context("forkserver")


def fits(fault: dict[str, Any], code: Path = ROOT) -> bool:
    """Whether the text of a fault stands exactly once in its file; otherwise the code has changed since."""
    file = code / fault["file"]
    return file.is_file() and file.read_text(encoding="utf-8").count(fault["old"]) == 1


def copy_code(target: Path) -> Path:
    """The files that git knows or would take up, with the compiled programs of the tests."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    cache = ROOT / ".cache" / "tests"
    cache.mkdir(parents=True, exist_ok=True)
    (target / ".cache").mkdir()
    (target / ".cache" / "tests").symlink_to(cache.resolve())
    return target


def _pytest(copy: Path, arguments: list[str], log: Path) -> None:
    os.chdir(copy)
    # Without compiled files: a change of the same second and size would not be seen.
    os.environ.setdefault("TRM_DATA", str(ROOT.parent / "shared" / "data"))  # the copy lies elsewhere
    os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy))
    import pytest

    with log.open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        code = int(pytest.main(["-q", "-p", "no:cacheprovider", *arguments]))
    os._exit(code)


def run_tests(copy: Path, tests: list[str], *options: str, seconds: float = SECONDS) -> tuple[int, str]:
    """Exit code of pytest in a copy, and what it said; HANGS instead of a code after so many seconds."""
    log = copy / "pytest.log"
    process = PROCESSES.Process(target=_pytest, args=(copy, [*options, *tests], log))
    process.start()
    process.join(seconds)
    hangs = process.is_alive()
    if hangs:
        process.kill()
        process.join()
    return HANGS if hangs or process.exitcode is None else process.exitcode, log.read_text(errors="replace")


def outcome(fault: dict[str, Any], copy: Path) -> str:
    """Whether a fault "dies", "LIVES" or "hangs". Raises RuntimeError where the tests do not run with it."""
    file = copy / fault["file"]
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole.replace(fault["old"], fault["new"]), encoding="utf-8")
    try:
        code, said = run_tests(copy, fault["tests"], "-x")
    finally:
        file.write_text(whole, encoding="utf-8")
    if code not in (0, 1, HANGS):
        raise RuntimeError(f"{fault['about']}: the tests do not run with it (pytest exits with {code})\n{said[-2000:]}")
    return {0: "LIVES", 1: "dies", HANGS: "hangs"}[code]


def listed_faults(only: str) -> tuple[list[dict[str, Any]], int]:
    """The faults whose description has a text, and how many of those do not fit the code, which are printed."""
    listed = [fault for fault in tomllib.loads(FAULTS.read_text(encoding="utf-8"))["fault"] if only in fault["about"]]
    faults = [fault for fault in listed if fits(fault)]
    for fault in listed:
        if fault not in faults:
            print(f"STALE  {fault['kind']:10} {fault['about']}: mend its text, {fault['file']} has changed")
    return faults, len(listed) - len(faults)


def main() -> None:
    """Run the faults and print what becomes of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="text that the descriptions must have")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time")
    parser.add_argument("--trust", action="store_true", help="the tests have just passed without a fault")
    arguments = parser.parse_args()
    PROCESSES.set_forkserver_preload(IMPORTED)
    faults, stale = listed_faults(arguments.only)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        copies: Queue[Path] = Queue()
        for number in range(arguments.jobs):
            copies.put(copy_code(Path(folder) / str(number)))
        named = sorted({test for fault in faults for test in fault["tests"]})
        code, said = (0, "") if arguments.trust else run_tests(Path(folder) / "0", named, seconds=4 * SECONDS)
        if code:
            sys.exit(f"error: tests fail without any fault, so that their failing says nothing\n{said[-8000:]}")

        def judge(fault: dict[str, Any]) -> str:
            copy = copies.get()
            try:
                found = outcome(fault, copy)
            finally:
                copies.put(copy)
            print(f"{found:6} {fault['kind']:10} {fault['about']}", flush=True)
            return found

        outcomes = list(pool.map(judge, faults))
    alive = [fault for fault, found in zip(faults, outcomes, strict=True) if found == "LIVES"]
    grave = [fault for fault in alive if fault["kind"] in GRAVE]
    print(
        f"\n{len(alive)} of {len(faults)} faults live, {len(grave)} of them grave; {outcomes.count('hangs')} were "
        f"stopped after {SECONDS:g} s; {time.monotonic() - start:.0f} s in all"
    )
    sys.exit(1 if grave or len(alive) > MOST_ALIVE * len(faults) or stale else 0)


if __name__ == "__main__":
    main()
