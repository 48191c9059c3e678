"""ptb.studies.baselines: rows from the unigram to the cache, chosen on validation, recorded."""

import json
import math

from conftest import make_corpus

from ptb.__main__ import main
from ptb.evaluation.ngrams import KneserNey, cached
from ptb.studies import baselines


def test_rows_are_measured_and_the_cache_is_chosen_on_validation(tmp_path, monkeypatch):
    corpus = make_corpus(train=400)
    monkeypatch.setattr(baselines, "BASELINES", tmp_path / "baselines.json")
    monkeypatch.setattr("ptb.data.corpora.load", lambda name: corpus)
    monkeypatch.setattr(baselines, "CACHE_SIZES", (3, 10))
    monkeypatch.setattr(baselines, "CACHE_WEIGHTS", (0.05, 0.6))
    assert main(["baselines"]) == 0
    record = json.loads((tmp_path / "baselines.json").read_text())
    unigram, bigram, fifth, with_cache = record["models"]
    assert fifth["valid"]["perplexity"] < bigram["valid"]["perplexity"]
    assert bigram["valid"]["perplexity"] < unigram["valid"]["perplexity"]
    assert {row["test"]["tokens"] for row in record["models"]} == {len(corpus["test"]) - 1}

    losses = KneserNey(corpus["train"], len(corpus.words), 5).losses(corpus["valid"])
    tried = {
        f"{size} words, weight {weight:g}": cached(losses, corpus["valid"], size, weight).mean()
        for size in (3, 10)
        for weight in (0.05, 0.6)
    }
    assert with_cache["chosen"] == min(tried, key=tried.get)
    assert math.isclose(with_cache["valid"]["loss"], min(tried.values()))
    assert record["environment"]["torch"]
