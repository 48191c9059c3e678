"""The tables of the second exercise's report, from the table of its runs."""

import pandas as pd

from ptb.data.corpus import UNK
from ptb.evaluation.gradient_flow import half_life
from ptb.models.cells import CELLS
from ptb.paths import ROOT
from ptb.report.architecture_runs import (
    best_of_each,
    ended,
    looked_at,
    named,
    stepping,
)
from ptb.report.claim import number
from ptb.report.texts import frame
from ptb.runs.table import diverged
from ptb.setting import Setting
from ptb.studies.architectures import FIFTEEN, PAIR

# What a solution reports that was handed in for the course IFT6135 of the University of Montreal in
# March 2020 (its figures 5 to 12): best validation perplexity, its epoch, the last epoch's training
# perplexity (with dropout, over the epoch), and seconds on a GPU. Measured by the course's own
# script, which leaves out what its batches leave over; a yardstick, no target.
REPORTED = pd.read_csv(ROOT / "report" / "solution.csv", index_col="run")


# ---------------------------------------------------------------- results
def results(table: pd.DataFrame) -> pd.DataFrame:
    """The exercise's one table, as text; see `results_caption`."""
    found = pd.DataFrame([_result(row) for _, row in table.iterrows()])
    empty = {"solution": "–", "prec.": Setting.precision}  # columns that may have nothing to say
    return found.drop(
        columns=[name for name, value in empty.items() if (found[name] == value).all()]
    )


def _result(row: pd.Series) -> dict:
    best = "–" if pd.isna(row["best_epoch"]) else f"{row['best_epoch']:.0f}"
    epochs = len(row["run"].history) if row["status"] == "stopped" else row["epochs"]
    millions = row["parameters"] / 1e6
    short = "TF" if row["cell"] == "transformer" else CELLS[row["cell"]].title
    return {
        "run": row["tag"],
        "model": f"{short} {row['layers']}×{row['hidden']}",
        "step": stepping(row),
        "B": f"{row['batch_size']}",
        "p": f"{row['dropout']:g}",
        "par.": number(millions, 2),
        "s": number(row["at_end"], 0),
        "prec.": row["precision"],
        "best": f"{best}/{epochs}{_mark(row)}",
        "train": number(row["running_best"]),
        "valid": number(row["valid"]),
        "train′": number(row["running_end"]),
        "valid′": number(row["valid_end"]),
        "solution": f"{REPORTED.valid[row['experiment']]:.1f}" if _is_like_theirs(row) else "–",
    }


def _mark(row: pd.Series) -> str:
    return "*" if diverged(row) else "‡" if row["status"] == "stopped" else ""


def _is_like_theirs(row: pd.Series) -> bool:
    return row["corpus"] == "ptb" and row["scale"] == 1 and row["experiment"] in REPORTED.index


def bold(table: pd.DataFrame) -> list[int]:
    """The places in the table of each architecture's best run on validation."""
    return [table["tag"].tolist().index(tag) for tag in best_of_each(table)["tag"]]


def results_caption(table: pd.DataFrame) -> str:
    """What the table's shorthand means, and what its marks do."""
    caption = (
        "The runs, by architecture, then optimiser; numbers of runs are the exercise's. model: "
        "layers × units, TF is the Transformer; step: optimiser and constant learning rate; B: "
        "batch size; p: dropout; par.: millions of parameters; s: seconds of training; best: epoch "
        "of the best validation perplexity, of how many. Perplexities: train is measured with "
        "dropout while the epoch runs, valid without it, after the epoch; both at the best epoch "
        "(valid of the saved weights), then (′) at the end. Bold: the best of each architecture."
    )
    if table.apply(_is_like_theirs, axis=1).any():
        caption += " solution: the best validation perplexity of Anonymous (2020)."
    if (table["precision"] != Setting.precision).any():
        caption += " prec.: precision of the matrix products in training."
    if any(diverged(row) for _, row in table.iterrows()):
        caption += " *: it diverged, or was never below guessing among all words."
    if (table["status"] == "stopped").any():
        caption += " ‡: stopped before its last epoch; it is in no ranking."
    return caption + seconds_note(table)


