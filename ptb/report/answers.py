"""Answers to the second exercise's questions, computed from the records.

Every number and every word that compares comes from the runs. Perplexities within a hundredth of
one another are called level: each setting is run once. What a sentence needs and the records lack
is left out.
"""

import pandas as pd

from ptb.report.experiments import (
    at_core,
    best_of_each,
    core,
    number,
    optimiser,
    other_scales,
    size,
)
from ptb.runs.run import Run
from ptb.setting import Setting
from ptb.studies.architectures import FIFTEEN, NAMES

LEVEL = 0.01


def shown(row: pd.Series) -> str:
    return f"{row['tag']} ({number(row['valid'])})"


def against(a: pd.Series, b: pd.Series) -> str:
    """How the first's validation perplexity lies to the second's."""
    change = a["valid"] / b["valid"] - 1
    if abs(change) < LEVEL:
        return f"level with {shown(b)}"
    if change > 1 or change < -0.9:
        digits = 1 if change > 1 else 3
        return f"{number(a['valid'] / b['valid'], digits)} times {shown(b)}"
    return f"{abs(change):.0%} {'below' if change < 0 else 'above'} {shown(b)}"


def _fate(row: pd.Series) -> str:
    """What became of a run after its best epoch."""
    best, rise = int(row["best_epoch"]), row["valid_end"] / row["valid_best"] - 1
    if row["status"] == "diverged":
        return f"diverges in epoch {len(row['run'].history) + 1}, after its best, {best}"
    if not row["valid"] < row["unigram"]:
        return f"never gets below what word frequencies alone give ({row['unigram']:.0f})"
    if row["at_end"] == row["at_best"]:
        return f"is still at its best in the last epoch, {best}"
    grows = row["running_end"] < row["running_best"] and rise > LEVEL
    end = f"{rise:.0%} above it" if rise > LEVEL / 2 else "level with it"
    return f"is best in epoch {best} and ends {end}" + (
        ", while its training perplexity goes on falling: overfitting" if grows else ""
    )


def has(runs: pd.DataFrame, *names: str) -> bool:
    return all(name in runs.index for name in names)


def _described(setting: Setting) -> str:
    return (
        f"{NAMES[setting.cell]}, {setting.layers} layers of {setting.hidden}, "
        f"{optimiser(setting.optimiser)} at {setting.lr:g}, batches of {setting.batch_size}, "
        f"dropout {setting.dropout:g}"
    )


def abstract(table: pd.DataFrame) -> str:
    """What was trained and what is best, in two sentences; a third on runs at other scales."""
    best = ", ".join(f"{shown(row)} ({NAMES[row['cell']]})" for row in best_of_each(table))
    count = len({*table["experiment"]} & {*FIFTEEN})
    return (
        f"{count} of the exercise's {len(FIFTEEN)} settings of RNN, GRU and Transformer as "
        f"word-level language models. Best validation perplexity of each architecture"
        f"{at_core(table)}: {best}."
        + "".join(
            f" At {size(runs)}: {', '.join(shown(row) for _, row in runs.iterrows())}."
            for runs in other_scales(table)
        )
    )


def bullets(sentences: list[str]) -> str:
    """Sentences as a list, in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def generalisation(table: pd.DataFrame) -> list[str]:
    """Question 6: what to choose for time on the clock, and what for generalisation."""
    runs = of_the_exercise(table)
    if runs.empty:
        return []
    best = runs.loc[runs["valid"].idxmin()]
    sentences = [
        f"For generalisation: {shown(best)}: {_described(best['run'].setting)}. It is there "
        f"after {best['at_best']:.0f} seconds."
    ]
    timed = on_one_device(runs)
    for factor in (1.1, 1.5):
        sentences += _first_below(timed, factor * best["valid"], factor)
    fast = timed.loc[timed["at_end"].idxmin()]
    rank = int((runs["valid"] < fast["valid"]).sum()) + 1
    return [
        *sentences,
        f"The run with the fewest seconds in all is {fast['tag']} ({fast['at_end']:.0f}): it is "
        f"number {rank} of {len(runs)} on validation.",
    ]


def of_the_exercise(table: pd.DataFrame) -> pd.DataFrame:
    """The comparable runs of the fifteen settings: without the LSTM."""
    runs = core(table)
    return runs[runs.index.isin(FIFTEEN)]


def on_one_device(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose seconds can be compared: those on the device that most were on."""
    return runs[runs["device"] == runs["device"].mode()[0]]


