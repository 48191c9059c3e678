"""A run's generated texts as rows of a table, and three of a kind picked by rule."""

import math

import pandas as pd

from ptb.evaluation.generation import repetition
from ptb.runs.run import Run

PICKS = 3


def frame(run: Run) -> pd.DataFrame:
    """A run's texts, a row each: temperature, start, text, words, repetition and loss.

    loss is the judge's for the text less its loss on real text, nats a word; NaN without a judge.
    """
    table = pd.DataFrame(run.texts)
    table["words"] = [len(text.split()) for text in table["text"]]
    table["repetition"] = [repetition(text) for text in table["text"]]
    judged = run.judged
    table["loss"] = [loss - judged["real"] for loss in judged["losses"]] if judged else math.nan
    return table


def picks(texts: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Three best, worst and interesting texts, by rule alone; texts are rows of `frame`.

    The worst repeat most. Of the half that repeats least, the best are the likeliest to the other
    model and the interesting ones the least likely.
    """
    by_repetition = texts.sort_values(["repetition", "loss"], kind="stable")
    fresh = by_repetition.head(len(texts) // 2).sort_values("loss", kind="stable")
    return {
        "best": fresh.head(PICKS),
        "worst": by_repetition[len(texts) // 2 :].tail(PICKS)[::-1],
        "interesting": fresh[PICKS:].tail(PICKS)[::-1],
    }
