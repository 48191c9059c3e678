"""The second exercise's runs as one table of records, and the table that its report shows."""

import math

import pandas as pd

from ptb.report.texts import frame
from ptb.runs.run import Run
from ptb.runs.table import gather
from ptb.studies.architectures import (
    FIFTEEN,
    FULL,
    KINDS,
    LSTM,
    NAMES,
    PAIR,
    REPORTED,
    Reported,
    tag,
)

SHORT = NAMES | {"transformer": "TF"}
FLOWING = (*PAIR, LSTM)  # whose gradients are shown


# ---------------------------------------------------------------- the records
def experiments(runs: list[Run]) -> pd.DataFrame:
    """A row a run of the exercise, by architecture, then optimiser, then number, larger first.

    To what `gather` has it adds the run's tag (with its scale, where scales differ), and seconds
    and perplexities at the best epoch and at the end: running (training with dropout, over the
    epoch), plain (training text without dropout, after it) and valid.
    """
    table = gather(runs)
    table = table[table["experiment"].isin(FULL)] if len(table) else table
    if table.empty:
        return table
    table = table.join(pd.DataFrame([_curve(run) for run in table["run"]], index=table.index))
    if table["scale"].nunique() == 1:
        table["tag"] = table["experiment"]
    order = [table["cell"].map(KINDS.index), table["optimiser"].map(optimiser)]
    keys = pd.DataFrame(dict(enumerate([*order, table["experiment"], -table["scale"]])))
    return table.loc[keys.sort_values(list(keys)).index].reset_index(drop=True)


def _curve(run: Run) -> dict:
    history, metrics = run.history, run.metrics
    found = {"tag": tag(run.setting), "device": _device(run), "unigram": math.nan}
    best = metrics["best_epoch"]
    for when, epoch in (("best", best), ("end", len(history))):
        row = history.iloc[epoch - 1] if best else dict.fromkeys(history, math.nan)
        names = {"running": "train_running", "plain": "train", "valid": "valid", "at": "seconds"}
        found |= {f"{name}_{when}": row[column] for name, column in names.items()}
    if best:
        found["unigram"] = run.analysis["unigram"]
    return found


def _device(run: Run) -> str:
    """What a run's seconds depend on: the GPU, or the processor and the threads on it."""
    device, about = run.metrics.get("device", "cpu"), run.environment
    return f"{about['processor']}, {about['threads']} threads" if device == "cpu" else device


def optimiser(name: str) -> str:
    """The optimiser as the exercise calls it."""
    return {"sgd": "SGD", "adamw": "Adam"}[name]


def core(table: pd.DataFrame) -> pd.DataFrame:
    """The runs that can be compared: those at the scale that most experiments have; by experiment.

    Of scales that are level the largest. Runs that diverged before an epoch ended are left out.
    """
    counts = table.groupby("scale")["experiment"].nunique()
    return at(table, max(counts.index, key=lambda value: (counts[value], value)))


def at(table: pd.DataFrame, scale: float) -> pd.DataFrame:
    """The runs at a scale that have a perplexity, by experiment."""
    same = table[(table["scale"] == scale) & table["valid"].notna()]
    return same.drop_duplicates("experiment").set_index("experiment", drop=False)