def _first_below(runs: pd.DataFrame, level: float, factor: float) -> list[str]:
    """Which run is first, in seconds, below a validation perplexity."""
    times = {name: _seconds_below(row["run"], level) for name, row in runs.iterrows()}
    reached = {name: seconds for name, seconds in times.items() if seconds is not None}
    if not reached:
        return []
    first = runs.loc[min(reached, key=reached.get)]
    return [
        f"For time on the clock: {first['tag']} is the first to get below {level:.1f} ({factor:g} "
        f"times the best of all), after {reached[first['experiment']]:.0f} seconds; "
        f"{len(reached)} of {len(runs)} runs get there. It is: {_described(first['run'].setting)}."
    ]


def _seconds_below(run: Run, level: float) -> float | None:
    history = run.history
    below = history.loc[history["valid"] <= level, "seconds"]
    return None if below.empty else float(below.iloc[0])


def rates(table: pd.DataFrame) -> list[str]:
    """Question 7: SGD and Adam with different learning rates, on the RNN."""
    runs, sentences, spreads = core(table), _lost(table, "3.1"), {}
    for name, low, high in (("SGD", "3.1a", "3.1c"), ("Adam", "3.1e", "3.1d")):
        if has(runs, low, high):
            a, b = runs.loc[low], runs.loc[high]
            spreads[name] = max(a["valid"], b["valid"]) / min(a["valid"], b["valid"])
            sentences.append(
                f"{name}, batches of {b['batch_size']}: with a rate of {b['lr']:g}, {shown(b)} is "
                f"{against(b, a)}, whose rate is {a['lr']:g}. {b['tag']} {_fate(b)}; "
                f"{a['tag']} {_fate(a)}."
            )
    if len(spreads) == 2:
        less, more = sorted(spreads, key=spreads.get)
        sentences.append(
            f"Ten times the rate changes the best validation perplexity by a factor of "
            f"{number(spreads['SGD'], 2)} with SGD and {number(spreads['Adam'], 2)} with Adam: "
            f"{less} is the "
            f"less sensitive, {more} the more. Two rates say this of these two alone: either "
            "optimiser fails at a rate that is far enough off."
        )
    if has(runs, "3.1a", "3.1b"):
        a, b = runs.loc["3.1a"], runs.loc["3.1b"]
        sentences.append(
            f"Smaller batches are more updates an epoch: with SGD at {b['lr']:g}, batches of "
            f"{b['batch_size']}, {shown(b)} is {against(b, a)} with {a['batch_size']}."
        )
    return sentences


def _lost(table: pd.DataFrame, label: str) -> list[str]:
    """The runs whose numbers begin so that diverged before an epoch ended."""
    lost = table[table["valid"].isna() & table["experiment"].str.startswith(label)]
    return [f"{tag} diverges before its first epoch ends." for tag in lost["tag"]]


def gru(table: pd.DataFrame) -> list[str]:
    """Question 8: the GRU, as expected?"""
    runs, lost = core(table), _lost(table, "3.2") + _lost(table, "3.3")
    beside = [text for same in (*other_scales(table), runs) for text in _beside_the_rnn(same)]
    return lost + beside + all_cases(runs) + _lstm(runs)


def _beside_the_rnn(runs: pd.DataFrame) -> list[str]:
    """The GRU and the RNN that are trained alike, at one scale."""
    sentences = []
    for a, b, alike in (("3.2a", "3.1d", "Adam at 0.001"), ("3.2b", "3.1c", "SGD at 10")):
        if has(runs, a, b):
            sentences.append(
                f"With {alike} and batches of 128 (but dropout {runs.loc[a, 'dropout']:g} and "
                f"{runs.loc[b, 'dropout']:g}): the GRU {shown(runs.loc[a])} is "
                f"{against(runs.loc[a], runs.loc[b])}, the RNN. "
                f"{runs.loc[a, 'tag']} {_fate(runs.loc[a])}; "
                f"{runs.loc[b, 'tag']} {_fate(runs.loc[b])}."
            )
    return sentences


