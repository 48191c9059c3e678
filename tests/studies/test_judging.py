"""Distinct starts, greedy texts as a plain loop's, judged and picked by rule."""

import math

import pandas as pd
import pytest
import torch
from conftest import make_corpus, make_setting
from test_perplexity import greedy_from_scratch, word_by_word

from ptb.data.corpus import Corpus
from ptb.evaluation.generation import repetition, starts, write_texts
from ptb.models.language_model import build
from ptb.report.texts import frame, picks
from ptb.runs.run import Run, load_model
from ptb.studies import judging
from ptb.studies.judging import choose_judges, judge
from ptb.training.train import train

KINDS = ["rnn", "gru", "lstm", "transformer"]


def make_model(cell: str):
    torch.manual_seed(1)
    heads = {"heads": 2, "feedforward": 8} if cell == "transformer" else {"init": 0.8}
    setting = make_setting(**{"cell": cell, "init": 0.1} | heads)
    return build(setting, 7).double()


def test_starts_are_the_words_that_begin_most_sentences():
    words = ("<eos>", "a", "<unk>", "b", "c")
    train_ids = torch.tensor([4, 0, 3, 1, 0, 1, 0, 3, 0, 2, 0, 2, 0, 2, 0])
    corpus = Corpus("hand", words, {"train": train_ids})
    assert starts(corpus, 2) == [3, 1]
    assert starts(corpus, 9) == [3, 1, 4]  # c begins none; <eos> and <unk> are no starts


@pytest.mark.parametrize("cell", KINDS)
def test_greedy_texts_are_those_of_a_plain_loop_from_distinct_starts(cell):
    corpus, model = make_corpus(), make_model(cell)
    found = [text for text in write_texts(model, corpus, "a", bptt=4) if text["temperature"] == 0]
    assert sorted(text["start"] for text in found) == sorted(corpus.words[1:])
    assert {len(text["text"].split()) for text in found} == {4, 8}
    model.window = None if cell != "transformer" else 99  # a plain loop reads all of the text
    for text in found:
        prompt, length = [0, corpus.index[text["start"]]], len(text["text"].split())
        if cell != "transformer" or length < 5:  # it forgets what is before its window
            expected = greedy_from_scratch(model, prompt, length)
            assert text["text"] == corpus.text(expected)


def test_a_transformers_long_text_is_written_from_its_last_window():
    corpus, model = make_corpus(), make_model("transformer")
    text = next(t for t in write_texts(model, corpus, "a", bptt=4) if len(t["text"].split()) == 8)
    ids = [0, *(corpus.index[word] for word in f"{text['start']} {text['text']}".split())]
    for end in range(2, len(ids)):
        assert ids[end] == greedy_from_scratch(model, ids[max(0, end - 5) : end], 1)[0]


def test_twenty_starts_make_ten_texts_of_each_kind():
    words = ("<eos>", *(f"word{n}" for n in range(30)))
    ids = torch.cat([torch.tensor([n, 0]) for n in range(1, 31)])
    corpus = Corpus("many", words, {"train": ids})
    found = write_texts(build(make_setting(), 31), corpus, "a", bptt=35)
    kinds = [(text["temperature"], len(text["text"].split())) for text in found]
    assert {kind: kinds.count(kind) for kind in kinds} == {(0, 35): 10, (0, 70): 10, (1, 35): 10}
    assert len({text["start"] for text in found if text["temperature"] == 0}) == 20


def test_a_vocabulary_of_one_word_has_no_start_for_the_longer_texts():
    corpus = Corpus("one", ("a", "<eos>"), {"train": torch.tensor([0, 1] * 20)})
    found = write_texts(build(make_setting(), 2), corpus, "a", bptt=4)
    assert [(text["start"], text["temperature"]) for text in found] == [("a", 0.0), ("a", 1.0)]


