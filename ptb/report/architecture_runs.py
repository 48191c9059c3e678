"""The second exercise's runs as one table of records, those that were stopped included."""

import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ptb.errors import RunError, counted
from ptb.models.cells import CELLS
from ptb.models.language_model import count_parameters
from ptb.report.claim import number
from ptb.runs.run import Run
from ptb.runs.table import diverged, find_runs, gather
from ptb.studies.architectures import CELL_ORDER, FIFTEEN, FULL, LSTM, PAIR, tag
from ptb.training.optim import OPTIMISERS

# Of a study, what older records do not say of a run: the device in full, which takes the place of
# the one recorded, and a precision of products that was chosen outside the setting.
NOTES = "notes.csv"


def experiments(study: Path) -> pd.DataFrame:
    """A row per run of the exercise, by architecture, then optimiser, then number, larger first.

    To what `gather` has it adds the run's tag, the device, and seconds and perplexities at the best
    epoch and at the end: running (training with dropout, over the epoch), plain (training text
    without dropout, after it) and valid. A run with a history but no metrics has the status
    "stopped" and its best epoch so far. Of an experiment one run of each scale is taken, a finished
    one where there is one, and of those one in float32.
    """
    table = gather(find_runs(study))
    if len(table):
        table = table[table["experiment"].isin(FULL)]
        table = table.sort_values(
            "precision", key=lambda column: column != "float32", kind="stable"
        )
    table = pd.concat([table, _stopped_runs(study, table)], ignore_index=True)
    if table.empty:
        return table
    table = table.drop_duplicates(["experiment", "scale"], ignore_index=True)
    notes = pd.read_csv(study / NOTES, index_col="run") if (study / NOTES).exists() else None
    found = pd.DataFrame([_curve(row, notes) for _, row in table.iterrows()])
    table = table.drop(columns="precision").join(found)
    titles = {name: optimiser.title for name, optimiser in OPTIMISERS.items()}
    order = [table["cell"].map(CELL_ORDER.index), table["optimiser"].map(titles)]
    keys = pd.DataFrame(dict(enumerate([*order, table["experiment"], -table["scale"]])))
    return table.loc[keys.sort_values(list(keys)).index].reset_index(drop=True)


def _stopped_runs(study: Path, finished: pd.DataFrame) -> pd.DataFrame:
    """A row for each run that has a history of an epoch or more, but no metrics yet."""
    types = max((run.metrics["types"] for run in finished.get("run", ())), default=None)
    rows = []
    for path in sorted(Path(study).glob("*/history.csv")):
        run = Run(path.parent)
        try:
            if run.done or run.setting.experiment not in FULL or run.history.empty:
                continue
        except RunError:  # the report names it among those that it leaves out
            continue
        best = run.history.loc[run.history["valid"].idxmin()]
        # the size of the vocabulary is not recorded before the end, but it is the others' too
        parameters = count_parameters(run.setting, types) if types else math.nan
        row = {**asdict(run.setting), "run": run, "status": "stopped", "valid": best["valid"]}
        row |= {"best_epoch": int(best["epoch"]), "parameters": parameters}
        rows.append(row)
    return pd.DataFrame(rows)


def _curve(row: pd.Series, notes: pd.DataFrame | None) -> dict:
    run, history, best = row["run"], row["run"].history, row["best_epoch"]
    found = {"tag": tag(run.setting), "device": _device(run), "unigram": math.nan}
    found["precision"] = row["precision"]
    if notes is not None and run.folder.name in notes.index:
        about = notes.loc[run.folder.name]
        if not run.done or about["recorded"] == found["device"]:  # else it was made anew elsewhere
            found |= {"device": about["device"], "precision": about["precision"]}
    for when, epoch in (("best", best), ("end", len(history))):
        values = dict.fromkeys(history, math.nan) if pd.isna(best) else history.iloc[int(epoch) - 1]
        names = {"running": "train_running", "plain": "train", "valid": "valid", "at": "seconds"}
        found |= {f"{name}_{when}": values[column] for name, column in names.items()}
    if row["status"] != "stopped" and not pd.isna(best):
        found["unigram"] = run.analysis.get("unigram", math.nan)
    return found


