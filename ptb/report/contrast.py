"""One run's test perplexity against another's, as a whole and by the kind of word."""

import math

import numpy as np
import pandas as pd

from ptb.errors import counted
from ptb.evaluation.analysis import bin_labels
from ptb.evaluation.comparison import MIN_SENTENCES, compare, over_seeds
from ptb.report.claim import signed

SETTINGS = pd.MultiIndex.from_product([["lstm", "gru"], [False, True]], names=["cell", "dropout"])


def by_setting(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the exercise's four settings by cell and by whether there is dropout.

    A setting that was not trained is a row of NaN.
    """
    return table.set_index([table["cell"], table["dropout"] > 0]).reindex(SETTINGS)


class Percent:
    """A difference of test perplexities in percent: mean, and low and high of its 95% interval.

    What was not measured is NaN.
    """

    def __init__(self, mean: float, low: float, high: float):
        self.mean, self.low, self.high = mean, low, high

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "not measured"
        if math.isnan(self.low):
            return f"{signed(self.mean, '+.1f')}% (without an interval)"
        # an end near zero gets two decimals, for a reader to see on which side of it it is
        mean, low, high = (
            f"{signed(v, '+.2f' if abs(v) < 0.05 else '+.1f')}%"
            for v in (self.mean, self.low, self.high)
        )
        return f"{mean} (95% interval {low} to {high})"


class OverSeeds(Percent):
    """How far the second setting's perplexity is above the first's, over the seeds of each.

    Each is a table of `gather`'s, a row a seed.
    """

    def __init__(self, first: pd.DataFrame, second: pd.DataFrame):
        super().__init__(*over_seeds(np.log(second["test"]), np.log(first["test"])).percent())


class Contrast(Percent):
    """How far the second run's test perplexity is above the first's, in percent.

    Each run is a row of `gather`'s table. All is NaN where a run is missing, the interval also
    where the text is too short for one.
    """

    def __init__(self, first: pd.Series, second: pd.Series):
        self.analyses, found = [], (math.nan, math.nan, math.nan)
        if isinstance(first["cell"], str) and isinstance(second["cell"], str):  # both are there
            self.analyses = [row["run"].analysis for row in (second, first)]
            found = compare(*(analysis["sentences"] for analysis in self.analyses)).percent()
        super().__init__(*found)

    def by(self, kind: str) -> pd.Series:
        """The difference in percent by the bins of a kind: "frequency", "position", "distance".

        NaN where a bin is empty, a run is missing or the text has too few sentences.
        """
        bins = bin_labels(kind)
        if math.isnan(self.low):
            return pd.Series(math.nan, bins)
        second, first = (pd.DataFrame(a[kind]).set_index("bin") for a in self.analyses)
        losses = second["loss"] / second["tokens"] - first["loss"] / first["tokens"]
        return 100 * np.expm1(losses.reindex(bins))


def after(row: pd.Series, epoch: float) -> pd.Series:
    """A run's history after that many epochs, with the gap, valid over train; NaN without it."""
    if not isinstance(row["cell"], str):
        return pd.Series(math.nan, ["train", "valid", "gap"])
    history = row["run"].history.set_index("epoch")
    return history.assign(gap=history["valid"] / history["train"]).reindex([epoch]).iloc[0]


def too_short(table: pd.DataFrame) -> str:
    """Why nothing is claimed of differences on a short test text; empty where it is long enough."""
    count = len(table.iloc[0]["run"].analysis["sentences"]["tokens"])
    if count >= MIN_SENTENCES:
        return ""
    return (
        f"The test text has {counted(count, 'sentence')}: with fewer than {MIN_SENTENCES} there "
        "is no interval, and nothing is claimed of differences between the runs."
    )
