"""Finished runs as records: found, checked for faults, gathered into one table."""

import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ptb.data.corpus import SPLITS
from ptb.errors import RunError
from ptb.runs.files import ADAPTED, PUBLISHED
from ptb.runs.run import Run
from ptb.runs.schema import faults, typed


def find_runs(study: Path) -> list[Run]:
    """The study's runs that are done."""
    return [Run(path.parent) for path in sorted(Path(study).glob("*/metrics.json"))]


def left_out(study: Path) -> list[str]:
    """A line for each run in the study's folder that is unfinished or has faulty records."""
    folders = {path.parent for path in Path(study).glob("*/*") if path.name in PUBLISHED}
    return [fault for folder in sorted(folders) if (fault := faults(Run(folder)))]


def check_measured(run: Run) -> None:
    """Raises RunError where a finished run's records are faulty, or no weights were measured."""
    if reason := faults(run):
        raise RunError(reason)
    if run.metrics["best_epoch"] is None:
        reason = run.metrics["reason"]
        raise RunError(f"{run.folder} has no measured weights: it diverged ({reason})")


def read_adapted(study: Path) -> list[dict]:
    """What adapted the study's models; raises RunError for a damaged file."""
    return typed(Run(study), ADAPTED) if (Path(study) / ADAPTED).exists() else []


def four_settings(table: pd.DataFrame) -> pd.DataFrame:
    """The exercise's settings, in its order: LSTM, GRU, each without and with dropout.

    Where a study holds several runs of one, the best on validation; finished ones alone.
    """
    if table.empty:
        return table
    one_corpus = table["corpus"] == table["corpus"].mode()[0]
    table = table[
        one_corpus & (table["status"] == "finished") & table["cell"].isin(["lstm", "gru"])
    ]
    order = [table["cell"].map({"lstm": 0, "gru": 1}), table["dropout"] > 0]
    best = table.groupby(order, sort=True)["valid"].idxmin()
    return table.loc[best].reset_index(drop=True)


def gather(runs: list[Run]) -> pd.DataFrame:
    """One row per run: its setting, metrics and minutes of training; `run` has the Run.

    A run with faulty records has none (see `faults`). A run that diverged in its first epoch has
    no perplexities: they are NaN.
    """
    return pd.DataFrame([_row(run) for run in runs if not faults(run)])


def _row(run: Run) -> dict:
    metrics, history = run.metrics, run.history
    perplexities = {split: metrics.get(split, {}).get("perplexity", math.nan) for split in SPLITS}
    return {
        **asdict(run.setting),
        "run": run,
        "status": metrics["status"],
        "best_epoch": metrics["best_epoch"],
        "parameters": metrics["parameters"],
        **perplexities,
        "minutes": history["seconds"].max() / 60,
        "tokens_per_second": history["tokens_per_second"].median(),
    }


def diverged(row: pd.Series) -> bool:
    """Whether a run gave up, or ended and was never below guessing among all words alike."""
    guessed = row["status"] == "finished" and row["valid"] >= row["run"].metrics["types"]
    return guessed or row["status"] == "diverged"