def _device(run: Run) -> str:
    """What a run's seconds depend on: the GPU, or the processor and the threads on it."""
    device, about = run.metrics.get("device", "cpu") if run.done else "cpu", run.environment
    if device != "cpu":
        return device
    return f"{about['processor']}, {counted(about['threads'], 'thread')}"


# ---------------------------------------------------------------- which runs
def at(table: pd.DataFrame, scale: float) -> pd.DataFrame:
    """The runs at a scale that have a perplexity, by experiment."""
    same = table[(table["scale"] == scale) & table["valid"].notna()]
    return same.set_index("experiment", drop=False)


def largest(table: pd.DataFrame) -> pd.DataFrame:
    """The runs that the report is about: those at the largest scale at which one can be ranked."""
    return at(table, _ranked(table)["scale"].max())


def smaller(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs at each other scale, the largest first: they have an appendix."""
    scales = sorted({*table["scale"]} - {*largest(table)["scale"]}, reverse=True)
    return [runs for scale in scales if len(runs := at(table, scale))]


def ended(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that were not stopped: only these are ranked."""
    return runs[runs["status"] != "stopped"]


def _ranked(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the fifteen that ended and have a perplexity."""
    runs = ended(runs)
    return runs[runs["experiment"].isin(FIFTEEN) & runs["valid"].notna()]


def best_of_each(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each architecture of the exercise the run that is best on validation, of those ended."""
    runs = _ranked(runs)
    return runs.loc[runs.groupby("cell", sort=False)["valid"].idxmin()]


def looked_at(runs: pd.DataFrame) -> pd.DataFrame:
    """The exercise's pair and the best Transformer; without the pair, the best of each."""
    ran, best = ended(runs), best_of_each(runs)
    pair = ran[ran["experiment"].isin(PAIR)]
    return pd.concat([pair, best[best["cell"] == "transformer"]]) if len(pair) else best


def flowing(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose gradients are compared: the pair, and the LSTM that is trained like it."""
    ran = ended(runs)
    return ran[ran["experiment"].isin((*PAIR, LSTM))]


def reaching(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs whose records say how far their gradients reach: recurrent, ended, not diverged."""
    ran = ended(runs)
    ran = ran.loc[[not diverged(row) for _, row in ran.iterrows()]]
    return ran.loc[[bool(run.analysis.get("flow")) for run in ran["run"]]]


# ---------------------------------------------------------------- how a run is named
def named(row: pd.Series) -> str:
    """A run by its tag and its architecture: "3.2a GRU"."""
    return row["tag"] if row["experiment"] == LSTM else f"{row['tag']} {CELLS[row['cell']].title}"


def shown(row: pd.Series) -> str:
    """A run with its best validation perplexity, as sentences name it: "3.2a (107.8)"."""
    stopped = f", stopped after epoch {len(row['run'].history)}"
    return f"{row['tag']} ({number(row['valid'])}{stopped if row['status'] == 'stopped' else ''})"


def described(row: pd.Series) -> str:
    """A run as legends describe it: "3.2a: 2×512, Adam 1e-3, B 128, p 0.5"."""
    size = f"{row['tag']}: {row['layers']}×{row['hidden']}"
    stopped = ", stopped" if row["status"] == "stopped" else ""
    return f"{size}, {stepping(row)}, B {row['batch_size']}, p {row['dropout']:g}{stopped}"


def stepping(row: pd.Series) -> str:
    """Optimiser and learning rate: "Adam 1e-3"."""
    lr = row["lr"]
    rate = f"{lr:g}" if lr >= 0.01 else f"{lr:.0e}".replace("e-0", "e-")
    return f"{OPTIMISERS[row['optimiser']].title} {rate}"
