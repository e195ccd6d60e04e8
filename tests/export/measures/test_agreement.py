"""How far a file is from JAX."""

import numpy as np
import pytest

from trm_jax.export.measures import agreement


def test_a_comparison_names_every_difference_and_how_sure_the_expected_answer_was() -> None:
    shares = np.array([[0.5, 0.3, 0.2], [0.4, 0.39, 0.21], [0.1, 0.1, 0.8]], np.float32)[:, None]
    expected = agreement.Answers(np.log(shares) - 9, shares, shares[..., 0])
    answers = agreement.Answers(expected.logits.copy(), shares.copy(), expected.halt)
    answers.probabilities[1, 0] = [0.39, 0.4, 0.21]
    answers.logits[0, 0, 2] += 0.3
    result = agreement.compare(answers, expected, lambda last: {"first": float(last[1, 0])})
    assert result.same == pytest.approx(2 / 3) and result.lead == pytest.approx(0.01, rel=1e-4)
    assert result.largest == pytest.approx(0.3 / np.abs(expected.logits).max(), rel=1e-4)
    assert result.rms == pytest.approx(0.1, rel=1e-4) and result.other_outputs == pytest.approx(0.01, rel=1e-4)
    assert result.scores == {"first": pytest.approx(0.39)}
    same = agreement.compare(expected, expected, lambda last: {})
    assert (same.largest, same.rms, same.other_outputs, same.same, same.lead) == (0, 0, 0, 1, 0)
    believed = expected._replace(halt=expected.halt + np.float32(0.25))
    assert agreement.compare(believed, expected, lambda last: {}).other_outputs == pytest.approx(0.25, rel=1e-4)
    answers.halt[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        agreement.compare(answers, expected, lambda last: {})
