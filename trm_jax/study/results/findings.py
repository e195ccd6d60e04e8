"""Sentences about the result of a study, every one made from its numbers.

An effect is stated only where the decision of `statistics` says so; elsewhere the text reads "no difference
detected" and names what the study could have found. Arm names stand in backticks. Accuracies are shares in the
tables and percent, or percentage points, in the text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from trm_jax.reporting.interval import magnitude, points
from trm_jax.study.results.published import Paper
from trm_jax.study.statistics import Agreement, Comparison, rank_agreement

BROKEN = 0.5
"""A reference arm that solves less than this share of the test set is not a model to take apart."""
CEILING = 0.97
"""From here on the reference arm leaves no room in which another arm could be better."""
CONFOUNDS = {"parameters": "parameters", "layer_applications": "layer applications", "flops": "FLOPs"}
NONE = "no difference detected"


@dataclass(frozen=True)
class Wording:
    """What a report calls the examples of its task."""

    example: str
    examples: str
    own: bool = False
    """Every seed has examples of its own."""
    right: str = ""
    """When an example is solved, if not when all of it is right."""

    @property
    def solved(self) -> str:
        """What the score is called on axes."""
        return "right" if self.right else "solved exactly"


def p_text(p: float) -> str:
    """A p value as it is written after the letter p."""
    if math.isnan(p):
        return "none"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def decision(comparison: Comparison) -> str:
    """What was decided about an arm, in two or three words."""
    if len(comparison.seeds) < 2:
        return "no decision"
    if not comparison.detected:
        return NONE
    return "lower" if comparison.interval.value < 0 else "higher"


def reference_state(rows: pd.DataFrame, reference: str, wording: Wording) -> list[str]:
    """How good the reference arm is, and what follows for everything that is compared with it."""
    exact = rows.loc[rows["arm"] == reference, "exact"]
    mean = float(exact.mean())
    seeds = "1 seed" if len(exact) == 1 else f"{len(exact)} seeds, the lowest at {100 * exact.min():.1f} %"
    sentences = [f"The reference arm `{reference}` solves {100 * mean:.1f} % of the test {wording.examples} ({seeds})."]
    if mean < BROKEN:
        sentences.append(
            f"**The reference arm is broken: it solves less than {100 * BROKEN:.0f} % of the {wording.examples}. "
            "Differences between broken models mean little, and say nothing about the value of a component.**"
        )
    elif mean >= CEILING:
        sentences.append(
            f"It is near the ceiling: a better arm has at most {magnitude(1 - mean)} points of room, and differences "
            "between good arms are compressed."
        )
    return sentences


def is_broken(rows: pd.DataFrame, reference: str) -> bool:
    """Whether the reference arm solves too little for a comparison to mean anything."""
    return float(rows.loc[rows["arm"] == reference, "exact"].mean()) < BROKEN


def headline(comparisons: Sequence[Comparison], reference: str) -> str:
    """All decisions of a study in one sentence or two."""
    if not comparisons:
        return f"Only the reference arm `{reference}` has results: nothing is compared."
    by_size = sorted(comparisons, key=lambda comparison: comparison.interval.value)
    detected = [comparison for comparison in by_size if comparison.detected]
    single = [comparison.arm for comparison in by_size if len(comparison.seeds) < 2]
    others = [c.arm for c in by_size if not c.detected and len(c.seeds) > 1]
    sentences = []
    if detected:
        listed = ", ".join(f"`{c.arm}` ({points(c.interval.value)} points)" for c in detected)
        verb = "differs" if len(detected) == 1 else "differ"
        sentences.append(f"{len(detected)} of {len(comparisons)} arms {verb} from `{reference}`: {listed}.")
    if others:
        named = f"for {_names(others)}" if detected or single else f"between `{reference}` and any other arm"
        sentences.append(f"{NONE.capitalize()} {named}.")
    if single:
        sentences.append(f"No decision is possible for {_names(single)}: a single seed is shared with `{reference}`.")
    return " ".join(sentences)


def effect(comparison: Comparison, reference: str, family: int) -> str:
    """What the study says about one arm; ``family`` is the number of arms that were tested together."""
    arm, interval, seeds = f"`{comparison.arm}`", comparison.interval, len(comparison.seeds)
    if seeds < 2:
        return (
            f"{arm}: no decision is possible from a single shared seed (the one difference to `{reference}` is "
            f"{points(interval.value)} points)."
        )
    numbers = f"95 % interval {interval.ends(points)}, Holm-corrected p {p_text(comparison.p_holm)}, {seeds} seeds"
    if comparison.detected:
        side = "lower" if interval.value < 0 else "higher"
        size = "" if math.isnan(comparison.effect) else f", effect size {signed(comparison.effect)}"
        return f"{arm} scores {magnitude(interval.value)} points {side} than `{reference}` ({numbers}{size})."
    if not any(comparison.differences):
        text = f"{arm}: {NONE}, every seed scores exactly as with `{reference}`."
    else:
        text = f"{arm}: {NONE} (mean difference {points(interval.value)} points; {numbers})."
    if not interval.covers_zero and comparison.bootstrap.covers_zero:
        text += f" That interval excludes zero, the bootstrap interval, {comparison.bootstrap.ends(points)}, does not."
    elif not interval.covers_zero:
        text += f" Its own interval excludes zero; the correction for {family} arms does not let that count."
    return text + (
        f" The smallest difference that this comparison finds with 80 % probability is "
        f"{magnitude(comparison.detectable)} points."
    )


def against_paper(comparison: Comparison, paper: Paper) -> str:
    """How the decision about an arm stands to the paper; empty where the paper has no such row."""
    row = paper.lookup(comparison.arm)
    if row is None or len(comparison.seeds) < 2:
        return ""
    reported = paper.difference(row)
    quoted = f'{points(reported)} points for "{row.name}" ({paper.data_set}, single run)'
    if not comparison.detected:
        large = abs(reported) >= comparison.detectable
        reach = "would probably have been found here" if large else "may be missed here"
        return f"The paper reports {quoted}: this study does not confirm that; a difference of that size {reach}."
    if comparison.interval.value * reported > 0:
        return f"The paper reports the same direction, {quoted}."
    return f"This contradicts the paper, which reports the opposite direction, {quoted}."


def confounds(rows: pd.DataFrame, reference: str) -> list[str]:
    """What else differs between the arms and the reference arm than the component that names them."""
    counts = rows.drop_duplicates("arm").set_index("arm")[list(CONFOUNDS)]
    base = counts.loc[reference]
    sentences = []
    for arm, values in counts.drop(reference).iterrows():
        named = [_relative(values[key], base[key], name) for key, name in CONFOUNDS.items() if values[key] != base[key]]
        if named:
            sentences.append(f"`{arm}` has {_and(named)} than `{reference}`.")
    if sentences:
        return [
            "Confounds: a difference of these arms cannot be put down to the component alone.",
            *sentences,
        ]
    if len(counts) == 1:
        return []
    return [f"All arms have the same {_and(list(CONFOUNDS.values()))} as `{reference}`."]


def best_checkpoints(
    rows: pd.DataFrame, comparisons: Mapping[str, Comparison], best: Mapping[str, Comparison]
) -> list[str]:
    """What changes when every seed is judged by its best checkpoint on validation instead of its final weights."""
    gain = (rows["best_exact"] - rows["exact"]).groupby(rows["arm"], sort=False).mean()
    arm = gain.abs().idxmax()
    sentences = [
        f"Choosing the best checkpoint on validation changes the mean of an arm by at most {magnitude(gain[arm])} "
        f"points (`{arm}`: {points(gain[arm])})."
    ]
    changed = [name for name in comparisons if decision(comparisons[name]) != decision(best[name])]
    if comparisons and not changed:
        sentences.append("Judged by best checkpoints, all decisions are the same.")
    for name in changed:
        mean, verdict = points(best[name].interval.value), decision(best[name])
        sentences.append(f"Judged by best checkpoints, the decision about `{name}` is: {verdict} ({mean} points).")
    return sentences


def ranking(
    comparisons: Sequence[Comparison],
    predicted: Sequence[str],
    paper: Paper | None,
    reference: str,
    broken: bool,
) -> list[str]:
    """How the order of the arms by impact compares with the paper's and with the predicted order."""
    if broken:
        return ["The reference arm is broken: its order of components is compared with no other."]
    if len(comparisons) < 2:
        return ["Fewer than two arms are compared: there is no order."]
    if all(len(comparison.seeds) < 2 for comparison in comparisons):
        return ["A single seed decides nothing: the order below is one draw, and no agreement is computed from it."]
    if not any(comparison.detected for comparison in comparisons):
        return [f"{NONE.capitalize()} for any arm: the order below is noise, and no agreement is computed from it."]
    sentences = []
    unsettled = [comparison.arm for comparison in comparisons if not comparison.detected]
    if unsettled:
        sentences.append(f"The places of {_names(unsettled)} are not settled: {NONE} to `{reference}`.")
    impacts = impact_sizes(comparisons)
    if paper:
        sentences.append(_agreement("the paper's", rank_agreement(impacts, paper_sizes(comparisons, paper))))
    if predicted:
        sentences.append(_agreement("the predicted", rank_agreement(impacts, predicted_sizes(predicted))))
    return sentences


