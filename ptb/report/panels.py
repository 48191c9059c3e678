"""Figures of the second report, from the table of experiments and the run folders' files alone."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from ptb.report.experiments import best_of_each, largest, named, optimiser, qualities
from ptb.report.figures import HEIGHT, WIDTH
from ptb.studies.architectures import KINDS, NAMES

CLOCK = {"epoch": "epoch", "seconds": "seconds of training"}
COLOURS = dict(zip(KINDS, sns.color_palette("colorblind"), strict=False))


def learning(table: pd.DataFrame, runs: str) -> Figure:
    """Training and validation perplexity over epochs and over seconds, runs as "3.1" begins."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained", sharey=True)
    chosen = table[table["experiment"].str.startswith(runs)]
    for (_, row), colour in zip(chosen.iterrows(), sns.color_palette("colorblind"), strict=False):
        for place, clock in zip(axes, CLOCK, strict=True):
            _curve(place, row, clock, "train_running", color=colour, ls="--", lw=0.9)
            _curve(place, row, clock, "valid", color=colour, label=row["tag"])
    axes[0].plot([], [], color="black", label="valid")
    axes[0].plot([], [], color="black", ls="--", lw=0.9, label="train")
    _finish(figure, axes, chosen)
    return figure


def _curve(axes: Axes, row: pd.Series, clock: str, column: str, **style) -> None:
    history = row["run"].history
    marker = "." if len(history) < 30 else None
    axes.plot(history[clock], history[column], marker=marker, ms=4, **style)


def _finish(figure: Figure, axes: Iterable[Axes], table: pd.DataFrame) -> None:
    """Logarithmic perplexities, cut where guessing among all words would be; labels; a legend."""
    for place, clock in zip(axes, CLOCK, strict=True):
        place.set_yscale("log")
        place.set_xlabel(CLOCK[clock])
        place.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0].set_ylabel("perplexity")
    axes[0].set_xlim(0.5, 1.1 * table["epochs"].max() + 0.5)  # room for a tag
    _cut(axes[0], table)
    _plain_ticks(axes[0].yaxis)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper")


def _cut(axes: Axes, table: pd.DataFrame) -> None:
    guessing = max((row["run"].metrics["types"] for _, row in table.iterrows()), default=1)
    low, high = axes.get_ylim()
    if low < guessing:
        axes.set_ylim(low, min(high, 1.5 * guessing))


def _plain_ticks(axis: Axis) -> None:
    """Numbers as 100 and 200 on a logarithmic axis, not powers of ten."""
    low, high = axis.get_view_interval()
    if high / low < 5:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    else:
        crowded = axis.axis_name == "x" and high / low > 30
        axis.set_major_locator(LogLocator(subs=(1,) if crowded else (1, 2, 5), numticks=12))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def grouped(table: pd.DataFrame, by: str) -> Figure:
    """Validation perplexity over epochs and over seconds, coloured by "optimiser" or by "cell"."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained", sharey=True)
    names = table[by].map(optimiser if by == "optimiser" else NAMES)
    colours = dict(zip(names.unique(), sns.color_palette("colorblind"), strict=False))
    tags = []
    for place, clock in zip(axes, CLOCK, strict=True):
        for name, (_, row) in zip(names, table.iterrows(), strict=True):
            _curve(place, row, clock, "valid", color=colours[name], lw=1)
            ends = row["run"].history[[clock, "valid"]].tail(1).to_numpy()
            tags += [_tag(place, row["experiment"], end, colours[name]) for end in ends]
    for name, colour in colours.items():
        axes[0].plot([], [], color=colour, label=name)
    axes[1].margins(x=0.15)
    _finish(figure, axes, table)
    _keep_where_there_is_room(tags)
    return figure


def _tag(axes: Axes, text: str, place: tuple, colour="black") -> Annotation:
    """A run's name beside a place."""
    where = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "clip_on": True}
    return axes.annotate(text, place, fontsize=6, color=colour, **where)


def _keep_where_there_is_room(tags: list[Annotation]) -> None:
    """Takes away each tag that would lie on one before it."""
    kept = []
    for tag in tags:
        if not kept:
            tag.figure.draw_without_rendering()  # before it, the layout has no places
        box = tag.get_window_extent()
        if any(box.overlaps(other) for other in kept):
            tag.remove()
        else:
            kept.append(box)


def steps(table: pd.DataFrame) -> Figure:
    """Validation loss at each step of the window, of the best run of each architecture."""
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    for row in best_of_each(table):
        found, colour = row["run"].analysis["steps"], COLOURS[row["cell"]]
        place = range(1, len(found["fresh"]) + 1)
        name = named(row)
        axes.plot(place, found["fresh"], ".-", ms=4, color=colour, label=f"{name}, fresh")
        if row["cell"] != "transformer":
            axes.plot(place, found["carried"], "--", color=colour, label=f"{name}, carried")
    axes.set(xlabel="step of the window", ylabel="loss on validation, nats a word")
    figure.legend(loc="outside right upper")
    return figure


def flow(table: pd.DataFrame, rescaled: bool) -> Figure:
    """Norm of the last step's loss's gradient by each step's state: as it is, or from 0 to 1."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained", sharey=True)
    for row in largest(table):
        for place, when in zip(axes, ("before", "after"), strict=True):
            norms = np.array(row["run"].analysis["flow"][when]["average"], dtype=float)
            norms = _rescaled(norms) if rescaled else norms
            steps = range(1, len(norms) + 1)
            place.plot(steps, norms, color=COLOURS[row["cell"]], label=named(row))
            place.set(xlabel="step of the window", title=f"{when} training")
    axes[0].set_ylabel("norm of the gradient" + (", rescaled" if rescaled else ""))
    if not rescaled:
        axes[0].set_yscale("log")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return figure


def _rescaled(values: np.ndarray) -> np.ndarray:
    """From 0 at the smallest to 1 at the largest."""
    spread = values.max() - values.min()
    return (values - values.min()) / (spread or 1)


def quality(table: pd.DataFrame) -> Figure:
    """How texts are, over the validation perplexity of the model that wrote them."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, HEIGHT), layout="constrained")
    found = qualities(table)
    labels = {
        "loss": "sampled texts: loss to another model,\nless its loss on real text",
        "repetition": "greedy texts: share of\nrepeated groups of three words",
    }
    tags = []
    for place, (column, label) in zip(axes, labels.items(), strict=True):
        for _, row in found.iterrows():
            place.plot(row["valid"], row[column], "o", ms=4, color=COLOURS[row["cell"]])
            tags.append(_tag(place, row["tag"], (row["valid"], row[column])))
        place.margins(x=0.3)  # room for a tag
        place.set(xscale="log", xlabel="validation perplexity", ylabel=label)
        _plain_ticks(place.xaxis)
    for cell in found["cell"].unique():
        axes[0].plot([], [], "o", ms=4, color=COLOURS[cell], label=NAMES[cell])
    figure.legend(loc="outside upper center", ncols=4)
    _keep_where_there_is_room(tags)
    return figure
