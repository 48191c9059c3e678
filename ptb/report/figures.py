"""Figures from the gathered table of runs and the run folders' files; nothing else is read."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FuncFormatter,
    LogFormatterMathtext,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from ptb.data.corpus import SPLITS
from ptb.models.cells import CELLS
from ptb.report.text import choice
from ptb.setting import Setting, target_of
from ptb.training.optim import OPTIMISERS, SCHEDULES

# In every figure the hue is the cell's, and dashes are dropout: see `colour` and `run_style`.
PALETTE = [sns.color_palette("colorblind")[n] for n in (0, 1, 2, 4, 3, 5, 6, 7, 8, 9)]
SPLIT_MARKERS = dict(zip(SPLITS, "osx", strict=True))
SPLIT_LIGHTNESS = dict(zip(SPLITS, (0.7, 0.42, 0.18), strict=True))
WIDTH, HEIGHT = 6.3, 2.9  # inches; a page's text is 6.3 wide
sns.set_theme(
    context="paper",
    style="ticks",
    rc={"axes.grid": True, "grid.alpha": 0.3, "axes.formatter.use_mathtext": True},
)


def label(setting: Setting) -> str:
    """The run as a legend names it: "LSTM, dropout 0.3"."""
    dropout = f"dropout {setting.dropout:g}" if setting.dropout else "no dropout"
    return f"{CELLS[setting.cell].title}, {dropout}"


def schedule(setting: Setting) -> str:
    """The learning rate over the run, in words."""
    optimiser = OPTIMISERS[setting.optimiser].title
    return f"{optimiser}, learning rate {choice(setting.lr)} {_falls(setting)}"


def _falls(setting: Setting) -> str:
    return SCHEDULES[setting.schedule].words(setting)


def colour(cell: str, lightness: float | None = None) -> tuple[float, float, float]:
    """The cell's hue in all figures, one that the colour-blind tell from the others; or a shade."""
    own = PALETTE[list(CELLS).index(cell) % len(PALETTE)]
    return own if lightness is None else sns.set_hls_values(own, l=lightness)


def run_style(setting: Setting) -> dict:
    """How a run's curve is drawn: the cell's hue, dashed with dropout."""
    line, marker = ("--", "s") if setting.dropout else ("-", "o")
    return {"color": colour(setting.cell), "ls": line, "marker": marker, "ms": 3.5}


def convergence(
    setting: Setting,
    history: pd.DataFrame,
    floor: dict[str, float] | None = None,
    axes: Axes | None = None,
    limits: dict | None = None,
) -> Axes:
    """Perplexity of the splits over epochs, the best epoch marked, the target or floor drawn.

    The splits are shades of the cell's hue; limits are both axes', where plots are to be compared.
    """
    axes = axes or plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")[1]
    for split in SPLITS:
        shade = {"color": colour(setting.cell, SPLIT_LIGHTNESS[split])}
        style = run_style(setting) | shade | {"marker": SPLIT_MARKERS[split], "label": split}
        axes.plot(history["epoch"], history[split], **style)
    if len(history):
        best = history.loc[history["valid"].idxmin()]
        text = f"best epoch: {best['epoch']:.0f}"
        axes.plot(best["epoch"], best["valid"], "o", ms=9, mfc="none", color="black", label=text)
    if target := target_of(setting):
        axes.axhline(target, ls=":", color="grey", label=f"target for valid: {target}")
    for split, level in (floor or {}).items():
        shade = colour(setting.cell, SPLIT_LIGHTNESS[split])
        axes.axhline(level, ls=":", color=shade, label=f"the source's own, {split}")
    axes.set(xlabel="epoch", ylabel="perplexity", xlim=(0.5, setting.epochs + 0.5))
    axes.set_title(f"{label(setting)}\n{schedule(setting)}")
    axes.set(yscale="log", **(limits or {}))
    plain_ticks(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return axes


def plain_ticks(axis: Axis) -> None:
    """Numbers such as 70, 100 and 150 on a logarithmic axis; powers of ten on a wide x axis."""
    low, high = axis.get_view_interval()
    across = axis.axis_name == "x"  # where numbers stand side by side, and fewer have room
    axis.set_major_formatter(FuncFormatter(_plain))
    if high / low < 1.8:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    elif across and high / low > 100:
        axis.set_major_locator(LogLocator(numticks=12))
        axis.set_major_formatter(LogFormatterMathtext())
    else:
        many = (1, 3) if across else (1, 2, 5)
        steps = many if high / low > 10 else (1, 1.5, 2, 3, 5, 7)
        axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)


