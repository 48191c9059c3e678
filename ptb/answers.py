"""Answers to the second exercise's questions, computed from the records.

Every number and every word that compares comes from the runs. Perplexities within a hundredth of
one another are called level: each setting is run once. What a sentence needs and the records lack
is left out.
"""

import pandas as pd

from ptb.architectures import FIFTEEN, NAMES, REPORTED
from ptb.experiments import (
    at_core,
    best_of_each,
    core,
    number,
    optimiser,
    other_scales,
    reported,
    size,
)
from ptb.runs import Run
from ptb.setting import Setting

LEVEL = 0.01


def _shown(row: pd.Series) -> str:
    return f"{row['tag']} ({number(row['valid'])})"


def _against(a: pd.Series, b: pd.Series) -> str:
    """How the first's validation perplexity lies to the second's."""
    change = a["valid"] / b["valid"] - 1
    if abs(change) < LEVEL:
        return f"level with {_shown(b)}"
    if change > 1 or change < -0.9:
        digits = 1 if change > 1 else 3
        return f"{number(a['valid'] / b['valid'], digits)} times {_shown(b)}"
    return f"{abs(change):.0%} {'below' if change < 0 else 'above'} {_shown(b)}"


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


def _has(runs: pd.DataFrame, *names: str) -> bool:
    return all(name in runs.index for name in names)


def _described(setting: Setting) -> str:
    return (
        f"{NAMES[setting.cell]}, {setting.layers} layers of {setting.hidden}, "
        f"{optimiser(setting.optimiser)} at {setting.lr:g}, batches of {setting.batch_size}, "
        f"dropout {setting.dropout:g}"
    )


def abstract(table: pd.DataFrame) -> str:
    """What was trained and what is best, in two sentences; a third on runs at other scales."""
    best = ", ".join(f"{_shown(row)} ({NAMES[row['cell']]})" for row in best_of_each(table))
    count = len({*table["experiment"]} & {*FIFTEEN})
    return (
        f"{count} of the exercise's {len(FIFTEEN)} settings of RNN, GRU and Transformer as "
        f"word-level language models. Best validation perplexity of each architecture"
        f"{at_core(table)}: {best}."
        + "".join(
            f" At {size(runs)}: {', '.join(_shown(row) for _, row in runs.iterrows())}."
            for runs in other_scales(table)
        )
    )


def bullets(sentences: list[str]) -> str:
    """Sentences as a list, in Markdown."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def generalisation(table: pd.DataFrame) -> list[str]:
    """Question 6: what to choose for time on the clock, and what for generalisation."""
    runs = _of_the_exercise(table)
    if runs.empty:
        return []
    best = runs.loc[runs["valid"].idxmin()]
    sentences = [
        f"For generalisation: {_shown(best)}: {_described(best['run'].setting)}. It is there "
        f"after {best['at_best']:.0f} seconds."
    ]
    timed = _on_one_device(runs)
    for factor in (1.1, 1.5):
        sentences += _first_below(timed, factor * best["valid"], factor)
    fast = timed.loc[timed["at_end"].idxmin()]
    rank = int((runs["valid"] < fast["valid"]).sum()) + 1
    return [
        *sentences,
        f"The run with the fewest seconds in all is {fast['tag']} ({fast['at_end']:.0f}): it is "
        f"number {rank} of {len(runs)} on validation.",
    ]


def _of_the_exercise(table: pd.DataFrame) -> pd.DataFrame:
    """The comparable runs of the fifteen settings: without the LSTM."""
    runs = core(table)
    return runs[runs.index.isin(FIFTEEN)]


def _on_one_device(runs: pd.DataFrame) -> pd.DataFrame:
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
        if _has(runs, low, high):
            a, b = runs.loc[low], runs.loc[high]
            spreads[name] = max(a["valid"], b["valid"]) / min(a["valid"], b["valid"])
            sentences.append(
                f"{name}, batches of {b['batch_size']}: with a rate of {b['lr']:g}, {_shown(b)} is "
                f"{_against(b, a)}, whose rate is {a['lr']:g}. {b['tag']} {_fate(b)}; "
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
    if _has(runs, "3.1a", "3.1b"):
        a, b = runs.loc["3.1a"], runs.loc["3.1b"]
        sentences.append(
            f"Smaller batches are more updates an epoch: with SGD at {b['lr']:g}, batches of "
            f"{b['batch_size']}, {_shown(b)} is {_against(b, a)} with {a['batch_size']}."
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
    return lost + beside + _all_cases(runs) + _lstm(runs)


def _beside_the_rnn(runs: pd.DataFrame) -> list[str]:
    """The GRU and the RNN that are trained alike, at one scale."""
    sentences = []
    for a, b, alike in (("3.2a", "3.1d", "Adam at 0.001"), ("3.2b", "3.1c", "SGD at 10")):
        if _has(runs, a, b):
            sentences.append(
                f"With {alike} and batches of 128 (but dropout {runs.loc[a, 'dropout']:g} and "
                f"{runs.loc[b, 'dropout']:g}): the GRU {_shown(runs.loc[a])} is "
                f"{_against(runs.loc[a], runs.loc[b])}, the RNN. "
                f"{runs.loc[a, 'tag']} {_fate(runs.loc[a])}; "
                f"{runs.loc[b, 'tag']} {_fate(runs.loc[b])}."
            )
    return sentences


def _all_cases(runs: pd.DataFrame) -> list[str]:
    """Whether every GRU is before every RNN."""
    grus, rnns = (runs[runs["cell"] == cell] for cell in ("gru", "rnn"))
    if grus.empty or rnns.empty:
        return []
    best = rnns.loc[rnns["valid"].idxmin()]
    behind = [_shown(row) for _, row in grus.iterrows() if row["valid"] >= best["valid"]]
    if not behind:
        return [f"All {len(grus)} GRU runs are before the best RNN, {_shown(best)}."]
    return [
        f"Not every GRU is before the best RNN, {_shown(best)}: {len(grus) - len(behind)} of "
        f"{len(grus)} are, but not {', '.join(behind)}."
    ]


def _lstm(runs: pd.DataFrame) -> list[str]:
    if not _has(runs, "LSTM", "3.2a"):
        return []
    lstm = runs.loc["LSTM"]
    return [f"An LSTM trained as 3.2a, {_shown(lstm)}, is {_against(lstm, runs.loc['3.2a'])}."]


def sizes(table: pd.DataFrame) -> list[str]:
    """Question 9: the GRU's sizes, their training and validation curves."""
    runs = core(table)
    names = [name for name in ("3.3a", "3.3b", "3.3c") if _has(runs, name, "3.2a")]
    return [_size(runs.loc[name], runs.loc["3.2a"]) for name in names]


