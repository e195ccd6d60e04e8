"""Tables and sentences on when the answers of one wafer classifier may be trusted; they follow the numbers."""

from collections.abc import Mapping

import pandas as pd

from trm_jax.reporting import markdown
from trm_jax.wafer.baselines.report import ranged
from trm_jax.wafer.evaluation.metrics import Interval
from trm_jax.wafer.evaluation.pooled import KNOWN, RULES, Answers
from trm_jax.wafer.evaluation.results import MAIN_RULE, Results
from trm_jax.wafer.maps.maps import CLASSES


def sections(results: Results, tested: Answers, rates: Mapping[str, float]) -> list[str]:
    """Calibration, automatic decisions, sets of classes, adaptive depth and unknown patterns, as paragraphs."""
    parts = ["## Calibration", markdown.bullets(_about_calibration(results, tested))]
    parts += ["## What may be decided automatically", _rule_table(results.rules, results.decided)]
    parts += ["![risk and coverage](figures/risk_coverage.svg)", markdown.bullets(_about_rules(results, rates))]
    if results.decided[MAIN_RULE]["coverage"].value > 0:
        parts += [_decided_table(results), markdown.bullets(_about_decided_classes(results, rates["alpha"]))]
    parts += ["## Sets of classes", markdown.bullets(_about_sets(results, rates))]
    parts += ["## Adaptive depth", _adaptive_table(results.adaptive), "![adaptive depth](figures/adaptive_depth.svg)"]
    parts += [markdown.bullets(_about_depth(results.adaptive))]
    if len(results.unknown):
        parts += [
            "## Unknown patterns",
            _unknown_table(results.unknown),
            markdown.bullets(_about_unknown(results.unknown)),
        ]
    return parts


def _about_calibration(results: Results, tested: Answers) -> list[str]:
    low, high = tested.temperature.min(), tested.temperature.max()
    direction = "neither always too sure nor always too unsure"
    if low > 1:
        direction = "too sure of itself"
    elif high < 1:
        direction = "not sure enough of itself"
    before, after = results.measured["ece"], results.measured["ece_tempered"]
    return [
        f"Temperatures fitted on validation wafers of the same split and seed are {low:.2f} to {high:.2f}: as trained, "
        f"the classifier is {direction}.",
        f"ECE ({'lower' if after.value < before.value else 'not lower'} after scaling): {ranged(before)} as trained, "
        f"{ranged(after)} temperature-scaled.",
    ]


def _rule_table(rules: pd.DataFrame, decided: Mapping[str, Mapping[str, Interval]]) -> str:
    rows = []
    for rule, what in RULES.items():
        own, found = rules[rules["rule"] == rule], decided[rule]
        known = own["threshold"].dropna()
        span = f"{known.min():.4f} to {known.max():.4f}" if len(known) else "none"
        errors = ranged(found["errors"]) if found["coverage"].value > 0 else "none decided"
        rows.append((rule, what, span, f"{len(known)} of {len(own)}", ranged(found["coverage"]), errors,
                     f"{found['wrong'].value:.4f}"))  # fmt: skip
    columns = ["Rule", "What is limited", "Thresholds of confidence", "Nets with one", "Decided", "Errors among them",
               "Decided and wrong, of all"]  # fmt: skip
    return markdown.table(columns, rows)


def _about_rules(results: Results, rates: Mapping[str, float]) -> list[str]:
    alpha, delta = rates["alpha"], rates["delta"]
    own = results.rules[results.rules["rule"] == MAIN_RULE].dropna(subset="threshold")
    found = results.decided[MAIN_RULE]
    sentences = [
        f"Guaranteed by lot: each net's threshold is such that, with probability {1 - delta:.0%} over the draw of its "
        f"validation lots, at most {alpha:.1%} of its automatic decisions are wrong in the long run over new lots; "
        "the rest is flagged for review. Where the data name no lots, runs of 25 consecutive wafers stand for them. "
        "It holds for lots that are independent draws of one "
        "process, and takes the net and its temperature as given: both were chosen on the same validation wafers, so "
        "the test wafers are the check.",
        "Marginal by lot: a wafer of a new lot is decided and wrong with at most that probability, counted over all "
        "wafers and on average over validation sets, which promises less.",
    ]
    if len(own):
        kept = int((own["errors"].fillna(0) <= alpha).sum())
        sentences.append(
            f"On test wafers {found['coverage'].value:.1%} are decided by the guaranteed rule, "
            f"{ranged(found['errors'])} of them wrongly; {kept} of {len(own)} nets stay within {alpha:.1%}."
        )
    else:
        sentences.append(f"No threshold can be guaranteed at {alpha:.1%}: there are too few lots, or too many errors.")
    if results.rules.loc[results.rules["rule"] == "guaranteed, by block", "threshold"].isna().all():
        sentences.append(
            "With the whole groups of the split as units nothing can be guaranteed: they are too few for this rate."
        )
    sentences.append(
        f"Whether lots of a group may count singly: the variance of the errors counted by group is "
        f"{results.together:.1f} times that counted by lot (1 if lots are independent)"
        + ("; far above 1, so the guarantee by lot promises too much." if results.together > 2 else ".")
    )
    areas = ", ".join(f"{area:.4f}" for area in results.areas)
    sentences.append(f"Area under the risk-coverage curve, by seed: {areas} (0 is perfect).")
    return sentences


