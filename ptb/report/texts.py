"""A run's generated texts as rows of a table, and three of a kind picked by rule."""

import math
import re

import pandas as pd
from IPython.display import Markdown

from ptb.data.corpus import UNK
from ptb.evaluation.generation import repetition
from ptb.report.claim import signed
from ptb.report.text import as_it_is
from ptb.runs.run import Run

PICKS = 3


def frame(run: Run) -> pd.DataFrame:
    """A run's texts, a row each: temperature, start, text, words, repetition, unk and loss.

    unk is the share of `<unk>`; loss is the judge's for the text less its loss on real text, nats a
    word; NaN without a judge.
    """
    table = pd.DataFrame(run.texts)
    table["words"] = [len(text.split()) for text in table["text"]]
    table["repetition"] = [repetition(text) for text in table["text"]]
    table["unk"] = [text.split().count(UNK) / max(1, len(text.split())) for text in table["text"]]
    judged = run.judged
    table["loss"] = [loss - judged["real"] for loss in judged["losses"]] if judged else math.nan
    return table


def picks(texts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Three best, worst and interesting texts, by rule alone; texts are rows of `frame`, with run.

    A text's fault is its repetition plus its share of `<unk>`. The best have least, the worst most;
    interesting are, of the half that has least and less than half `<unk>`, those whose loss is
    furthest above the mean of their own run's, since losses by different judges do not compare.
    """
    fault = texts["repetition"] + texts["unk"]
    above = texts["loss"] - texts.groupby("run")["loss"].transform("mean")
    ordered = texts.assign(fault=fault, above=above)
    ordered = ordered.sort_values(["fault", "above"], kind="stable")
    half = len(texts) // 2
    others = ordered[PICKS:half]
    others = others[others["unk"] < 0.5].sort_values("above", kind="stable")
    return {
        "best": ordered[:half].head(PICKS),
        "worst": ordered[half:].tail(PICKS)[::-1],
        "interesting": others.tail(PICKS)[::-1],
    }


def written(rows: pd.DataFrame) -> Markdown:
    """Generated texts, rows of `frame`, as a list: start, text, how it is; with the run's name."""
    return Markdown("\n".join(f"- {_written(row)}" for _, row in rows.iterrows()))


def _written(row: pd.Series) -> str:
    about = f"repetition {row['repetition']:.2f}, {UNK} {row['unk']:.2f}"
    if not pd.isna(row["loss"]):
        about += f", loss {signed(row['loss'], '+.2f')}"
    whose = f"{row['run']}: " if "run" in row else ""
    text = as_it_is(shortened(row["text"]))
    return f"{whose}**{as_it_is(row['start'])}** {text} *{as_it_is(f'({about})')}*"


def shortened(text: str) -> str:
    """The text, each run of `<unk>` as one with its count: "<unk> ×31"."""
    pattern = rf"{UNK}(?: {UNK})+(?!\S)"
    return re.sub(pattern, lambda found: f"{UNK} ×{len(found[0].split())}", text)
