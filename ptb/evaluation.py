"""Perplexity; per-token losses and what is derived from them; generated text."""

import math
from difflib import get_close_matches

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from ptb.corpus import UNK, Corpus, windows
from ptb.model import LanguageModel, WeightsError, build, load_weights
from ptb.runs import Run
from ptb.setting import SettingError
from ptb.source import EOS

ROWS, WINDOW = 10, 100
SLIDING = 256  # windows at a time in the sliding evaluation


@torch.no_grad()
def token_losses(model, ids: Tensor, rows: int = ROWS) -> Tensor:
    """Each token's loss in nats, (n − 1,), for a split's ids (n,): all but its first token, once.

    The targets are cut into contiguous rows, read side by side with the state carried; each row
    after the first starts from the zero state and its predecessor's last token. A Transformer,
    which carries no state, reads windows of its own length and begins anew in each.
    """
    model.eval()
    count = len(ids) - 1
    padded = pad(ids, (0, -count % rows))  # behind the last token, so that the rows are full
    state, losses = model.initial_state(rows), []
    for x, y in windows(padded, rows, model.window or WINDOW):
        loss, state = model.token_losses(x, y, state)
        losses.append(loss)
    return torch.cat(losses).T.flatten()[:count]


@torch.no_grad()
def sliding_losses(model, ids: Tensor) -> Tensor:
    """Each token's loss in nats, (n − 1,), given the whole window of a Transformer before it.

    `token_losses` cuts windows that do not overlap, so that a token's context is on average half
    of what the model can see, and the first in a window has one word. Here a window ends before
    each token. The first tokens have what there is. It costs as many times more as a window is
    long.
    """
    steps, ids = model.window, ids.long()
    first = token_losses(model, ids[: steps + 1], rows=1)
    if len(ids) <= steps + 1:
        return first
    contexts, targets = ids[1:-1].unfold(0, steps, 1), ids[steps + 1 :]  # (N, T), (N,)
    losses = [first]
    for x, y in zip(contexts.split(SLIDING), targets.split(SLIDING), strict=True):
        loss, _ = model.token_losses(x.T, y[None], model.initial_state(len(y)))
        losses.append(loss[0])
    return torch.cat(losses)


def summary(losses: Tensor) -> dict:
    """Mean loss in nats a token, its exponential and the number of tokens."""
    loss = losses.double().mean().item()
    return {"loss": loss, "perplexity": perplexity(losses), "tokens": len(losses)}


def perplexity(losses: Tensor) -> float:
    """exp of the mean over tokens; infinite where the mean is beyond a float's exponent."""
    return losses.double().mean().exp().item()


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
        **{by: _binned(table, by, edges) for by, edges in BINS.items()},
    }