def _plain(value: float, place: int) -> str:
    """A tick's number: "1,000", "70", "3.5"."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def common_limits(table: pd.DataFrame) -> dict:
    """The limits of both axes that the convergence plots of all runs fit in."""
    runs = list(table["run"])
    levels = [run.history[list(SPLITS)].to_numpy().ravel() for run in runs]
    levels += [list((run.metrics.get("floor") or {}).values()) for run in runs]
    levels = np.concatenate(levels)
    epochs = max(run.setting.epochs for run in runs)
    return {"xlim": (0.5, epochs + 0.5), "ylim": (0.92 * levels.min(), 1.08 * levels.max())}


def overview(table: pd.DataFrame) -> Figure:
    """The convergence plots of all runs, side by side, on axes of one range."""
    rows = (len(table) + 1) // 2
    figure, axes = plt.subplots(
        rows, 2, figsize=(WIDTH, 0.4 + 0.75 * HEIGHT * rows), layout="constrained", squeeze=False
    )
    limits = common_limits(table)
    for run, place in zip(table["run"], axes.flat, strict=False):
        convergence(run.setting, run.history, run.metrics.get("floor"), place, limits)
        rate, falls = f"learning rate {choice(run.setting.lr)}", _falls(run.setting)
        rate = f"{falls} {rate}" if falls == "constant" else f"{rate} at the start"
        place.set_title(f"{label(run.setting)}\n{rate}")
        lines = [line for line in place.get_lines() if line.get_label() not in SPLITS]
        place.legend(handles=[line for line in lines if line.get_label()[0] != "_"])
    for place in axes.flat[len(table) :]:
        place.set_visible(False)
    shades = {split: {"color": str(SPLIT_LIGHTNESS[split])} for split in SPLITS}
    keys = [Line2D([], [], marker=SPLIT_MARKERS[s], ms=3.5, label=s, **shades[s]) for s in SPLITS]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return figure


def _over_epochs(table: pd.DataFrame, column: str, **texts) -> Axes:
    """A column of the histories over epochs, a line per run; "gap" is valid over train."""
    axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")[1]
    for run in table["run"]:
        history = run.history.assign(gap=run.history["valid"] / run.history["train"])
        style = run_style(run.setting)
        axes.plot(history["epoch"], history[column], label=label(run.setting), **style)
    axes.set(xlabel="epoch", **texts)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def curves(table: pd.DataFrame, split: str, levels: dict[str, float] | None = None) -> Figure:
    """One split's perplexity over epochs, all runs in one plot, and named levels across it."""
    title = {"train": "Training", "valid": "Validation", "test": "Test"}[split]
    axes = _over_epochs(table, split, ylabel="perplexity", title=f"{title} perplexity of all runs")
    for (name, level), shade in zip((levels or {}).items(), ("0.7", "0.5", "0.2"), strict=False):
        axes.axhline(level, ls=":", color=shade, label=name)
    axes.set_yscale("log")
    plain_ticks(axes.yaxis)
    axes.legend(ncols=2)  # of few lines: it hides no level
    return axes.figure


def gap(table: pd.DataFrame) -> Figure:
    """Validation perplexity over training perplexity, both in evaluation mode, over epochs."""
    text = {"ylabel": "valid / train perplexity", "title": "Generalisation gap"}
    axes = _over_epochs(table, "gap", **text)
    axes.axhline(1, color="grey", lw=0.8)
    axes.legend()
    return axes.figure


BREAKDOWNS = {
    "frequency": "occurrences of the word in training",
    "position": "place of the word in its sentence",
    "distance": "words since its last occurrence",
}


