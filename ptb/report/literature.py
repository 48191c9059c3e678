"""What others reached with two layers of 200 units, beside our own records."""

from pathlib import Path

import pandas as pd

from ptb.data.corpus import HELD_OUT
from ptb.errors import RunError
from ptb.models.cells import CELLS
from ptb.paths import ROOT
from ptb.report.tables import minutes, recorded
from ptb.report.text import choice
from ptb.runs.table import find_runs, gather, read_adapted
from ptb.studies import ablation

LITERATURE = ROOT / "report" / "published.csv"


def best_published() -> list[dict]:
    """For each of the four settings, in order, the published figure that is best on validation."""
    table = pd.read_csv(LITERATURE).query("kind == 'plain'").sort_values("valid")
    best = table.drop_duplicates(["cell", "dropout"])
    return best.sort_values(["cell", "dropout"], ascending=[False, True]).to_dict("records")


def published_and_ours() -> pd.DataFrame:
    """Valid / test perplexity of the four settings, published, by the quick and the long recipes.

    Behind our own, in brackets, minutes of training.
    """
    studies = {"quick recipe": recorded("dropout"), "long recipe": recorded("long")}
    rows = []
    for other in best_published():
        dropout = "dropout" if other["dropout"] else "no dropout"
        row = {
            "setting": f"{CELLS[other['cell']].title}, {dropout}",
            "published": f"{other['valid']:g} / {other['test']:g}",
            "by": other["source"],
        }
        rows.append(row | {name: _ours(table, other) for name, table in studies.items()})
    return pd.DataFrame(rows)


def _ours(table: pd.DataFrame, other: dict) -> str:
    """The study's run of the same cell, without or with dropout, in one table cell."""
    same = [
        f"{row['valid']:.1f} / {row['test']:.1f} ({minutes(row['minutes'])})"
        for row in table.to_dict("records")
        if (row["cell"], row["dropout"] > 0) == (other["cell"], other["dropout"])
    ]
    return "; ".join(same) or "–"


def beyond(folder: Path) -> pd.DataFrame:
    """What others published, then the finalists that are there, then what adapts those."""
    rows = [
        {
            "model": CELLS[other["cell"]].title,
            "how": other["recipe"],
            "by; or what validation chose": other["source"],
            **{split: other[split] for split in HELD_OUT},
        }
        for other in pd.read_csv(LITERATURE).query("kind == 'beyond'").to_dict("records")
    ]
    there = {row["run"].setting.name: row for row in gather(find_runs(folder)).to_dict("records")}
    ours = {s.name: there[s.name] for s in ablation.FINALISTS if s.name in there}
    frame = pd.DataFrame([*rows, *map(_finalist_row, ours.values()), *_adapted(folder, ours)])
    for split in HELD_OUT:
        frame[split] = frame[split].map("{:.2f}".format).replace("nan", "–")
    return frame


def _finalist_row(row: dict) -> dict:
    added = [name for field, name in ablation.ADDITIONS.items() if row[field]]
    recipe = f"dropout {row['dropout']:g}, weight decay {choice(row['weight_decay'])}"
    return {
        "model": CELLS[row["cell"]].title,
        "how": f"{', '.join(added)}, {recipe}, {row['epochs']} epochs",
        "by; or what validation chose": f"this repository, {row['minutes']:.0f} minutes",
        **{split: row[split] for split in HELD_OUT},
    }


def _adapted(folder: Path, ours: dict[str, dict]) -> list[dict]:
    """What was measured of the finalists beyond one fixed model: how, what validation chose.

    A damaged file is left out and named, in a row of its own.
    """
    try:
        measured = read_adapted(folder)
    except RunError as error:
        return [{"model": "left out", "how": str(error), "by; or what validation chose": "–"}]
    models = {
        name: f"{CELLS[row['cell']].title}, {row['epochs']} epochs" for name, row in ours.items()
    }
    rows = []
    for row in measured:
        names = row.get("runs", [row["run"]])  # an ensemble's are several
        if set(names) <= set(models):
            one_row = " (read as one row)" if row["kind"] == "dynamic evaluation" else ""
            rows.append(
                {
                    "model": " + ".join(models[name] for name in names),
                    "how": f"{row['kind']}{one_row}",
                    "by; or what validation chose": row["chosen"],
                    **{split: row[split] for split in HELD_OUT},
                }
            )
    return rows