@torch.no_grad()
def step_losses(model, ids: Tensor, bptt: int) -> dict[str, list[float]]:
    """A split's mean loss at each step of a window of T, nats a token: T numbers, twice.

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
            losses += [loss] if len(x) == steps else []
        found[name] = torch.stack(losses).double().mean((0, 2)).tolist()
    return found


def unigram(corpus: Corpus) -> float:
    """Validation perplexity by the words' frequencies in training alone, each counted once more.

    A model that is not below it has learned nothing of a word's neighbours.
    """
    counts = torch.bincount(corpus["train"], minlength=len(corpus.words)).double() + 1
    losses = -(counts / counts.sum()).log()
    return perplexity(losses[corpus["valid"][1:].long()])


def load_model(run: Run, corpus: Corpus) -> LanguageModel:
    """The run's model with its saved weights; raises WeightsError where they are not its own.

    The corpus must have the words that the weights know.
    """
    weights, words = run.read_weights()
    if words != corpus.words:
        raise WeightsError(f"the weights in {run.folder} belong to another vocabulary")
    model = build(run.setting, len(words))
    load_weights(model, weights)
    return model


BINS = {
    "frequency": (1, 10, 30, 100, 300, 1_000, 3_000, 10_000),
    "position": (1, 2, 3, 5, 8, 12, 20, 30),
    "distance": (1, 10, 30, 100, 300, 1_000, 3_000, 10_000),
}


def _binned(table: pd.DataFrame, by: str, edges: tuple[int, ...]) -> list[dict]:
    """Loss sums and token counts by bins [edge, next edge); no earlier occurrence is "new"."""
    labels = [
        f"{a}–{b - 1}" if b - 1 > a else f"{a}" for a, b in zip(edges, edges[1:], strict=False)
    ]
    labels.append(f"{edges[-1]}+")
    bins = pd.cut(table[by], [*edges, np.inf], right=False, labels=labels)
    bins = bins.cat.add_categories("new").fillna("new")
    groups = table.groupby(bins, observed=True)["loss"].agg(["sum", "count"])
    return [
        {"bin": label, "loss": float(row["sum"]), "tokens": int(row["count"])}
        for label, row in groups.iterrows()
    ]


def encode(corpus: Corpus, text: str, substitute: str | None = UNK) -> list[int]:
    """The ids of a text's words; a word that the vocabulary lacks has the substitute's.

    Raises SettingError for such a word where the vocabulary lacks the substitute too.
    """
    index = corpus.index
    other = index.get(substitute)
    for word in text.split():
        if word not in index and other is None:
            (close,) = get_close_matches(word.lower(), corpus.words, n=1, cutoff=0)
            where = f"is not in the vocabulary of {corpus.name}"
            raise SettingError(f"the word {word!r} {where}: did you mean {close!r}?")
    return [index.get(word, other) for word in text.split()]


def surprise(model, corpus: Corpus, ids: list[int]) -> list[float]:
    """Each word's loss in bits, given the words before it and that a sentence began."""
    text = torch.tensor([corpus.index[EOS], *ids])
    losses = sliding_losses(model, text) if model.window else token_losses(model, text, rows=1)
    return (losses / math.log(2)).tolist()


@torch.no_grad()
def neighbours(matrix: Tensor, word: int, count: int) -> list[tuple[int, float]]:
    """The rows of matrix (V, H) nearest to a word's, with the cosines, the nearest first."""
    directions = normalize(matrix, dim=1)
    cosines = directions @ directions[word]
    cosines[word] = -math.inf
    nearest = cosines.topk(min(count, len(cosines) - 1))
    return list(zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True))


def generate(
    model, prompt: Tensor, length: int, temperature: float, generator: torch.Generator | None = None
) -> list[int]:
    """That many ids after the prompt (n,); see `generate_rows`."""
    rows = generate_rows(model, prompt[:, None], length, temperature, generator)
    return rows[:, 0].tolist()


@torch.no_grad()
def generate_rows(
    model,
    prompts: Tensor,
    length: int,
    temperature: float,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The ids that follow prompts (n, B), (length, B): likeliest at temperature 0, else sampled.

    A Transformer sees the last words that fit its window.
    """
    model.eval()
    ids, state, read = prompts, model.initial_state(prompts.shape[1]), 0
    for _ in range(length):
        unread = ids[-model.window :] if model.window else ids[read:]  # a Transformer reads anew
        logits, state = model.logits(unread, state)
        read = len(ids)
        ids = torch.cat((ids, _choose(logits[-1], temperature, generator)[None]))
    return ids[len(prompts) :]


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """An id for each row of logits (B, V): (B,)."""
    if temperature == 0:
        return logits.argmax(1)
    chances = (logits / temperature).softmax(1).cpu()
    return torch.multinomial(chances, 1, generator=generator)[:, 0].to(logits.device)


def write_samples(model, corpus: Corpus, length: int = 60) -> list[dict]:
    """Texts from the start of a sentence: one greedy, one at a low temperature, one at 1."""
    prompt = torch.tensor([corpus.index[EOS]], device=next(model.parameters()).device)
    samples = []
    for temperature in (0.0, 0.7, 1.0):
        generator = torch.Generator().manual_seed(1)
        ids = generate(model, prompt, length, temperature, generator)
        samples.append({"temperature": temperature, "text": corpus.text(ids)})
    return samples
