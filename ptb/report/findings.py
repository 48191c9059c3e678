"""What the records say, in tables and sentences: every number and comparison word is computed."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd

from ptb.data.corpus import SPLITS
from ptb.evaluation.comparison import Difference, compare
from ptb.report.figures import label, schedule
from ptb.runs.run import Run
from ptb.setting import TRANSFORMER_ONLY, Setting, bar

SECOND = ("experiment", "scale")  # of the second exercise, whose report has a table of its own
SHOWN = ("cell", "dropout", "corpus", "seed", "lr", "schedule", "optimiser", "hold", "decay")


def perplexities(table: pd.DataFrame) -> pd.DataFrame:
    """The exercise's table: perplexity of each split with the weights chosen on validation."""
    rows = []
    for _, row in table.iterrows():
        setting, level = row["run"].setting, bar(row["run"].setting)
        rows.append(
            {
                "setting": label(setting),
                **{split: f"{row[split]:.2f}" for split in SPLITS},
                "bar": "–" if level is None else f"{level}: {_verdict(row['valid'], level)}",
                "best epoch": f"{row['best_epoch']} of {setting.epochs}",
                "lr": f"{setting.lr:g}",
                "minutes": minutes(row["minutes"]),
            }
        )
    return pd.DataFrame(rows)


def minutes(value: float) -> str:
    """Minutes as a table has them: whole ones from ten on."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _verdict(valid: float, level: int) -> str:
    return "yes" if valid < level else "no"


def readme_results(table: pd.DataFrame) -> str:
    """The README's table of perplexities, in Markdown."""
    frame = perplexities(table)
    return markdown(frame[["setting", "train", "valid", "test", "bar", "best epoch", "minutes"]])


def markdown(frame: pd.DataFrame) -> str:
    """A frame of text as a table in Markdown."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.to_numpy()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def recipes(table: pd.DataFrame) -> pd.DataFrame:
    """Each run's recipe: what differs between the runs; see `common` for the rest."""
    rows = []
    for run in table["run"]:
        differing = {name: getattr(run.setting, name) for name in _differing(table)}
        rows.append({"setting": label(run.setting), "schedule": schedule(run.setting), **differing})
    return pd.DataFrame(rows)


def _differing(table: pd.DataFrame) -> list[str]:
    names = [field.name for field in fields(Setting) if field.name not in SHOWN]
    return [name for name in names if table[name].nunique() > 1]


def common(table: pd.DataFrame) -> str:
    """The choices that all runs share, in one line; what is off (0, no) is left out."""
    differing, first = _differing(table), table.iloc[0]
    known = (*SHOWN, *differing, *SECOND, *TRANSFORMER_ONLY)
    names = [f.name for f in fields(Setting) if f.name not in known and first[f.name]]
    return ", ".join(f"{name.replace('_', ' ')} {_plain(first[name])}" for name in names)


