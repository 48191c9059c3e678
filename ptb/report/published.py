"""What others reached with two layers of 200 units, beside our own records; how sure those are."""

from dataclasses import fields

import pandas as pd

from ptb.data.corpus import SPLITS
from ptb.paths import RECORDS, ROOT
from ptb.report.figures import label
from ptb.report.findings import minutes
from ptb.runs.table import find_runs, four_settings, gather
from ptb.setting import Setting

TABLE = ROOT / "report" / "published.csv"


def best_published() -> list[dict]:
    """For each of the four settings, in order, the published figure that is best on validation."""
    table = pd.read_csv(TABLE).query("kind == 'plain'").sort_values("valid")
    best = table.drop_duplicates(["cell", "dropout"])
    return best.sort_values(["cell", "dropout"], ascending=[False, True]).to_dict("records")


def recorded(study: str) -> pd.DataFrame:
    """A published study's runs of the exercise's four settings; empty where there are none."""
    return four_settings(gather(find_runs(RECORDS / study)))


def beside() -> pd.DataFrame:
    """Valid / test perplexity of the four settings, published, by the quick and the long recipes.

    Behind our own, in brackets, minutes of training.
    """
    studies = {"quick recipe": recorded("dropout"), "long recipe": recorded("long")}
    rows = []
    for other in best_published():
        dropout = "dropout" if other["dropout"] else "no dropout"
        row = {
            "setting": f"{other['cell'].upper()}, {dropout}",
            "published": f"{other['valid']:g} / {other['test']:g}",
            "by": other["source"],
        }
        rows.append(row | {name: _found(table, other) for name, table in studies.items()})
    return pd.DataFrame(rows)


def _found(table: pd.DataFrame, other: dict) -> str:
    """The study's run of the same cell, without or with dropout, in one table cell."""
    if table.empty:
        return "–"
    same = table[(table["cell"] == other["cell"]) & ((table["dropout"] > 0) == other["dropout"])]
    return "; ".join(
        f"{row['valid']:.1f} / {row['test']:.1f} ({minutes(row['minutes'])})"
        for _, row in same.iterrows()
    )


def seeds(studies: tuple[str, ...] = ("dropout", "long", "seeds")) -> pd.DataFrame:
    """Mean ± standard deviation of each published setting that was trained with several seeds."""
    runs = pd.concat([gather(find_runs(RECORDS / study)) for study in studies])
    same = [field.name for field in fields(Setting) if field.name != "seed"]
    return pd.DataFrame([_spread(group) for _, group in runs.groupby(same) if len(group) > 1])


def _spread(runs: pd.DataFrame) -> dict:
    row = {"setting": label(runs.iloc[0]["run"].setting), "epochs": f"{runs.iloc[0]['epochs']}"}
    row["seeds"] = ", ".join(map(str, sorted(runs["seed"])))
    return row | {s: f"{runs[s].mean():.2f} ± {runs[s].std():.2f}" for s in SPLITS}
