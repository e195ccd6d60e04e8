"""Right, fast and small enough on the accelerator at hand: one command measures it and writes JSON, tables and figure.

    python experiments/accelerator.py --preset smoke --output runs/smoke      # a minute on a processor: does it run?
    python experiments/accelerator.py --output runs/accelerator             # the first device, all parts
    python experiments/accelerator.py --output runs/accelerator --minutes 8 # stops in time, exit code 75: give it again
    python experiments/accelerator.py --parts parity steps --output runs/accelerator

Every record is written as it comes, and the same command measures only what is missing. Expected: goals first, then
tables of parity with float32 on CPU, step time, share of the peak, memory, seeds at once, PyTorch where it is
installed, inference, resuming and compiling. Exit code 1 where numbers are not the same.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trm_jax.support import xla_flags
from trm_jax.support.files import check_folder
from trm_jax.support.terminal.cli import main
from trm_jax.training.processes import configure


@dataclass(frozen=True)
class Arguments:
    output: Path
    """Folder for accelerator.json, accelerator.md and accelerator.svg, or one of them to be completed."""
    preset: Literal["smoke", "standard"] = "standard"
    """Size: smoke (tiny nets, a minute on a processor) or standard."""
    parts: tuple[str, ...] = ()
    """device, parity, resume, compiling, seeds, peer, inference, steps; all of them in this order if empty."""
    minutes: float = 0.0
    """Begin no record that could end later; 0 for no limit."""


def run(arguments: Arguments) -> bool:
    check_folder(arguments.output)
    if arguments.preset == "smoke":
        xla_flags.add(f"{xla_flags.QUICK} {xla_flags.ONE_DEVICE}")
    configure()
    from trm_jax.benchmark.proof import report as proof_report  # here: --help needs no jax, and flags come before it
    from trm_jax.benchmark.proof import run as proof

    try:
        proof.measure(arguments.output, arguments.preset, arguments.parts, arguments.minutes)
    finally:
        results = proof.read(arguments.output / "accelerator.json", arguments.preset)
        if results["records"]:
            proof_report.write(arguments.output, results)
    print(proof_report.report(results))
    print(f"Results: {arguments.output / 'accelerator.md'}")
    return not proof.broken(results)


if __name__ == "__main__":
    main(Arguments, run, __doc__)
