"""Figures of the second report, from the table of its runs and the run folders' files alone."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ptb.models.cells import CELLS
from ptb.report.architecture_runs import described, flowing, looked_at, named, stepping
from ptb.report.figures import HEIGHT, WIDTH, colour, plain_ticks
from ptb.studies.architectures import FULL
from ptb.training.optim import OPTIMISERS

CLOCKS = "epoch", "seconds"
MARKERS = "osD^vP"
TRAIN = {"lw": 0.8, "alpha": 0.6}  # beside the line of valid, which has markers
GROUP_TITLES = {"optimiser": OPTIMISERS, "cell": CELLS}  # of what `grouped` groups by


def run_style(row: pd.Series) -> dict:
    """A run's shade of its cell's hue and its marker, the same in every figure."""
    same = [name for name, setting in FULL.items() if setting.cell == row["cell"]]
    place = same.index(row["experiment"])
    shade = [*range(0, len(same), 2), *range(1, len(same), 2)][place]  # neighbours differ by two
    lightness = np.linspace(0.62, 0.2, len(same))[shade] if len(same) > 1 else None
    return {"color": colour(row["cell"], lightness), "marker": MARKERS[place], "ms": 3.5}


def learning(runs: pd.DataFrame) -> Figure:
    """Training (thin) and validation perplexity over epochs and over seconds."""
    size = (WIDTH, HEIGHT + _legend_height(len(runs) + 2))
    figure, axes = plt.subplots(1, 2, figsize=size, layout="constrained", sharey=True)
    for _, row in runs.iterrows():
        for place, clock in zip(axes, CLOCKS, strict=True):
            style = run_style(row)
            _curve(place, row, clock, "train_running", **style | TRAIN | {"marker": ""})
            _curve(place, row, clock, "valid", label=described(row), **style)
    for place, clock in zip(axes, CLOCKS, strict=True):
        _label(place, clock, runs)
    axes[0].set_ylabel("perplexity")
    _cut(axes[0], runs)
    axes[0].plot([], [], color="black", marker="o", ms=3.5, label="valid")
    axes[0].plot([], [], color="black", label="train", **TRAIN)
    _legend_below(figure, axes[:1])
    return figure


def _legend_height(lines: int) -> float:
    """Inches that a legend of two columns takes."""
    return 0.17 * lines / 2


def _legend_below(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend of two columns under all axes; it says which curves are above what they show."""
    lines = [line for place in axes for line in place.get_lines() if line.get_label()[0] != "_"]
    names = [line.get_label() + (", above the axes" if _is_cut(line) else "") for line in lines]
    figure.legend(lines, names, loc="outside lower center", ncols=2, fontsize=7)


def _is_cut(line: Line2D) -> bool:
    return len(line.get_ydata()) > 0 and min(line.get_ydata()) > line.axes.get_ylim()[1]


def _curve(axes: Axes, row: pd.Series, clock: str, column: str, **style) -> None:
    """One curve, a marker at every third epoch; that of a run that was stopped ends in a cross."""
    history = row["run"].history
    axes.plot(history[clock], history[column], markevery=3, **style)
    if row["status"] == "stopped":
        end = history.iloc[-1]
        axes.plot(end[clock], end[column], "x", ms=6, color=style["color"])


def _label(axes: Axes, clock: str, runs: pd.DataFrame) -> None:
    axes.set_yscale("log")
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel(clock)
    if clock == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    elif runs["device"].nunique() > 1:  # the seconds of a CPU and of a GPU in one figure
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)


def _cut(axes: Axes, runs: pd.DataFrame) -> None:
    """Cuts off what is worse than guessing among all words alike: a run that diverges."""
    types = [run.metrics["types"] for run in runs["run"] if run.done]
    values = np.concatenate(
        [line.get_ydata() for line in axes.get_lines() if len(line.get_ydata())]
    )
    guessing = max(types, default=values.max())
    if (values < guessing).any():
        axes.set_ylim(0.9 * values.min(), 1.1 * values[values <= guessing].max())
    plain_ticks(axes.yaxis)


