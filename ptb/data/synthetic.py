"""The embedded language: a hidden-state source of our own, whose exact perplexity is known.

A state is a topic and a part of speech. Topics persist; parts of speech follow a small grammar;
each topic ranks nouns, verbs and adjectives in an order of its own, with Zipf's frequencies. All is
drawn from a seed, so that the corpus needs no file and no network.
"""

import random
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ptb.data.corpus import EOS, HELD_OUT, Corpus, from_words

TOKENS = {"train": 150_000, "valid": 15_000, "test": 15_000}
TOPICS, STAY = 5, 0.98
# part of speech: (number of words, whether topics rank them differently, what may follow)
GRAMMAR = {
    "determiner": (6, False, {"adjective": 0.3, "noun": 0.7}),
    "adjective": (80, True, {"adjective": 0.1, "noun": 0.9}),
    "noun": (160, True, {"verb": 0.45, "preposition": 0.2, "conjunction": 0.1, "end": 0.25}),
    "verb": (100, True, {"determiner": 0.5, "preposition": 0.2, "noun": 0.2, "end": 0.1}),
    "preposition": (10, False, {"determiner": 0.7, "noun": 0.3}),
    "conjunction": (4, False, {"determiner": 0.6, "noun": 0.4}),
    "end": (1, False, {"determiner": 0.6, "noun": 0.3, "adjective": 0.1}),
}


@dataclass(frozen=True)
class Source:
    """A hidden Markov source: words, transition (S, S), emission (S, V), stationary start (S,)."""

    words: tuple[str, ...]
    transition: np.ndarray
    emission: np.ndarray
    start: np.ndarray

    def sample(self, tokens: int, rng: random.Random) -> list[str]:
        """At least that many tokens, up to the end of a sentence."""
        follow = [list(accumulate(row)) for row in self.transition]
        emit = [list(accumulate(row)) for row in self.emission]
        states, text = range(len(follow)), []
        (state,) = rng.choices(states, weights=list(self.start))
        while len(text) < tokens or text[-1] != EOS:
            text += rng.choices(self.words, cum_weights=emit[state])
            (state,) = rng.choices(states, cum_weights=follow[state])
        return text

    def token_losses(self, ids) -> np.ndarray:
        """Exact −log p(word | all words before it) in nats, by the forward algorithm.

        ids (n,) index `words`; the first word's loss is under the stationary distribution.
        """
        belief, losses = self.start, np.empty(len(ids))
        for n, word in enumerate(ids):
            joint = belief * self.emission[:, word]  # (S,)
            likelihood = joint.sum()
            losses[n] = -np.log(likelihood)
            belief = joint / likelihood @ self.transition
        return losses


def _invent_words(count: int, rng: random.Random) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < count:
        syllables = rng.choice((1, 2, 2, 3))
        words[
            "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(syllables))
        ] = None
    return list(words)


def _zipf(count: int) -> np.ndarray:
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


def _emission(rng: random.Random) -> np.ndarray:
    """(S, V): in each topic and part of speech, Zipf's frequencies over that topic's ranking."""
    total = sum(count for count, _, _ in GRAMMAR.values())
    emission = np.zeros((TOPICS, len(GRAMMAR), total))
    first = 0
    for part, (count, ranked_by_topic, _) in enumerate(GRAMMAR.values()):
        for topic in range(TOPICS):
            ranking = list(range(first, first + count))
            if ranked_by_topic:
                rng.shuffle(ranking)
            emission[topic, part, ranking] = _zipf(count)
        first += count
    return emission.reshape(-1, total)


def _transition() -> np.ndarray:
    """(S, S): the topic stays or is drawn anew, independently the grammar moves on."""
    parts = list(GRAMMAR)
    grammar = np.array([[row[2].get(part, 0.0) for part in parts] for row in GRAMMAR.values()])
    topic = STAY * np.eye(TOPICS) + (1 - STAY) / TOPICS
    return np.kron(topic, grammar)


def make_source(seed: int = 1) -> Source:
    """The embedded language's source."""
    rng = random.Random(seed)
    words = _invent_words(sum(count for count, _, _ in GRAMMAR.values()) - 1, rng) + [EOS]
    transition = _transition()
    start = np.full(len(transition), 1 / len(transition))
    for _ in range(200):  # the grammar mixes within a few steps
        start = start @ transition
    return Source(tuple(words), transition, _emission(rng), start)


def embedded() -> Corpus:
    """The embedded language's corpus, with its exact perplexities; as ever from the same seeds."""
    source, rng = make_source(), random.Random(2)
    texts = {split: source.sample(tokens, rng) for split, tokens in TOKENS.items()}
    corpus = from_words("embedded", {split: [words] for split, words in texts.items()})
    index = {word: i for i, word in enumerate(source.words)}
    for split in HELD_OUT:
        losses = source.token_losses([index[word] for word in texts[split]])
        corpus.floor[split] = float(np.exp(losses[1:].mean()))  # of all tokens but the first
    return corpus
