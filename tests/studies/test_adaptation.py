"""Temperature, ensemble, dynamic evaluation against loops written another way."""

import json
import math
import shutil

import pytest
import torch
from test_language_model import plain_copy, plain_loss

from ptb.__main__ import main
from ptb.evaluation.perplexity import perplexity, token_losses
from ptb.models.language_model import build
from ptb.runs.environment import environment
from ptb.runs.run import Run, load_model
from ptb.setting import Setting
from ptb.studies import adaptation
from ptb.studies.adaptation import TEMPERATURES, adapt_study, dynamic_perplexity, ensemble, heated
from ptb.training.train import train


def make(vocabulary: int, **chosen):
    torch.manual_seed(3)
    setting = Setting("gru", embedding=6, hidden=6, init=0.6, **chosen)
    return setting, build(setting, vocabulary)


@pytest.mark.parametrize("tied", [False, True])
def test_heated_probabilities_are_the_softmax_of_the_scaled_logits(tied):
    _, model = make(9, tied=tied)
    x, state = torch.randint(9, (4, 2)), model.initial_state(2)
    before = model.logits(x, state)[0]
    logits = heated(model, 1.3).logits(x, state)[0]
    torch.testing.assert_close(logits, before / 1.3)
    torch.testing.assert_close(model.logits(x, state)[0], before)  # the model is as it was


def test_an_ensemble_averages_probabilities():
    losses = [torch.tensor([1.0, 0.2]), torch.tensor([2.0, 3.0])]
    expected = [-math.log((math.exp(-1) + math.exp(-2)) / 2)]
    expected.append(-math.log((math.exp(-0.2) + math.exp(-3)) / 2))
    assert ensemble(losses).tolist() == pytest.approx(expected)


def test_without_a_rate_dynamic_evaluation_is_the_models_own(tiny_corpus):
    _, model = make(len(tiny_corpus.words))
    plain = perplexity(token_losses(model, tiny_corpus["valid"], rows=1))
    found = dynamic_perplexity(model, tiny_corpus["valid"], lr=0.0, decay=0.0)
    assert found == pytest.approx(plain, rel=1e-5)


def test_a_rate_that_blows_the_weights_up_is_infinitely_bad(tiny_corpus):
    _, model = make(len(tiny_corpus.words))
    assert dynamic_perplexity(model, tiny_corpus["valid"], lr=1e5, decay=0.0) == math.inf


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_dynamic_evaluation_is_a_plain_loop_over_torchs_modules(decay, tiny_corpus):
    setting, model = make(len(tiny_corpus.words))
    ids = tiny_corpus["valid"][:42].long()
    theirs = plain_copy(setting, model.double())
    first = [p.detach().clone() for p in theirs.parameters()]
    optimiser, state, total = torch.optim.SGD(theirs.parameters(), 0.5), None, 0.0
    for n in range(0, 41, 5):
        x, y = ids[n : n + 5][: 41 - n, None], ids[n + 1 : n + 6, None]
        loss, state = plain_loss(theirs, x, y, state)
        state = state.detach()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item() * len(y)
        for p, start in zip(theirs.parameters(), first, strict=True):
            p.data += decay * (start - p.data)
    assert dynamic_perplexity(model, ids, 0.5, decay) == pytest.approx(math.exp(total / 41))