def seconds_note(runs: pd.DataFrame) -> str:
    """For captions: what the runs' seconds were taken on."""
    if runs["device"].nunique() == 1:
        return f" Seconds were measured on: {runs['device'].iloc[0]}."
    return " Seconds are to be compared on one device alone; the table of seconds names each run's."


def solution_and_ours(table: pd.DataFrame) -> pd.DataFrame:
    """What the solution reports, beside ours: of runs at full size on Penn Treebank that ended."""
    rows = []
    for _, row in ended(table).iterrows():
        if _is_like_theirs(row):
            theirs = REPORTED.loc[row["experiment"]]
            found = {"run": row["tag"], "best valid": number(row["valid"])}
            found |= {"theirs (epoch)": f"{number(theirs.valid)} ({theirs.epoch:.0f})"}
            found |= {"ours / theirs": number(row["valid"] / theirs.valid, 2)}
            found |= {"train, end": number(row["running_end"]), "theirs": number(theirs.train)}
            found |= {"s": number(row["at_end"], 0), "their s": number(theirs.seconds, 0)}
            rows.append(found)
    return pd.DataFrame(rows)


def by_epoch(runs: pd.DataFrame) -> pd.DataFrame:
    """Train and validation perplexity after each epoch, a column per run."""
    columns = {}
    for _, row in runs.iterrows():
        history = row["run"].history.set_index("epoch")
        pairs = zip(history["train_running"], history["valid"], strict=True)
        texts = [f"{number(train)} / {number(valid)}" for train, valid in pairs]
        columns[row["tag"]] = pd.Series(texts, history.index, dtype=object)
    found = pd.DataFrame(columns).fillna("–")
    return found.rename_axis("epoch").reset_index().astype(str)


# ---------------------------------------------------------------- wall-clock, the solution's claims
def seconds_below(runs: pd.DataFrame, level: float) -> pd.Series:
    """Seconds of training until validation perplexity is below a level; NaN where it never is."""
    histories = (run.history for run in runs["run"])
    firsts = [found.loc[found["valid"] < level, "seconds"].min() for found in histories]
    return pd.Series(firsts, runs.index, dtype=float)


def reached(runs: pd.DataFrame, levels: list[float]) -> pd.DataFrame:
    """Seconds an epoch, and until validation perplexity is below each of the levels, by device.

    A device is named in the first of its rows.
    """
    epochs = [len(run.history) for run in runs["run"]]
    found = {"run": runs["tag"], "model": [CELLS[cell].title for cell in runs["cell"]]}
    found |= {"device": runs["device"], "s an epoch": (runs["at_end"] / epochs).map(number)}
    for level in levels:
        seconds = seconds_below(runs, level)
        found[f"below {level:.0f}"] = [number(value, 0) for value in seconds]
    table = pd.DataFrame(found).sort_values(["device", "run"], ignore_index=True)
    return table.assign(device=table["device"].mask(table["device"].duplicated(), ""))


