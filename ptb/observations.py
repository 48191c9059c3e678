"""What gradients, steps of the window and texts show in the second exercise's records."""

import math

import pandas as pd

from ptb.architectures import NAMES
from ptb.experiments import (
    best_of_each,
    largest,
    qualities,
)
from ptb.flow import half_life


def flow_table(table: pd.DataFrame) -> pd.DataFrame:
    """How the gradients flow back, a row for each model before and after training."""
    rows = []
    for row in largest(table):
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
    """Which gradient reaches further back, and what training does to it."""
    lives = {}
    for row in largest(table):
        analysis = row["run"].analysis["flow"]
        found = {when: half_life(norms["average"]) for when, norms in analysis.items()}
        if None not in found.values():
            lives[NAMES[row["cell"]]] = found
    order = sorted(lives, key=lambda name: lives[name]["after"], reverse=True)
    sentences = [
        f"{name}: the gradient halves every {_steps(lives[name]['before'])} steps before training "
        f"and every {_steps(lives[name]['after'])} after it: training "
        f"{'lengthens' if lives[name]['after'] > lives[name]['before'] else 'shortens'} its reach."
        for name in order
    ]
    if len(order) > 1:
        ahead = ", then ".join(f"the {name}" for name in order)
        sentences.append(f"After training, from the furthest reach to the shortest: {ahead}.")
    return sentences


def along_the_window(table: pd.DataFrame) -> list[str]:
    """How a model's loss changes from the first step of a window to the last."""
    sentences = []
    for row in best_of_each(table):
        steps = row["run"].analysis["steps"]
        ends = {name: (values[0], values[-1]) for name, values in steps.items()}
        text = f"{row['tag']} ({NAMES[row['cell']]}): from a fresh start, {_goes(*ends['fresh'])}"
        if row["cell"] != "transformer":
            text += f"; with the state carried, {_goes(*ends['carried'])}"
        sentences.append(f"{text} nats a word.")
    return sentences


def _goes(first: float, last: float) -> str:
    change = last - first
    verb = "stays level" if abs(change) < 0.05 else "falls" if change < 0 else "rises"
    return f"the loss {verb} from {first:.2f} at the first step to {last:.2f} at the last"


def correlation(table: pd.DataFrame) -> list[str]:
    """Whether the quality of texts follows validation perplexity, over all models."""
    found = qualities(table)
    if len(found) < 3:
        return []
    about = {
        "loss": "the loss of sampled texts to another model",
        "repetition": "the repetition in greedy ones",
    }
    sentences = []
    for name, what in about.items():
        value = found["valid"].rank().corr(found[name].rank())
        if math.isnan(value):  # all are alike
            continue
        sentences.append(
            f"Over {len(found)} models, Spearman's rank correlation of validation perplexity with "
            f"{what} is {value:+.2f}: {_verdict(value, len(found))}."
        )
    return sentences


def _verdict(correlation: float, count: int) -> str:
    """Beyond 1.96 / √(n − 1), about nineteen of twenty correlations of unrelated ranks are not."""
    if not abs(correlation) > 1.96 / math.sqrt(count - 1):
        return "no more than chance may give"
    return f"the higher the one, the {'higher' if correlation > 0 else 'lower'} the other"