def other_scales(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The runs at each scale but that of `core`, the largest scale first."""
    scales = sorted({*table["scale"]} - {*core(table)["scale"]}, reverse=True)
    return [runs for scale in scales if len(runs := at(table, scale))]


def size(runs: pd.DataFrame) -> str:
    """The scale of runs that share it, in words."""
    scale = runs["scale"].iloc[0]
    return "full size" if scale == 1 else f"scale {scale:g}"


def at_core(table: pd.DataFrame) -> str:
    """At which scale those are that are compared; nothing where there is one alone."""
    return f" at {size(core(table))}" if table["scale"].nunique() > 1 else ""


def largest(table: pd.DataFrame, names=FLOWING) -> list[pd.Series]:
    """The run at the largest scale of each of the named experiments that is there."""
    found = [table[(table["experiment"] == name) & table["valid"].notna()] for name in names]
    return [rows.loc[rows["scale"].idxmax()] for rows in found if len(rows)]


def flowing(table: pd.DataFrame) -> list[pd.Series]:
    """The runs whose gradients are compared: the largest, and the pair at the scale of the LSTM."""
    rows = largest(table)
    scale = next((row["scale"] for row in rows if row["experiment"] == LSTM), None)
    tags = {row["tag"] for row in rows}
    beside = largest(table[table["scale"] == scale], PAIR)
    return rows + [row for row in beside if row["tag"] not in tags]


def named(row: pd.Series) -> str:
    """A run as legends name it: its tag and its architecture."""
    return row["tag"] if row["experiment"] == LSTM else f"{row['tag']} {NAMES[row['cell']]}"


def best_of_each(table: pd.DataFrame) -> list[pd.Series]:
    """The best run on validation of each architecture, as far as they can be compared."""
    runs = core(table)
    groups = [runs[runs["cell"] == cell] for cell in KINDS]
    return [group.loc[group["valid"].idxmin()] for group in groups if len(group)]


def qualities(table: pd.DataFrame) -> pd.DataFrame:
    """A row a run that has texts: perplexity, and how its texts are.

    loss: of the sampled texts to the run's judge, less that judge's on real text, nats a word;
    repetition: of the greedy ones, the share of groups of three words that a text had before;
    judge: the tag of the run that read them.
    """
    rows, tags = [], {row["run"].folder.name: row["tag"] for _, row in table.iterrows()}
    for _, row in table[table["valid"].notna()].iterrows():
        if row["run"].judged:
            texts = frame(row["run"])
            drawn = texts["temperature"] == 1
            found = {"tag": row["tag"], "cell": row["cell"], "valid": row["valid"]}
            found["judge"] = tags.get(name := row["run"].judged["judge"], name)
            found |= {"loss": texts.loc[drawn, "loss"].mean()}
            rows.append(found | {"repetition": texts.loc[~drawn, "repetition"].mean()})
    return pd.DataFrame(rows, columns=["tag", "cell", "valid", "judge", "loss", "repetition"])


def judges(table: pd.DataFrame) -> str:
    """Which model read whose texts, for captions."""
    read = qualities(table).groupby("judge", sort=False)["cell"].unique()
    who = [f"{by} read those of {_models(cells)}" for by, cells in read.items()]
    return f" {'; '.join(who)}." if who else ""


def _models(cells) -> str:
    return ", ".join(f"the {NAMES[cell]}s" for cell in cells)


def greedy_texts(table: pd.DataFrame) -> pd.DataFrame:
    """The greedy texts of the two models that the exercise looks at closely, each with its run.

    Where neither is there, of the best of each architecture.
    """
    rows = largest(table, PAIR) or best_of_each(table)
    frames = [frame(row["run"]).assign(run=row["tag"]) for row in rows]
    texts = pd.concat(frames, ignore_index=True)
    return texts[texts["temperature"] == 0]


def appendix(table: pd.DataFrame) -> list[pd.Series]:
    """The runs whose texts are shown as a whole: the pair, and the best Transformer."""
    best = [row for row in best_of_each(table) if row["cell"] == "transformer"]
    return [row for row in largest(table, PAIR) + best if row["run"].texts]


# ---------------------------------------------------------------- the table
def results(table: pd.DataFrame) -> pd.DataFrame:
    """The exercise's one table, as text; see `results_caption`."""
    rows = [_result(row) for _, row in table.iterrows()]
    found = pd.DataFrame(rows)
    return (
        found if found.empty or (found["solution"] != "–").any() else found.drop(columns="solution")
    )


def _result(row: pd.Series) -> dict:
    best = "–" if pd.isna(row["best_epoch"]) else f"{row['best_epoch']:.0f}"
    return {
        "run": row["tag"],
        "model": f"{SHORT[row['cell']]} {row['layers']}×{row['hidden']}",
        "step": f"{optimiser(row['optimiser'])} {_rate(row['lr'])}",
        "B": f"{row['batch_size']}",
        "p": f"{row['dropout']:g}",
        "par.": f"{row['parameters'] / 1e6:.2f}",
        "s": number(row["at_end"], 0),
        "best": f"{best}/{row['epochs']}" + ("*" if row["status"] == "diverged" else ""),
        "train": number(row["running_best"]),
        "valid": number(row["valid"]),
        "train′": number(row["running_end"]),
        "valid′": number(row["valid_end"]),
        "solution": reported(row),
    }


def _rate(lr: float) -> str:
    return f"{lr:g}" if lr >= 0.01 else f"{lr:.0e}".replace("e-0", "e-")


def number(value: float, digits: int = 1) -> str:
    """A perplexity as the table shows it."""
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" if value < 1e5 else f"{value:.0e}".replace("e+0", "e")


def reported(row: pd.Series) -> str:
    """The solution's best validation perplexity and its epoch, for a run that is like its own."""
    if row["corpus"] != "ptb" or row["scale"] != 1 or row["experiment"] not in REPORTED:
        return "–"
    theirs = REPORTED[row["experiment"]]
    return f"{theirs.valid:.1f} ({theirs.epoch})"


def beside(table: pd.DataFrame) -> pd.DataFrame:
    """All that the solution reports, beside ours, for the runs that are like its own."""
    like = table[[reported(row) != "–" for _, row in table.iterrows()]]
    return pd.DataFrame([_beside(row, REPORTED[row["experiment"]]) for _, row in like.iterrows()])


def _beside(row: pd.Series, theirs: Reported) -> dict:
    return {
        "run": row["tag"],
        "best valid": number(row["valid"]),
        "solution": number(theirs.valid),
        "ours / its": number(row["valid"] / theirs.valid, 2),
        "train, end": number(row["running_end"]),
        "solution's": number(theirs.train),
        "seconds": number(row["at_end"], 0),
        "its seconds": number(theirs.seconds, 0),
    }


def best_rows(table: pd.DataFrame) -> list[int]:
    """The places of each architecture's best run on validation, at each scale."""
    of_the_exercise = table[table["experiment"].isin(FIFTEEN) & table["valid"].notna()]
    return sorted(of_the_exercise.groupby(["cell", "scale"])["valid"].idxmin())


def results_caption(table: pd.DataFrame) -> str:
    """The table's caption: what its shorthand means, and which runs are scaled."""
    at_each = " at each scale" if table["scale"].nunique() > 1 else ""
    starred = " *: it diverged." if (table["status"] == "diverged").any() else ""
    theirs = " solution: the best validation perplexity (and its epoch) in a hand-in for the "
    theirs += "course IFT6135 (University of Montreal, 2020), for the runs that are like its own; "
    theirs += "by the course's script, which leaves out what the batches leave over."
    shown = (results(table).columns == "solution").any()
    return (
        "The runs, by architecture, then optimiser. The number of a run is the exercise's. "
        "model: layers × units, TF is the Transformer; step: optimiser and its constant learning "
        "rate; B: rows of a batch; p: probability of dropping; par.: millions of parameters; s: "
        "seconds of training; best: "
        f"epoch of the best validation perplexity, of how many.{starred} Perplexities: train is "
        "measured with dropout while the epoch runs, valid without after it; both at the best "
        "epoch (valid of the weights as they are saved), then (′) at the end. Bold: the best of "
        f"each architecture{at_each}.{theirs if shown else ''}{scales(table)}"
    )


def scales(table: pd.DataFrame) -> str:
    """Which runs are scaled, for captions; nothing where none is."""
    scaled = table[table["scale"] < 1]
    if scaled.empty:
        return ""
    if table["scale"].nunique() == 1:
        factor = scaled["scale"].iloc[0]
        return f" All runs are scaled: the exercise's widths and epochs times {factor:g}."
    factors = ", ".join(f"×{scale:g}" for scale in sorted(scaled["scale"].unique()))
    full = ", ".join(sorted(table.loc[table["scale"] == 1, "tag"])) or "no other"
    return (
        f" Runs marked {factors} have the exercise's widths and epochs times that; at full size: "
        f"{full}."
    )
