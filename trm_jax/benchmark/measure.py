"""What is timed in one process: this project, PyTorch where it is installed, and a large matrix product, in turns."""

import dataclasses
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from trm_jax.benchmark import jax_side
from trm_jax.benchmark.cases import Case, random_data
from trm_jax.benchmark.rows import PEERS, Row, Times, make_rows
from trm_jax.support.timing import time_interleaved

Call = Callable[[], Any]


@dataclass
class Bench:
    """What all measurements share."""

    rounds: int
    seconds: float
    """Length of a turn."""
    peer: Any
    """The module torch_side, or None without PyTorch."""
    compiled: bool
    """Whether torch.compile takes part."""
    matrix: Call
    matrix_flops: int
    matrix_seconds: list[float] = field(default_factory=list)

    @property
    def peak_gflops(self) -> float | None:
        """Operations a second of the fastest matrix product so far, in 10^9."""
        return self.matrix_flops / min(self.matrix_seconds) / 1e9 if self.matrix_seconds else None

    def time(self, calls: dict[str, Call]) -> Times:
        """Seconds of each call, which take turns."""
        return time_interleaved(calls, self.rounds, self.seconds)


def measure_cases(bench: Bench, cases: list[Case]) -> list[Row]:
    """Rows of all cases, one after another."""
    rows: list[Row] = []
    with tqdm(cases, desc="benchmark", unit="case", file=sys.stderr) as bar:
        for case in bar:
            bar.set_postfix_str(case.name)
            measure = {"halting": measure_halting, "seeds": measure_seeds}.get(case.kind, measure_against_peers)
            rows += measure(bench, case)
    return rows


def load_peer() -> Any:
    """The PyTorch side, or None with a line that says how to get it."""
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed, so there is nothing to compare with: pip install -e .[bench]")
        return None
    from trm_jax.benchmark import torch_side

    torch_side.use_all_cores()
    return torch_side


def measure_against_peers(bench: Bench, case: Case) -> list[Row]:
    """A training step (forward, backward, clipping, AdamW, moving average), or a pass over all supervision steps.

    Raises Mismatch when a peer does not compute the same.
    """
    config, peer, data = case.config, bench.peer, random_data(case.config, case.batch)
    params = jax_side.weights(config, size=jax_side.CALM)
    training = case.kind == "training"

    def outputs(side: Any, *model: Any) -> tuple:
        return side.logits_and_gradients(*model, data) if training else (side.logits(*model, data["inputs"]), {})

    peers: dict[str, Call] = {}
    note = ""
    reference = outputs(jax_side, config, params) if peer else ()
    names = [] if peer is None else ["eager", "compiled"] if case.compiled and bench.compiled else ["eager"]
    for name in names:
        model = peer.build(config, params, compiled=name == "compiled")
        try:
            jax_side.check_equal(case.name, reference, outputs(peer, model))
        except jax_side.Mismatch:
            raise
        except RuntimeError as error:
            if name == "eager":
                raise
            note = f"torch.compile failed: {_compiler_problem(error)}"
            continue
        step = peer.Trainer(model, data).step if training else peer.predictor(model, data["inputs"])
        peers[name] = repeated(step, case.steps)
    ours = (
        jax_side.trainer(config, data, case.steps) if training else jax_side.predictor(config, params, data["inputs"])
    )
    times = bench.time({"ours": ours, **peers, "matrix": bench.matrix})
    bench.matrix_seconds += times["matrix"]
    flops = (jax_side.training_flops if training else jax_side.forward_flops)(config, case.batch)
    labels = {name: PEERS[name] for name in peers}
    return make_rows(
        case.name, times, peers=labels, steps=case.steps, flops=flops, matrix_flops=bench.matrix_flops, note=note
    )


def _compiler_problem(error: RuntimeError) -> str:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"no C++ compiler ({compiler}) found"
    return str(error).strip().splitlines()[0][:120]


def repeated(call: Call, times: int) -> Call:
    """The call so many times."""

    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def measure_halting(bench: Bench, case: Case) -> list[Row]:
    """Inference that stops early, against all steps: the time should follow the steps used."""
    inputs = random_data(case.config, case.batch)["inputs"]
    calls, share = jax_side.halting_predictors(case.config, jax_side.weights(case.config), inputs, case.slots)
    (row,) = make_rows(case.name, bench.time(calls), peers={"all steps": "ours, all steps"}, ours="halted")
    assert row.ratio is not None
    excess = row.ratio / share - 1
    note = f"uses {share:.0%} of the steps; time is {abs(excess):.0%} {'above' if excess > 0 else 'below'} that share"
    return [dataclasses.replace(row, note=note)]


def measure_seeds(bench: Bench, case: Case) -> list[Row]:
    """Time per seed when many seeds train in one program, against one seed alone."""
    data = random_data(case.config, case.batch)
    calls = {str(seeds): jax_side.trainer(case.config, data, case.steps, seeds) for seeds in case.seeds}
    times = {seeds: [seconds / int(seeds) for seconds in values] for seeds, values in bench.time(calls).items()}
    rows = []
    for seeds in times:
        peers = {"1": "ours, 1 seed"} if seeds != "1" and "1" in times else {}
        name, note = f"{case.name}/{seeds}", "time is per seed"
        rows += make_rows(name, times, peers=peers, steps=case.steps, ours=seeds, note=note)
    return rows
