"""What n-gram models reach on the same tokens: the baselines beside the networks' perplexities.

`python -m ptb baselines` measures them on Penn Treebank and writes report/baselines.json. The
cache's size and weight are chosen on validation.
"""

import time
from itertools import product

from torch import Tensor

from ptb.data.corpus import HELD_OUT, Corpus
from ptb.evaluation.ngrams import KneserNey, cached, unigram_losses
from ptb.evaluation.perplexity import summary
from ptb.paths import ROOT
from ptb.runs.environment import environment
from ptb.runs.files import write_json

BASELINES = ROOT / "report" / "baselines.json"
ORDERS = {2: "bigram", 5: "5-gram"}
CACHE_SIZES, CACHE_WEIGHTS = (100, 200, 500, 1000), (0.05, 0.1, 0.15, 0.2)


def baselines(corpus: Corpus) -> list[dict]:
    """A row a model: its name, what was chosen on validation, each split's summary, seconds."""
    start, types = time.perf_counter(), len(corpus.words)
    losses = {s: unigram_losses(corpus["train"], corpus[s], types) for s in HELD_OUT}
    rows = [_row("unigram, add one", "", losses, start)]
    for order, name in ORDERS.items():
        start = time.perf_counter()
        model = KneserNey(corpus["train"], types, order)
        losses = {split: model.losses(corpus[split]) for split in HELD_OUT}
        rows.append(_row(f"{name}, modified Kneser-Ney", "", losses, start))
    return [*rows, _with_cache(rows[-1]["model"], losses, corpus)]


def _with_cache(name: str, losses: dict[str, Tensor], corpus: Corpus) -> dict:
    """The last model with the cache that is best on validation."""
    start = time.perf_counter()
    tried = {
        (size, weight): cached(losses["valid"], corpus["valid"], size, weight).mean().item()
        for size, weight in product(CACHE_SIZES, CACHE_WEIGHTS)
    }
    size, weight = min(tried, key=tried.get)
    both = {split: cached(losses[split], corpus[split], size, weight) for split in HELD_OUT}
    return _row(f"{name}, with a cache", f"{size} words, weight {weight:g}", both, start)


def _row(name: str, chosen: str, losses: dict[str, Tensor], start: float) -> dict:
    found = {split: summary(loss) for split, loss in losses.items()}
    return {"model": name, "chosen": chosen} | found | {"seconds": time.perf_counter() - start}


def write_baselines(corpus: Corpus) -> list[dict]:
    """Measures them, with the environment, into report/baselines.json; returns the rows."""
    rows = baselines(corpus)
    write_json(BASELINES, {"corpus": corpus.name, "environment": environment(), "models": rows})
    return rows
