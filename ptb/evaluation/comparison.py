"""Is one model better than another on the test text, or may it be chance?

Chance enters in two ways. With other text of the kind these two models might compare otherwise;
with other seeds the same two settings might. `compare` asks the first, `over_seeds` the second.

For the first, both models read the same text, so the comparison is paired: the difference of their
losses, sentence by sentence. Its interval comes from a circular block bootstrap (Politis and Romano
1992): the text is drawn again and again from blocks of consecutive sentences, since neighbouring
sentences, of one article, are hard together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ptb.errors import ComparisonError

DRAWS, SEED = 10_000, 1
MIN_SENTENCES = 30  # of fewer, the draws are too alike for an interval; of one, they are all equal


@dataclass(frozen=True)
class Difference:
    """Mean loss of the first less that of the second, nats per token, and its 95% interval.

    low and high are NaN where the text is too short for an interval.
    """

    mean: float
    low: float
    high: float

    def percent(self) -> tuple[float, float, float]:
        """How much higher the first's perplexity is, in percent of the second's: mean, interval."""
        return tuple(100 * math.expm1(value) for value in (self.mean, self.low, self.high))


def compare(first: dict, second: dict) -> Difference:
    """The difference of two models on a text, from their losses by sentence.

    Each has, as `ptb.evaluation.analysis.analyse` gives them, each sentence's "loss" (the sum over
    its tokens) and "tokens". Raises ComparisonError where the texts differ.
    """
    if first["tokens"] != second["tokens"]:
        raise ComparisonError("the two models were measured on different texts")
    losses = np.subtract(first["loss"], second["loss"])  # (sentences,)
    return bootstrap(losses, np.array(first["tokens"]))


# The 97.5% quantile of Student's t distribution, by degrees of freedom
T_975 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}


def over_seeds(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The difference of two settings, from the losses of their runs: one seed a run, 2 to 5 each.

    The interval is the pooled two-sample t interval (equal variances). Raises ComparisonError for
    other numbers of seeds.
    """
    first, second = np.asarray(first), np.asarray(second)
    if not (2 <= len(first) <= 5 and 2 <= len(second) <= 5):
        raise ComparisonError(f"{len(first)} and {len(second)} seeds: it takes 2 to 5 of each")
    degrees_of_freedom = len(first) + len(second) - 2
    squares = sum(((losses - losses.mean()) ** 2).sum() for losses in (first, second))
    error = math.sqrt(squares / degrees_of_freedom * (1 / len(first) + 1 / len(second)))
    mean = first.mean() - second.mean()
    return Difference(
        mean, mean - T_975[degrees_of_freedom] * error, mean + T_975[degrees_of_freedom] * error
    )


def bootstrap(losses: np.ndarray, tokens: np.ndarray) -> Difference:
    """The mean of losses (n,) a token, with tokens (n,) in each, and its 95% interval.

    A draw takes ⌈n / L⌉ blocks of L = √n neighbours, the last one's neighbour being the first. Of
    Penn Treebank's test text a block has 61 sentences; by n^(1/3), a usual choice, it would have
    16, and miss what an article's sentences share. With fewer than MIN_SENTENCES there is no
    interval: its ends are NaN.
    """
    mean = losses.sum() / tokens.sum()
    if len(losses) < MIN_SENTENCES:
        return Difference(mean, math.nan, math.nan)
    length = round(math.sqrt(len(losses)))
    loss, count = (_block_sums(part, length) for part in (losses, tokens))
    generator = np.random.default_rng(SEED)
    blocks = generator.integers(len(losses), size=(DRAWS, math.ceil(len(losses) / length)))
    low, high = np.quantile(loss[blocks].sum(1) / count[blocks].sum(1), [0.025, 0.975])
    return Difference(mean, low, high)


def _block_sums(values: np.ndarray, length: int) -> np.ndarray:
    """The sum of each value and its length − 1 followers, around the end: (n,)."""
    totals = np.concatenate([[0], np.cumsum(np.concatenate([values, values[: length - 1]]))])
    return totals[length:] - totals[:-length]
