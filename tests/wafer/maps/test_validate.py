"""Copies and contradictions among wafer maps, and the names of classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm_jax.wafer.maps.validate import build_wafers, find_copies
from trm_jax.wafer.maps.wafers import CLASSES, UNKNOWN, Wafers, class_index, class_or_unknown


def wafers_of(kinds: list[int], labels: list[int]) -> Wafers:
    """Maps of which two are identical exactly if their kinds are the same; neighbouring kinds differ only in shape."""
    cells = [np.full(30, kind // 2 + 1, np.uint8) for kind in kinds]
    height = np.array([5 + kind % 2 for kind in kinds])
    columns = {"row": np.arange(len(kinds)), "group": np.arange(len(kinds)), "label": np.array(labels)}
    return build_wafers(np.concatenate(cells), height, 30 // height, columns, "kinds").wafers


def test_copies_and_conflicts() -> None:
    #                 copy after unlabelled    copies          conflict     same cells, other shape
    kinds, labels = [0, 0, 0] + [2, 2] + [1, 1, 1], [-1, 3, 3] + [8, 8] + [4, -1, 5]
    copies = find_copies(wafers_of(kinds, labels))
    assert copies.duplicate.tolist() == [True, False, True] + [False, True] + [False, True, True]
    assert copies.conflict.tolist() == [False] * 5 + [True, False, True]
    assert wafers_of(kinds, labels).clean.tolist() == [False, True, False, True, False, False, False, False]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 8)), min_size=1, max_size=30))
def test_copies_follow_their_definition(wafers: list[tuple[int, int]]) -> None:
    kinds, labels = [kind for kind, _ in wafers], [label for _, label in wafers]
    copies = find_copies(wafers_of(kinds, labels))
    for kind in set(kinds):
        members = [index for index in range(len(kinds)) if kinds[index] == kind]
        labelled = [index for index in members if labels[index] != UNKNOWN]
        original = (labelled or members)[0]
        assert [index for index in members if not copies.duplicate[index]] == [original]
        conflict = len({labels[index] for index in labelled}) > 1
        assert all(copies.conflict[index] == (conflict and index in labelled) for index in members)


@given(st.sampled_from(CLASSES), st.data())
def test_a_class_is_known_however_it_is_written(name: str, data: st.DataObject) -> None:
    between = data.draw(st.sampled_from(["-", "_", " ", "", " - "]))
    change = data.draw(st.sampled_from([str, str.upper, str.lower, str.title]))
    assert CLASSES[class_index(f" {change(name).replace('-', between)} ")] == name


@given(st.text("centrdougl-_ 2ß\n", max_size=12))
def test_no_other_word_is_a_class(word: str) -> None:
    letters = "".join(letter for letter in word.casefold() if letter.isalnum())
    others = {"", "nan", "null", "clean", "local", "edgelocal", "donuts", "unlabelled"}
    if letters not in {"".join(filter(str.isalnum, name.casefold())) for name in CLASSES} | others:
        with pytest.raises(ValueError, match="unknown class"):
            class_index(word)
        assert class_or_unknown(word) == UNKNOWN


def test_empty_words_are_unlabelled_and_none_is_a_class() -> None:
    assert class_or_unknown("edge ring") == CLASSES.index("Edge-Ring")
    assert CLASSES[class_index("Edge-Local")] == "Edge-Loc" and CLASSES[class_index("No_Defect")] == "none"
    with pytest.raises(ValueError, match=r"unknown class 'Scrach'; .* \(did you mean Scratch\?\)"):
        class_index("Scrach")
    assert class_index("") == class_index("unlabelled") == UNKNOWN and CLASSES[class_index("none")] == "none"


def test_maps_must_stand_inside_the_cells() -> None:
    columns = {"row": np.arange(1), "group": np.arange(1)}
    five = np.array([5])
    with pytest.raises(ValueError, match="reaches outside the 30 cells"):
        build_wafers(np.ones(30, np.uint8), five, five, columns, "", start=np.array([6]))
    with pytest.raises(ValueError, match="add up to 25 cells, but there are 30"):
        build_wafers(np.ones(30, np.uint8), five, five, columns, "")
    assert len(build_wafers(np.ones(30, np.uint8), five, five, columns, "", start=np.array([5])).wafers) == 1