def common_claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Claims of the solution, with the figures that each depends on: ours, theirs."""
    figures = {
        "The GRU is better in all cases": [("3.3a", "3.1b")],
        "More units lower the perplexity": [("3.3b", "3.2a"), ("3.4c", "3.4b")],
        "More layers lower the perplexity": [("3.3c", "3.2a"), ("3.4a", "3.4b")],
    }

    def theirs(name):
        return f"{name} {REPORTED.valid[name]:.1f}"

    rows = [
        {
            "claim": claim,
            "ours": "; ".join(f"{_figure(runs, a)} and {_figure(runs, b)}" for a, b in pairs),
            "theirs": "; ".join(f"{theirs(a)} and {theirs(b)}" for a, b in pairs),
        }
        for claim, pairs in figures.items()
    ]
    ran = ended(runs)
    device = runs["device"].get("3.4b", runs["device"].iloc[0])  # seconds are of one device
    timed = ran[ran["experiment"].isin(FIFTEEN) & (ran["device"] == device)]
    fastest = timed.nsmallest(2, "at_end")
    ours = [f"{row['tag']} {row['at_end']:.0f} s" for _, row in fastest.iterrows()]
    quick = REPORTED["seconds"].nsmallest(2)
    quickest = [f"{name} {seconds:.0f} s" for name, seconds in quick.items()]
    last = {"claim": "Two Transformers take the least time"}
    rows.append(last | {"ours": " and ".join(ours), "theirs": " and ".join(quickest)})
    return pd.DataFrame(rows)


def _figure(runs: pd.DataFrame, name: str) -> str:
    if name not in runs.index:
        return f"{name} –"
    return f"{name} {number(runs.loc[name, 'valid'])}{_mark(runs.loc[name])}"


# ---------------------------------------------------------------- gradients, texts
def flow_table(runs: pd.DataFrame) -> pd.DataFrame:
    """How far the gradients of runs that have recorded it flow back, before and after training.

    Of an LSTM, whose state is h and c, a second pair of rows has h alone, where the run has it.
    """
    rows = []
    for _, row in runs.iterrows():
        states = {"": " and ".join(CELLS[row["cell"]].states), ", h": "h alone"}
        for when, norms in row["run"].analysis["flow"].items():
            for kind in states if "average, h" in norms else [""]:
                average, each = norms[f"average{kind}"], norms[f"each{kind}"]
                found = {"run": named(row), "state": states[kind], "training": when}
                for name, curve in (("", average), (", each", each)):
                    found[f"left at step 1{name}"] = _share(curve)
                    found[f"half-life{name}"] = _steps(half_life(curve))
                rows.append(found)
    return pd.DataFrame(rows)


def _share(norms: list[float | None]) -> str:
    """The first step's norm over the largest."""
    return "–" if None in norms or not max(norms) else f"{norms[0] / max(norms):#.2g}"


def _steps(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 1000 else "∞"


def qualities(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per run that has texts: validation perplexity, and how its texts are; numbers.

    loss is that of the sampled texts to the run's judge, less that judge's on real text, in nats
    per word; error is its standard error over the texts. Of the greedy texts, repetition is the
    share of groups of three words that a text had before, and unk the share of `<unk>`. judge is
    the experiment that read the texts.
    """
    rows, columns = [], ["run", "valid", "judge", "loss", "error", "repetition", "unk"]
    for _, row in ended(runs).sort_values("valid").iterrows():
        if row["run"].texts:
            texts, judged = frame(row["run"]), row["run"].judged
            drawn = texts["temperature"] == 1
            found = {"run": named(row), "valid": row["valid"]}
            found["judge"] = judged["judge"].partition("-")[0] if judged else ""
            losses = texts.loc[drawn, "loss"]
            found |= {"loss": losses.mean(), "error": losses.sem()}
            rows.append(found | texts.loc[~drawn, ["repetition", "unk"]].mean().to_dict())
    return pd.DataFrame(rows, columns=columns)


def quality_table(runs: pd.DataFrame) -> pd.DataFrame:
    """`qualities` as text."""
    shown = qualities(runs)
    for name, digits in (("valid", 1), ("loss", 2), ("error", 2), ("repetition", 2), ("unk", 2)):
        shown[name] = [number(value, digits) for value in shown[name]]
    shown["loss"] += [f" ± {error}" if error != "–" else "" for error in shown.pop("error")]
    return shown.rename(columns={"unk": UNK})


def greedy_texts(runs: pd.DataFrame) -> pd.DataFrame:
    """The greedy texts of the pair that the exercise looks at closely, each with its run.

    Where neither is there, of the best of each architecture.
    """
    shown = looked_at(runs)
    if shown["experiment"].isin(PAIR).any():
        shown = shown[shown["experiment"].isin(PAIR)]
    texts = pd.concat([frame(row["run"]).assign(run=named(row)) for _, row in shown.iterrows()])
    return texts[texts["temperature"] == 0].reset_index(drop=True)
