"""Where text stands on a figure."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def boxes(figure: Figure) -> dict[str, tuple[float, float, float, float]]:
    """Edges of everything written on a figure: left, bottom, right, top in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    written = {}
    for place, axes in enumerate(figure.axes):
        ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        for text in [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts, *ticks]:
            if text.get_visible() and text.get_text():
                extent = Text.get_window_extent(text, canvas.get_renderer())  # without an annotation's arrow
                # Ticks beyond the limits keep a label that is not drawn.
                if text not in ticks or axes.bbox.padded(8).overlaps(extent):
                    written[f"{place} {text.get_text()}"] = extent
    for text in figure.texts:
        written[text.get_text()] = text.get_window_extent()
    for legend in figure.legends:
        written["legend"] = legend.get_window_extent()
    return {text: tuple(extent.extents) for text, extent in written.items()}


def overlap(a, b, slack: float = 1.0) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack
