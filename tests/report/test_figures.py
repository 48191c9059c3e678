"""Figures show what the records hold."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_tables import PERPLEXITIES, make_run, make_table

from ptb.report import figures


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_convergence_draws_three_splits_the_target_and_the_best_epoch(tmp_path):
    run = make_run(tmp_path, "lstm", 0.3, (70.0, 98.0, 95.0))
    axes = figures.convergence(run.setting, run.history)
    drawn = lines(axes)
    for split in ("train", "valid", "test"):
        np.testing.assert_allclose(drawn[split].get_ydata(), run.history[split])
    assert drawn["target for valid: 100"].get_ydata()[0] == 100
    np.testing.assert_allclose(drawn["best epoch: 2"].get_xydata(), [[2, 98.0]])
    assert "dropout 0.3" in axes.get_title() and "learning rate 25" in axes.get_title()


def test_floor_is_drawn_where_the_source_is_known(tmp_path):
    run = make_run(tmp_path, "lstm", 0.0, (60.0, 120.0, 116.0))
    drawn = lines(figures.convergence(run.setting, run.history, {"valid": 40.5}))
    assert drawn["the source's own, valid"].get_ydata()[0] == 40.5


def test_convergence_of_no_epochs_is_an_empty_plot(tmp_path):
    run = make_run(tmp_path, "lstm", 0.0, (60.0, 120.0, 116.0))
    assert len(lines(figures.convergence(run.setting, run.history[:0]))["valid"].get_ydata()) == 0


def test_curves_have_a_line_a_run(tmp_path):
    axes = figures.curves(make_table(tmp_path), "valid").axes[0]
    data = [line.get_ydata() for line in axes.get_lines() if len(line.get_ydata()) == 3]
    assert len(data) == 4 and any(np.isclose(y[1], 98.0) for y in data)


def test_levels_are_named_lines_across_the_curves(tmp_path):
    axes = figures.curves(make_table(tmp_path), "valid", {"5-gram": 147.0}).axes[0]
    assert set(lines(axes)["5-gram"].get_ydata()) == {147.0}


@pytest.mark.parametrize(("low", "high"), [(1.2, 1.9), (3.5, 5.2), (80, 120), (90, 4_000)])
def test_the_ticks_of_perplexity_say_where_they_are(low, high):
    axes = plt.figure().add_subplot(yscale="log", ylim=(low, high))
    figures.plain_ticks(axes.yaxis)
    places = [tick for tick in axes.get_yticks() if low <= tick <= high]
    shown = [axes.yaxis.get_major_formatter()(tick, 0) for tick in places]
    assert len(places) >= 3
    assert [float(text.replace(",", "")) for text in shown] == pytest.approx(places)


def test_gap_is_valid_over_train(tmp_path):
    axes = figures.gap(make_table(tmp_path)).axes[0]
    data = [line.get_ydata() for line in axes.get_lines() if len(line.get_ydata()) == 3]
    assert any(np.isclose(y[1], 120 / 60) for y in data)


def all_figures(table):
    drawn = [figures.overview(table), figures.curves(table, "train"), figures.gap(table)]
    drawn.append(figures.curves(table, "valid", {"5-gram with a cache": 60.0}))
    return drawn + [figures.breakdown(table, kind) for kind in figures.BREAKDOWNS]


def test_nothing_reaches_beyond_a_figures_edges(tmp_path):
    for figure in all_figures(make_table(tmp_path)):
        figure.draw_without_rendering()
        (left, bottom), (right, top) = figure.get_tightbbox().get_points()
        assert left >= 0 and bottom >= 0
        assert right <= figure.get_figwidth() and top <= figure.get_figheight()


def test_the_hue_is_the_cells_and_dashes_are_dropout(tmp_path):
    for figure in all_figures(make_table(tmp_path))[1:]:
        drawn = lines(figure.axes[0])
        for name, style in (("no dropout", "-"), ("dropout 0.3", "--")):
            lstm, gru = drawn[f"LSTM, {name}"], drawn[f"GRU, {name}"]
            assert lstm.get_linestyle() == gru.get_linestyle() == style
            assert lstm.get_color() == figures.colour("lstm") != gru.get_color()


def test_convergence_plots_are_compared_on_axes_of_one_range(tmp_path):
    perplexities = PERPLEXITIES | {("gru", 0.3): (45.0, 101.0, 99.0)}
    table = make_table(tmp_path, perplexities)
    axes = figures.overview(table).axes
    assert len({(place.get_xlim(), place.get_ylim()) for place in axes}) == 1
    for run, place in zip(table["run"], axes, strict=True):  # as the exercise asks
        assert f"learning rate {run.setting.lr:g}" in place.get_title()
    low, high = axes[0].get_ylim()
    values = [line.get_ydata() for place in axes for line in place.get_lines()]
    assert low < min(map(min, values)) and max(map(max, values)) < high
    shown = [tick for tick in axes[0].get_yticks() if low < tick < high]
    assert sum(tick < 100 for tick in shown) >= 2


def test_an_overview_says_which_rate_stays_as_it_is(tmp_path):
    run = make_table(tmp_path)["run"][0]
    held = replace(run.setting, schedule="hold", decay=1.0)
    runs = [
        SimpleNamespace(setting=s, history=run.history, metrics={}) for s in (run.setting, held)
    ]
    titles = [place.get_title() for place in figures.overview(pd.DataFrame({"run": runs})).axes]
    rate = f"learning rate {run.setting.lr:g}"
    assert [rate + " at the start" in titles[0], "constant " + rate in titles[1]] == [True, True]


def test_save_all_writes_each_figure_twice(tmp_path):
    figures.save_all(make_table(tmp_path / "runs"), tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    runs = [f"convergence-{cell}-dropout{p}" for cell in ("lstm", "gru") for p in ("0", "0.3")]
    stems = ["convergence", "train", "valid", "gap", "frequency", "position", "distance", *runs]
    assert names == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf")}


@pytest.mark.parametrize("kind", ["frequency", "position", "distance"])
def test_breakdown_draws_perplexities_over_the_first_runs(tmp_path, kind):
    table = make_table(tmp_path)
    analysis = table["run"][1].analysis
    first = table["run"][0].analysis[kind]
    analysis[kind] = [dict(row, loss=row["loss"] - 200 * n) for n, row in enumerate(first, 1)]
    table["run"][1].write("analysis.json", analysis)
    (axes,) = figures.breakdown(table, kind).axes
    drawn = list(lines(axes).values())
    np.testing.assert_allclose(drawn[0].get_ydata(), [1, 1])
    np.testing.assert_allclose(drawn[1].get_ydata(), np.exp([-0.2, -0.4]))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1–9\n191", "10+\n70"]
    assert len(drawn) == 4


def test_every_trial_is_a_point_over_each_choice():
    table = pd.DataFrame(
        {
            "cell": ["lstm", "gru", "gru"],
            "valid": [90.0, 95.0, 100.0],
            "lr": [25.0, 20.0, 15.0],
            "dropout": [0.4, 0.3, 0.0],
            "weight_decay": [1e-5, 0.0, 2e-5],
            "epochs": [30, 20, 5],
            "tied": [True, False, False],
        }
    )
    figure = figures.trials(table)
    for place, choice in zip(figure.axes, figures.TRIAL_CHOICES, strict=True):
        points = {tuple(xy) for xy in place.collections[0].get_offsets().tolist()}
        assert points == set(zip(table[choice], table["valid"], strict=True))
    legend = figure.legends[0].get_texts()
    assert {text.get_text() for text in legend} == {"LSTM, tied", "GRU"}
