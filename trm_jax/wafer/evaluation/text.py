"""Tables and sentences of the report on one wafer classifier; they follow the numbers."""

from collections.abc import Mapping, Sequence

import pandas as pd

from trm_jax.reporting import markdown
from trm_jax.wafer.baselines.report import at_full_mix, at_full_mix_in_words, ranged
from trm_jax.wafer.evaluation import trust
from trm_jax.wafer.evaluation.groups import SHARES_BY_SIZE
from trm_jax.wafer.evaluation.metrics import BY_CLASS, Interval
from trm_jax.wafer.evaluation.pooled import Answers, Check
from trm_jax.wafer.evaluation.results import SCORES, Results
from trm_jax.wafer.maps.maps import CLASSES


def seeds(tested: Answers) -> list[str]:
    """What a number stands for."""
    count, steps = tested.logits.shape[:2]
    what = "Every score is the mean of their scores" if count > 1 else "A single seed says nothing about other seeds"
    more = f", evaluated with up to {steps}" if steps > tested.depth else ""
    return [
        f"{count} training seed{'s' if count > 1 else ''} per split. {what}. Trained with {tested.depth} supervision "
        f"steps{more}; unless said otherwise, answers are those after step {tested.depth}."
    ]


def sections(results: Results, tested: Answers, rates: Mapping[str, float], readiness: str) -> list[str]:
    """The report between its protocol and its provenance, as paragraphs of Markdown."""
    parts = ["## Readiness", readiness, markdown.bullets(_ready(results.checks)), "## Scores", _score_table(results)]
    parts += [markdown.bullets([f"This classifier {at_full_mix_in_words(at_full_mix(results.confusion))}"])]
    parts += ["![overview](figures/overview.svg)", markdown.bullets(_about_classes(results)), _class_table(results)]
    parts += ["## Splits and seeds", _split_table(results.by_split), markdown.bullets(_about_splits(results.by_split))]
    parts += ["## Size of the map", _size_table(results.by_size), markdown.bullets(_about_sizes(results.by_size))]
    parts += ["## Supervision steps", _step_table(results.steps), markdown.bullets(_about_steps(results.steps, tested))]
    if results.baselines:
        parts += ["## Beside the baselines", _baseline_table(results), markdown.bullets(_about_baselines(results))]
    return parts + trust.sections(results, tested, rates)


def readiness_table(checks: Sequence[Check]) -> str:
    """The targets as Markdown."""
    rows = [(one.name, one.target, one.measured, "PASS" if one.passed else "FAIL") for one in checks]
    return markdown.table(["Target", "Wanted", "Measured", "Result"], rows)


def _ready(checks: Sequence[Check]) -> list[str]:
    failed = [check.name for check in checks if not check.passed]
    unsure = [check.name for check in checks if check.passed and not check.sure]
    first = f"{len(checks) - len(failed)} of {len(checks)} targets are met"
    sentences = [first + (f"; not met: {', '.join(failed)}." if failed else ".")]
    if unsure:
        sentences.append(f"Met by the measured value, but not by its whole 95 % interval: {', '.join(unsure)}.")
    return sentences


def _score_table(results: Results) -> str:
    return markdown.table(
        ["Score", "95 % interval"], [(title, ranged(results.measured[n])) for n, title in SCORES.items()]
    )


def _class_table(results: Results) -> str:
    rows = [
        (name, *(ranged(results.measured[f"{score}_{index}"]) for score in BY_CLASS))
        for index, name in enumerate(CLASSES)
    ]
    return markdown.table(["Class", "F1", "Recall", "Precision"], rows)


def _split_table(by_split: pd.DataFrame) -> str:
    rows = [
        (row["split"], row["seed"], f"{row['accuracy']:.4f}", f"{row['macro_f1']:.4f}",
         f"{row['update']:,.0f}" if row["update"] > 0 else "not recorded")
        for row in by_split.to_dict("records")
    ]  # fmt: skip
    return markdown.table(["Split", "Seed", "Accuracy", "Macro-F1", "Weights of update"], rows)


def _about_splits(by_split: pd.DataFrame) -> list[str]:
    sentences = []
    for score, title in (("accuracy", "Accuracy"), ("macro_f1", "Macro-F1")):
        means = by_split.groupby("seed")[score].mean()
        text = f"{title}, mean of the splits: {means.mean():.4f}"
        if len(means) > 1:
            each = ", ".join(f"{value:.4f}" for value in means)
            text += f" (by seed {each}; standard deviation {means.std():.4f})"
        sentences.append(text + ".")
    return sentences


