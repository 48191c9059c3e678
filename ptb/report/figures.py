"""Figures from the gathered table of runs and the run folders' files; nothing else is read."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from ptb.data.corpus import SPLITS
from ptb.models.cells import CELLS
from ptb.setting import Setting, bar
from ptb.training.optim import OPTIMISERS, SCHEDULES

COLOURS = dict(zip(SPLITS, sns.color_palette("colorblind")[:3], strict=True))
WIDTH, HEIGHT = 6.4, 2.9  # inches
sns.set_theme(context="paper", style="ticks", rc={"axes.grid": True, "grid.alpha": 0.3})


def label(setting: Setting) -> str:
    """The run as a legend names it: "LSTM, dropout 0.3"."""
    dropout = f"dropout {setting.dropout:g}" if setting.dropout else "no dropout"
    return f"{CELLS[setting.cell].title}, {dropout}"


def schedule(setting: Setting) -> str:
    """The learning rate over the run, in words."""
    optimiser, falls = OPTIMISERS[setting.optimiser], SCHEDULES[setting.schedule].words(setting)
    return f"{optimiser.title}, learning rate {setting.lr:g} {falls}"


def convergence(
    setting: Setting, history: pd.DataFrame, floor=None, axes: Axes | None = None
) -> Axes:
    """Perplexity of the three splits over epochs, the best epoch marked, the bar or floor drawn."""
    axes = axes or plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")[1]
    for split in SPLITS:
        axes.plot(history["epoch"], history[split], ".-", color=COLOURS[split], label=split)
    if len(history):
        _mark_best(axes, history)
    _draw_levels(axes, setting, floor or {})
    axes.set(xlabel="epoch", ylabel="perplexity", xlim=(0.5, setting.epochs + 0.5))
    axes.set_title(f"{label(setting)}\n{schedule(setting)}")
    _perplexity_axis(axes)
    axes.legend()
    return axes


def _mark_best(axes: Axes, history: pd.DataFrame) -> None:
    best = history.loc[history["valid"].idxmin()]
    text = f"best epoch: {best['epoch']:.0f}"
    axes.plot(best["epoch"], best["valid"], "o", ms=9, mfc="none", color="black", label=text)


def _draw_levels(axes: Axes, setting: Setting, floor: dict[str, float]) -> None:
    if level := bar(setting):
        axes.axhline(level, ls="--", color="grey", label=f"bar for valid: {level}")
    for split, level in floor.items():
        axes.axhline(level, ls=":", color=COLOURS[split], label=f"the source's own, {split}")


def _perplexity_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.minorticks_off()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def overview(table: pd.DataFrame) -> Figure:
    """The convergence plots of all runs, side by side."""
    rows = (len(table) + 1) // 2
    figure, axes = plt.subplots(
        rows, 2, figsize=(2 * WIDTH, rows * HEIGHT), layout="constrained", squeeze=False
    )
    for run, place in zip(table["run"], axes.flat, strict=False):
        convergence(run.setting, run.history, run.metrics.get("floor"), place)
    for place in axes.flat[len(table) :]:
        place.set_visible(False)
    return figure


def histories(table: pd.DataFrame) -> pd.DataFrame:
    """All histories below one another, each row with its run's label."""
    return pd.concat([run.history.assign(run=label(run.setting)) for run in table["run"]])


def curves(table: pd.DataFrame, split: str) -> Figure:
    """One split's perplexity over epochs, all runs in one plot."""
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    sns.lineplot(
        histories(table),
        x="epoch",
        y=split,
        hue="run",
        style="run",
        errorbar=None,
        markers=True,
        ax=axes,
    )
    axes.set(ylabel="perplexity", title=f"{NAMES[split]} perplexity of all runs")
    _perplexity_axis(axes)
    axes.legend(title=None)
    return figure


NAMES = {"train": "Training", "valid": "Validation", "test": "Test"}


def gap(table: pd.DataFrame) -> Figure:
    """Validation perplexity over training perplexity, both in evaluation mode, over epochs."""
    data = histories(table)
    data["gap"] = data["valid"] / data["train"]
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    sns.lineplot(
        data, x="epoch", y="gap", hue="run", style="run", errorbar=None, markers=True, ax=axes
    )
    axes.axhline(1, color="grey", lw=0.8)
    axes.set(ylabel="valid / train perplexity", title="Generalisation gap")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title=None)
    return figure


KINDS = {
    "frequency": "occurrences of the word in training",
    "position": "place of the word in its sentence",
    "distance": "words since its last occurrence",
}


def breakdown(table: pd.DataFrame, kind: str) -> Figure:
    """Each run's test perplexity over the first run's, by one of KINDS; the first's is written."""
    parts = [pd.DataFrame(run.analysis[kind]) for run in table["run"]]
    losses = [part["loss"] / part["tokens"] for part in parts]
    figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")
    runs = [label(run.setting) for run in table["run"]]
    for name, loss, marker in zip(runs, losses, "osXP", strict=False):
        axes.plot(np.exp(loss - losses[0]), marker=marker, label=name)
    ticks = [
        f"{name}\n{np.exp(loss):,.0f}"
        for name, loss in zip(parts[0]["bin"], losses[0], strict=True)
    ]
    axes.set_xticks(range(len(ticks)), ticks, fontsize=7)
    axes.set_xlabel(f"{KINDS[kind]}; below, perplexity of {runs[0]}")
    axes.set_ylabel(f"perplexity over that of\n{runs[0]}")
    figure.legend(loc="outside upper center", ncols=len(runs))
    return figure


TRIED = {
    "lr": "learning rate",
    "dropout": "dropout",
    "weight_decay": "weight decay",
    "epochs": "epochs",
}


def trials(table: pd.DataFrame) -> Figure:
    """Validation perplexity of every trial, over each of the choices that were TRIED."""
    figure, axes = plt.subplots(
        2, 2, figsize=(WIDTH, 2 * HEIGHT), sharey=True, layout="constrained"
    )
    model = table["cell"].str.upper() + table["tied"].map({True: ", tied", False: ""})
    named = table.assign(model=model).sort_values(["tied", "cell"], ascending=[True, False])
    for place, (choice, name) in zip(axes.flat, TRIED.items(), strict=True):
        sns.scatterplot(named, x=choice, y="valid", hue="model", style="model", s=40, ax=place)
        place.set(xlabel=name, ylabel="validation perplexity")
        place.get_legend().remove()
    axes.flat[0].legend(title=None)
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
    for kind in KINDS:
        save(breakdown(table, kind), folder / kind)
    for run in table["run"]:
        axes = convergence(run.setting, run.history, run.metrics.get("floor"))
        save(axes.figure, folder / f"convergence-{run.setting.cell}-dropout{run.setting.dropout:g}")
