"""Growth with each size, and what exceeds the prediction."""

from trm_jax.benchmark import growth
from trm_jax.benchmark.growth import Growth, Memory, Point


def test_growth_changes_one_size_at_a_time_and_names_what_exceeds_the_prediction():
    for size, values in growth.VALUES.items():
        for value in values[1:]:
            config = growth.at(size, value)
            sizes = {"n": config.recursion.n, "T": config.recursion.T, "N_sup": config.recursion.N_sup}
            sizes |= {"L": config.model.tokens, "D": config.model.width, "B": config.run.batch, "S": value}
            assert sizes[size] == value
    point = Point("n", 3, 1.0, 2.7, 2.6, 2.8, predicted=2.0, temp_mb=1.0)
    flat, stored = Memory("one_step", "n", 15, 1.0, 1.4), Memory("stored", "n", 15, 1.0, 9.0)
    measured = Growth([point, point._replace(growth=2.5)], [flat, stored])
    assert len(measured.excesses) == 2
    assert "time in n: 2.70 times at 3" in measured.excesses[0] and "one_step: 1.40" in measured.excesses[1]
    assert "| n = 3 | 1 | 2.70 (2.60 to 2.80) | 2.00 | 1 |" in measured.report()
    assert "| stored | n = 15 | 1 | 9.00 |" in measured.report() and measured.excesses[1] in measured.report()
    points = [point._replace(size=size, value=value) for size in growth.VALUES for value in (1, 2)]
    axes = growth.figure(Growth(points)).axes
    assert [panel.get_title() for panel in axes[:-1]] == list(growth.VALUES)
    assert tuple(axes[0].lines[1].get_ydata()) == (2.7, 2.7)
