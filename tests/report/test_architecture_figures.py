"""Figures of the second report show what the records hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_architecture_tables import VALID, make_stopped, make_study

from ptb.report import architecture_figures as figures
from ptb.report import architecture_runs as records
from ptb.studies.architectures import EXPERIMENTS, FULL


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def table(tmp_path):
    falls = {"3.1d": {"falls": (0.5, 0.25)}, "3.2a": {"falls": (0.5, 0.9)}}
    return make_study(tmp_path, **falls)


def drawn(axes):
    """The data of the curves in one plot."""
    return [line.get_xydata() for line in axes.get_lines() if len(line.get_xydata())]


def holds(axes, x, y) -> bool:
    return any(data.shape == (len(x), 2) and np.allclose(data.T, [x, y]) for data in drawn(axes))


def part(table, number):
    return table[table["experiment"].str.startswith(number)]


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("number", EXPERIMENTS)
def test_learning_curves_of_an_experiment_over_epochs_and_seconds(table, number):
    rows = part(table, number)
    figure = figures.learning(rows)
    for axes, clock in zip(figure.axes, ("epoch", "seconds"), strict=True):
        assert len(drawn(axes)) == 2 * len(rows)
        for run in rows["run"]:
            for column in ("valid", "train_running"):
                assert holds(axes, run.history[clock], run.history[column])
    assert len(legend(figure)) == len(rows) + 2 and legend(figure)[-2:] == ["valid", "train"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "seconds"]


def test_legends_describe_the_runs(table):
    assert legend(figures.learning(part(table, "3.1")))[0] == "3.1d: 2×512, Adam 1e-3, B 128, p 0.2"


def test_what_is_worse_than_guessing_leaves_the_figure(tmp_path):
    table = make_study(tmp_path, VALID | {"3.1c": 1e8})
    both = figures.learning(part(table, "3.1")), figures.grouped(table, "cell")
    assert 300 < both[0].axes[0].get_ylim()[1] < 1000
    for figure in both:
        (cut,) = [name for name in legend(figure) if name.endswith("above the axes")]
        assert cut.startswith("3.1c: 2×512, SGD 10")


def test_a_stopped_run_ends_in_a_cross(tmp_path):
    make_stopped(tmp_path, FULL["3.1b"], 160.0)
    figure = figures.learning(make_study(tmp_path, {"3.1a": 235.0}))
    assert holds(figure.axes[0], [2], [160.0]) and holds(figure.axes[1], [20.0], [160.0])
    crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert len(crosses) == 2  # of train and of valid
    assert any(name.endswith("stopped") for name in legend(figure))


def test_seconds_of_several_devices_have_a_logarithmic_axis(table):
    assert figures.learning(table).axes[1].get_xscale() == "linear"
    table.loc[0, "device"] = "a GPU"
    assert figures.learning(table).axes[1].get_xscale() == "log"


@pytest.mark.parametrize(("slowest", "fewest"), [(40, 2), (400, 3), (4000, 3)])
def test_labels_of_seconds_are_several_and_apart(tmp_path, slowest, fewest):
    table = make_study(tmp_path, **{"3.2c": {"seconds": 10.0 * slowest}})
    table["device"] = table["tag"]
    for figure in figures.learning(part(table, "3.2")), figures.grouped(table, "cell"):
        figure.draw_without_rendering()
        axes = figure.axes[-1]
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        low, high = axes.get_xlim()
        boxes = [label.get_window_extent() for place, label in ticks if low <= place <= high]
        assert len(boxes) >= fewest
        assert all(left.x1 < right.x0 for left, right in zip(boxes[:-1], boxes[1:], strict=True))


@pytest.mark.parametrize(
    ("by", "titles"),
    [("optimiser", ["Adam", "SGD"]), ("cell", ["RNN", "GRU", "Transformer", "LSTM"])],
)
def test_all_validation_curves_a_column_for_each_group(table, by, titles):
    figure = figures.grouped(table, by)
    above, below = figure.axes[: len(titles)], figure.axes[len(titles) :]
    assert [axes.get_title() for axes in above] == titles
    for place, group in zip(above, table[by].unique(), strict=True):
        for run in table["run"]:
            assert holds(place, run.history["epoch"], run.history["valid"])
        named = {line.get_label() for line in place.get_lines() if line.get_label()[0] != "_"}
        assert named == {records.described(row) for _, row in table[table[by] == group].iterrows()}
    assert sorted(legend(figure)) == sorted(records.described(row) for _, row in table.iterrows())
    assert holds(below[0], table["run"][0].history["seconds"], table["run"][0].history["valid"])


def test_losses_along_the_window(table):
    (axes,) = figures.losses_by_step(table).axes
    assert holds(axes, range(1, 36), [5.0] + [4.0] * 34) and holds(axes, range(1, 36), [4.0] * 35)
    assert len(drawn(axes)) == 2 * 2 + 1  # a Transformer carries no state


def test_gradients_divided_by_their_maximum_and_as_they_are(table):
    steps, norms = range(1, 36), np.array([3 * 0.9**n for n in reversed(range(35))])
    run = records.largest(table).loc["3.2a", "run"]
    analysis = run.analysis
    analysis["flow"]["after"]["average"] = norms.tolist()
    run.write("analysis.json", analysis)
    before, after, before_log, after_log = figures.flow(table).axes
    assert holds(after, steps, norms / 3) and not holds(before, steps, norms / 3)
    assert holds(after_log, steps, norms) and after_log.get_yscale() == "log"
    assert len(drawn(before_log)) == 3 and all(data[:, 1].max() == 1 for data in drawn(after))


def test_an_lstms_h_alone_is_dotted_beside_h_and_c(table):
    run = records.largest(table).loc["LSTM", "run"]
    analysis = run.analysis
    analysis["flow"]["after"]["average, h"] = [1.0] * 34 + [2.0]
    run.write("analysis.json", analysis)
    after = figures.flow(table).axes[1]
    assert holds(after, range(1, 36), [0.5] * 34 + [1.0])
    assert [line.get_linestyle() for line in after.get_lines()].count(":") == 1


def test_a_runs_shade_and_marker_are_the_same_in_every_figure(table):
    def style(axes, run):
        (line,) = (x for x in axes.get_lines() if x.get_label().partition(":")[0] == run)
        return line.get_color(), line.get_marker()

    found = style(figures.learning(part(table, "3.2")).axes[0], "3.2a")
    assert found == style(figures.grouped(table, "optimiser").axes[0], "3.2a")
    assert found == style(figures.grouped(table, "cell").axes[1], "3.2a")
    styles = [figures.run_style(row) for _, row in table.iterrows()]
    assert len({(style["color"], style["marker"]) for style in styles}) == len(table)


def test_nothing_reaches_beyond_a_figures_edges(table):
    drawn = [figures.learning(part(table, number)) for number in EXPERIMENTS]
    drawn += [figures.grouped(table, by) for by in figures.GROUP_TITLES]
    for figure in [*drawn, figures.losses_by_step(table), figures.flow(table)]:
        figure.draw_without_rendering()
        (left, bottom), (right, top) = figure.get_tightbbox().get_points()
        assert left >= 0 and bottom >= 0
        assert right <= figure.get_figwidth() and top <= figure.get_figheight()
