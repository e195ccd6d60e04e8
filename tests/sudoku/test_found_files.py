"""Sudoku files as users have them: what is unambiguous is read alike, the rest is refused by name."""

import gzip
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from trm_jax.core.config import Config
from trm_jax.core.network import model
from trm_jax.core.task import override
from trm_jax.sudoku import tables
from trm_jax.sudoku.augment import augment_sudoku, fingerprints
from trm_jax.sudoku.csv_files import read_csv, read_splits, write_csv
from trm_jax.sudoku.puzzles import Puzzles, to_digits
from trm_jax.sudoku.solver import Box, is_solution, random_grid, relabelling_form, solve
from trm_jax.sudoku.task import Sudoku

SAME = [
    "blank_lines.csv", "extreme.csv.gz", "extreme_bom.csv", "extreme_crlf.csv", "extreme_noheader.csv",
    "extreme_quoted.csv", "extreme_semicolon.csv", "extreme_spaces.csv", "extreme_upper.csv", "extreme_utf16.csv",
    "extreme_zero.csv", "grid_lines.csv", "hf_ritvik.csv", "kaggle_1m.csv", "kaggle_9m.csv", "no_last_newline.csv",
    "pandas_index.csv", "plain_81.txt", "stars.csv", "underscores.csv",
]  # fmt: skip
REFUSED = {
    "empty.csv": "is empty",
    "header_only.csv": "is empty",
    "excel.csv": "row 1 (line 2), column 'question': is a number that a spreadsheet has rounded",
    "html.csv": "is a web page",
    "lfs.csv": "is a Git-LFS pointer",
    "many_no_answer.csv": "row 4 (line 5), column 'question': has more than one solution",
    "wrong_answer.csv": "row 6 (line 7), column 'answer': does not match the givens",
}


@pytest.fixture(scope="module")
def found(data_root: Path) -> Path:
    folder = data_root / "trm_cases" / "csv"
    if not folder.is_dir():
        pytest.skip(f"no cases in {folder}")
    return folder


@pytest.mark.parametrize("name", SAME)
def test_the_same_puzzles_are_read_however_they_are_written(found, name):
    expected = read_csv(found / "extreme.csv")
    assert len(expected.puzzles) == 40 and is_solution(expected.solutions, Box(3, 3)).all()
    read = read_csv(found / name)
    assert np.array_equal(read.puzzles, expected.puzzles) and np.array_equal(read.solutions, expected.solutions)


@pytest.mark.parametrize("name", REFUSED)
def test_other_files_are_refused_by_name_in_one_line(found, name):
    with pytest.raises(ValueError, match=re.escape(REFUSED[name])) as caught:
        read_csv(found / name)
    assert str(found / name) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_answers_are_found_and_boards_of_other_sizes_have_their_own_box(found):
    for name in ("no_answer.csv", "17clues_no_answer.csv"):
        puzzles, solutions = read_csv(found / name)
        assert is_solution(solutions, Box(3, 3)).all() and (puzzles == np.where(puzzles, solutions, 0)).all()
    for name, box in {"four.csv": Box(2, 2), "sixteen.csv": Box(4, 4)}.items():
        puzzles, solutions = read_csv(found / name)
        assert puzzles.shape[1] == box.cells and is_solution(solutions, box).all()
        assert (puzzles == np.where(puzzles, solutions, 0)).all() and solutions.max() == box.side
    assert len(read_csv(found / "duplicates.csv").puzzles) == 80


def test_an_answer_that_cannot_be_the_only_one_is_told(found, capsys):
    read_csv(found / "many_with_answer.csv")
    told = capsys.readouterr().err
    assert "1 of 40 puzzles have more than one solution (first in row 1)" in told and told.count("\n") == 1
    read_csv(found / "extreme.csv")
    assert not capsys.readouterr().err


def test_training_puzzles_that_validate_too_are_left_out_and_counted(found, tmp_path, capsys):
    twice, once = str(found / "duplicates.csv"), str(found / "extreme.csv")
    splits = read_splits(twice, once, Box(3, 3), 100, 10, 5)
    train, held = ({row.tobytes() for row in part.puzzles} for part in (splits.train, splits.validation))
    assert len(held) == 10 and not train & held and len(splits.train.puzzles) == 60
    assert "10 training puzzles are validation puzzles too and are left out" in capsys.readouterr().err
    with pytest.raises(ValueError, match="every training puzzle is a validation puzzle too"):
        read_splits(twice, once, Box(3, 3), 100, 40, 5)


def test_a_board_of_sixteen_goes_from_the_solver_to_the_model(tmp_path):
    box, rng = Box(4, 4), np.random.default_rng(0)
    solutions = np.stack([random_grid(box, rng) for _ in range(6)])
    assert is_solution(solutions, box).all() and not is_solution(solutions - 1, box).any()
    broken = solutions.copy()
    broken[:, 0] = broken[:, 1]
    assert not is_solution(broken, box).any()
    puzzles = np.where(rng.random(solutions.shape) < 0.2, 0, solutions).astype(np.int8)
    assert np.array_equal(solve(puzzles[0], box), solutions[:1])
    path = tmp_path / "sixteen.csv"
    write_csv(path, Puzzles(puzzles, solutions), box)
    assert np.array_equal(read_csv(path), (puzzles, solutions))
    options = {"task.box": (4, 4), "task.train_file": str(path), "task.test_file": str(path), "task.validation": 2}
    task, config = override(Sudoku(), Config(), options | {"model.width": 8, "recursion.N_sup": 1})
    assert (config.model.vocabulary, config.model.grid) == (18, (16, 16))
    batch = task.examples("train").arrays
    held_out = fingerprints(relabelling_form(solutions[:0], box), box)
    inputs, labels = augment_sudoku(
        jax.random.key(0), *(jnp.asarray(batch[n]) for n in ("inputs", "labels")), box, held_out
    )
    assert is_solution(to_digits(labels), box).all() and ((inputs == labels) | (inputs == 1)).all()
    assert not np.array_equal(labels, batch["labels"])
    outputs = jax.eval_shape(
        lambda key: model.forward(config, model.initialise(config.model, key), inputs), jax.random.key(0)
    )
    assert outputs.logits.shape == (1, 4, 256, 18)


def test_parquet_is_read_with_pyarrow_and_asked_for_without(tmp_path, monkeypatch):
    path = tmp_path / "puzzles.parquet"
    path.write_bytes(b"PAR1")
    table = pd.DataFrame({"puzzle": ["1.3.341.2143432."], "solution": ["1234341221434321"], "rating": [3]})
    monkeypatch.setattr(pd, "read_parquet", lambda _: table)
    puzzles, solutions = read_csv(path)
    assert (
        "".join(map(str, puzzles[0])) == "1030341021434320" and "".join(map(str, solutions[0])) == table["solution"][0]
    )

    def missing(_):
        raise ImportError("no pyarrow")

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(ValueError, match=r"puzzles\.parquet: reading .parquet needs pyarrow"):
        read_csv(path)


def test_a_packed_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"0" * 2**20))
    monkeypatch.setattr(tables, "_MAX_BYTES", 2**16)
    with pytest.raises(ValueError, match="is damaged: it would unpack to more than 65,536 bytes"):
        read_csv(path)
