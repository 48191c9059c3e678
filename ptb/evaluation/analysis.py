"""What a model does well and badly: its loss by the kind of word, and by the step of a window."""

import math

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ptb.data.corpus import EOS, Corpus, windows
from ptb.evaluation.ngrams import unigram_losses
from ptb.evaluation.perplexity import ROWS, perplexity, text_losses

BINS = {
    "frequency": (1, 10, 30, 100, 300, 1_000, 3_000, 10_000),
    "position": (1, 2, 3, 5, 8, 12, 20, 30),
    "distance": (1, 10, 30, 100, 300, 1_000, 3_000, 10_000),
}


def analyse(corpus: Corpus, losses: Tensor) -> dict:
    """What a report needs of the test split's per-token losses (n − 1,), as plain lists.

    Sums and counts of loss by sentence, by frequency of the word in training, by position in the
    sentence, and by the distance since the word last occurred in the split.
    """
    ids, eos = corpus["test"].numpy(), corpus.index[EOS]
    table = pd.DataFrame({"loss": losses.double().cpu().numpy(), "word": ids[1:]})
    ends = ids[:-1] == eos
    table["sentence"] = np.cumsum(ends)
    first = table["sentence"] == 0  # the sentence whose first word is no target
    table["position"] = table.groupby("sentence").cumcount() + 1 + first
    frequency = torch.bincount(corpus["train"], minlength=len(corpus.words)).numpy()
    table["frequency"] = frequency[ids[1:]]
    places = pd.Series(np.arange(len(ids)))
    table["distance"] = (places - places.groupby(ids).shift()).to_numpy()[1:]
    sentences = table.groupby("sentence")["loss"].agg(["sum", "count"])
    return {
        "sentences": {
            "loss": sentences["sum"].round(4).tolist(),
            "tokens": sentences["count"].tolist(),
        },
        **{by: _binned(table, by) for by in BINS},
    }


def bin_labels(by: str) -> list[str]:
    """The names of the bins [edge, next edge) of BINS, as records have them."""
    edges = BINS[by]
    pairs = zip(edges, edges[1:], strict=False)
    return [f"{a}–{b - 1}" if b - 1 > a else f"{a}" for a, b in pairs] + [f"{edges[-1]}+"]


def _binned(table: pd.DataFrame, by: str) -> list[dict]:
    """Loss sums and token counts by the bins; no earlier occurrence is "new"."""
    bins = pd.cut(table[by], [*BINS[by], np.inf], right=False, labels=bin_labels(by))
    bins = bins.cat.add_categories("new").fillna("new")
    groups = table.groupby(bins, observed=True)["loss"].agg(["sum", "count"])
    return [
        {"bin": label, "loss": float(row["sum"]), "tokens": int(row["count"])}
        for label, row in groups.iterrows()
    ]


@torch.no_grad()
def step_losses(model, ids: Tensor, bptt: int) -> dict[str, list[float]]:
    """A split's mean loss at each step of a window of T, nats per token: T numbers, twice.

    "carried": the state goes on from window to window, as in training; "fresh": each window begins
    with the zero state, as a Transformer's always does. Whole windows alone, T shorter where the
    rows are.
    """
    model.eval()
    rows = min(ROWS, len(ids) - 1)
    steps, found = min(bptt, (len(ids) - 1) // rows), {}
    for name in ("carried", "fresh"):
        state, losses = model.initial_state(rows), []
        for x, y in windows(ids, rows, steps):
            loss, after = model.token_losses(x, y, state)
            state = after if name == "carried" else state
            if len(x) == steps:  # not the shorter window at the end
                losses.append(loss)
        found[name] = torch.stack(losses).double().mean((0, 2)).tolist()
    return found


def unigram(corpus: Corpus) -> float:
    """Validation perplexity by the words' frequencies in training alone, each counted once more.

    A model that is not below it has learned nothing of a word's neighbours.
    """
    return perplexity(unigram_losses(corpus["train"], corpus["valid"], len(corpus.words)))


def surprise(model, corpus: Corpus, ids: list[int]) -> list[float]:
    """Each word's loss in bits, given the words before it and that a sentence began."""
    text = torch.tensor([corpus.index[EOS], *ids])
    return (text_losses(model, text) / math.log(2)).tolist()


@torch.no_grad()
def neighbours(matrix: Tensor, word: int, count: int) -> list[tuple[int, float]]:
    """The rows of matrix (V, H) nearest to a word's, with the cosines, the nearest first."""
    directions = normalize(matrix, dim=1)
    cosines = directions @ directions[word]
    cosines[word] = -math.inf
    nearest = cosines.topk(min(count, len(cosines) - 1))
    return list(zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True))
