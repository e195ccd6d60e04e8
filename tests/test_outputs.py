"""Where results cannot be written, every command says so at once: before it loads, trains or asks for anything else."""

import pytest
from scripts import script

NOWHERE = "no/such/checkpoint"
FOLDERS = [
    ("sudoku_ablation.py", "--preset", "smoke"),
    ("maze_depth.py", "--preset", "smoke"),
    ("my_sequences.py", "--data", "none.csv"),
    ("demo.py",),
    ("accelerator.py", "--preset", "smoke"),
    ("benchmark.py", "--preset", "smoke"),
    ("compare.py", "runs/none"),
    ("wafer_train.py", "--preset", "smoke"),
    ("wafer_patterns.py", "--preset", "smoke"),
    ("wafer_patterns.py", "--preset", "smoke", "--question", "masks"),
    ("wafer_baselines.py", "--preset", "smoke"),
    ("wafer_evaluate.py", "--preset", "smoke"),
    ("wafer_errors.py", "--preset", "smoke"),
    ("wafer_explore.py", "--preset", "smoke"),
    ("wafer_unlike.py", "--preset", "smoke", "--lean"),
    ("wafer_finetune.py", "--preset", "smoke"),
    ("wafer_ship.py", "--preset", "smoke"),
    ("wafer_prepare.py", "--preset", "smoke"),
    ("ship_checkpoint.py", "--arm", NOWHERE, "--replace"),
    ("export_onnx.py", "--checkpoint", NOWHERE),
    ("official.py", "import", "--checkpoint", NOWHERE, "--data", NOWHERE),
    ("official.py", "finetune", "--checkpoint", NOWHERE, "--data", NOWHERE),
    ("official.py", "onnx", "--checkpoint", NOWHERE, "--data", NOWHERE),
]
FILES = [
    ("solve.py", "--checkpoint", NOWHERE, "--puzzles", "none.csv"),
    ("think_picture.py", "--checkpoint", NOWHERE),
    ("think_page.py", "--checkpoint", NOWHERE),
    ("wafer_predict.py", "--checkpoint", NOWHERE, "--input", "none.npz"),
    ("official.py", "export", "--checkpoint", NOWHERE),
]


@pytest.mark.parametrize("words", FOLDERS, ids=" ".join)
def test_a_file_where_a_folder_is_needed_is_refused_before_the_work(words, tmp_path):
    """Below a file, too: what exists is refused by other rules where nothing may be replaced."""
    (tmp_path / "file").write_text("mine")
    result = script(*words, "--output", tmp_path / "file" / "below")
    assert result.returncode == 1 and result.stdout == ""
    assert f"{tmp_path / 'file'} is a file, and results need a folder; choose another --output" in result.stderr
    assert (tmp_path / "file").read_text() == "mine" and list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("words", FILES, ids=" ".join)
def test_a_folder_where_a_file_is_needed_is_refused_before_the_work(words, tmp_path):
    result = script(*words, "--output", tmp_path)
    assert result.returncode == 1 and result.stdout == ""
    assert f"--output: {tmp_path} is a folder; name a file in it" in result.stderr
    assert not list(tmp_path.iterdir())
