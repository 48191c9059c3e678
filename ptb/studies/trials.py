"""The search for recipes: report/trials.csv has a row for every setting that was tried.

`python -m ptb trial --cell gru --dropout 0.4 --lr 20 --epochs 30` trains one setting, without a
notebook, in runs/trials; stopped and started again it goes on. The test split is in the run's
folder, as always, but not in the table: nothing may be chosen by it.
"""

from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock

from ptb.data.corpora import load
from ptb.paths import ROOT, relative
from ptb.runs.files import read_file, write_atomically
from ptb.runs.run import Run, epoch_line
from ptb.setting import FIELDS, Setting, check_number
from ptb.training.train import train

TRIALS = ROOT / "report" / "trials.csv"


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


def record(run: Run) -> None:
    """Puts a finished run's row into the table, in place of an older one of the same setting."""
    with FileLock(TRIALS.with_suffix(".lock")):
        rows = read().to_dict("records")
        rows = [old for old in rows if old["run"] != run.setting.name] + [row(run)]
        frame = pd.DataFrame(rows)[list(rows[-1])].sort_values(["cell", "dropout", "run"])
        frame = frame.astype({"best_epoch": "Int64"})  # a run that diverged at once has none
        write_atomically(TRIALS, frame.to_csv(index=False).encode())


def read() -> pd.DataFrame:
    """Every trial so far, the best on validation first; raises RunError for a damaged table."""
    return read_file(TRIALS, _parse, relative(TRIALS)) if TRIALS.exists() else pd.DataFrame()


def _parse(text: str) -> pd.DataFrame:
    rows = pd.read_csv(StringIO(text), converters={"experiment": str})  # else "" is read as NaN
    since = {name: field.default for name, field in FIELDS.items()}  # for choices that are newer
    missing = {name: value for name, value in since.items() if name not in rows}
    kinds = {name: field.type for name, field in FIELDS.items()}
    rows = rows.assign(**missing).astype(dict.fromkeys(since, object)).fillna(since).astype(kinds)
    return rows.sort_values("valid", ignore_index=True)


def train_here(setting: Setting, folder: Path, threads: int, device: str = "cpu") -> dict:
    """Trains a setting in this process, with a printed line per epoch; returns the metrics."""
    torch.set_num_threads(check_number("threads", int, threads))

    def show(rows):
        for last in rows[-1:]:
            print(epoch_line(setting, last), flush=True)

    return train(setting, load(setting.corpus), folder, on_epoch=show, device=device)
