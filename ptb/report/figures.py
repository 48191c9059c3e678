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
from ptb.report.text import choice
from ptb.setting import Setting, bar
from ptb.training.optim import OPTIMISERS, SCHEDULES

SPLIT_COLOURS = dict(zip(SPLITS, sns.color_palette("colorblind")[:3], strict=True))
WIDTH, HEIGHT = 6.4, 2.9  # inches
sns.set_theme(context="paper", style="ticks", rc={"axes.grid": True, "grid.alpha": 0.3})


def label(setting: Setting) -> str:
    """The run as a legend names it: "LSTM, dropout 0.3"."""
    dropout = f"dropout {setting.dropout:g}" if setting.dropout else "no dropout"
    return f"{CELLS[setting.cell].title}, {dropout}"


def schedule(setting: Setting) -> str:
    """The learning rate over the run, in words."""
    optimiser, falls = OPTIMISERS[setting.optimiser], SCHEDULES[setting.schedule].words(setting)
    return f"{optimiser.title}, learning rate {choice(setting.lr)} {falls}"


def convergence(
    setting: Setting, history: pd.DataFrame, floor=None, axes: Axes | None = None
) -> Axes:
    """Perplexity of the splits over epochs, the best epoch marked, the target or floor drawn."""
    axes = axes or plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")[1]
    for split in SPLITS:
        axes.plot(history["epoch"], history[split], ".-", color=SPLIT_COLOURS[split], label=split)
    if len(history):
        best = history.loc[history["valid"].idxmin()]
        text = f"best epoch: {best['epoch']:.0f}"
        axes.plot(best["epoch"], best["valid"], "o", ms=9, mfc="none", color="black", label=text)
    if target := bar(setting):
        axes.axhline(target, ls="--", color="grey", label=f"target for valid: {target}")
    for split, level in (floor or {}).items():
        axes.axhline(level, ls=":", color=SPLIT_COLOURS[split], label=f"the source's own, {split}")
    axes.set(xlabel="epoch", ylabel="perplexity", xlim=(0.5, setting.epochs + 0.5))
    axes.set_title(f"{label(setting)}\n{schedule(setting)}")
    _perplexity_axis(axes)
    axes.legend()
    return axes


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


def _over_epochs(table: pd.DataFrame, column: str, **texts) -> Axes:
    """A column of the histories over epochs, a line a run; "gap" is valid over train."""
    data = pd.concat([run.history.assign(run=label(run.setting)) for run in table["run"]])
    data["gap"] = data["valid"] / data["train"]
    axes = plt.subplots(figsize=(WIDTH, HEIGHT), layout="constrained")[1]
    style = dict.fromkeys(("hue", "style"), "run")
    sns.lineplot(data, x="epoch", y=column, errorbar=None, markers=True, ax=axes, **style)
    axes.set(**texts)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def curves(table: pd.DataFrame, split: str, levels: dict[str, float] | None = None) -> Figure:
    """One split's perplexity over epochs, all runs in one plot, and named levels across it."""
    title = {"train": "Training", "valid": "Validation", "test": "Test"}[split]
    axes = _over_epochs(table, split, ylabel="perplexity", title=f"{title} perplexity of all runs")
    for (name, level), style in zip((levels or {}).items(), (":", "-."), strict=False):
        axes.axhline(level, ls=style, color="grey", label=name)
    _perplexity_axis(axes)
    axes.legend(title=None)
    return axes.figure


def gap(table: pd.DataFrame) -> Figure:
    """Validation perplexity over training perplexity, both in evaluation mode, over epochs."""
    text = {"ylabel": "valid / train perplexity", "title": "Generalisation gap"}
    axes = _over_epochs(table, "gap", **text)
    axes.axhline(1, color="grey", lw=0.8)
    axes.legend(title=None)
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
    for name, loss, marker in zip(runs, losses, "osXP", strict=False):
        axes.plot(np.exp(loss - losses[0]), marker=marker, label=name)
    ticks = [
        f"{name}\n{np.exp(loss):,.0f}"
        for name, loss in zip(parts[0]["bin"], losses[0], strict=True)
    ]
    axes.set_xticks(range(len(ticks)), ticks, fontsize=7)
    axes.set_xlabel(f"{BREAKDOWNS[kind]}; below, perplexity of {runs[0]}")
    axes.set_ylabel(f"perplexity over that of\n{runs[0]}")
    figure.legend(loc="outside upper center", ncols=len(runs))
    return figure


def one_factor(found: pd.DataFrame) -> Figure:
    """How far each changed run of `tables.one_factor` is from its recipe's own, with intervals."""
    changed = found[found["beside"].notna()].iloc[::-1]  # the first on top
    means, lows, highs = (
        np.array([getattr(contrast, end) for contrast in changed["beside"]])
        for end in ("mean", "low", "high")
    )
    size = (WIDTH, 0.9 + 0.3 * len(changed))
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.errorbar(means, changed["name"], xerr=[means - lows, highs - means], fmt="o", capsize=3)
    axes.axvline(0, color="grey", lw=0.8)
    axes.margins(y=0.3 / len(changed))
    axes.set_xlabel("test perplexity beside that of the quick recipe with dropout, in percent")
    return figure


TRIAL_CHOICES = {"dropout": "dropout", "weight_decay": "weight decay", "epochs": "epochs"}


def trials(table: pd.DataFrame) -> Figure:
    """Validation perplexity of every trial, over each of the choices that were TRIAL_CHOICES."""
    size = {"figsize": (WIDTH, HEIGHT), "sharey": True, "layout": "constrained"}
    figure, axes = plt.subplots(1, len(TRIAL_CHOICES), **size)
    model = table["cell"].map(lambda cell: CELLS[cell].title) + table["tied"].map(
        {True: ", tied", False: ""}
    )
    named = table.assign(model=model).sort_values(["tied", "cell"], ascending=[True, False])
    for place, (field, name) in zip(axes, TRIAL_CHOICES.items(), strict=True):
        sns.scatterplot(named, x=field, y="valid", hue="model", style="model", s=40, ax=place)
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
    for run in table["run"]:
        axes = convergence(run.setting, run.history, run.metrics.get("floor"))
        save(axes.figure, folder / f"convergence-{run.setting.cell}-dropout{run.setting.dropout:g}")
