"""What got slower is told beyond the noise, and once."""

import json

import pytest

from trm_jax.benchmark import regression


def fake(name="training/x", peer="PyTorch eager", ratio=(0.4, 0.5), share=(0.2, 0.3)):
    return {
        "name": name,
        "peer": peer,
        "ratio_low": ratio and ratio[0],
        "ratio_high": ratio and ratio[1],
        "share_low": share and share[0],
        "share_high": share and share[1],
    }


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (fake(), []),
        (fake(ratio=(0.54, 0.9)), []),  # overlaps with the old interval times 1.1
        (fake(ratio=(0.56, 0.9)), ["training/x", "time against PyTorch eager", "0.4 to 0.5", "0.56 to 0.9"]),
        (fake(ratio=(0.1, 0.2)), []),
        (fake(share=(0.1, 0.19)), []),
        (fake(share=(0.1, 0.18)), ["share of the matrix product"]),
        (fake(share=(0.5, 0.6), ratio=None), []),
    ],
)
def test_slower_is_what_lies_beyond_the_noise_only(new, words):
    slower, unknown = regression.slower([new], [fake()])
    assert len(slower) == bool(words) and not unknown
    assert all(word in slower[0] for word in words)


def test_the_comparison_names_what_the_baseline_lacks_and_tells_each_slow_thing_once():
    rows = [fake(share=(0.1, 0.1)), fake(peer="PyTorch compiled", share=(0.1, 0.1)), fake("training/new")]
    slower, unknown = regression.slower(rows, [fake(), fake(peer="PyTorch compiled")])
    assert len(slower) == 1 and unknown == ["training/new against PyTorch eager: not in the baseline"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not a benchmark.json"),
        ("[1]", "is not a benchmark.json"),
        ('{"rows": [], "preset": "smoke"}', "is not a benchmark.json"),
        ('{"rows": [{"name": "x"}], "preset": "smoke"}', "is not a benchmark.json"),
        (json.dumps({"rows": [fake()], "preset": "standard"}), "made with --preset standard"),
    ],
)
def test_baselines_that_cannot_be_compared_are_refused(tmp_path, text, reason):
    path = tmp_path / "baseline.json"
    with pytest.raises(FileNotFoundError, match="no baseline"):
        regression.read_rows(path, "smoke")
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        regression.read_rows(path, "smoke")
