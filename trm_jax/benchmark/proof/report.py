"""Records of an accelerator as tables and figures, which go into a page as they are."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from trm_jax.reporting import markdown
from trm_jax.reporting.style import COLOURS, MARKERS, STYLE, percent, svg
from trm_jax.support.files import write_text

Records = dict[str, dict[str, Any]]
TITLES = {
    "device": "Device",
    "parity": "The same numbers as float32 on CPU",
    "resume": "A run interrupted and taken up again",
    "compiling": "Compiling, with nothing kept and from disk",
    "seeds": "Seeds at once against as many runs (below 1 is faster)",
    "peer": "PyTorch, the same step (below 1 we are faster)",
    "inference": "Answers after all supervision steps",
    "halting": "Early stopping: time over that of all steps, beside the share of steps used",
    "steps": "A training step",
}
WORDS = {
    "ms": "ms", "peer_ms": "Its ms", "ratio": "Ratio", "tflop": "TFLOP", "share": "Of peak", "gigabytes": "GB",
    "compile_seconds": "Compiling, s", "tflops": "TFLOP/s of a product", "largest": "Largest difference",
    "answers_per_second": "Answers/s", "share_of_steps": "Share of steps", "peak": "Peak", "of": "Of",
}  # fmt: skip
GOALS = (
    ("a quarter of the peak at width 512, attention, 81 tokens, bfloat16", "steps/width512/attention/81/bfloat16",
     lambda record: record["share"] >= 0.25),
    ("as fast as torch.compile there", "peer/attention/compiled", lambda record: record["ratio"] <= 1.0),
    ("eight seeds in at most 0.4 of the time of eight runs", "seeds/8", lambda record: record["ratio"] <= 0.4),
)  # fmt: skip


def report(results: dict[str, Any]) -> str:
    """All records as Markdown: goals first, then a table for each part."""
    records: Records = results["records"]
    made_by = results["made by"]
    lines = [
        f"Commit {made_by['commit']}; {', '.join(made_by['devices'])}; {made_by['machine']}",
        ", ".join(f"{name} {version}" for name, version in made_by["packages"].items()),
        "TFLOP and shares of the peak count matrix products of forward and backward pass, without recomputation; the "
        "peak is the maker's dense one, or that of a large product where it is not known.",
    ]
    parts = ["# Accelerator", markdown.bullets(lines), markdown.bullets(goals(results))]
    for part, title in TITLES.items():
        rows = {name: record for name, record in records.items() if name.split("/")[0] == part}
        if rows:
            parts += [f"## {title}", _table(rows)]
    return "\n\n".join(parts) + "\n"


def goals(results: dict[str, Any]) -> list[str]:
    """A sentence for each goal: held, missed, or not yet run on a GPU."""
    gpu = any("cpu" not in device.lower() for device in results["made by"]["devices"])
    sentences = []
    for words, name, held in GOALS:
        record = results["records"].get(name, {})
        known = gpu and results["preset"] == "standard" and not {"failed", "skipped"} & set(record) and record
        sentences.append(
            f"Goal, {words}: {('held' if held(record) else 'missed') if known else 'not yet run on a GPU'}"
        )
    return sentences


def _table(rows: Records) -> str:
    names = dict.fromkeys(key for record in rows.values() for key in record if not key.endswith(("_low", "_high")))
    shown = [name for name in names if not any(isinstance(record.get(name), list | dict) for record in rows.values())]
    cells = [[name, *(_cell(record, key) for key in shown)] for name, record in rows.items()]
    return markdown.table(["Case", *(WORDS.get(key, key.replace("_", " ")) for key in shown)], cells)


def _cell(record: dict[str, Any], key: str) -> str:
    value = record.get(key, "")
    if key.startswith("share") and value != "":
        return f"{value:.0%}"
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{text} ({record[f'{key}_low']:.3g} to {record[f'{key}_high']:.3g})" if f"{key}_low" in record else text


@matplotlib.rc_context(STYLE)
def share_figure(records: Records) -> Figure:
    """Share of the peak over the width, a line for each mixer and number of tokens, one panel for each precision."""
    found = {tuple(name.split("/")[1:]): record for name, record in records.items() if name.startswith("steps/")}
    cases = {key: record["share"] for key, record in found.items() if "share" in record}
    precisions = list(dict.fromkeys(key[3] for key in cases))
    figure = Figure(figsize=(5.0, 1.0 + 1.7 * len(precisions)), layout="constrained")
    panels = figure.subplots(len(precisions), sharex=True, squeeze=False)[:, 0]
    series = sorted({key[1:3] for key in cases})
    for axes, precision in zip(panels, precisions, strict=True):
        for (mixer, tokens), colour, marker in zip(series, COLOURS, MARKERS, strict=False):
            points = sorted(
                (int(width.removeprefix("width")), share)
                for (width, *rest, kind), share in cases.items()
                if rest == [mixer, tokens] and kind == precision
            )
            axes.plot(*zip(*points, strict=True), marker=marker, color=colour, label=f"{mixer}, {tokens} tokens")
        axes.set_title(precision, fontsize=10, loc="left")
        axes.set_ylim(bottom=0)
        percent(axes.yaxis)
    panels[-1].set_xlabel("Width")
    figure.supylabel("Share of the peak, %", fontsize=10)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def write(directory: Path, results: dict[str, Any]) -> None:
    """Write accelerator.md, and a figure where training steps were measured."""
    write_text(directory / "accelerator.md", report(results))
    if any("share" in record for record in results["records"].values()):
        write_text(directory / "accelerator.svg", svg(share_figure(results["records"])))
