"""The wafers of the README: the first generated map of every class, and what the shipped classifier answers to it.

python docs/images/make.py
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from trm_jax import WaferClassifier
from trm_jax.reporting.style import BAND, BLACK, GREY, ORANGE, STYLE, bare, svg
from trm_jax.support.files import write_text
from trm_jax.wafer.generated.synthetic import synthetic_wafers
from trm_jax.wafer.maps.wafers import CLASSES

ROOT = Path(__file__).resolve().parents[2]
SIZE = 3.96, 4.42  # inches: as large as the board beside it
SAYS = {"auto": "decided", "review": "to review"}


def main() -> None:
    """Write wafers.svg."""
    wafers = synthetic_wafers(400)
    maps = [wafers.map(int(np.flatnonzero(wafers.label == label)[0])) for label in range(len(CLASSES))]
    answers = WaferClassifier(ROOT / "checkpoints" / "wafer-edge").predict(maps)
    with matplotlib.rc_context(STYLE):
        figure = Figure(SIZE, layout="constrained")
        for axes, name, cells, answer in zip(
            figure.subplots(3, 3).flat, CLASSES, maps, answers.itertuples(), strict=True
        ):
            axes.imshow(cells, cmap=ListedColormap(["white", BAND, ORANGE]), vmin=0, vmax=2)
            axes.set(xticks=[], yticks=[])
            told = f"{answer.prediction} {answer.confidence:.0%}"
            axes.set_title(f"made as {name}", fontsize=7.5, pad=15, color=GREY)
            axes.text(0.5, 1.03, told, fontsize=8, color=BLACK, ha="center", va="bottom", transform=axes.transAxes)
            axes.set_xlabel(
                SAYS[answer.decision], fontsize=7.5, color=BLACK if answer.decision == "auto" else "#B34700"
            )
            bare(axes)
        write_text(ROOT / "docs" / "images" / "wafers.svg", svg(figure))


if __name__ == "__main__":
    main()