def all_cases(runs: pd.DataFrame) -> list[str]:
    """Whether every GRU is before every RNN."""
    grus, rnns = (runs[runs["cell"] == cell] for cell in ("gru", "rnn"))
    if grus.empty or rnns.empty:
        return []
    best = rnns.loc[rnns["valid"].idxmin()]
    behind = [shown(row) for _, row in grus.iterrows() if row["valid"] >= best["valid"]]
    if not behind:
        return [f"All {len(grus)} GRU runs are before the best RNN, {shown(best)}."]
    return [
        f"Not every GRU is before the best RNN, {shown(best)}: {len(grus) - len(behind)} of "
        f"{len(grus)} are, but not {', '.join(behind)}."
    ]


def _lstm(runs: pd.DataFrame) -> list[str]:
    if not has(runs, "LSTM", "3.2a"):
        return []
    lstm = runs.loc["LSTM"]
    return [f"An LSTM trained as 3.2a, {shown(lstm)}, is {against(lstm, runs.loc['3.2a'])}."]


def sizes(table: pd.DataFrame) -> list[str]:
    """Question 9: the GRU's sizes, their training and validation curves."""
    runs = core(table)
    names = [name for name in ("3.3a", "3.3b", "3.3c") if has(runs, name, "3.2a")]
    return [_size(runs.loc[name], runs.loc["3.2a"]) for name in names]


def _size(row: pd.Series, base: pd.Series) -> str:
    gap = row["valid_end"] / row["running_end"]
    more, longer = (row[name] / base[name] for name in ("parameters", "at_end"))
    seconds = f" and {longer:.1f} times its seconds" if row["device"] == base["device"] else ""
    return (
        f"{shown(row)}, {row['layers']} layers of {row['hidden']} with dropout "
        f"{row['dropout']:g}, is {against(row, base)} with {more:.1f} times its parameters"
        f"{seconds}. It {_fate(row)}. At the end its training perplexity is "
        f"{number(row['running_end'])} with dropout and {number(row['plain_end'])} without: the "
        f"validation curve ({number(row['valid_end'])}) runs {'below' if gap < 1 else 'above'} the "
        "training curve."
    )


def transformers(table: pd.DataFrame) -> list[str]:
    """Question 10: the Transformers, as expected?"""
    runs = core(table)
    ours = runs[runs["cell"] == "transformer"]
    if ours.empty:
        return []
    best, sentences = ours.loc[ours["valid"].idxmin()], []
    for cell in ("gru", "rnn"):
        others = runs[runs["cell"] == cell]
        if len(others):
            other = others.loc[others["valid"].idxmin()]
            sentences.append(
                f"The best Transformer, {shown(best)}, is {against(best, other)}, the best "
                f"{NAMES[cell]}, with {best['parameters'] / other['parameters']:.1f} times its "
                "parameters."
            )
    sentences += [f"{row['tag']} {_fate(row)}." for _, row in ours.iterrows()]
    return sentences + _pairs(runs) + _sliding(runs)


def _pairs(runs: pd.DataFrame) -> list[str]:
    """What depth and width do to a Transformer."""
    cases = (
        ("3.4a", "3.4b", "Six layers instead of two"),
        ("3.4d", "3.4a", "{:.3g} times the width, six layers"),
        ("3.4c", "3.4b", "{:.3g} times the width and more dropout, two layers"),
    )
    there = [(runs.loc[a], runs.loc[b], what) for a, b, what in cases if has(runs, a, b)]
    return [
        f"{what.format(a['hidden'] / b['hidden'])}: {shown(a)} is {against(a, b)}."
        for a, b, what in there
    ]


def _sliding(runs: pd.DataFrame) -> list[str]:
    """The Transformers by their second figure, beside the first; the best by it beside the GRU."""
    ours = {row["tag"]: row for _, row in runs.iterrows() if "sliding" in row["run"].metrics}
    if not ours:
        return []
    found = {tag: row["run"].metrics["sliding"]["valid"]["perplexity"] for tag, row in ours.items()}
    listed = ", ".join(f"{tag} {p:.1f} ({ours[tag]['valid']:.1f})" for tag, p in found.items())
    sentences = [
        "With the whole window of words before each word (in brackets as the exercise reads, in "
        f"windows that do not overlap): {listed}."
    ]
    grus = runs[runs["cell"] == "gru"]
    if len(grus):
        best, gru = min(found, key=found.get), grus.loc[grus["valid"].idxmin()]
        fair = ours[best].copy()
        fair["valid"] = found[best]
        comparison = f"{shown(fair)}, is {against(fair, gru)}, the best GRU"
        sentences.append(f"So measured, the best Transformer, {comparison}.")
    return sentences