def _plain(value) -> str:
    """True and False as yes and no, numbers without idle zeros, text as it is."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


def abstract(table: pd.DataFrame) -> str:
    """What was trained and how well it does on validation and test, in two sentences."""
    first = table.iloc[0]
    scores = [
        f"{row['valid']:.1f} / {row['test']:.1f} ({label(row['run'].setting)})"
        for _, row in table.iterrows()
    ]
    return (
        f"{len(table)} word-level language model{'s' * (len(table) > 1)} with {first['layers']} "
        f"recurrent layers of {first['hidden']} units. "
        f"Perplexity on validation / test: {', '.join(scores)}."
    )


def counts(table: pd.DataFrame) -> str:
    """The corpus in numbers, from the records."""
    metrics = table.iloc[0]["run"].metrics
    tokens = " / ".join(f"{metrics[split]['tokens'] + 1:,}" for split in SPLITS)
    names = {"ptb": "Penn Treebank as prepared by Mikolov", "embedded": "the embedded language"}
    corpus = table.iloc[0]["corpus"]
    name = names.get(corpus, f"`{Path(corpus).name}`")
    return (
        f"The corpus is {name}: {tokens} tokens in its training, validation "
        f"and test split, {metrics['types']:,} types, one `<eos>` at the end of each line."
    )


def past_best(table: pd.DataFrame) -> str:
    """What happened after each run's best epoch."""
    if all(run.metrics["best_epoch"] == len(run.history) for run in table["run"]):
        return "In every run the last epoch is the best."
    sentences = []
    for run in table["run"]:
        history, best = run.history, run.metrics["best_epoch"]
        if best == len(history):
            sentences.append(f"{label(run.setting)}: the last epoch, {best}, is the best.")
            continue
        first, last = history.iloc[best - 1], history.iloc[-1]
        sentences.append(
            f"{label(run.setting)}: after epoch {best} validation perplexity goes from "
            f"{first['valid']:.1f} to {last['valid']:.1f} by epoch {len(history)}, training "
            f"perplexity from {first['train']:.1f} to {last['train']:.1f}"
            + (": overfitting." if last["train"] < first["train"] else ".")
        )
    return "\n".join(f"- {sentence}" for sentence in sentences)


def conclusions(table: pd.DataFrame) -> str:
    """The conclusions, as a list."""
    found = [
        *_bars(table),
        *_dropout(table),
        *cells(table),
        _best(table),
        *_floor(table),
        _doubt(table),
    ]
    return "\n".join(f"- {sentence}" for sentence in found)


def _bars(table: pd.DataFrame) -> list[str]:
    levels = [bar(run.setting) for run in table["run"]]
    if None in levels:
        return []
    runs = zip(table["run"], table["valid"], levels, strict=True)
    above = [f"{label(run.setting)} ({v:.1f} against {b})" for run, v, b in runs if v >= b]
    if not above:
        whole = f"All {len(levels)} settings are" if len(levels) > 1 else "The one setting is"
        return [f"{whole} below the exercise's bars on validation."]
    return [
        f"{len(levels) - len(above)} of {len(levels)} settings are below the exercise's bars on "
        f"validation; not {', '.join(above)}."
    ]


def _pairs(table: pd.DataFrame, by: str, values: tuple) -> list[tuple]:
    """Pairs of rows that differ in `by` ("cell", or whether there is "dropout")."""
    other = "dropout" if by == "cell" else "cell"
    keys = table.assign(dropout=table["dropout"] > 0)
    pairs = []
    for value in keys[other].unique():
        rows = [table[(keys[by] == v) & (keys[other] == value)] for v in values]
        if all(len(row) for row in rows):
            pairs.append(tuple(row.iloc[0] for row in rows))
    return pairs


def _paired(first: Run, second: Run) -> Difference:
    return compare(first.analysis["sentences"], second.analysis["sentences"])


def _change(before: pd.Series, after: pd.Series) -> str:
    found = _paired(after["run"], before["run"])
    share, low, high = _percents(found, "+.2f")
    verb = "lowers" if found.mean < 0 else "raises"
    verb = verb if found.real else "makes no difference beyond chance to"
    numbers = f"from {before['test']:.1f} to {after['test']:.1f}"
    return f"{verb} test perplexity ({numbers}: {share}, 95% interval {low} to {high})"


def _percents(found: Difference, form: str) -> list[str]:
    """The change and its interval."""
    return [f"{signed(value, form)}%" for value in found.percent()]


def signed(value: float, form: str) -> str:
    """A number with a minus sign: a hyphen is printed as now one, now the other."""
    return f"{value:{form}}".replace("-", "−")


def _dropout(table: pd.DataFrame) -> list[str]:
    sentences = []
    for plain, dropped in _pairs(table, "dropout", (False, True)):
        sentences.append(
            f"Dropout {dropped['dropout']:g} with its recipe ({dropped['epochs']} epochs instead "
            f"of {plain['epochs']}) {_change(plain, dropped)} for the "
            f"{plain['cell'].upper()}. {_gaps(plain['run'].history, dropped['run'].history)}"
        )
    return sentences


