"""What perplexity means without a network: n-gram models with Kneser-Ney smoothing, and a cache.

Interpolated modified Kneser-Ney (Chen and Goodman 1999, section 3): the highest order counts
n-grams, each lower one the different words that its n-grams follow; each order discounts its counts
by one of three amounts and gives what it took to the order below. The text is one stream, as the
networks read it: contexts reach across `<eos>`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

UNSEEN = -1
LEAST = 0.1  # of the discounts


class Order(NamedTuple):
    """One order's n-grams, as the sorted keys (context · V + word), and what they are worth.

    A context is the place of an (n − 1)-gram among its own order's keys; the empty one is 0.
    totals and passed are by context: the discounted counts' denominator, and the share that goes to
    the order below.
    """

    keys: np.ndarray
    discounted: np.ndarray  # by n-gram
    totals: np.ndarray  # by context
    passed: np.ndarray  # by context


class KneserNey:
    """An n-gram model of a vocabulary of that many types, from a training text's ids (n,)."""

    def __init__(self, ids: Tensor, types: int, order: int):
        self.types, words = types, ids.numpy().astype(np.int64)
        contexts, firsts, grams = [np.zeros(len(words), np.int64)], [], []
        keys, counts = [], []
        for _ in range(order):
            gram = np.where(contexts[-1] == UNSEEN, UNSEEN, contexts[-1] * types + words)
            found, first, place, count = np.unique(gram, True, True, True)
            skip = int(found[0] == UNSEEN)  # of the text's first words, which have no such context
            keys.append(found[skip:])
            firsts.append(first[skip:])
            counts.append(count[skip:])
            grams.append(place - skip)  # an n-gram's place among the keys; −1: there is none
            contexts.append(np.concatenate([[UNSEEN], grams[-1][:-1]]))
        for n in range(order - 1):  # the different words before each n-gram
            counts[n] = np.bincount(grams[n][firsts[n + 1]], minlength=len(keys[n]))
        sizes = [1] + [len(found) for found in keys]
        self.orders = [_smoothed(keys[n], counts[n], sizes[n], types) for n in range(order)]

    def losses(self, ids: Tensor) -> Tensor:
        """Each token's loss in nats, float64 (n − 1,), for a text's ids (n,): all but its first."""
        words = ids.numpy().astype(np.int64)
        chances = np.full(len(words), 1 / self.types)  # below the first order
        contexts = np.zeros(len(words), np.int64)
        for order in self.orders:
            seen = contexts != UNSEEN
            seen[seen] = order.totals[contexts[seen]] > 0
            place, found = _look_up(order.keys, contexts * self.types + words)
            found &= seen
            known = contexts[seen]
            own = np.where(found, order.discounted[place], 0.0)[seen] / order.totals[known]
            chances[seen] = own + order.passed[known] * chances[seen]
            contexts = np.concatenate([[UNSEEN], np.where(found, place, UNSEEN)[:-1]])
        return torch.from_numpy(-np.log(chances[1:]))


def _look_up(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted key would be among the sorted keys, and whether it is there."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return place, keys[place] == wanted


def _smoothed(keys: np.ndarray, counts: np.ndarray, contexts: int, types: int) -> Order:
    """An order with Chen and Goodman's three discounts, for counts of 1, of 2 and of 3 or more."""
    n1, n2, n3, n4 = np.bincount(counts, minlength=5)[1:5]
    base = n1 / (n1 + 2 * n2) if n1 else 0.0
    rates = [1 - 2 * base * n2 / max(n1, 1), 2 - 3 * base * n3 / max(n2, 1)]
    rates.append(3 - 4 * base * n4 / max(n3, 1))
    # Of few n-grams the estimates can be zero or less, and then unseen words would be impossible.
    discounts = np.clip(rates, LEAST, [1, 2, 3])[np.clip(counts, 1, 3) - 1]
    of_context = keys // types
    totals = np.bincount(of_context, counts, contexts)
    taken = np.bincount(of_context, np.minimum(discounts, counts), contexts)
    passed = np.divide(taken, totals, out=np.ones(contexts), where=totals > 0)
    return Order(keys, np.maximum(counts - discounts, 0.0), totals, passed)


def unigram_losses(train: Tensor, ids: Tensor, types: int) -> Tensor:
    """Each token's loss in nats by the words' frequencies in training, each counted once more."""
    counts = torch.bincount(train, minlength=types).double() + 1
    return -(counts / counts.sum()).log()[ids[1:].long()]


def cached(losses: Tensor, ids: Tensor, size: int, weight: float) -> Tensor:
    """The losses with a cache mixed in: that weight goes to the frequencies in the last words.

    size is the number of words that the cache holds (Kuhn and De Mori 1990).
    """
    words, counts, chances = ids.tolist(), {}, np.empty(len(ids) - 1)
    for n in range(1, len(words)):
        counts[words[n - 1]] = counts.get(words[n - 1], 0) + 1
        if n > size:
            counts[words[n - 1 - size]] -= 1
        chances[n - 1] = counts.get(words[n], 0) / min(n, size)
    return -(weight * torch.from_numpy(chances) + (1 - weight) * (-losses).exp()).log()