def _size_table(by_size: pd.DataFrame) -> str:
    rows = [
        (
            f"{row['smallest']} to {row['largest']}",
            f"{row['wafers']:,}",
            *(ranged(row[name]) if row[name] else "" for name in SHARES_BY_SIZE),
        )
        for row in by_size.to_dict("records")
    ]
    return markdown.table(["Dies a side", "Wafers", *SHARES_BY_SIZE.values()], rows)


def _about_sizes(by_size: pd.DataFrame) -> list[str]:
    sentences = ["Parts of the test wafers by the geometric mean of height and width; their class mixes differ."]
    rows = [row for row in by_size.to_dict("records") if row["wrong with a pattern"]]
    if len(rows) < 2:
        return sentences
    worst, best = (choose(rows, key=lambda row: row["wrong with a pattern"].value) for choose in (max, min))
    bad, good = worst["wrong with a pattern"], best["wrong with a pattern"]
    if bad.low > good.high:
        sentences.append(
            f"Of wafers labelled with a pattern more are wrong on maps of {worst['smallest']} to "
            f"{worst['largest']} dies a side ({ranged(bad)}) than on those of {best['smallest']} to "
            f"{best['largest']} ({ranged(good)})."
        )
    return sentences


def _about_classes(results: Results) -> list[str]:
    f1 = {name: results.measured[f"f1_{index}"] for index, name in enumerate(CLASSES)}
    worst, best = min(f1, key=lambda name: f1[name].value), max(f1, key=lambda name: f1[name].value)
    return [f"The hardest class is {worst}, F1 {ranged(f1[worst])}; the easiest {best}, {ranged(f1[best])}."]


def _at(steps: pd.DataFrame, step: int, score: str) -> Interval:
    row = steps[(steps["step"] == step) & (steps["score"] == score)].iloc[0]
    return Interval(*(float(row[name]) for name in Interval._fields))


def _step_table(steps: pd.DataFrame) -> str:
    columns = ["Steps", "Accuracy", "Macro-F1", "Gain in macro-F1 over step 1", "Cross-entropy", "ECE"]
    names = ("accuracy", "macro_f1", "macro_f1_gain", "loss", "ece")
    rows = [(step, *(ranged(_at(steps, step, name)) for name in names)) for step in steps["step"].unique()]
    return markdown.table(columns, rows)


def _about_steps(steps: pd.DataFrame, tested: Answers) -> list[str]:
    last, depth = int(steps["step"].max()), tested.depth
    sentences = []
    if depth > 1:
        sentences.append(f"Thinking for {depth} steps instead of one {_changed(_at(steps, depth, 'macro_f1_gain'))}.")
    if last > depth:
        now, then = (_at(steps, step, "macro_f1").value for step in (last, depth))
        sentences.append(
            f"Going on to {last} steps, more than were trained, changes macro-F1 from {then:.3f} to {now:.3f}."
        )
    sentences.append("Cross-entropy and ECE of all steps use the temperature of the trained depth.")
    return sentences


def _changed(gain: Interval) -> str:
    found = f"({gain.value:+.3f}, {gain.low:+.3f} to {gain.high:+.3f})"
    if gain.low > 0:
        return f"raises macro-F1 {found}"
    return f"lowers macro-F1 {found}" if gain.high < 0 else f"is not shown to change macro-F1 {found}"


def _baseline_table(results: Results) -> str:
    ours = results.measured
    shown = ("macro_f1", "accuracy", "ece")
    rows = [("this classifier", *(ranged(ours[score]) for score in shown), "", "")]
    for name, parts in results.baselines.items():
        gaps = (ranged(parts["difference"][score]) for score in ("macro_f1", "accuracy"))
        rows.append((name, *(ranged(parts["own"][score]) for score in shown), *gaps))
    columns = ["Classifier", "Macro-F1", "Accuracy", "ECE, as trained", "Ours minus its macro-F1",
               "Ours minus its accuracy"]  # fmt: skip
    return markdown.table(columns, rows)


def _about_baselines(results: Results) -> list[str]:
    sentences = []
    for name, parts in results.baselines.items():
        gap = parts["difference"]["macro_f1"]
        verdict = "is better than" if gap.low > 0 else "is worse than" if gap.high < 0 else "is not told apart from"
        sentences.append(
            f"By macro-F1 this classifier {verdict} `{name}`: {gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}), "
            "paired on the same wafers."
        )
    return sentences