def _gaps(plain: pd.DataFrame, dropped: pd.DataFrame) -> str:
    """The generalisation gap of two histories, as the figure has it, after as many epochs."""
    epochs = min(len(plain), len(dropped))
    gaps = [history["valid"] / history["train"] for history in (plain, dropped)]
    first, then = (gap.iloc[epochs - 1] for gap in gaps)
    last = f" ({gaps[1].iloc[-1]:.2f} after {len(dropped)})" if len(dropped) > epochs else ""
    return (
        f"Validation over training perplexity, as the figure has it, is {first:.2f} without it "
        f"after {epochs} epochs, and {then:.2f} with it{last}."
    )


def cells(table: pd.DataFrame) -> list[str]:
    """Which cell is ahead, without and with dropout."""
    sentences = []
    for lstm, gru in _pairs(table, "cell", ("lstm", "gru")):
        where = "With" if lstm["dropout"] else "Without"
        sentences.append(
            f"{where} dropout {_ahead(lstm, gru)}, after {lstm['epochs']} (LSTM) and "
            f"{gru['epochs']} (GRU) epochs."
        )
    return sentences


def _ahead(*rows: pd.Series) -> str:
    """Which of two cells is ahead on test, where the interval of the difference leaves out zero."""
    better, worse = sorted(rows, key=lambda row: row["test"])
    found = _paired(worse["run"], better["run"])
    share, low, high = _percents(found, ".2f")
    names = [f"the {row['cell'].upper()} ({row['test']:.1f})" for row in (better, worse)]
    by = f"by {share} on test (95% interval {low} to {high})"
    if found.real:
        return f"{names[0]} is ahead of {names[1]} {by}"
    return f"there is no difference beyond chance: {names[0]} is before {names[1]} {by}"


def _best(table: pd.DataFrame) -> str:
    best = table.loc[table["valid"].idxmin()]
    return (
        f"Best of these on validation: {label(best['run'].setting)}, {best['valid']:.2f}; it has "
        f"{best['parameters']:,} parameters and scores {best['test']:.2f} on test."
    )


def _floor(table: pd.DataFrame) -> list[str]:
    floor = table.iloc[0]["run"].metrics["floor"]
    if not floor:
        return []
    best = table.loc[table["valid"].idxmin()]
    return [
        f"The source's own perplexity, which no model can beat but by chance, is "
        f"{floor['valid']:.1f} on validation and {floor['test']:.1f} on test: the best run is "
        f"{best['test'] / floor['test'] - 1:.1%} above it on test."
    ]


def _doubt(table: pd.DataFrame) -> str:
    seeds = table["seed"].nunique()
    return (
        f"Each model is one run ({'one seed' if seeds == 1 else f'{seeds} seeds in all'}): "
        "the intervals above hold for these very weights on other text of this kind, not for other "
        "seeds, and recipes differ in more than the cell or the dropout."
    )


def versions(table: pd.DataFrame) -> pd.DataFrame:
    """The environments in which the runs were made, a row each."""
    return pd.DataFrame([_versions(run) for run in table["run"]])


def _versions(run: Run) -> dict:
    """Of a run that went on elsewhere, all in their order."""
    abouts, device = run.environments, run.metrics.get("device", "cpu")
    abouts = [about | {"commit": _short(about["commit"])} for about in abouts]
    names = ("python", "torch", "processor", "threads", "commit")
    row = {name: ", ".join(dict.fromkeys(str(about[name]) for about in abouts)) for name in names}
    return {"run": run.folder.name} | row | ({} if device == "cpu" else {"processor": device})


def _short(commit: str | None) -> str:
    return "none" if commit is None else commit[:8] + "+" * commit.endswith("+")
