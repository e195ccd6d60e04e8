"""The report and the model card of a package: every sentence and every number comes from what was measured."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trm_jax.export.measures.latency import ROUNDS
from trm_jax.export.package import FILES, FLOAT, HALF, INT8, MODEL, Results, Settings, write_files
from trm_jax.export.samples import Samples
from trm_jax.export.source import Source
from trm_jax.reporting import markdown
from trm_jax.reporting.page import template
from trm_jax.support.checksums import write_sums
from trm_jax.support.files import replacing_directory, write_text

MAX_LOSS = 0.003
"""How much of the first score stopping early may cost in the sentence about it."""
PRECISIONS = {MODEL: "float32", HALF: "float16", INT8: "int8"}
UNTRAINED = "The weights are random: this proves that the export works and says nothing about a trained model."
ASSUMED = "temperature 1 and review threshold 0.9 were assumed, not fitted"


def write(directory: Path, source: Source, samples: Samples, results: Results) -> None:
    """Write report.json, report.md and model_card.md."""
    write_text(directory / "report.json", json.dumps(_numbers(source, samples, results), indent=1))
    write_text(directory / "report.md", markdown.without_html(report(source, samples, results)))
    write_text(directory / "model_card.md", markdown.without_html(card(source, samples, results)))


def make_package(output: Path, source: Source, samples: Samples, settings: Settings) -> str:
    """Write a package: files, report, sums; it appears when all has passed. Returns the report."""
    with replacing_directory(output, FILES) as directory:
        results = write_files(source, samples, directory, settings)
        write(directory, source, samples, results)
        write_sums(directory)
    return (output / "report.md").read_text(encoding="utf-8")


def _numbers(source: Source, samples: Samples, results: Results) -> Any:
    """All results as JSON knows them."""
    numbers = {name: value for name, value in vars(results).items() if name not in ("metadata", "quantized")}
    numbers |= {"source": samples.source, "calibrated": source.calibrated, "untrained": source.untrained}
    numbers["metadata"] = {name: value for name, value in results.metadata._asdict().items() if name != "config"}
    if results.quantized:
        numbers["int8"] = {name: value for name, value in results.quantized._asdict().items() if name != "graph"}
    return _without_nan(numbers)


def _without_nan(value: Any) -> Any:
    """The same with None for what was not measured, since JSON has no NaN, and dataclasses as dicts."""
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report(source: Source, samples: Samples, results: Results) -> str:
    """report.md; stopping early is told at the threshold with the fewest steps that keeps the first score."""
    costs = {cost.name: cost for cost in results.costs}
    last, score = results.early[-1], next(iter(results.expected.scores))
    kept = [stop for stop in results.early if stop.scores[score] >= last.scores[score] - MAX_LOSS]
    exact = [name for name in results.agreements if name in FLOAT.values()]
    return template("trm_jax.export", "report.md").render(
        source=source, samples=samples, results=results, costs=costs, float=costs[MODEL], float32=exact, last=last,
        score=score, expected=results.expected.scores, int8=results.quantized, jax=results.jax.one_thread,
        worst=max(exact, key=lambda name: results.agreements[name].largest), precisions=PRECISIONS, rounds=ROUNDS,
        stop=min(kept, key=lambda stop: stop.mean_steps), N_sup=source.config.recursion.N_sup, untrained=UNTRAINED,
        assumed=_assumed(source),
    )  # fmt: skip


def _assumed(source: Source) -> str:
    return "" if source.calibrated else f" ({ASSUMED})"


def card(source: Source, samples: Samples, results: Results) -> str:
    """model_card.md."""
    N_sup, commit = source.config.recursion.N_sup, results.metadata.provenance["commit"]
    scores = ", ".join(f"{name} {value:.3f}" for name, value in results.expected.scores.items())
    lines = [
        *([UNTRAINED] if source.untrained else []),
        f"A Tiny Recursive Model with {results.parameters:,} parameters and {N_sup} supervision steps. `inputs` is "
        f"{samples.takes}.",
        f"Answers: {', '.join(samples.labels)}; `halt` is the probability that the answer is right.",
        f"Temperature {source.temperature:g}, review threshold {source.review_threshold:g}{_assumed(source)}.",
        f"Measured on {samples.source}: {scores}. These are not the class shares of production, where the scores will "
        "differ.",
        samples.purpose,
        f"Made from commit `{commit}`; details in report.md and in the metadata of each file.",
    ]
    return "# Model card\n\n" + markdown.bullets(lines) + "\n"
