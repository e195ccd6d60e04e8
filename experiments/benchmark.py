"""This project side by side with the same model in PyTorch: same weights, same data, turn by turn.

    python experiments/benchmark.py --preset smoke                    # about two minutes on two quiet cores
    python experiments/benchmark.py --output runs/benchmark           # everything but growth: about 20 minutes
    python experiments/benchmark.py --cases growth --output runs/growth
    python experiments/benchmark.py --baseline docs/results/benchmark/benchmark.json    # exit code 1 if slower

Before anything is timed, both sides must give the same logits and gradients to 1e-4. Expected: a line per case, with
the ratio of the two times (below 1 we are faster) and its range over rounds. PyTorch is optional:
`pip install -r requirements-bench.txt`; without it our own times are measured. docs/benchmark.md says how to read it.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from trm_jax.benchmark import cases, growth, jax_side, processes, regression, report
from trm_jax.benchmark.cases import Case
from trm_jax.benchmark.shared import random_data
from trm_jax.benchmark.timing import Row, make_rows, take_turns
from trm_jax.reporting.style import svg
from trm_jax.support.cli import main
from trm_jax.support.files import write_text
from trm_jax.support.machine import cores
from trm_jax.support.provenance import environment
from trm_jax.support.schema import require
from trm_jax.training.processes import configure

PEERS = {"eager": "PyTorch eager", "compiled": "PyTorch compiled"}
PRESETS = {"smoke": (3, 0.1), "standard": (7, 0.5)}  # rounds, seconds of a turn


@dataclass(frozen=True)
class Arguments:
    """Time this project against PyTorch, and say what got slower since a baseline."""

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


@dataclass
class Bench:
    """What all measurements share."""

    rounds: int
    seconds: float
    peer: Any  # module benchmarking.peer_training, or None without PyTorch
    compiled: bool
    matrix: Callable[[], Any]
    matrix_flops: int
    best_matrix: float = float("inf")  # seconds

    def turns(self, contestants: dict[str, Callable[[], Any]]):
        """Times of contestants and of the matrix product, in turns."""
        times = take_turns(contestants | {"matrix": self.matrix}, self.rounds, self.seconds)
        self.best_matrix = min(self.best_matrix, *times["matrix"])
        return times

    def sides(self, case: Case, check: Callable, contestant: Callable) -> tuple[dict[str, Callable], str]:
        """Peers that compute the same as we do, as calls, and a note on the one that could not be compiled.

        ``check`` raises Mismatch for a model of the peer; ``contestant`` makes a call of one.
        """
        found: dict[str, Callable] = {}
        params = jax_side.weights(case.config, size=jax_side.CALM)
        if self.peer is None:
            return found, ""
        for name in ("eager", "compiled") if case.compiled and self.compiled else ("eager",):
            model = self.peer.build(case.config, params, compiled=name == "compiled")
            try:
                check(params, model)
                found[name] = contestant(model)
            except jax_side.Mismatch:
                raise
            except RuntimeError as error:
                if name == "eager":
                    raise
                return found, f"torch.compile failed: {_compiler_problem(error)}"
        return found, ""


def _compiler_problem(error: RuntimeError) -> str:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler ({compiler}) found"
    return str(error).strip().splitlines()[0][:120]


def repeated(call: Callable[[], Any], times: int) -> Callable[[], Any]:
    """The call so many times."""

    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def measure_training(bench: Bench, case: Case) -> list[Row]:
    """A training step: forward, backward, clipping, AdamW, moving average."""
    data = random_data(case.config, case.batch)

    def check(params, model) -> None:
        mine = jax_side.logits_and_gradients(case.config, params, data)
        jax_side.check_equal(case.name, mine, bench.peer.logits_and_gradients(model, data))

    def contestant(model) -> Callable:
        return repeated(bench.peer.Trainer(model, data).step, case.steps)

    peers, note = bench.sides(case, check, contestant)
    times = bench.turns({"ours": jax_side.trainer(case.config, data, case.steps)} | peers)
    flops = jax_side.training_flops(case.config, case.batch)
    shown = {name: PEERS[name] for name in peers}
    return make_rows(
        case.name, times, peers=shown, steps=case.steps, flops=flops, matrix_flops=bench.matrix_flops, note=note
    )


def measure_inference(bench: Bench, case: Case) -> list[Row]:
    """A forward pass over all supervision steps."""
    inputs = random_data(case.config, case.batch)["inputs"]

    def check(params, model) -> None:
        mine = jax_side.logits(case.config, params, inputs)
        jax_side.check_equal(case.name, (mine, {}), (bench.peer.logits(model, inputs), {}))

    peers, note = bench.sides(case, check, lambda model: bench.peer.predictor(model, inputs))
    weights = jax_side.weights(case.config, size=jax_side.CALM)
    times = bench.turns({"ours": jax_side.predictor(case.config, weights, inputs)} | peers)
    flops = jax_side.forward_flops(case.config, case.batch)
    shown = {name: PEERS[name] for name in peers}
    return make_rows(case.name, times, peers=shown, flops=flops, matrix_flops=bench.matrix_flops, note=note)


def measure_halting(bench: Bench, case: Case) -> list[Row]:
    """Inference that stops early, against all steps: the time should follow the steps used."""
    inputs = random_data(case.config, case.batch)["inputs"]
    calls, share = jax_side.halting_predictors(case.config, jax_side.weights(case.config), inputs, case.slots)
    times = take_turns(calls, bench.rounds, bench.seconds)
    rows = make_rows(case.name, times, peers={"all steps": "ours, all steps"}, ours="halted")
    assert rows[0].ratio is not None
    excess = rows[0].ratio / share - 1
    note = f"uses {share:.0%} of the steps; time is {abs(excess):.0%} {'above' if excess > 0 else 'below'} that share"
    return [dataclasses.replace(rows[0], note=note)]


def measure_seeds(bench: Bench, case: Case) -> list[Row]:
    """Time per seed when many seeds train in one program, against one seed alone."""
    data = random_data(case.config, case.batch)
    calls = {str(seeds): jax_side.trainer(case.config, data, case.steps, seeds) for seeds in case.seeds}
    times = take_turns(calls, bench.rounds, bench.seconds)
    each = {str(seeds): [seconds / seeds for seconds in times[str(seeds)]] for seeds in case.seeds}
    rows = []
    for seeds in case.seeds:
        peers = {"1": "ours, 1 seed"} if seeds > 1 and "1" in each else {}
        name, note = f"{case.name}/{seeds}", "time is per seed"
        rows += make_rows(name, each, peers=peers, steps=case.steps, ours=str(seeds), note=note)
    return rows


MEASURES = {
    "training": measure_training,
    "inference": measure_inference,
    "halting": measure_halting,
    "seeds": measure_seeds,
}


def load_peer() -> Any:
    """The PyTorch side, or None with a line that says how to get it."""
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed, so there is nothing to compare with: pip install -r requirements-bench.txt")
        return None
    from trm_jax.benchmark import torch_side

    torch_side.use_all_cores()
    return torch_side


def measure_all(arguments: Arguments, bench: Bench, chosen: list[Case]) -> dict[str, Any]:
    """Results of everything that was asked for."""

    small = arguments.preset == "smoke"

    def wanted(group: str) -> bool:
        return group in arguments.cases or (
            not arguments.cases and group in (("start",) if small else ("start", "memory"))
        )

    rows: list[Row] = []
    with tqdm(chosen, desc="benchmark", unit="case", file=sys.stderr) as bar:
        for case in bar:
            bar.set_postfix_str(case.name)
            rows += MEASURES[case.kind](bench, case)
    has_peer = bench.peer is not None
    results: dict[str, Any] = {
        "preset": arguments.preset,
        "rows": [dataclasses.asdict(row) for row in rows],
        "start": processes.measure_starts(has_peer, 1 if small else 3) if wanted("start") else [],
        "memory": processes.measure_memory(has_peer, (6,) if small else (6, 24)) if wanted("memory") else [],
        "growth": growth.measure_growth(bench.rounds, bench.seconds) if wanted("growth") else {},
    }
    results["growth_excesses"] = growth.excesses(results["growth"]) if results["growth"] else []
    return results


def made_by(bench: Bench, started: float) -> dict[str, Any]:
    """What the numbers depend on."""
    made = environment()
    packages = made["packages"] | ({"torch": importlib.metadata.version("torch")} if bench.peer else {})
    peak = bench.matrix_flops / bench.best_matrix / 1e9
    return {
        "command": shlex.join(["python", *sys.argv]),
        "commit": made["commit"],
        "machine": made["machine"],
        "threads": cores(),
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "peak_gflops": peak or None,
        "rounds": bench.rounds,
        "minutes": (time.perf_counter() - started) / 60,
    }


def write_results(directory: Path, results: dict[str, Any]) -> None:
    """Write benchmark.json, benchmark.md and the figures."""
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "benchmark.json", json.dumps(results, indent=1))
    write_text(directory / "benchmark.md", report.report(results))
    if any(row["peer"] in report.MARKERS for row in results["rows"]):
        write_text(directory / "ratios.svg", svg(report.ratio_figure(results["rows"])))
    if results["growth"]:
        write_text(directory / "growth.svg", svg(report.growth_figure(results["growth"])))


def run(arguments: Arguments) -> bool:
    """Measure, print, write and compare; True if nothing got slower than the baseline."""
    started = time.perf_counter()
    require(arguments.rounds >= 0 and arguments.seconds >= 0, "--rounds and --seconds must not be negative")
    baseline = regression.read_rows(arguments.baseline, arguments.preset) if arguments.baseline else []
    chosen = cases.choose(cases.all_cases(arguments.preset), arguments.cases)
    rounds, seconds = PRESETS[arguments.preset]
    matrix, flops = jax_side.matrix_product()
    bench = Bench(
        arguments.rounds or rounds, arguments.seconds or seconds, load_peer(), arguments.compiled, matrix, flops
    )
    results = measure_all(arguments, bench, chosen)
    results["made by"] = made_by(bench, started)
    print(report.report(results))
    if arguments.output:
        write_results(arguments.output, results)
        print(f"Results: {arguments.output / 'benchmark.md'}")
    if not arguments.baseline:
        return True
    found, unknown = regression.slower(results["rows"], baseline)
    print("".join(f"{sentence}\n" for sentence in unknown), end="")
    print("Slower than the baseline:" if found else f"Nothing is slower than in {arguments.baseline}.")
    print("".join(f"  {sentence}\n" for sentence in found), end="")
    return not found


if __name__ == "__main__":
    main(Arguments, run, __doc__, configure)