def test_a_study_is_measured_and_what_is_chosen_is_chosen_on_validation(
    tmp_path, tiny_corpus, monkeypatch, capsys
):
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    # a test text of the likeliest word alone asks for another temperature than validation does
    tiny_corpus.splits["test"] = torch.zeros(80, dtype=torch.int32)
    monkeypatch.setattr(adaptation, "load", lambda name: tiny_corpus)
    monkeypatch.setattr(adaptation, "PART", 30)  # shorter than the split
    read, dynamic = [], adaptation.dynamic_perplexity

    def watched(model, ids, lr, decay):
        read.append(ids)
        return dynamic(model, ids, lr, decay)

    monkeypatch.setattr(adaptation, "dynamic_perplexity", watched)
    settings = [Setting("gru", embedding=4, hidden=4, epochs=1, seed=n) for n in (1, 2)]
    for setting in settings:
        train(setting, tiny_corpus, tmp_path / "study" / setting.name)
    assert main(["adapt", "study"]) == 0
    rows = json.loads((tmp_path / "study" / "adaptation.json").read_text())
    assert [row["kind"] for row in rows] == ["temperature", "dynamic evaluation"] * 2 + ["ensemble"]
    assert all(math.isfinite(row[split]) for row in rows for split in ("valid", "test"))
    assert all(row["environment"]["torch"] == torch.__version__ for row in rows)
    model = load_model(Run(tmp_path / "study" / rows[0]["run"]), tiny_corpus)
    valid, test = (
        {t: perplexity(token_losses(heated(model, t), tiny_corpus[split])) for t in TEMPERATURES}
        for split in ("valid", "test")
    )
    best = min(valid, key=valid.get)
    assert (rows[0]["chosen"], rows[0]["valid"]) == (f"{best:g}", valid[best])
    assert min(test, key=test.get) != best
    assert all(torch.equal(ids, tiny_corpus["valid"][:30]) for ids in read[: len(read) // 2 - 2])
    before = rows
    assert main(["adapt", "study", settings[1].name]) == 0  # that run alone
    rows = json.loads((tmp_path / "study" / "adaptation.json").read_text())
    assert [(r["run"], r["kind"]) for r in rows] == [(r["run"], r["kind"]) for r in before]
    assert [row for row in rows if row["run"] != settings[1].name] == [before[n] for n in (0, 1, 4)]
    assert main(["adapt", "study", settings[1].name, settings[0].name]) == 0  # in another order
    rows = json.loads((tmp_path / "study" / "adaptation.json").read_text())
    assert [row["kind"] for row in rows].count("ensemble") == 1
    monkeypatch.setattr(adaptation, "dynamic_perplexity", lambda *_: math.inf)
    shutil.rmtree(tmp_path / "study" / settings[0].name)
    assert main(["adapt", "study"]) == 0
    (row,) = json.loads((tmp_path / "study" / "adaptation.json").read_text())
    assert (row["run"], row["kind"]) == (settings[1].name, "temperature")
    assert main(["adapt", "study", "gru-dropout0-seed2"]) == 1
    assert f"did you mean '{settings[1].name}'?" in capsys.readouterr().err


def test_what_is_measured_is_kept_when_the_rest_is_stopped(tmp_path, tiny_corpus, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    monkeypatch.setattr(adaptation, "load", lambda name: tiny_corpus)
    monkeypatch.setattr(adaptation, "_dynamically", stopped)
    setting = Setting("gru", embedding=4, hidden=4, epochs=1)
    train(setting, tiny_corpus, tmp_path / "study" / setting.name)
    assert main(["adapt", "study"]) == 1
    (row,) = json.loads((tmp_path / "study" / "adaptation.json").read_text())
    assert (row["run"], row["kind"]) == (setting.name, "temperature")


def test_a_damaged_record_is_noticed_before_anything_is_measured(
    tmp_path, tiny_corpus, monkeypatch, capsys
):
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    monkeypatch.setattr(adaptation, "adapt", lambda runs: pytest.fail("it goes on to measure"))
    setting = Setting("gru", embedding=4, hidden=4, epochs=1)
    train(setting, tiny_corpus, tmp_path / "study" / setting.name)
    (tmp_path / "study" / "adaptation.json").write_text("[{")
    assert main(["adapt", "study"]) == 1
    assert "adaptation.json is damaged" in capsys.readouterr().err


def test_what_another_call_measures_meanwhile_is_kept(tmp_path, tiny_corpus, monkeypatch):
    settings = [Setting("gru", embedding=4, hidden=4, epochs=1, seed=n) for n in (1, 2)]
    for setting in settings:
        train(setting, tiny_corpus, tmp_path / setting.name)
    one, other = ([setting.name] for setting in settings)

    def measured(runs):
        (name,) = (run.folder.name for run in runs)
        if name == one[0]:  # while this one is measured
            adapt_study(tmp_path, other)
        row = {"run": name, "kind": "temperature", "chosen": "1", "valid": 9.0, "test": 9.0}
        yield row | {"minutes": 0.1, "environment": environment()}

    monkeypatch.setattr(adaptation, "adapt", measured)
    adapt_study(tmp_path, one)
    rows = json.loads((tmp_path / "adaptation.json").read_text())
    assert sorted(row["run"] for row in rows) == sorted(one + other)


def test_a_way_that_blows_the_weights_up_leaves_the_other_rows(tmp_path, tiny_corpus, monkeypatch):
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    monkeypatch.setattr(adaptation, "load", lambda name: tiny_corpus)
    monkeypatch.setattr(adaptation, "dynamic_perplexity", lambda *_: math.inf)
    setting = Setting("gru", embedding=4, hidden=4, epochs=1)
    train(setting, tiny_corpus, tmp_path / "study" / setting.name)
    assert main(["adapt", "study"]) == 0
    rows = json.loads((tmp_path / "study" / "adaptation.json").read_text())
    assert [row["kind"] for row in rows] == ["temperature"]


def test_a_study_without_weights_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    (tmp_path / "nothing").mkdir()
    assert main(["adapt", "nothing"]) == 1
    assert "train the study first" in capsys.readouterr().err
