"""Fuzz every reader and both bodies of the service: no error but one line, no hang, never more than 1 GB.

    make fuzz                      # 10 minutes
    FUZZ_SECONDS=60 make fuzz      # shorter
    python tests/fuzz/run.py --target "weights: pt" --input .cache/fuzz/weights-pt-0    # one saved input again

Each target runs in a process of its own, with limited memory, on inputs that are nearly valid. Inputs that go wrong are
kept in .cache/fuzz. The exit code is 1 if there are any. FUZZ_SEED gives other inputs.
"""

import argparse
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from mutate import mutate  # noqa: E402
from targets import TARGETS, Target  # noqa: E402

from trm_jax.support.machine import peak_memory  # noqa: E402

KEPT = ROOT / ".cache" / "fuzz"
MAX_MEMORY = 1000.0  # in 10**6 bytes, above what the process takes before the first input
MAX_SECONDS = 10.0
PROBLEMS = ("unhandled", "hang", "over memory")


def judge(target: Target, content: bytes, before: float) -> tuple[str, str]:
    """What is wrong with how an input is read: one of PROBLEMS and what it says, or nothing."""
    try:
        target.read(content)
    except (ValueError, OSError) as error:
        causes = [error, error.__cause__, error.__context__]
        if any(isinstance(cause, MemoryError) for cause in causes):
            return "over memory", str(error)
        if "\n" in str(error):
            return "unhandled", f"a message of several lines: {error}"
    except BaseException:
        return "unhandled", traceback.format_exc()
    memory = peak_memory() - before
    if memory > MAX_MEMORY:
        Path("/proc/self/clear_refs").write_text("5")  # begin anew
        return "over memory", f"{memory:.0f} MB"
    return "", ""


def work(name: str, seconds: float, seed: int, folder: Path) -> None:
    """Read inputs until the time is over; notes the number, the input at hand and what goes wrong in the folder."""
    warnings.simplefilter("ignore")
    (folder / "files").mkdir(exist_ok=True)
    target = TARGETS[name](folder / "files")
    for content in target.seeds:
        target.read(content)
    before, rng = peak_memory(), random.Random(seed)
    soft = resource.getrlimit(resource.RLIMIT_AS)[1]
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + int(1.5e6 * MAX_MEMORY), soft))
    pool, start, count = list(target.seeds), time.monotonic(), 0
    while time.monotonic() - start < seconds:
        content = mutate(rng.choice(pool), target.seeds, rng)
        (folder / "input").write_bytes(content)
        problem, message = judge(target, content, before)
        count += 1
        (folder / "count").write_text(str(count))
        if problem:
            keep(folder, name, problem, content, message)
        elif rng.random() < 0.02:
            pool = [*pool[-200:], content] if len(pool) > 200 else [*pool, content]


def keep(folder: Path, name: str, problem: str, content: bytes, message: str) -> None:
    """Save an input that goes wrong; the first of each kind by its last line, the others are only counted."""
    with (folder / "problems").open("a") as file:
        file.write(f"{problem}\n")
    stem = re.sub(r"\W+", "-", name)
    kinds = (folder / "kinds").read_text().splitlines() if (folder / "kinds").exists() else []
    kind = f"{problem} {(message.strip().splitlines() or [''])[-1][:60]}"
    if kind not in kinds:
        with (folder / "kinds").open("a") as file:
            file.write(f"{kind}\n")
        KEPT.mkdir(parents=True, exist_ok=True)
        path = KEPT / f"{stem}-{len(kinds)}"
        path.write_bytes(content)
        print(f"{name}, {problem}: {path.relative_to(ROOT)}\n{message[-1500:]}\n", file=sys.stderr, flush=True)


def watch(name: str, seconds: float, seed: int, folder: Path) -> int:
    """Run a target for so long, again after a crash or a hang; returns how many inputs it has read."""
    end, total = time.monotonic() + seconds, 0
    while (remaining := end - time.monotonic()) > 0:
        (folder / "count").write_text("0")
        command = [sys.executable, __file__, "--target", name, "--seconds", str(remaining), "--seed", str(seed + total)]
        worker = subprocess.Popen([*command, "--folder", str(folder)], cwd=ROOT)
        while worker.poll() is None:
            time.sleep(0.2)
            current = folder / "input"
            if current.exists() and time.time() - current.stat().st_mtime > MAX_SECONDS:
                worker.kill()
                keep(folder, name, "hang", current.read_bytes(), f"more than {MAX_SECONDS:g} seconds")
                break
        code = worker.wait()
        if not (folder / "input").exists():
            raise RuntimeError(f"{name} does not read its own valid inputs")
        total += int((folder / "count").read_text()) + (code != 0)
        if code not in (0, -9):
            keep(folder, name, "unhandled", (folder / "input").read_bytes(), f"the process ended with code {code}")
        (folder / "input").unlink(missing_ok=True)
    return total


def run(seconds: float, seed: int, names: list[str]) -> bool:
    """Fuzz these targets one after another and print a line for each; whether nothing went wrong."""
    print(f"{'target':24}{'inputs':>9}" + "".join(f"{problem:>13}" for problem in PROBLEMS), flush=True)
    sums = [0] * (1 + len(PROBLEMS))
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            total = watch(name, seconds / len(names), seed, folder)
            lines = (folder / "problems").read_text().splitlines() if (folder / "problems").exists() else []
        counts = [total, *(lines.count(problem) for problem in PROBLEMS)]
        sums = [old + new for old, new in zip(sums, counts, strict=True)]
        print(f"{name:24}{counts[0]:9,}" + "".join(f"{count:13,}" for count in counts[1:]), flush=True)
    print(f"{'all':24}{sums[0]:9,}" + "".join(f"{count:13,}" for count in sums[1:]))
    return not any(sums[1:])


def main() -> None:
    """Fuzz all targets; with --folder be the process of one; with --input read a saved input once more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", choices=list(TARGETS))
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS") or 600))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("FUZZ_SEED") or 0))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--input", type=Path)
    arguments = parser.parse_args()
    if arguments.folder:
        work(arguments.target, arguments.seconds, arguments.seed, arguments.folder)
    elif arguments.input:
        with tempfile.TemporaryDirectory() as directory:
            target = TARGETS[arguments.target](Path(directory))
            print(": ".join(judge(target, arguments.input.read_bytes(), peak_memory())).strip(": ") or "fine")
    elif not run(arguments.seconds, arguments.seed, [arguments.target] if arguments.target else list(TARGETS)):
        sys.exit(1)


if __name__ == "__main__":
    main()
