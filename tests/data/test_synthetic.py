"""ptb.data.synthetic: the exact losses are those of the source; our evaluation is held to them."""

import itertools
import math
import random

import numpy as np
import pytest
import torch

from ptb.data.corpus import EOS
from ptb.data.synthetic import Source, embedded, make_source
from ptb.evaluation import perplexity as evaluation

PART = 3001  # tokens of the test split that are enough


@pytest.fixture
def tiny_source() -> Source:
    """Three states, four words, no symmetry."""
    rng = np.random.default_rng(1)
    transition, emission = rng.dirichlet(np.ones(3), 3), rng.dirichlet(np.ones(4), 3)
    return Source(("a", "b", "c", EOS), transition, emission, rng.dirichlet(np.ones(3)))


def probability_by_paths(source: Source, ids) -> float:
    """The sum over all paths of hidden states of the probability of path and text."""
    total = 0.0
    for path in itertools.product(range(len(source.start)), repeat=len(ids)):
        p = source.start[path[0]]
        for before, after in itertools.pairwise(path):
            p *= source.transition[before, after]
        for state, word in zip(path, ids, strict=True):
            p *= source.emission[state, word]
        total += p
    return total


@pytest.mark.parametrize("ids", [[2], [0, 1], [3, 0, 0, 2, 1], [1, 1, 1, 1, 1, 1]])
def test_exact_losses_equal_the_sum_over_all_paths(tiny_source, ids):
    losses = tiny_source.token_losses(ids)
    for n in range(1, len(ids) + 1):
        expected = -math.log(probability_by_paths(tiny_source, ids[:n]))
        assert losses[:n].sum() == pytest.approx(expected, abs=1e-12)


def test_probabilities_of_all_next_words_sum_to_one(tiny_source):
    for prefix in ([], [2], [3, 0, 1]):
        losses = [tiny_source.token_losses([*prefix, word])[-1] for word in range(4)]
        assert np.exp(-np.array(losses)).sum() == pytest.approx(1, abs=1e-12)


def test_samples_have_the_frequencies_of_the_source():
    source = Source(("a", EOS), np.full((1, 1), 1.0), np.array([[0.8, 0.2]]), np.ones(1))
    text = source.sample(4000, random.Random(1))
    assert text.count("a") / len(text) == pytest.approx(0.8, abs=0.03)


def test_sample_ends_with_the_first_sentence_end_that_is_far_enough(tiny_source):
    text = tiny_source.sample(50, random.Random(3))
    assert len(text) >= 50
    assert text[-1] == EOS
    assert EOS not in text[49:-1]


def test_embedded_source_is_one_of_probabilities():
    source = make_source()
    for table in (source.transition, source.emission, source.start):
        assert (table >= 0).all()
        np.testing.assert_allclose(table.sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(source.start @ source.transition, source.start, atol=1e-9)
    assert len(set(source.words)) == len(source.words) == source.emission.shape[1]


def test_source_is_reproducible_from_its_seed():
    one, again, other = make_source(1), make_source(1), make_source(2)
    assert one.words == again.words
    assert (one.emission == again.emission).all()
    assert one.words != other.words
    assert one.sample(200, random.Random(5)) == again.sample(200, random.Random(5))
    assert one.sample(200, random.Random(5)) != one.sample(200, random.Random(6))


def test_embedded_corpus_is_the_same_everywhere():
    corpus = embedded()
    assert corpus.text(corpus["test"][:5].tolist()) == "tubimo ku raka dole <eos>"
    assert {split: len(ids) for split, ids in corpus.splits.items()} == {
        "train": 150_004,
        "valid": 15_005,
        "test": 15_015,
    }


def test_embedded_splits_end_with_a_sentence_and_share_the_vocabulary():
    corpus = embedded()
    for ids in corpus.splits.values():
        assert corpus.words[ids[-1]] == EOS
        assert ids.min() >= 0 and ids.max() < len(corpus.words)
    assert set(corpus.words) <= set(make_source().words)


class SourceModel:
    """The source as a language model over a corpus's ids: its state is the belief (B, S)."""

    window = None

    def __init__(self, source: Source, words: tuple[str, ...]):
        columns = [source.words.index(word) for word in words]
        self.start = torch.tensor(source.start)
        self.transition = torch.tensor(source.transition)
        self.emission = torch.tensor(source.emission[:, columns])

    def eval(self):
        return self

    def initial_state(self, batch_size: int):
        return self.start.expand(batch_size, -1)

    def token_losses(self, x, y, belief):
        losses = []
        for word, following in zip(x, y, strict=True):
            belief = belief * self.emission[:, word].T  # (B, S)
            belief = belief / belief.sum(1, keepdim=True) @ self.transition
            losses.append(-(belief * self.emission[:, following].T).sum(1).log())
        return torch.stack(losses), belief


@pytest.fixture(scope="module")
def source_and_ids():
    """The embedded source, a model of it, and a part of the test split in both numberings."""
    source, corpus = make_source(), embedded()
    ids = corpus["test"][:PART]
    theirs = np.array([source.words.index(corpus.words[i]) for i in ids])
    return source, SourceModel(source, corpus.words), ids, theirs


def test_evaluation_of_the_source_in_one_row_is_its_exact_loss(source_and_ids):
    source, model, ids, theirs = source_and_ids
    losses = evaluation.token_losses(model, ids, rows=1).numpy()
    np.testing.assert_allclose(losses, source.token_losses(theirs)[1:], atol=1e-10)


def test_evaluation_of_the_source_in_ten_rows_restarts_at_each_priming_token(source_and_ids):
    source, model, ids, theirs = source_and_ids
    length = math.ceil((PART - 1) / 10)
    rows = [theirs[start : start + length + 1] for start in range(0, PART - 1, length)]
    expected = np.concatenate([source.token_losses(row)[1:] for row in rows])
    losses = evaluation.token_losses(model, ids).numpy()
    assert len(rows) == 10
    np.testing.assert_allclose(losses, expected, atol=1e-10)


def test_floor_is_the_perplexity_of_the_source_on_the_whole_split():
    source, corpus = make_source(), embedded()
    model = SourceModel(source, corpus.words)
    assert set(corpus.floor) == {"valid", "test"}
    for split, floor in corpus.floor.items():
        losses = evaluation.token_losses(model, corpus[split], rows=1)
        assert evaluation.perplexity(losses) == pytest.approx(floor, rel=1e-10)


def test_floor_is_far_below_the_perplexity_of_word_frequencies_alone():
    corpus = embedded()
    frequencies = torch.bincount(corpus["train"]).double() / len(corpus["train"])
    unigram = math.exp(-frequencies[corpus["test"]].log().mean())
    assert 1 < corpus.floor["test"] < 0.7 * unigram
