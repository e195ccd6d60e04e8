"""Configs that earlier versions wrote, in the layout of today."""

from typing import Any

IMAGE = {
    "image": "image",
    "patch": "patch",
    "stem_widths": "widths",
    "stem_convolutions": "convolutions",
    "views": "views",
}
"""Options of a model that read wafer grids, and what they are called in its encoder."""
RENAMED = {"first_share": "curriculum_fraction", "first_N_sup": "curriculum_N_sup", "first_blanks": "curriculum_blanks"}
DROPPED = ("forward_only", "seed_axis", "loss_cells")
"""Options of how something is computed, or that nothing used."""


def migrate(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a run by section; those of today stay as they are.

    Until commit f7cb5b1 the model held the options of a wafer encoder, and sections ``data`` (Sudoku) and ``wafer``
    stood side by side in the config of every run.
    """
    if "task" in options or "data" not in options:
        return options
    sections = {name: _renamed(section) for name, section in options.items()}
    model, puzzles, maps = sections["model"], sections.pop("data"), sections.pop("wafer", {})
    encoder = {new: model.pop(old) for old, new in IMAGE.items() if old in model}
    model["encoder"] = {**encoder, "channels": 2} if encoder.get("patch") else None
    task = {"name": "wafer", **maps} if model["encoder"] else {"name": "sudoku", **puzzles}
    return {"task": task, **sections}


def _renamed(section: dict[str, Any]) -> dict[str, Any]:
    return {RENAMED.get(name, name): value for name, value in section.items() if name not in DROPPED}
