"""Finished runs as records: found, checked for faults, gathered into one table."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from ptb.data.corpus import SPLITS
from ptb.errors import RunError
from ptb.runs.files import PUBLISHED
from ptb.runs.run import Run

ADAPTED = "adaptation.json"  # of a study: what `ptb.studies.adaptation` found, beside its runs


def find_runs(study: Path) -> list[Run]:
    """The study's runs that are done."""
    return [Run(path.parent) for path in sorted(Path(study).glob("*/metrics.json"))]


def left_out(study: Path) -> list[str]:
    """A line for each run in the study's folder that is unfinished or has faulty records."""
    folders = {path.parent for path in Path(study).glob("*/*") if path.name in PUBLISHED}
    return [fault for folder in sorted(folders) if (fault := faults(Run(folder)))]


def faults(run: Run) -> str | None:
    """Why a run's records can't be reported, in one line; None where they can."""
    if not run.done:
        return f"{run.folder.name}: not finished, it has no metrics.json"
    try:
        reason = _contradiction(run)
    except RunError as error:
        return str(error)
    return f"{run.folder.name}: {reason}" if reason else None


def _contradiction(run: Run) -> str | None:
    """Reads what a report reads, and says what does not fit; raises RunError for a bad file."""
    metrics = run.read("metrics.json", _complete)
    _ = run.setting, run.environment, run.texts, run.judged
    if (metrics["status"], metrics["best_epoch"]) == ("diverged", None):
        return None  # it has no more than that
    run.read("samples.json", _at_temperature_1)
    run.read("analysis.json", lambda text: [json.loads(text)[part] for part in ANALYSIS])
    return _misfit(run, metrics)


def _complete(text: str) -> dict:
    """The metrics; raises where one that a report needs is missing or not finite."""
    metrics = json.loads(text)
    for name in ("status", "best_epoch", "parameters", "floor", "types"):
        metrics[name]
    for split in SPLITS if metrics["best_epoch"] is not None else ():
        for name in ("loss", "perplexity", "tokens"):
            if not math.isfinite(metrics[split][name]):
                raise ValueError(f"{split} {name} is {metrics[split][name]}")
    return metrics


def _at_temperature_1(text: str) -> str:
    (sample,) = (s["text"] for s in json.loads(text) if s["temperature"] == 1)
    return sample


ANALYSIS = ("sentences", "frequency", "position", "distance")
ROUNDING = 0.005  # more than float16 weights change a perplexity of a model that learned


def _misfit(run: Run, metrics: dict) -> str | None:
    """What in the history is not finite or does not fit the metrics."""
    history = run.history
    best, epochs = metrics["best_epoch"], range(1, len(history) + 1)
    if best not in epochs or list(history["epoch"]) != list(epochs):
        return f"history.csv has no row for every epoch up to the best, {best}"
    if not np.isfinite(history).all(axis=None):
        return "history.csv has values that are not finite"
    found, recorded = history["valid"][best - 1], metrics["valid"]["perplexity"]
    learned = found < run.analysis.get("unigram", math.inf)  # else it may be chaotic
    if learned and abs(found - recorded) > ROUNDING * recorded:
        return (
            f"valid perplexity is {recorded:.2f} in metrics.json, "
            f"{found:.2f} at epoch {best} in history.csv"
        )
    return None


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
    """One row a run: its setting, metrics and minutes of training; `run` has the Run.

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