def impact_sizes(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Impact of each arm: what the score loses against the reference arm, the largest first."""
    sizes = {comparison.arm: -comparison.interval.value for comparison in comparisons}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def paper_sizes(comparisons: Sequence[Comparison], paper: Paper) -> dict[str, float]:
    """Impact in the paper of each arm that has a row there, as a share."""
    rows = {comparison.arm: paper.lookup(comparison.arm) for comparison in comparisons}
    return {arm: -paper.difference(row) for arm, row in rows.items() if row is not None}


def predicted_sizes(predicted: Sequence[str]) -> dict[str, float]:
    """A predicted order, largest impact first, as sizes."""
    return {arm: float(len(predicted) - place) for place, arm in enumerate(predicted)}


def _agreement(whose: str, agreement: Agreement) -> str:
    count = len(agreement.names)
    if math.isnan(agreement.tau):
        return f"Too few arms can be placed in {whose} order for a comparison ({count})."
    if agreement.p > 0.05:
        verdict = "this could be chance"
    else:
        verdict = "more agreement than by chance" if agreement.tau > 0 else "more disagreement than by chance"
    return (
        f"Against {whose} order Kendall's tau is {signed(agreement.tau)} over {count} arms "
        f"(p {p_text(agreement.p)}): {verdict}."
    )


def _relative(value: float, base: float, name: str) -> str:
    if base == 0:
        return f"more {name} ({value:,.0f} instead of none)"
    change = abs(100 * (value / base - 1))
    size = f"{change:.0f}" if change >= 1 else f"{change:.1f}" if change >= 0.1 else "less than 0.1"
    return f"{size} % {'more' if value > base else 'fewer'} {name}"


def signed(value: float) -> str:
    """A signed number with two decimals."""
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")


def _names(arms: Sequence[str]) -> str:
    return _and([f"`{arm}`" for arm in arms])


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