def test_sampled_texts_are_reproducible_and_each_runs_own():
    corpus, model = make_corpus(), make_model("gru")
    found = write_texts(model, corpus, "a", 4)
    assert found == write_texts(model, corpus, "a", 4)
    others = write_texts(model, corpus, "b", 4)
    changed = {
        text["temperature"] for text, other in zip(found, others, strict=True) if text != other
    }
    assert changed == {1.0}


@pytest.mark.parametrize(
    ("text", "share"), [("a b c d", 0.0), ("a b c a b c", 0.25), ("a a a a a", 2 / 3), ("a b", 0)]
)
def test_repetition_is_the_share_of_groups_that_stood_before(text, share):
    assert repetition(text) == pytest.approx(share)


def test_the_judge_is_the_best_of_another_cell():
    settings = [make_setting(cell=cell) for cell in ("rnn", "gru", "gru", "rnn")]
    assert choose_judges(settings, [4.0, 2.0, 1.0, 3.0]) == [2, 3, 3, 2]
    assert choose_judges(settings[1:3], [2.0, 1.0]) == [-1, -1]


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    settings = [make_setting(cell=cell, epochs=1) for cell in ("rnn", "gru")]
    for setting in settings:
        train(setting, make_corpus(), folder / setting.name)
    return [Run(folder / setting.name) for setting in settings]


def test_judging_records_what_texts_cost_the_other_model(two_runs, monkeypatch):
    monkeypatch.setattr(judging, "load", lambda name: make_corpus())
    judge(two_runs)
    for run, other in (two_runs, two_runs[::-1]):
        assert run.judged["judge"] == other.folder.name
        assert run.judged["real"] == other.metrics["valid"]["loss"]
        model, corpus = load_model(other, make_corpus()), make_corpus()
        for text, loss in zip(run.texts, run.judged["losses"], strict=True):
            ids = [0, *(corpus.index[word] for word in f"{text['start']} {text['text']}".split())]
            expected = word_by_word(model, torch.tensor(ids), rows=1)[1:].mean().item()
            assert loss == pytest.approx(expected, abs=1e-3)
        table = frame(run)
        assert table["loss"][0] == pytest.approx(run.judged["losses"][0] - run.judged["real"])


def test_runs_without_weights_or_texts_are_not_judged(two_runs, tmp_path):
    judge([Run(tmp_path / "nowhere")])
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "texts.json").write_text((two_runs[0].folder / "texts.json").read_text())
    judge([Run(tmp_path / "lone")])
    assert not (tmp_path / "lone" / "judged.json").exists()
    assert frame(Run(tmp_path / "lone"))["loss"].isna().all()


def test_picks_are_by_the_rule():
    repeats = [0.0, 0.1, 0.0, 0.2, 0.0, 0.1, 0.3, 0.9, 0.5, 0.9, 0.4, 0.3]
    losses = [1.0, -1.0, 0.5, 2.0, -0.5, 0.2, -3.0, -2.0, 9.0, -1.0, 0.0, 0.0]
    texts = pd.DataFrame({"repetition": repeats, "unk": 0.0, "loss": losses, "run": "3.1d"})
    found = picks(texts)
    assert list(found["best"].index) == [4, 2, 0]
    assert list(found["worst"].index) == [9, 7, 8]  # of two that repeat alike, the dearer first
    assert list(found["interesting"].index) == [3, 5, 1]
    texts.loc[[1, 3, 10, 11], "run"] = "3.2a"  # whose judge finds all texts dearer
    texts.loc[texts["run"] == "3.2a", "loss"] += 30.0
    assert list(picks(texts)["interesting"].index) == [3, 5, 1]
    texts["unk"] = 0.5
    texts.loc[3, "unk"] = 0.4
    assert list(picks(texts)["interesting"].index) == [3]


def test_picks_without_a_judge_go_by_repetition():
    repeats = [0.0, 0.1, 0.5, 0.9]
    texts = {"repetition": repeats, "unk": 0.0, "loss": math.nan, "run": "3.1d"}
    found = picks(pd.DataFrame(texts))
    assert list(found["worst"].index) == [3, 2] and len(found["best"]) == 2