def _size(row: pd.Series, base: pd.Series) -> str:
    gap = row["valid_end"] / row["running_end"]
    more, longer = (row[name] / base[name] for name in ("parameters", "at_end"))
    seconds = f" and {longer:.1f} times its seconds" if row["device"] == base["device"] else ""
    return (
        f"{_shown(row)}, {row['layers']} layers of {row['hidden']} with dropout "
        f"{row['dropout']:g}, is {_against(row, base)} with {more:.1f} times its parameters"
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
                f"The best Transformer, {_shown(best)}, is {_against(best, other)}, the best "
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
    there = [(runs.loc[a], runs.loc[b], what) for a, b, what in cases if _has(runs, a, b)]
    return [
        f"{what.format(a['hidden'] / b['hidden'])}: {_shown(a)} is {_against(a, b)}."
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
        comparison = f"{_shown(fair)}, is {_against(fair, gru)}, the best GRU"
        sentences.append(f"So measured, the best Transformer, {comparison}.")
    return sentences


def claims(table: pd.DataFrame) -> list[str]:
    """Three sentences of the solution, held against these runs and against its own table."""
    runs, theirs = _of_the_exercise(table), {name: row.valid for name, row in REPORTED.items()}
    behind = f"In its own table 3.3a ({theirs['3.3a']}) is behind the RNN 3.1b ({theirs['3.1b']})."
    sentences = [f"“The GRU is better in all cases.” {text} {behind}" for text in _all_cases(runs)]
    for name, what in (("3.3b", "more units"), ("3.3c", "more layers")):
        if _has(runs, name, "3.2a"):
            row, base = runs.loc[name], runs.loc["3.2a"]
            verdict = "So it is" if row["valid"] < base["valid"] * (1 - LEVEL) else "Not so"
            text = f"“With {what} the perplexity is lower.” {verdict}: {_shown(row)} is "
            lower = "so it is" if theirs[name] < theirs["3.2a"] else "not so"
            own = f"In its own table {lower}: {theirs[name]} against {theirs['3.2a']}."
            sentences.append(f"{text}{_against(row, base)}. {own}")
    fastest = _on_one_device(runs)["at_end"].nsmallest(2).index
    count = sum(runs.loc[fastest, "cell"] == "transformer")
    said = f"{count} of the two fastest runs, {' and '.join(runs.loc[fastest, 'tag'])},"
    verb = "is a Transformer" if count == 1 else "are Transformers"
    quick = sorted(REPORTED, key=lambda name: REPORTED[name].seconds)[:2]
    own = f"In its own table the two are {' and '.join(quick)}, a Transformer and a GRU."
    return [*sentences, f"“Two Transformers took the least time.” Here {said} {verb}. {own}"]


def yardstick(table: pd.DataFrame) -> list[str]:
    """How the full-size runs on Penn Treebank lie to the solution's figures; none without them."""
    like = table[[reported(row) != "–" for _, row in table.iterrows()]]
    chance = table["unigram"].max()  # of one corpus, the same in all rows
    theirs = pd.Series([REPORTED[name].valid for name in like["experiment"]], like.index)
    learned, close = like[theirs < chance], like["valid"] <= 1.03 * theirs
    sentences = [
        f"{close[learned.index].sum()} of {len(learned)} full-size runs are within 3% of the "
        "solution's best validation perplexity, or better."
    ]
    for place, row in learned[~close[learned.index]].iterrows():
        sentences.append(f"{_shown(row)} is not: the solution has {theirs[place]:.1f}.")
    for place, row in like[theirs >= chance].iterrows():
        ours = "does" if row["valid"] < chance else "does not either"
        sentences.append(
            f"The solution's {row['tag']} never gets below what word frequencies alone give "
            f"({theirs[place]:.0f} against {chance:.0f}); ours {ours}."
        )
    return sentences if len(like) else []
