"""This project side by side with the same model in PyTorch: same weights, same data, turn by turn.

    python experiments/benchmark.py --preset smoke                    # about two minutes on two quiet cores
    python experiments/benchmark.py --output runs/benchmark           # everything but growth: about 20 minutes
    python experiments/benchmark.py --cases growth --output runs/growth
    python experiments/benchmark.py --baseline docs/results/benchmark/benchmark.json    # exit code 1 if slower

Before anything is timed, both sides must give the same logits and gradients to 1e-4. Expected: a line per case, with
the ratio of the two times (below 1 we are faster) and its range over rounds. PyTorch is optional:
`pip install -e .[bench]`; without it our own times are measured. docs/benchmark.md says how to read it.
"""

import dataclasses
import importlib.metadata
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trm_jax.support.files import check_folder
from trm_jax.support.machine import cores
from trm_jax.support.provenance import provenance
from trm_jax.support.schema import require
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure

if TYPE_CHECKING:
    from trm_jax.benchmark.report import Results

PRESETS = {"smoke": (3, 0.1), "standard": (7, 0.5)}
"""Rounds, and seconds of a turn."""


@dataclass(frozen=True)
class Arguments:
    preset: Literal["smoke", "standard"] = "standard"
    """Size: smoke (few cases, few rounds) or standard."""
    cases: tuple[str, ...] = ()
    """Cases whose name begins with one of these words, e.g. training inference/batch1 memory; if empty, all but
    growth (and memory, in smoke)."""
    output: Path | None = None
    """Folder for benchmark.json, benchmark.md and figures; nothing is written if not given."""
    baseline: Path | None = None
    """A benchmark.json to compare with; exit code 1 if something is slower beyond the noise."""
    rounds: int = 0
    """Rounds in which everyone has a turn; 0 for the preset's number."""
    seconds: float = 0.0
    """Length of a turn; 0 for the preset's length."""
    compiled: bool = True
    """Compare some cases with torch.compile too (needs a C++ compiler)."""


def measure_all(arguments: Arguments) -> "Results":
    """Results of everything that the arguments name."""
    from trm_jax.benchmark import cases, growth, jax_side, measure, processes, report  # here: --help needs no jax

    started, small = time.perf_counter(), arguments.preset == "smoke"
    chosen = cases.choose(cases.all_cases(arguments.preset), arguments.cases)
    groups = set(arguments.cases or (("start",) if small else ("start", "memory")))
    rounds, seconds = PRESETS[arguments.preset]
    rounds, seconds = arguments.rounds or rounds, arguments.seconds or seconds
    matrix, flops = jax_side.matrix_product()
    bench = measure.Bench(rounds, seconds, measure.load_peer(), arguments.compiled, matrix, flops)
    torch = importlib.metadata.version("torch") if bench.peer else "not installed"
    return report.Results(
        preset=arguments.preset,
        rows=measure.measure_cases(bench, chosen),
        start=processes.measure_starts(bool(bench.peer), 1 if small else 3) if "start" in groups else [],
        memory=processes.measure_memory(bool(bench.peer), (6,) if small else (6, 24)) if "memory" in groups else [],
        growth=growth.measure_growth(rounds, seconds) if "growth" in groups else growth.Growth(),
        peak_gflops=bench.peak_gflops,
        minutes=(time.perf_counter() - started) / 60,
        provenance=provenance(torch=torch, threads=str(cores()), rounds=str(rounds)),
    )


def run(arguments: Arguments) -> bool:
    from trm_jax.benchmark import regression, report

    if arguments.output:
        check_folder(arguments.output)
    require(arguments.rounds >= 0 and arguments.seconds >= 0, "--rounds and --seconds must not be negative")
    baseline = regression.read_rows(arguments.baseline, arguments.preset) if arguments.baseline else []
    results = measure_all(arguments)
    print(report.report(results))
    if arguments.output:
        report.write(arguments.output, results)
        print(f"Results: {arguments.output / 'benchmark.md'}")
    if not arguments.baseline:
        return True
    regressions, unknown = regression.slower([dataclasses.asdict(row) for row in results.rows], baseline)
    title = "Slower than the baseline:" if regressions else f"Nothing is slower than in {arguments.baseline}."
    print("\n".join([*unknown, title, *(f"  {sentence}" for sentence in regressions)]))
    return not regressions


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
