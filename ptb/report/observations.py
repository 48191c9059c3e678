"""What gradients, steps of the window and texts show in the second exercise's records."""

import math

import pandas as pd

from ptb.evaluation.gradient_flow import half_life
from ptb.report.experiments import best_of_each, flowing, named, qualities
from ptb.studies.architectures import NAMES


def flow_table(table: pd.DataFrame) -> pd.DataFrame:
    """How the gradients flow back, a row for each model before and after training."""
    rows = []
    for row in flowing(table):
        for when, norms in row["run"].analysis["flow"].items():
            lives = {name: _steps(half_life(norms[name])) for name in ("average", "each")}
            rows.append({"run": row["tag"], "model": NAMES[row["cell"]], "training": when})
            rows[-1] |= {"left at step 1": _share(norms["average"])}
            rows[-1] |= {"half-life": lives["average"], "half-life, each": lives["each"]}
    return pd.DataFrame(rows)


def _share(norms: list[float | None]) -> str:
    return "–" if None in norms or not norms[-1] else f"{norms[0] / norms[-1]:.1e}"


def _steps(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value < 1000 else "∞"


def flows(table: pd.DataFrame) -> list[str]:
    """Which gradient reaches further back, and what training does to it.

    Only models of one scale are ranked with one another.
    """
    lives, scales = {}, {}
    for row in flowing(table):
        analysis = row["run"].analysis["flow"]
        found = {when: half_life(norms["average"]) for when, norms in analysis.items()}
        if None not in found.values():
            lives[named(row)], scales[named(row)] = found, row["scale"]
    order = sorted(lives, key=lambda name: lives[name]["after"], reverse=True)
    return [_lives(name, lives[name]) for name in order] + _ranked(order, scales)


def _lives(name: str, life: dict[str, float]) -> str:
    before, after = (_steps(life[when]) for when in ("before", "after"))
    verb = "lengthens" if life["after"] > life["before"] else "shortens"
    effect = f"{verb} its reach" if before != after else "leaves its reach as it is"
    return (
        f"{name}: the gradient halves every {before} steps before training and every {after} "
        f"after it: training {effect}."
    )


def _ranked(order: list[str], scales: dict[str, float]) -> list[str]:
    """The names in that order, of each scale that several have."""
    each = sorted({*scales.values()}, reverse=True)
    groups = [[name for name in order if scales[name] == scale] for scale in each]
    return [
        f"After training, from the furthest reach to the shortest: {', then '.join(same)}."
        for same in groups
        if len(same) > 1
    ]


LATE = 10  # steps at a window's end; one step alone has few tokens, so chance moves its mean


def along_the_window(table: pd.DataFrame) -> list[str]:
    """How a model's loss changes along the window, and what a fresh start costs it.

    Fresh and carried are of the same words at a step, so chance cancels in their difference. What
    word frequencies alone give says whether a first step's state helps or misleads.
    """
    sentences = []
    for row in best_of_each(table):
        steps = row["run"].analysis["steps"]
        fresh, late = steps["fresh"], sum(steps["fresh"][-LATE:]) / LATE
        text = f"{row['tag']} ({NAMES[row['cell']]}): from a fresh start the loss is "
        text += f"{fresh[0]:.2f} nats at the first step (word frequencies alone: "
        text += f"{math.log(row['unigram']):.2f}) and {late:.2f} over the last {LATE}"
        if row["cell"] != "transformer":
            first, last = (fresh[n] - steps["carried"][n] for n in (0, -1))
            text += f"; that is {first:.2f} more than with the state carried at the first step, "
            text += f"{last:.2f} at the last"
        sentences.append(f"{text}.")
    return sentences


def correlation(table: pd.DataFrame) -> list[str]:
    """Whether the quality of texts follows validation perplexity, over all models.

    A loss depends on who reads: it is compared among the models that one judge read.
    """
    found = qualities(table)
    sentences = []
    for judge, read in found.groupby("judge", sort=False):
        what = f"the loss of sampled texts to {judge}, which read them"
        sentences += _correlated(read, "loss", what)
    return sentences + _correlated(found, "repetition", "the repetition in greedy ones")


def _correlated(found: pd.DataFrame, column: str, what: str) -> list[str]:
    value = found["valid"].rank().corr(found[column].rank()) if len(found) > 2 else math.nan
    if math.isnan(value):  # too few, or all are alike
        return []
    return [
        f"Over {len(found)} models, Spearman's rank correlation of validation perplexity with "
        f"{what}, is {value:+.2f}: {_verdict(value, len(found))}."
    ]


def _verdict(correlation: float, count: int) -> str:
    """Beyond 1.96 / √(n − 1), about nineteen of twenty correlations of unrelated ranks are not."""
    if not abs(correlation) > 1.96 / math.sqrt(count - 1):
        return "no more than chance may give"
    return f"the higher the one, the {'higher' if correlation > 0 else 'lower'} the other"
