"""Beyond the exercise, still two layers of 200 units: what each addition brings, how far it goes.

The study "ablation" trains, for each cell, a model of the exercise, the same one tied, and the tied
one with one more thing each, all for few epochs. The study "beyond" trains the finalists longer.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ptb import adaptation
from ptb.corpus import SPLITS
from ptb.findings import signed
from ptb.published import TABLE
from ptb.recipes import recipe
from ptb.records import ADAPTED, find_runs, gather
from ptb.setting import Setting

CELLS = ("lstm", "gru")
DROPOUT, EPOCHS = 0.2, 10  # of every step of the ablation
PLAIN = "the exercise's model"
TIED = {"the embedding tied to the output": {"tied": True}}
ADDED = {"also a projection before the output": {"projected": True}}  # to the tied model
FURTHER = {"also dropped recurrent weights": {"weight_drop": 0.2}}  # of finalists alone
FINALISTS = [  # what they have beside tying
    ("lstm", {"dropout": 0.28, "epochs": 44}),
    ("lstm", {"dropout": 0.3, "weight_drop": 0.2, "epochs": 72}),
    ("lstm", {"projected": True, "dropout": 0.3, "weight_drop": 0.2, "epochs": 60}),
    ("gru", {"projected": True, "dropout": 0.3, "weight_drop": 0.2, "epochs": 60}),
]
ABOUT = """### Beyond the exercise

The same two layers of 200 units, with what the exercise leaves out. The output matrix can be the
embedding's own (*tied*, Press and Wolf 2016). A *projection* can stand before it, which takes an
output $h$ to $h + (P h + b) / 10$, so that the outputs need not lie among the embeddings; it is
after theirs, near the identity instead of under a penalty. *Dropped recurrent weights* are left
out of a window's steps at random (Merity et al. 2018). Each step of the ablation adds one thing; of
the finalists, dropped recurrent weights have no run of as many epochs without them beside, so what
they bring there is not known. What did not help in ten epochs stands among the trials: for the GRU
those dropped weights; for the LSTM, with a dropout of 0.35, masks that stay the same through a
window (Gal and Ghahramani 2016), and an augmented loss that draws the outputs to the embeddings of
their targets (Inan et al. 2016, here in the limit of a high temperature). Validation chose between
trials; but that some LSTMs, here and by the long recipes, should train for longer was decided when
the test figures of shorter ones were known."""
COLUMNS = ["model", "how", "by; or what validation chose", "valid", "test"]


def ablation(cell: str) -> dict[str, Setting]:
    """The settings by what each one adds: to the exercise's model, and then to the tied one."""
    steps = {PLAIN: recipe(cell, DROPOUT, weight_decay=1e-5, epochs=EPOCHS)}
    for name, choice in (TIED | ADDED).items():
        before = list(steps.values())[:2][-1]  # the exercise's model, then always the tied one
        ((field, value),) = choice.items()
        steps[f"{name} ({field} = {value})"] = replace(before, **choice)
    return steps


def finalist(cell: str, own: dict) -> Setting:
    """The tied model with what the finalist has of its own."""
    _, tied, *_ = ablation(cell).values()
    return replace(tied, **own)


STUDIES = {
    "beyond": [finalist(cell, own) for cell, own in FINALISTS],
    "ablation": [setting for cell in CELLS for setting in ablation(cell).values()],
}


def about(folder: Path) -> str:
    """What the finalists have, and how they were adapted, where they were."""
    adapted = [adaptation.ABOUT] if (folder / ADAPTED).exists() else []
    return "\n\n".join([ABOUT, *adapted])


def _rows(folder: Path) -> dict[Setting, dict]:
    """The finished runs' rows by their settings."""
    return {row["run"].setting: row for row in gather(find_runs(folder)).to_dict("records")}


def steps(folder: Path) -> pd.DataFrame:
    """A row a step of the ablation: validation / test perplexity of each cell's.

    In brackets validation's change in percent: tying against the exercise's model, the others
    against the tied one. A run that is not there is a dash.
    """
    rows = _rows(folder)
    columns = {
        cell.upper(): _texts([rows.get(s) for s in ablation(cell).values()]) for cell in CELLS
    }
    return pd.DataFrame({"model": list(ablation(CELLS[0]))} | columns)


def _texts(rows: list[dict | None]) -> list[str]:
    plain, tied, *more = rows
    return [_text(None, plain), _text(plain, tied), *(_text(tied, row) for row in more)]


def _text(before: dict | None, row: dict | None) -> str:
    if not row:
        return "–"
    text = f"{row['valid']:.2f} / {row['test']:.2f}"
    return f"{text} ({signed(row['valid'] / before['valid'] - 1, '+.1%')})" if before else text


def reached(folder: Path) -> pd.DataFrame:
    """What others published, then the finalists that are there, then what adapts those."""
    others = pd.read_csv(TABLE).query("kind == 'beyond'").to_dict("records")
    found = [(o["cell"].upper(), o["recipe"], o["source"], o["valid"], o["test"]) for o in others]
    rows = _rows(folder)
    own = {s.name: rows[s] for s in STUDIES["beyond"] if s in rows}
    for row in own.values():
        added = _additions(row["run"].setting)
        how = f"{added}, dropout {row['dropout']:g}, weight decay {row['weight_decay']:g}, "
        how += f"{row['epochs']} epochs"
        by = f"this repository, {row['minutes']:.0f} minutes"
        found.append((row["cell"].upper(), how, by, *_both(row)))
    frame = pd.DataFrame([*found, *_adapted(folder, own)], columns=COLUMNS)
    return frame.assign(**{split: frame[split].map(_number) for split in SPLITS[1:]})


def _additions(setting: Setting) -> str:
    """Which of TIED, ADDED and FURTHER the setting has, at whatever value."""
    return ", ".join(
        name
        for name, choice in (TIED | ADDED | FURTHER).items()
        if any(getattr(setting, field) != getattr(Setting, field) for field in choice)
    )


def _both(row: dict) -> tuple[float, float]:
    return row["valid"], row["test"]


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _adapted(folder: Path, own: dict[str, dict]) -> list[tuple]:
    """The rows of ADAPTED, where it is there: which model, what was done, what was chosen."""
    path = folder / ADAPTED
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    models = {name: f"{row['cell'].upper()}, {row['epochs']} epochs" for name, row in own.items()}
    of = [row.get("runs", [row["run"]]) for row in rows]  # an ensemble's are several
    return [
        (" + ".join(map(models.get, names)), row["kind"], row["chosen"], *_both(row))
        for names, row in zip(of, rows, strict=True)
        if set(names) <= set(own)
    ]
