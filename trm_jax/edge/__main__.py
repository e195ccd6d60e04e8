"""Exported wafer models on a device: classify maps, review answers, measure the speed, serve answers over HTTP.

python -m trm_jax.edge classify --model PACKAGE --input maps.npz --output answers.csv --page answers.html
python -m trm_jax.edge review --model PACKAGE --input maps.npz --labels labels.csv
python -m trm_jax.edge benchmark --model PACKAGE --input maps.npz
python -m trm_jax.edge serve --model PACKAGE --token SECRET --host 0.0.0.0

Exit codes: 0 for answers to all maps, 1 for an error, 2 for wrong options, 3 for answers, but some maps were broken.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trm_jax.edge import benchmark, review
from trm_jax.edge.bodies import Limits
from trm_jax.edge.classify import check, classify
from trm_jax.edge.format import QUESTION
from trm_jax.edge.monitor import Monitor
from trm_jax.edge.package import PROVIDERS, Model, Options, choose, needed_files, open_model, report
from trm_jax.support.checksums import check_sums
from trm_jax.support.files import check_file, message_of
from trm_jax.wafer.maps import source
from trm_jax.wafer.maps.answer_page import write_page
from trm_jax.wafer.maps.answers import BROKEN_MAPS, Doubts, answers, summary, write_answers
from trm_jax.wafer.maps.plausible import CODES, inspect, parse_codes
from trm_jax.wafer.maps.unlike import doubted, known
from trm_jax.wafer.maps.validate import ReadResult


def parser() -> argparse.ArgumentParser:
    """The command line."""
    line = argparse.ArgumentParser("trm_jax.edge", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = line.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--model", type=Path, required=True, help="package directory or .onnx file")
    common.add_argument("--batch", type=int, default=1, help="maps at a time (default 1)")
    common.add_argument("--threshold", type=float, help="halting probability, 0 to 1, above which a map stops early")
    common.add_argument("--provider", choices=["auto", *PROVIDERS], default="auto", help="where to run (default auto)")
    common.add_argument("--threads", type=int, default=1, help="threads within an operation (default 1)")
    common.add_argument("--cache", type=Path, help="directory for engines and timings of TensorRT")
    monitored = argparse.ArgumentParser(add_help=False)
    monitored.add_argument("--monitor", type=Path, metavar="LOG", help="watch for drift; JSON lines are added to LOG")
    coded = argparse.ArgumentParser(add_help=False)
    coded.add_argument("--codes", default="", help=CODES)
    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("--input", type=Path, required=True, help="a data set, a map, or a folder of maps")
    source.add_argument("--pass-bins", default="", metavar="BINS", help="bins of passing dies, such as 1 or 1,2")

    command = commands.add_parser(
        "classify", parents=[common, source, coded, monitored], help="answer for every map of a file"
    )
    command.add_argument("--output", type=Path, required=True, help="CSV file to write")
    command.add_argument("--page", type=Path, help="HTML page to write, to look at the answers and correct them")
    command.add_argument("--force", action="store_true", help="replace the output and the page if they exist")
    command = commands.add_parser("review", parents=[common, source, coded], help="label maps to review in a browser")
    command.add_argument("--labels", type=Path, required=True, help="CSV file to which labels are added")
    command.add_argument("--port", type=int, default=8001, help="port on this machine (default 8001)")
    command = commands.add_parser("benchmark", parents=[common, source], help="measure every file of a package, or one")
    command.add_argument("--repeats", type=int, default=100, help="batches to measure (default 100)")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command = commands.add_parser("serve", parents=[common, coded, monitored], help="answer over HTTP")
    command.add_argument("--host", default="127.0.0.1", help="address (default 127.0.0.1); others need a token")
    command.add_argument("--port", type=int, default=8000, help="port (default 8000)")
    command.add_argument("--token", default=os.environ.get("TRM_EDGE_TOKEN", ""), help="or TRM_EDGE_TOKEN")
    command.add_argument("--waiting", type=int, default=8, help="most requests that wait (default 8)")
    command.add_argument("--body", type=int, default=8 * 2**20, help="most bytes of a request (default 8388608)")
    return line


def load_model(arguments: argparse.Namespace) -> Model:
    """The model that the arguments name; says on stderr where it runs."""
    path = choose(arguments.model, arguments.threshold is not None, arguments.batch)
    model = open_model(path, Options(arguments.provider, arguments.threads, arguments.cache))
    print(report(model, arguments.provider), file=sys.stderr)
    check(model, arguments.batch, arguments.threshold)
    return model


def read_maps(arguments: argparse.Namespace, model: Model) -> tuple[ReadResult, Doubts]:
    """The maps that the arguments name and the doubts about them; says on stderr what was changed."""
    read = source.read(arguments.input, to_classify=True, pass_bins=arguments.pass_bins)
    read, doubts, notes = inspect(read, arguments.codes, model.metadata.dies)
    for note in notes:
        print(note, file=sys.stderr)
    return read, doubts


def run_classify(arguments: argparse.Namespace) -> int:
    """Write answers.csv and the page, and tell of drift; returns the exit code."""
    check_file(arguments.output, arguments.force)
    if arguments.page:
        check_file(arguments.page, arguments.force, "--page")
    parse_codes(arguments.codes)
    model = load_model(arguments)
    monitor = Monitor(model.metadata.reference, arguments.monitor) if arguments.monitor else None
    read, doubts = read_maps(arguments, model)
    result = classify(model, read.wafers, arguments.batch, arguments.threshold)
    threshold, doubts = model.metadata.thresholds, doubted(doubts, result.unlike)
    write_answers(arguments.output, read, result.probabilities, result.steps, threshold, doubts, known(result.unlike))
    if arguments.page:
        write_page(arguments.page, read, result.probabilities, result.steps, threshold, doubts)
    print(
        f"{len(read.wafers):,} maps answered in {result.steps.mean():.2f} supervision steps a map; "
        f"written to {arguments.output}{f' and {arguments.page}' if arguments.page else ''}\n"
        f"{summary(read, result.probabilities, threshold, doubts)}"
    )
    if monitor is not None:
        for alarm in monitor.add(read.wafers, result.probabilities, result.steps, model.metadata.review_threshold):
            print(f"ALARM: {alarm}", file=sys.stderr)
        if monitor.error:
            raise ValueError(monitor.error)
    return BROKEN_MAPS if read.rejected else 0


def run_review(arguments: argparse.Namespace) -> None:
    """Serve the page for a review until interrupted."""
    with review.bind(arguments.port) as listener:
        model = load_model(arguments)
        read, doubts = read_maps(arguments, model)
        result = classify(model, read.wafers, arguments.batch, arguments.threshold)
        doubts = doubted(doubts, result.unlike)
        lines = answers(read, result.probabilities, result.steps, model.metadata.thresholds, doubts)
        review.run(review.Review(read, list(lines), arguments.labels), listener)


def run_benchmark(arguments: argparse.Namespace) -> None:
    """Print a line for every model file; those of a package are measured one by one, each in a process of its own."""
    if arguments.model.is_dir():
        models = _model_files(arguments.model)
        check_sums(arguments.model, set().union(*map(needed_files, models)))
        speeds = [benchmark.measure_alone(_line_of(path, arguments)) for path in models]
    else:
        choose(arguments.model)
        wafers = source.read(arguments.input, pass_bins=arguments.pass_bins).wafers
        options = Options(arguments.provider, arguments.threads, arguments.cache)
        speeds = [
            benchmark.measure(arguments.model, wafers, options, arguments.batch, arguments.threshold, arguments.repeats)
        ]
    providers = {speed.provider for speed in speeds}
    print(f"provider in use: {', '.join(sorted(providers))}", file=sys.stderr)
    print(json.dumps([speed._asdict() for speed in speeds], indent=2) if arguments.json else benchmark.table(speeds))


def _model_files(package: Path) -> list[Path]:
    """Every model of a package that answers by itself, or with what lies beside it."""
    models = sorted(set(package.glob("*.onnx")) - {package / QUESTION})
    if not models:
        raise ValueError(f"{package} has no .onnx file")
    return models


def _line_of(path: Path, arguments: argparse.Namespace) -> list[str]:
    """Arguments for measuring a model file: one map at a time but for the model of any number."""
    early = path.stem in ("model_adaptive", "step") and arguments.threshold is not None
    batch = arguments.batch if path.stem == "model_dynamic" else 1
    line = ["--model", path, "--input", arguments.input, "--batch", batch, "--repeats", arguments.repeats]
    line += ["--pass-bins", arguments.pass_bins] * bool(arguments.pass_bins)
    line += ["--provider", arguments.provider, "--threads", arguments.threads]
    line += ["--threshold", arguments.threshold] * early + ["--cache", arguments.cache] * bool(arguments.cache)
    return [str(part) for part in line]


def run_serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    try:
        from trm_jax.edge import server
    except ImportError as error:
        raise ValueError(
            f"serving needs more packages ({error.name}): pip install fastapi uvicorn prometheus_client"
        ) from None
    parse_codes(arguments.codes)
    if arguments.waiting < 0 or arguments.body < 1:
        raise ValueError("--waiting must be at least 0, --body at least 1")
    # Before the model: TensorRT takes minutes to build an engine.
    with server.bind(arguments.host, arguments.port, arguments.token) as listener:
        model = load_model(arguments)
        monitor = Monitor(model.metadata.reference, arguments.monitor) if arguments.monitor else None
        limits = Limits(body=arguments.body, waiting=arguments.waiting)
        service = server.Service(
            model, arguments.batch, arguments.threshold, monitor, arguments.token, limits, arguments.codes
        )
        server.run(service, listener)


def main(line: Sequence[str] | None = None) -> None:
    """Entry point: mistakes of the caller end in one line."""
    arguments = parser().parse_args(line)
    runs = {"classify": run_classify, "review": run_review, "benchmark": run_benchmark, "serve": run_serve}
    try:
        if code := runs[arguments.command](arguments):
            sys.exit(code)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {message_of(error)}")
    except KeyboardInterrupt:
        sys.exit("interrupted")


if __name__ == "__main__":
    main()
