"""Tables of what goes beyond the exercise: the ablation, and what the finalists reach."""

import json
import math
from pathlib import Path

import pandas as pd

from ptb.data.corpus import SPLITS
from ptb.report.findings import signed
from ptb.report.published import TABLE
from ptb.runs.table import ADAPTED, find_runs, gather
from ptb.setting import Setting
from ptb.studies import ablation
from ptb.studies.adaptation import PART, UPDATE_EVERY

ADAPTED_ABOUT = f"""The last rows are not single fixed models. A softmax *temperature* divides the
logits.
Under *dynamic evaluation* (Krause et al. 2018) a model goes on learning from what it has read: each
window of {UPDATE_EVERY} words is scored, and then the weights take a step of gradient descent at
the *rate*, and go the part *decay* of their way back to the trained ones. For this the split is
read as one row. An *ensemble* averages its models' probabilities. All is chosen on validation,
rate and decay on its first {PART:,} words, so their figures for validation are a little too good."""
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


def about(folder: Path) -> str:
    """What the finalists have, and how they were adapted, where they were."""
    adapted = [ADAPTED_ABOUT] if (folder / ADAPTED).exists() else []
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
        cell.upper(): _texts([rows.get(s) for s in ablation.steps(cell).values()])
        for cell in ablation.ABLATED
    }
    return pd.DataFrame({"model": list(ablation.steps("lstm"))} | columns)


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
    own = {s.name: rows[s] for s in ablation.FINALISTS if s in rows}
    for row in own.values():
        added = _additions(row["run"].setting)
        how = f"{added}, dropout {row['dropout']:g}, weight decay {row['weight_decay']:g}, "
        how += f"{row['epochs']} epochs"
        by = f"this repository, {row['minutes']:.0f} minutes"
        found.append((row["cell"].upper(), how, by, *_both(row)))
    frame = pd.DataFrame([*found, *_adapted(folder, own)], columns=COLUMNS)
    return frame.assign(**{split: frame[split].map(_number) for split in SPLITS[1:]})


def _additions(setting: Setting) -> str:
    """Which of ADDITIONS the setting has, at whatever value."""
    return ", ".join(name for field, name in ablation.ADDITIONS.items() if getattr(setting, field))


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