def breakdown(table: pd.DataFrame, kind: str) -> Figure:
    """Each run's test perplexity over the first run's, which is written below the axis."""
    parts = [pd.DataFrame(run.analysis[kind]) for run in table["run"]]
    losses = [part["loss"] / part["tokens"] for part in parts]
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    runs = [label(run.setting) for run in table["run"]]
    for run, loss in zip(table["run"], losses, strict=True):
        axes.plot(np.exp(loss - losses[0]), label=label(run.setting), **run_style(run.setting))
    ticks = [
        f"{name}\n{np.exp(loss):,.0f}"
        for name, loss in zip(parts[0]["bin"], losses[0], strict=True)
    ]
    axes.set_xticks(range(len(ticks)), ticks, fontsize=7)
    axes.set_xlabel(f"{BREAKDOWNS[kind]}; below, perplexity of {runs[0]}")
    axes.set_ylabel(f"perplexity over that of\n{runs[0]}")
    figure.legend(loc="outside upper center", ncols=2)
    return figure


SHOWN_CHANGE = 50  # percent: a run that failed would squeeze all others into a line


def one_factor(found: pd.DataFrame) -> Figure:
    """How far each changed run of `tables.one_factor` is from its recipe's own, with intervals."""
    shown = [contrast is not None and contrast.mean < SHOWN_CHANGE for contrast in found["beside"]]
    changed = found[shown].iloc[::-1]  # the first on top
    means, lows, highs = (
        np.array([getattr(contrast, end) for contrast in changed["beside"]])
        for end in ("mean", "low", "high")
    )
    size = (WIDTH, 0.9 + 0.3 * len(changed))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.errorbar(means, changed["name"], xerr=[means - lows, highs - means], fmt="o", capsize=3)
    axes.axvline(0, color="grey", lw=0.8)
    axes.margins(y=0.3 / len(changed))
    axes.set_xlabel("change of test perplexity from the quick recipe with dropout, in percent")
    return figure


TRIAL_CHOICES = {"dropout": "dropout", "weight_decay": "weight decay", "epochs": "epochs"}


def trials(table: pd.DataFrame) -> Figure:
    """Validation perplexity of every trial, over each of TRIAL_CHOICES."""
    size = {"figsize": (WIDTH, HEIGHT), "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(1, len(TRIAL_CHOICES), **size)
    table = table.sort_values(["tied", "cell"], ascending=[True, False])
    names = [
        (c, t, CELLS[c].title + ", tied" * t)
        for c, t in zip(table["cell"], table["tied"], strict=True)
    ]
    named = table.assign(model=[name for *_, name in names])
    style = {"hue": "model", "palette": {name: colour(cell) for cell, _, name in names}}
    style |= {"style": "model", "markers": {name: "X" if tied else "o" for _, tied, name in names}}
    for place, (field, name) in zip(axes, TRIAL_CHOICES.items(), strict=True):
        sns.scatterplot(named, x=field, y="valid", s=40, ax=place, **style)
        place.set(xlabel=name, ylabel="validation perplexity")
        place.get_legend().remove()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def save(figure: Figure, path: Path) -> None:
    """As PNG and, for papers, as PDF, without a date in it."""
    figure.savefig(f"{path}.png", dpi=150)
    figure.savefig(f"{path}.pdf", metadata={"CreationDate": None})
    plt.close(figure)


def save_all(table: pd.DataFrame, folder: Path) -> None:
    """The published figures of a study's runs."""
    folder.mkdir(parents=True, exist_ok=True)
    save(overview(table), folder / "convergence")
    save(curves(table, "train"), folder / "train")
    save(curves(table, "valid"), folder / "valid")
    save(gap(table), folder / "gap")
    for kind in BREAKDOWNS:
        save(breakdown(table, kind), folder / kind)
    limits = common_limits(table)
    for run in table["run"]:
        floor = run.metrics.get("floor")
        axes = convergence(run.setting, run.history, floor, limits=limits)
        save(axes.figure, folder / f"convergence-{run.setting.cell}-dropout{run.setting.dropout:g}")
