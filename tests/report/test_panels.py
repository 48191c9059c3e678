"""Figures of the second report show what the records hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_answers import TEXTS, VALID, make_study

from ptb.report import panels
from ptb.studies.architectures import EXPERIMENTS


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


@pytest.mark.parametrize("number", EXPERIMENTS)
def test_learning_curves_of_an_experiment_over_epochs_and_seconds(table, number):
    figure = panels.learning(table, number)
    rows = table[table["experiment"].str.startswith(number)]
    for axes, clock in zip(figure.axes, ("epoch", "seconds"), strict=True):
        assert len(drawn(axes)) == 2 * len(rows)
        for run in rows["run"]:
            for column in ("valid", "train_running"):
                assert holds(axes, run.history[clock], run.history[column])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert set(names) == {*rows["tag"], "valid", "train"}
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "seconds of training"]


def test_what_is_worse_than_guessing_leaves_the_figure(tmp_path):
    table = make_study(tmp_path, VALID | {"3.1c": 1e8})
    assert panels.learning(table, "3.1").axes[0].get_ylim()[1] == 15_000


@pytest.mark.parametrize(
    ("by", "names"),
    [("optimiser", {"SGD", "Adam"}), ("cell", {"RNN", "GRU", "Transformer", "LSTM"})],
)
def test_all_validation_curves_by_group(table, by, names):
    figure = panels.grouped(table, by)
    assert {text.get_text() for text in figure.legends[0].get_texts()} == names
    for run in table["run"]:
        assert holds(figure.axes[0], run.history["epoch"], run.history["valid"])
    colours = {
        line.get_color() for line in figure.axes[0].get_lines() if len(line.get_xydata()) > 1
    }
    assert len(colours) == len(names)


def test_losses_along_the_window(table):
    (axes,) = panels.steps(table).axes
    assert holds(axes, range(1, 36), [5.0] + [4.0] * 34) and holds(axes, range(1, 36), [4.0] * 35)
    assert len(drawn(axes)) == 2 * 3 + 1  # a Transformer carries no state


def test_gradients_as_they_are_and_rescaled(table):
    steps, norms = range(1, 36), np.array([0.9**n for n in reversed(range(35))])
    before, after = panels.flow(table, rescaled=False).axes
    assert holds(after, steps, norms) and not holds(before, steps, norms)
    assert after.get_yscale() == "log"
    _, after = panels.flow(table, rescaled=True).axes
    assert holds(after, steps, (norms - norms[0]) / (1 - norms[0]))
    assert all(data[:, 1].min() == 0 and data[:, 1].max() == 1 for data in drawn(after))


def test_quality_over_perplexity(table):
    for n, run in enumerate(table["run"]):
        run.write("judged.json", {"judge": "x", "real": 4.0, "losses": [4.0 + n] * len(TEXTS)})
    left, right = panels.quality(table).axes
    for n, valid in enumerate(table["valid"]):
        assert holds(left, [valid], [n]) and holds(right, [valid], [0])
    names = {text.get_text() for text in left.texts}
    assert len(names) > 3 and names <= set(table["tag"])


def test_runs_are_named_where_no_other_name_is(table):
    places = panels.grouped(table, "cell").axes
    for place in places:
        boxes = [text.get_window_extent() for text in place.texts]
        assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
        names = {text.get_text() for text in place.texts}
        assert 3 < len(names) == len(boxes) and names <= set(table["experiment"])
