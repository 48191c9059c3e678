"""Beyond the exercise, still two layers of 200 units: what each addition brings, how far all go.

The ladder of each cell begins with the model of the long recipe and adds one thing at a time, each
on top of those before it, in a third of that recipe's epochs. The finalists are trained longer.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ptb.corpus import SPLITS
from ptb.figures import label
from ptb.published import TABLE
from ptb.recipes import LONG, recipe
from ptb.records import ADAPTED, find_runs, gather
from ptb.setting import Setting

CELLS = ("lstm", "gru")
EPOCHS = 12  # of each step of a ladder
ADDED = {
    "embedding tied to the output": {"tied": True},
    "one mask a window": {"same_mask": True},
    "dropped words": {"word_dropout": 0.1},
    "dropped recurrent weights": {"weight_drop": 0.2},
}
LAST = {"lstm": {"epochs": 40}, "gru": {"epochs": 40}}  # what the finalists have of their own
ABOUT = """### Beyond the exercise

The same two layers of 200 units, with what the exercise leaves out. The output matrix can be the
embedding's own (Press and Wolf 2016). Dropout's masks can stay the same through a window and drop
whole words of the vocabulary (Gal and Ghahramani 2016), and can act on entries of the recurrent
matrices (Merity et al. 2018)."""
COLUMNS = ["model", "how", "by, or chosen on validation", "valid", "test"]


def ladder(cell: str) -> dict[str, Setting]:
    """The ladder's settings by what each one adds."""
    (dropout,) = (p for of, p in LONG if of == cell and p)
    setting = recipe(cell, dropout, **LONG[cell, dropout] | {"epochs": EPOCHS})
    steps = {"the long recipe's model": setting}
    for name, choice in ADDED.items():
        steps[name] = setting = replace(setting, **choice)
    return steps


def finalist(cell: str) -> Setting:
    """The ladder's last step with what the finalist has of its own."""
    *_, top = ladder(cell).values()
    return replace(top, **LAST[cell])


def study() -> list[Setting]:
    """The finalists, which take longest, then both ladders."""
    steps = [setting for cell in CELLS for setting in ladder(cell).values()]
    return [*map(finalist, CELLS), *steps]


def _rows(folder: Path) -> dict[Setting, dict]:
    """The finished runs' rows by their settings."""
    return {row["run"].setting: row for row in gather(find_runs(folder)).to_dict("records")}


def steps(folder: Path) -> pd.DataFrame:
    """A row a step: validation / test perplexity of each cell, in brackets what the step changed.

    The change is validation's, in percent; a run that is not there is a dash.
    """
    rows = _rows(folder)
    columns = {cell.upper(): _climb([rows.get(s) for s in ladder(cell).values()]) for cell in CELLS}
    return pd.DataFrame({"what it adds": list(ladder(CELLS[0]))} | columns)


def _climb(rows: list[dict | None]) -> list[str]:
    texts = []
    for before, row in zip([None, *rows], rows, strict=False):
        change = f" ({row['valid'] / before['valid'] - 1:+.1%})" if row and before else ""
        texts.append(f"{row['valid']:.2f} / {row['test']:.2f}{change}" if row else "–")
    return texts


def reached(folder: Path) -> pd.DataFrame:
    """What others published, then the finalists that are there, then what adapts those."""
    others = pd.read_csv(TABLE).query("kind == 'beyond'").to_dict("records")
    found = [(o["cell"].upper(), o["recipe"], o["source"], o["valid"], o["test"]) for o in others]
    rows = _rows(folder)
    own = {s.name: rows[s] for s in map(finalist, CELLS) if s in rows}
    for row in own.values():
        how = f"{label(row['run'].setting)}, the whole ladder, {row['epochs']} epochs"
        found.append((row["cell"].upper(), how, f"{row['minutes']:.0f} minutes", *_both(row)))
    frame = pd.DataFrame([*found, *_adapted(folder, own)], columns=COLUMNS)
    return frame.assign(**{split: frame[split].map(_number) for split in SPLITS[1:]})


def _both(row: dict) -> tuple[float, float]:
    return row["valid"], row["test"]


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _adapted(folder: Path, own: dict[str, dict]) -> list[tuple]:
    """The rows of ADAPTED, where it is there: which model, what was done, what was chosen."""
    path = folder / ADAPTED
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    cells = {name: row["cell"].upper() for name, row in own.items()} | {"": "both"}
    return [(cells[r["run"]], r["kind"], r["chosen"], *_both(r)) for r in rows if r["run"] in cells]