def grouped(runs: pd.DataFrame, by: str) -> Figure:
    """Validation perplexity by "optimiser" or "cell", a column each; above epochs, below seconds.

    A group's runs are coloured and named, those of the others grey.
    """
    groups = runs[by].unique()
    size = (WIDTH, 1.5 * HEIGHT + _legend_height(len(runs)))
    figure, axes = plt.subplots(
        2, len(groups), figsize=size, layout="constrained", sharey=True, sharex="row", squeeze=False
    )
    for column, group in zip(axes.T, groups, strict=True):
        for place, clock in zip(column, CLOCKS, strict=True):
            for _, row in runs.sort_values(by, key=lambda kinds: kinds == group).iterrows():
                mine = row[by] == group
                style = run_style(row) | {"lw": 1.2, "label": described(row)}
                _curve(
                    place, row, clock, "valid", **style if mine else {"color": "0.85", "lw": 0.7}
                )
            _label(place, clock, runs)
        column[0].set_title(GROUP_TITLES[by][group].title)
    for place in axes[:, 0]:
        place.set_ylabel("validation perplexity")
        _cut(place, runs)
    _legend_below(figure, axes[0])
    return figure


def _model(row: pd.Series) -> str:
    """A run as the legends of few models have it: "3.1d RNN, Adam 1e-3, B 128"."""
    return f"{named(row)}, {stepping(row)}, B {row['batch_size']}"


def losses_by_step(runs: pd.DataFrame) -> Figure:
    """Validation loss at each step of the window, of the models that are looked at closely."""
    size = (WIDTH, HEIGHT + _legend_height(5))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    for _, row in looked_at(runs).iterrows():
        found, hue = row["run"].analysis["steps"], colour(row["cell"])
        place = range(1, len(found["fresh"]) + 1)
        axes.plot(place, found["fresh"], ".-", ms=4, color=hue, label=f"{_model(row)}, fresh")
        if row["cell"] != "transformer":
            axes.plot(place, found["carried"], "--", color=hue, label=f"{_model(row)}, carried")
    axes.set(xlabel="step of the window", ylabel="loss on validation, nats per word")
    _legend_below(figure, [axes])
    return figure


def flow(runs: pd.DataFrame) -> Figure:
    """Norm of the last step's loss's gradient by each step's state, before and after training.

    Above divided by each curve's maximum, below as it is, on a logarithmic axis.
    """
    size = (WIDTH, 1.35 * HEIGHT + _legend_height(4))
    figure, axes = plt.subplots(2, 2, figsize=size, layout="constrained", sharey="row", sharex=True)
    for _, row in flowing(runs).iterrows():
        for column, when in zip(axes.T, ("before", "after"), strict=True):
            recorded = row["run"].analysis["flow"][when]
            for kind, style in (("average", "-"), ("average, h", ":")):
                if kind in recorded:
                    norms = np.array(recorded[kind], dtype=float)  # None, not finite, is NaN
                    name = _model(row) + (", h alone" if style == ":" else "")
                    _flow_curve(column, norms, color=colour(row["cell"]), ls=style, label=name)
    for place, when in zip(axes[0], ("before", "after"), strict=True):
        place.set_title(f"{when} training")
    for place in axes[1]:
        place.set(xlabel="step of the window", yscale="log")
    axes[0, 0].set_ylabel("norm, divided\nby its maximum")
    axes[1, 0].set_ylabel("norm of the gradient")
    _legend_below(figure, axes[0, :1])
    return figure


def _flow_curve(column: np.ndarray, norms: np.ndarray, **style) -> None:
    place, largest = range(1, len(norms) + 1), np.nanmax(norms)
    column[0].plot(place, norms / (largest or 1), **style)
    column[1].plot(place, norms, **style)