def _decided_table(results: Results) -> str:
    rows = [
        (CLASSES[label], ranged(found["coverage"]), ranged(found["errors"]) if found["coverage"].value else "")
        for label, found in results.by_class.items()
    ]
    return markdown.table(["Labelled class", "Decided automatically", "Named otherwise among those"], rows)


def _about_decided_classes(results: Results, alpha: float) -> list[str]:
    above = {
        CLASSES[label]: found["errors"].value
        for label, found in results.by_class.items()
        if found["coverage"].value and found["errors"].value > alpha
    }
    if not above:
        return []
    listed = ", ".join(f"{name} {above[name]:.1%}" for name in sorted(above, key=lambda name: -above[name]))
    return [
        f"The rate of {alpha:.1%} is one over all wafers, most of which are easy. It is not kept for every class: of "
        f"the automatically decided wafers labelled so, more are named otherwise of {listed}."
    ]


def _about_sets(results: Results, rates: Mapping[str, float]) -> list[str]:
    found, wanted = results.sets, 1 - rates["sets"]
    verdict = "is held" if found["coverage"].value >= wanted else "is missed"
    return [
        f"Conformal sets (LAC) promise to hold the labelled class of a wafer of a new lot with probability "
        f"{wanted:.0%} (marginal): on test wafers {ranged(found['coverage'])}, which {verdict}. They hold "
        f"{found['size'].value:.2f} classes on average; {found['one class'].value:.1%} hold exactly one, "
        f"{found['empty'].value:.1%} none."
    ]


def _adaptive_table(table: pd.DataFrame) -> str:
    timed = bool(table["ms"].notna().all())
    columns = ["Stop above halting probability", "Mean steps", *["Time of a wafer, ms"] * timed,
               "Accuracy", "Macro-F1", "Macro-F1 against all steps"]  # fmt: skip
    rows = [
        (
            f"{row['halt']:g}",
            f"{row['steps']:.2f}",
            *[f"{row['ms']:.3f}"] * timed,
            *(ranged(row[n]) for n in ("accuracy", "macro_f1", "macro_f1_gain")),
        )
        for row in table.to_dict("records")
    ]
    return markdown.table(columns, rows)


def _about_depth(table: pd.DataFrame) -> list[str]:
    records = table.to_dict("records")
    full = records[-1]
    free = [row for row in records if row["macro_f1_gain"].low > -0.005]
    cheapest = min(free, key=lambda row: row["steps"])
    if cheapest["steps"] >= full["steps"]:
        return ["No threshold saves steps without the risk of losing half a point of macro-F1."]
    return [
        f"Stopping above a halting probability of {cheapest['halt']:g} takes {cheapest['steps']:.2f} steps instead of "
        f"{full['steps']:g} and costs less than half a point of macro-F1 (change "
        f"{cheapest['macro_f1_gain'].value:+.3f}, {cheapest['macro_f1_gain'].low:+.3f} to "
        f"{cheapest['macro_f1_gain'].high:+.3f}); of the thresholds of which that can be said it is the cheapest.",
        *_about_time(cheapest["ms"], full["ms"]),
    ]


def _about_time(cheapest: float, full: float) -> list[str]:
    if not full > 0:  # not measured
        return []
    return [
        f"It takes {cheapest:.3f} instead of {full:.3f} ms a wafer, {cheapest / full:.0%} of the time. Times are of "
        "wafers that leave a compiled loop of 64 slots when they stop: some test wafers of the first split, weights "
        "of its first seed, medians of rounds in turns, on this machine."
    ]


def _unknown_table(unknown: pd.DataFrame) -> str:
    scores = list(dict.fromkeys(unknown["score"]))
    rows = []
    for (name, known), own in unknown.groupby(["unknown", "known"], sort=False):
        cells = [own.loc[own["score"] == score, "auroc"] for score in scores]
        count = own.drop_duplicates("split")["count"].sum()
        rows.append((name, count, known, *(f"{c.mean():.3f} ({c.min():.3f} to {c.max():.3f})" for c in cells)))
    return markdown.table(["Unknown", "Wafers", "Told from", *scores], rows)


def _about_unknown(unknown: pd.DataFrame) -> list[str]:
    sentences = [
        "AUROC of unknown patterns against test wafers: mean, lowest and highest of splits and seeds. Unknown patterns "
        "always show something, so that they differ from wafers without a pattern says little: the second row counts."
    ]
    harder = unknown[unknown["known"] == KNOWN[-1]]
    for name, own in harder.groupby("unknown", sort=False):
        means = own.groupby("score", sort=False)["auroc"].mean()
        verdict = "useful" if means.max() >= 0.9 else "weak" if means.max() >= 0.7 else "of little use"
        sentences.append(
            f"{name}, told from {KNOWN[-1]}: the best score is {means.idxmax()} with {means.max():.3f}, which is "
            f"{verdict} (useful from 0.9, weak from 0.7); "
            f"a pattern that is new gets the higher score in {means.max():.0%} of all pairs."
        )
    return sentences
