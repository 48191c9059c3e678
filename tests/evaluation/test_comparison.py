"""Comparisons: intervals cover what they should, and a real difference is told from chance."""

import math

import numpy as np
import pytest
from test_tables import make_run

from ptb.errors import ComparisonError
from ptb.evaluation import comparison
from ptb.evaluation.comparison import Difference, bootstrap, compare, over_seeds


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(comparison, "DRAWS", 600)


def test_block_sums_go_around_the_end():
    found = comparison._block_sums(np.array([1, 2, 3, 4, 5]), 3)
    assert found.tolist() == [6, 9, 12, 10, 8]


def test_mean_is_a_tokens_and_lies_in_its_interval():
    losses, tokens = np.tile([2.0, -1.0, 4.0, 3.0], 10), np.tile([4, 1, 2, 3], 10)
    found = bootstrap(losses, tokens)
    assert found.mean == pytest.approx(0.8)
    assert found.low < found.mean < found.high


def test_interval_is_that_of_the_normal_law_where_sentences_are_independent():
    values = np.random.default_rng(3).normal(0.1, 1.0, 4_000)
    found, error = bootstrap(values, np.ones(4_000)), 1.96 / math.sqrt(4_000)
    assert found.high - found.low == pytest.approx(2 * error, rel=0.15)


def test_neighbours_that_are_alike_widen_the_interval():
    alike = np.repeat(np.random.default_rng(4).normal(0, 1, 400), 10)
    together, apart = (
        bootstrap(v, np.ones(4_000)) for v in (alike, alike.reshape(400, 10).T.flatten())
    )
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_interval_is_wide_enough_where_an_article_has_twenty_sentences():
    widths = []  # over those that the normal law gives for the articles
    for seed in range(8):
        articles = np.random.default_rng(seed).normal(0, 1, 200)
        found = bootstrap(np.repeat(articles, 20), np.ones(4_000))
        widths.append((found.high - found.low) / (2 * 1.96 * articles.std() / math.sqrt(200)))
    assert np.mean(widths) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("count", [1, comparison.MIN_SENTENCES - 1])
def test_too_few_sentences_have_a_mean_and_no_interval(count):
    found = bootstrap(np.full(count, 0.5), np.full(count, 2))
    assert found.mean == 0.25
    assert math.isnan(found.low) and math.isnan(found.high)
    enough = np.full(comparison.MIN_SENTENCES, 0.5)
    assert bootstrap(enough, np.full(len(enough), 2)).low > 0


def test_a_difference_in_percent_is_of_the_seconds_perplexity():
    assert Difference(math.log(1.1), 0, 0).percent()[0] == pytest.approx(10)


def test_runs_compare_by_their_sentences(tmp_path):
    worse, better = (
        make_run(tmp_path, cell, 0.0, (60.0, 120.0, test))
        for cell, test in (("lstm", 116.0), ("gru", 114.0))
    )
    worse, better = (run.analysis["sentences"] for run in (worse, better))
    found = compare(worse, better)
    assert found.mean == pytest.approx(math.log(116 / 114), abs=1e-3) and found.low > 0
    assert compare(better, worse).mean == pytest.approx(-found.mean)
    same = compare(worse, worse)
    assert same.low == same.high == 0


def test_runs_on_other_texts_are_not_compared(tmp_path):
    one, other = {"loss": [1.0, 2.0], "tokens": [2, 3]}, {"loss": [1.0], "tokens": [2]}
    with pytest.raises(ComparisonError, match="different texts"):
        compare(one, other)


def test_interval_over_seeds_is_students_for_two_samples():
    found = over_seeds([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert found.mean == -2
    assert (found.low, found.high) == pytest.approx(
        (-5.584, 1.584), abs=1e-3
    )  # R's, var.equal = TRUE


@pytest.mark.parametrize("seeds", [1, 6])
def test_of_one_seed_and_of_six_there_is_no_interval(seeds):
    with pytest.raises(ComparisonError, match=f"{seeds} and 2 seeds: it takes 2 to 5 of each"):
        over_seeds([1.0] * seeds, [1.0, 2.0])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_interval_over_seeds_holds_the_true_difference_in_nineteen_of_twenty(seeds):
    drawn = np.random.default_rng(5).normal(size=(4_000, 2, seeds))
    found = [over_seeds(*pair) for pair in drawn]
    assert np.mean([one.low < 0 < one.high for one in found]) == pytest.approx(0.95, abs=0.015)
