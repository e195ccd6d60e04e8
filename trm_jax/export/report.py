"""The report and the model card of a package: every sentence and every number comes from what was measured."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trm_jax.export.latency import ROUNDS
from trm_jax.export.package import DEFAULT, HALF, INT8
from trm_jax.reporting import markdown
from trm_jax.support.files import write_text

Found = Mapping[str, Any]

AS_IT_STANDS = (
    ' "As it stands" is int8 with graph optimisation off, as TensorRT computes it; "optimised" is what onnxruntime '
    "makes of it on this processor."
)
LOSS = 0.003
"""Macro-F1 that stopping early may cost in the sentence about it."""
REDUCED = {HALF: "float16", INT8: "int8"}
UNTRAINED = "The weights are random: this proves that the export works and says nothing about a trained model."


def write(directory: Path, found: Found) -> None:
    """Write report.json, report.md and model_card.md of what `packaging.write` found."""
    write_text(directory / "report.json", json.dumps(without_nan(found), indent=1))
    write_text(directory / "report.md", report(found))
    write_text(directory / "model_card.md", card(found))


def without_nan(value: Any) -> Any:
    """The same with None for what was not measured: JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def report(found: Found) -> str:
    """report.md."""
    about = found["about"]
    parts = [
        f"# Exported files, compared with JAX: {found['parameters']:,} parameters, {found['N_sup']} supervision steps",
        markdown.bullets(sentences(found)),
        "## Agreement with JAX",
        agreement_table(found),
        "Largest difference: of a logit, in units of the largest logit where that is above 1. Same class: share of "
        "answers after the last step." + (AS_IT_STANDS if found["int8"] else ""),
        "## Cost",
        cost_table(found),
        "Milliseconds for one input, median (p90, p99), each file in a process of its own, a few calls at a time in "
        f"{ROUNDS} turns. JAX: the same model, jitted, on one and on two cores, compiled before the clock counts. The "
        "float32 files share `weights.bin`. A step comes on top of its question.",
        "## Stopping early",
        adaptive_table(found),
        "## Operators",
        markdown.bullets(f"`{name}`: {', '.join(file['operators'])}" for name, file in found["files"].items()),
        *(["## int8: error of each product quantized alone", int8_table(found)] if found["int8"] else []),
        "## Made by",
        markdown.bullets(f"{name}: `{json.dumps(value)}`" for name, value in about["provenance"].items()),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def sentences(found: Found) -> list[str]:
    """What the numbers say."""
    agreements, files, about = found["agreement"], found["files"], found["about"]
    exact = {name: one for name, one in agreements.items() if INT8 not in name and name != HALF}
    worst = max(exact, key=lambda name: exact[name]["largest"])
    one = {name: file["speed"]["1"]["p50_ms"] for name, file in files.items()}
    one["JAX"] = found["jax"]["speed"]["1"]["p50_ms"]
    two = files["model.onnx"]["speed"]["2"]["p50_ms"]
    lines = [UNTRAINED] if found["untrained"] else []
    lines += [
        f"Compared on {found['source']}.",
        f"Float32 files agree with JAX: the largest difference is {exact[worst]['largest']:.1e} (`{worst}`).",
        *(
            f"`{name}` names the same class as JAX for {agreements[name]['same']:.2%} of the answers"
            f"{ties(agreements[name])}. "
            f"Macro-F1 is {agreements[name]['macro_f1']:.3f}, in JAX {found['jax']['macro_f1']:.3f}."
            for name in (HALF, f"{INT8}, as it stands", f"{INT8}, optimised")
            if name in agreements
        ),
        f"On one thread of this machine a {found['unit']} takes {one['model.onnx']:.2f} ms in float32, "
        + "".join(f"{one[name]:.2f} ms in {kind}, " for name, kind in REDUCED.items() if name in one)
        + f"{one['JAX']:.2f} ms in jitted JAX; float32 takes {one['model.onnx'] / one['JAX']:.2f} of JAX's time.",
        f"A second thread changes the time of `model.onnx` by a factor of {two / one['model.onnx']:.2f}.",
        early(found),
        f"Probabilities are softmax(logits / {about['temperature']:g}); answers below "
        f"{about['review_threshold']:g} are for review" + ("." if found["calibrated"] else f" ({DEFAULT})."),
    ]
    return lines


def ties(agreement: Mapping[str, float]) -> str:
    """How close the classes were where a file names another."""
    apart = f"; where it does not, JAX's first two classes are at most {agreement['lead']:.4f} of probability apart"
    return apart if agreement["same"] < 1 else ""


def early(found: Found) -> str:
    """What stopping early saves."""
    rows = found["adaptive"]
    last = rows[-1]
    row = min((row for row in rows if row["macro_f1"] >= last["macro_f1"] - LOSS), key=lambda one: one["mean_steps"])
    if row["mean_steps"] > found["N_sup"] - 0.01:
        return "Stopping early saves nothing without losing macro-F1: all steps are needed."
    whole = found["files"]["model.onnx"]["speed"]["1"]["mean_ms"]
    return (
        f"Stopping at a halting probability above {row['threshold']:g} takes {row['mean_steps']:.2f} of "
        f"{found['N_sup']} steps and {row['mean_ms']:.2f} instead of {last['mean_ms']:.2f} ms: the file with the loop "
        f"then takes {row['mean_ms'] / last['mean_ms']:.0%} of the time that it takes without stopping, and "
        f"{row['mean_ms'] / whole:.0%} of that of `model.onnx`, which has no loop. Macro-F1 is "
        f"{row['macro_f1']:.3f} instead of {last['macro_f1']:.3f}."
    )


def agreement_table(found: Found) -> str:
    """A row for every file."""
    columns = ["File", "Largest difference", "RMS of logits", "Probabilities", "Same class", "Macro-F1", "ECE"]
    rows = [["JAX", "", "", "", "", f"{found['jax']['macro_f1']:.3f}", f"{found['jax']['ece']:.3f}"]]
    for name, one in found["agreement"].items():
        numbers = [f"{one[key]:.1e}" for key in ("largest", "rms", "other_outputs")]
        rows.append([name, *numbers, f"{one['same']:.2%}", f"{one['macro_f1']:.3f}", f"{one['ece']:.3f}"])
    return markdown.table(columns, rows)


def cost_table(found: Found) -> str:
    """Size and speed of every file."""
    columns = ["File", "kB", "Nodes", "Load, ms", "One thread, ms", "Two threads, ms", "Peak memory, MB"]
    rows = []
    for name, one in {**found["files"], "jitted JAX": {"speed": found["jax"]["speed"]}}.items():
        speed = one["speed"]
        size = [f"{one['bytes'] / 1e3:,.0f}", f"{one['nodes']:,}"] if "bytes" in one else ["", ""]
        rows.append(
            [name, *size, f"{speed['1']['load_ms']:,.0f}", latency(speed["1"]), latency(speed["2"]),
             f"{speed['1']['peak_mb']:,.0f}"]
        )  # fmt: skip
    return markdown.table(columns, rows)


def latency(speed: Mapping[str, float]) -> str:
    """Median with the slow tail."""
    return f"{speed['p50_ms']:.2f} ({speed['p90_ms']:.2f}, {speed['p99_ms']:.2f})"


def adaptive_table(found: Found) -> str:
    """A row for every threshold."""
    columns = ["Threshold", "Mean steps", "Mean time, ms", "Macro-F1"]
    rows = [
        [f"{row['threshold']:g}", f"{row['mean_steps']:.2f}", f"{row['mean_ms']:.2f}", f"{row['macro_f1']:.3f}"]
        for row in found["adaptive"]
    ]
    return markdown.table(columns, rows)


def int8_table(found: Found) -> str:
    """Why products are quantized or not."""
    facts = found["int8"]
    kept = facts["kept_float"]
    rows = [
        [f"`{name}`", f"{error:.4f}", "float" if name in kept else "int8"]
        for name, error in facts["sensitivity"].items()
    ]
    text = (
        f"Ranges come from {facts['calibration']:,} training inputs. Error: RMS difference of the logits in units of "
        f"their standard deviation, mean over classes, graph optimisation off; together {facts['error']:.4f}, allowed "
        f"{facts['limit']:g}; {len(kept)} of {len(facts['sensitivity'])} stay in floating point."
    )
    return text + "\n\n" + markdown.table(["Product", "Error alone", "Computed in"], rows)


def card(found: Found) -> str:
    """model_card.md."""
    about, jax = found["about"], found["jax"]
    kind = about["preprocessing"]["kind"]
    takes = (
        f"a wafer map resized to {about['preprocessing']['size']} x {about['preprocessing']['size']} cells "
        f"(`{about['preprocessing']['representation']}`): shares of failing dies and of dies, float32 0 to 255"
        if kind == "wafer"
        else f"{about['preprocessing']['cells']} tokens, int32"
    )
    lines = [UNTRAINED] if found["untrained"] else []
    lines += [
        f"A Tiny Recursive Model with {found['parameters']:,} parameters and {found['N_sup']} supervision steps. "
        f"`inputs` is {takes}.",
        f"Answers: {', '.join(about['labels'])}; `halt` is the probability that the answer is right.",
        f"Temperature {about['temperature']:g}, review threshold {about['review_threshold']:g}"
        + ("." if found["calibrated"] else f": {DEFAULT}."),
        f"Measured on {found['source']}: macro-F1 {jax['macro_f1']:.3f}, calibration error {jax['ece']:.3f}. "
        "These are not the class shares of production, where both will differ.",
        "Meant to sort maps and to send doubtful ones to a person; not to decide alone, nor for maps made in another "
        "way than the training data."
        if kind == "wafer"
        else "Meant to study recursive reasoning; an answer may break the rules of the puzzle.",
        f"Made from commit `{about['provenance']['commit']}`; details in report.md and in the metadata of each file.",
    ]
    return "# Model card\n\n" + markdown.bullets(lines) + "\n"
