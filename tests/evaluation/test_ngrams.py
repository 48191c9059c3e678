"""ptb.evaluation.ngrams: probabilities that sum to one, counted by hand; published figures."""

import math
from collections import Counter, deque

import pytest
import torch

from ptb.data.corpora import load
from ptb.evaluation.ngrams import KneserNey, cached, unigram_losses
from ptb.evaluation.perplexity import perplexity

TYPES = 6


def text(tokens: int, seed: int, types: int = TYPES) -> torch.Tensor:
    """Words with Zipf's frequencies, so that counts of 1 to 4 occur at each order."""
    weights = 1 / torch.arange(1.0, types + 1) ** 1.5
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(weights, tokens, True, generator=generator).int()


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "context", [[], [0], [5], [0, 1], [5, 5, 5], [0, 0, 1, 0], [3, 4, 5, 5, 2]]
)
def test_probabilities_of_the_next_word_sum_to_one(order, context):
    model = KneserNey(text(60, 1), TYPES, order)
    start = [0, *context]
    chances = [
        math.exp(-model.losses(torch.tensor([*start, word], dtype=torch.int32))[-1].item())
        for word in range(TYPES)
    ]
    assert sum(chances) == pytest.approx(1, abs=1e-12)
    assert min(chances) > 0


def by_hand(train: list[int], context: int, word: int) -> float:
    """An interpolated bigram with three discounts, from counts in dictionaries."""
    pairs = Counter(zip(train, train[1:], strict=False))
    followed = Counter(second for _, second in pairs)  # different words before each word

    def discount(counts: Counter, count: int) -> float:
        n = Counter(counts.values())
        base = n[1] / (n[1] + 2 * n[2])
        ratio = {1: n[2] / n[1], 2: n[3] / n[2], 3: n[4] / n[3]}
        level = min(count, 3)
        return min(max(level - (level + 1) * base * ratio[level], 0.1), level) if count else 0.0

    def mix(counts: Counter, keys: list, key, below: float) -> float:
        total = sum(counts[k] for k in keys)
        if not total:
            return below
        taken = sum(discount(counts, counts[k]) for k in keys)
        return max(counts[key] - discount(counts, counts[key]), 0) / total + taken / total * below

    unigram = mix(followed, list(followed), word, 1 / 15)
    return mix(pairs, [p for p in pairs if p[0] == context], (context, word), unigram)


def test_a_bigram_is_the_one_that_is_counted_by_hand():
    train = text(120, 5, types=15).tolist()
    model = KneserNey(torch.tensor(train, dtype=torch.int32), 15, 2)
    for context in range(15):
        for word in range(15):
            found = model.losses(torch.tensor([context, word], dtype=torch.int32)).exp()
            assert 1 / found.item() == pytest.approx(by_hand(train, context, word), abs=1e-12)


def test_longer_contexts_help_where_the_text_needs_them():
    train = torch.tensor([0, 1, 2, 0, 3, 4] * 50, dtype=torch.int32)  # after 0 it alternates
    second, third = (KneserNey(train, TYPES, order).losses(train[:120]).mean() for order in (2, 3))
    assert third < 0.5 * second


def test_a_cache_is_the_frequencies_of_the_last_words():
    ids = text(40, 2)
    losses = torch.rand(39, dtype=torch.float64) + 0.5
    last = deque(maxlen=7)
    for n, loss in enumerate(cached(losses, ids, 7, 0.3).tolist()):
        last.append(int(ids[n]))
        chance = 0.3 * last.count(int(ids[n + 1])) / len(last) + 0.7 * math.exp(-losses[n])
        assert loss == pytest.approx(-math.log(chance))


def test_a_unigram_is_the_frequency_with_one_more_each():
    train, ids = torch.tensor([0, 0, 1]), torch.tensor([2, 0, 1, 2])
    assert unigram_losses(train, ids, 3).exp().tolist() == pytest.approx([2, 3, 6])


def test_penn_treebanks_5_gram_is_the_published_one(ptb_folder, monkeypatch):
    """Mikolov et al. 2011, "Empirical evaluation and combination": KN5 has 141.2 on test."""
    monkeypatch.setenv("PTB_DATA", str(ptb_folder))
    corpus = load("ptb")
    found = KneserNey(corpus["train"], 10_000, 5).losses(corpus["test"])
    assert perplexity(found) == pytest.approx(141.2, abs=0.5)
