"""ptb.trials: a trial is trained, resumed and becomes a row; the test split stays out of it."""

from dataclasses import asdict

import pandas as pd
import pytest

from ptb import trials
from ptb.recipes import recipe
from ptb.runs import Run
from ptb.setting import Setting, SettingError
from ptb.training import train
from ptb.trials import main, parse, record, row


@pytest.fixture
def here(monkeypatch, tmp_path, tiny_corpus):
    """The trials' folder and table, and a tiny corpus in place of the embedded one."""
    monkeypatch.setattr(trials, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(trials, "TABLE", tmp_path / "trials.csv")
    monkeypatch.setattr(record, "__defaults__", (tmp_path / "trials.csv",))
    monkeypatch.setattr(trials, "load", lambda name: tiny_corpus)
    return tmp_path


TINY = ["corpus=embedded", "hidden=5", "embedding=4", "batch_size=3", "bptt=4", "epochs=2"]


def test_words_make_a_setting_with_the_recipe():
    assert parse(["cell=gru", "dropout=0.4", "epochs=7"]) == recipe("gru", 0.4, epochs=7)
    assert parse([]) == recipe("lstm", 0.0)
    assert parse(["tied=True", "optimiser=adamw", "lr=0.002"]).tied


@pytest.mark.parametrize(
    ("word", "said"),
    [("lr", "write name=value"), ("dropuot=0.3", "did you mean 'dropout'"), ("lr=hot", "number")],
)
def test_bad_words_get_one_line_and_train_nothing(word, said, here, capsys):
    with pytest.raises(SettingError, match=said):
        parse([word])
    assert main([word]) == 1
    assert said in capsys.readouterr().err
    assert not list(here.iterdir())


def test_no_threads_are_refused_in_one_line(here, capsys):
    assert main(["--threads", "0"]) == 1
    assert "threads = 0 must be a whole number from 1" in capsys.readouterr().err


def test_a_trial_becomes_a_row_without_the_test_split(here):
    assert main([*TINY, "cell=gru"]) == 0
    (found,) = pd.read_csv(here / "trials.csv").to_dict("records")
    (folder,) = (here / "runs" / "trials").iterdir()
    history = Run(folder).history
    assert found["cell"] == "gru" and found["hidden"] == 5 and found["status"] == "finished"
    assert found["valid"] == pytest.approx(history["valid"].min(), abs=1e-3)
    assert [float(v) for v in found["valid_by_epoch"].split()] == pytest.approx(
        list(history["valid"]), abs=5e-3
    )
    assert not any("test" in name for name in found)


def test_rows_are_one_a_setting_in_order(here, tiny_corpus):
    for cell in ("lstm", "gru", "lstm"):
        main([*TINY, f"cell={cell}"])
    table = pd.read_csv(here / "trials.csv")
    assert list(table["cell"]) == ["gru", "lstm"]


def test_a_run_of_any_study_can_be_recorded(tmp_path, tiny_corpus, tiny_setting):
    setting = tiny_setting(epochs=1)
    train(setting, tiny_corpus, tmp_path / "run")
    record(Run(tmp_path / "run"), tmp_path / "trials.csv")
    table = pd.read_csv(tmp_path / "trials.csv")
    assert list(table["run"]) == [setting.name] == [row(Run(tmp_path / "run"))["run"]]


def test_rows_older_than_a_choice_have_its_default(tmp_path, tiny_corpus, tiny_setting):
    train(tiny_setting(epochs=1), tiny_corpus, tmp_path / "run")
    record(Run(tmp_path / "run"), tmp_path / "trials.csv")
    older = pd.read_csv(tmp_path / "trials.csv").drop(columns=["same_mask", "biases", "experiment"])
    older.to_csv(tmp_path / "trials.csv", index=False)
    (found,) = trials.read(tmp_path / "trials.csv").to_dict("records")
    assert (found["same_mask"], found["biases"], found["experiment"]) == (False, 2, "")


def test_a_trial_is_shown_with_what_differs_from_the_default():
    plain = asdict(Setting()) | {"best_epoch": 4, "train": 50.0, "valid": 90.128, "minutes": 7.25}
    tied = plain | {"tied": True, "weight_drop": 0.2, "lr": 25.0}
    table = trials.shown(pd.DataFrame([plain, tied]))
    assert list(table["beside"]) == ["", "tied, weight_drop 0.2"]
    assert list(table["lr"]) == ["20", "25"] and list(table["valid"]) == ["90.1", "90.1"]
