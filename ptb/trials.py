"""The search for recipes: one row of report/trials.csv for every setting that was tried.

`python -m ptb.trials cell=gru dropout=0.4 lr=20 epochs=30` trains one setting, without a notebook,
in runs/trials; stopped and started again it goes on. The test split is in the run's folder, as
always, but not in the table: nothing may be chosen by it.
"""

import argparse
import ast
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock

from ptb.corpus import load
from ptb.findings import epoch_line
from ptb.recipes import recipe
from ptb.runs import ROOT, RUNS, Run, write_atomically
from ptb.setting import PlainError, Setting, SettingError, check_names, check_number
from ptb.training import train

TABLE = ROOT / "report" / "trials.csv"
CHOICES = ("cell", "dropout", "lr", "weight_decay", "epochs")  # with columns of their own


def row(run: Run) -> dict:
    """What the table keeps of a run that is done: its setting, validation by epoch, minutes."""
    history, metrics = run.history, run.metrics
    return {
        "run": run.setting.name,
        **asdict(run.setting),
        "status": metrics["status"],
        "best_epoch": metrics["best_epoch"],
        "valid": round(float(history["valid"].min()), 3),
        "train": round(float(history["train"].min()), 3),
        "minutes": round(float(history["seconds"].max()) / 60, 1),
        "processor": run.environment["processor"],
        "commit": " ".join(dict.fromkeys(str(e["commit"]) for e in run.environments)),
        "valid_by_epoch": " ".join(f"{value:.2f}" for value in history["valid"]),
    }


def record(run: Run, table: Path = TABLE) -> None:
    """Puts a finished run's row into the table, in place of an older one of the same setting."""
    with FileLock(table.with_suffix(".lock")):
        rows = read(table).to_dict("records") if table.exists() else []
        rows = [old for old in rows if old["run"] != run.setting.name] + [row(run)]
        frame = pd.DataFrame(rows)[list(rows[-1])].sort_values(["cell", "dropout", "run"])
        write_atomically(table, frame.to_csv(index=False).encode())


def read(table: Path = TABLE) -> pd.DataFrame:
    """Every trial so far, the best on validation first."""
    rows = pd.read_csv(table, converters={"experiment": str})  # else "" is read as NaN
    since = {field.name: field.default for field in fields(Setting)}  # for choices that are newer
    missing = {name: value for name, value in since.items() if name not in rows}
    kinds = {field.name: field.type for field in fields(Setting)}
    rows = rows.assign(**missing).astype(dict.fromkeys(since, object)).fillna(since).astype(kinds)
    return rows.sort_values("valid", ignore_index=True)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The trials as a report shows them: what was chosen, what it cost and what it reached."""
    numbers = table[["train", "valid", "minutes"]].map("{:.1f}".format)
    choices = table[list(CHOICES)].assign(beside=[_beside(row) for row in table.to_dict("records")])
    frame = pd.concat([choices, numbers], axis=1)
    return frame.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))


def _beside(row: dict) -> str:
    """The other choices that are not the default's: "tied, weight_drop 0.2"."""
    names = [f.name for f in fields(Setting) if f.name not in CHOICES and row[f.name] != f.default]
    return ", ".join(name if row[name] is True else f"{name} {row[name]}" for name in names)


def about(table: pd.DataFrame) -> str:
    """How many trials there were, what they cost, and what was found without a record."""
    hours = table["minutes"].sum() / 60
    return (
        f"The table has {len(table)} settings, {hours:.0f} hours of training. "
        "Validation perplexity chose between them. The learning rates and the clip come from "
        "earlier searches of which no record was kept."
    )


def parse(words: list[str]) -> Setting:
    """The setting that words like "lr=20" make with the recipe; raises SettingError."""
    chosen = dict(_pair(word) for word in words)
    check_names(chosen)
    first = [chosen.pop(f.name, f.default) for f in fields(Setting)[:3]]  # cell, dropout, corpus
    return recipe(*first, **chosen)


def _pair(word: str) -> tuple[str, object]:
    name, equals, value = word.partition("=")
    if not equals:
        raise SettingError(f"{word!r} is no choice: write name=value, as in lr=20")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ptb.trials", description=__doc__)
    parser.add_argument("choices", nargs="*", metavar="name=value", help="what the setting changes")
    parser.add_argument("--threads", type=int, default=1, help="torch's; two trials fit two cores")
    options = parser.parse_args(arguments)
    try:
        torch.set_num_threads(check_number("threads", int, options.threads))
        _run(parse(options.choices))
    except PlainError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(setting: Setting) -> None:
    run = Run(RUNS / "trials" / setting.name)

    def show(rows):
        for last in rows[-1:]:
            print(epoch_line(setting, last), flush=True)

    train(setting, load(setting.corpus), run.folder, on_epoch=show)
    record(run)


if __name__ == "__main__":
    sys.exit(main())
