"""A trial is trained, resumed and becomes a row; the test split stays out of it."""

import shlex
from dataclasses import asdict

import pandas as pd
import pytest

from ptb.__main__ import chosen_setting, main, parser
from ptb.recipes import recipe
from ptb.report import tables
from ptb.runs.run import Run
from ptb.setting import Setting
from ptb.studies import trials
from ptb.studies.trials import record, row
from ptb.training.train import train


@pytest.fixture
def here(monkeypatch, tmp_path, tiny_corpus):
    """The trials' folder and table, and a tiny corpus in place of the embedded one."""
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path / "runs")
    monkeypatch.setattr(trials, "TRIALS", tmp_path / "trials.csv")
    monkeypatch.setattr(trials, "load", lambda name: tiny_corpus)
    return tmp_path


TINY = shlex.split(
    "trial --corpus embedded --hidden 5 --embedding 4 --batch-size 3 --bptt 4 --epochs 2"
)


def setting_of(line: str) -> Setting:
    return chosen_setting(parser().parse_args(["trial", *shlex.split(line)]))


def test_options_make_a_setting_with_the_recipe():
    assert setting_of("--cell gru --dropout 0.4 --epochs 7") == recipe("gru", 0.4, epochs=7)
    assert setting_of("") == recipe("lstm", 0.0)
    assert setting_of("--tied true --optimiser adamw --lr 0.002").tied


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--lr 2000", "lr = 2000.0 must be a number from 0 to 1000"),
        ("--cell lsmt", "did you mean 'lstm'"),
        ("--optimiser adamw", "needs a lr of its own"),
    ],
)
def test_bad_values_get_one_line_and_train_nothing(line, said, here, capsys):
    assert main(["trial", *shlex.split(line)]) == 1
    assert said in capsys.readouterr().err
    assert not list(here.iterdir())


@pytest.mark.parametrize("line", ["--dropuot 0.3", "--lr hot", "--tied maybe"])
def test_unknown_options_and_words_for_numbers_are_refused(line, here, capsys):
    with pytest.raises(SystemExit):
        main(["trial", *shlex.split(line)])
    assert line.split()[0] in capsys.readouterr().err
    assert not list(here.iterdir())


def test_no_threads_are_refused_in_one_line(here, capsys):
    assert main(["trial", "--threads", "0"]) == 1
    assert "threads = 0 must be a whole number from 1" in capsys.readouterr().err


def test_a_trial_becomes_a_row_without_the_test_split(here):
    assert main([*TINY, "--cell", "gru"]) == 0
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
        main([*TINY, "--cell", cell])
    table = pd.read_csv(here / "trials.csv")
    assert list(table["cell"]) == ["gru", "lstm"]


def test_a_run_of_any_study_can_be_recorded(here, tiny_corpus, tiny_setting):
    setting = tiny_setting(epochs=1)
    train(setting, tiny_corpus, here / "run")
    record(Run(here / "run"))
    table = pd.read_csv(here / "trials.csv")
    assert list(table["run"]) == [setting.name] == [row(Run(here / "run"))["run"]]


def test_a_damaged_table_is_one_line_before_anything_is_trained(here, capsys):
    (here / "trials.csv").write_text("<<<<<<< HEAD\nrun,valid\n")
    assert main(TINY) == 1
    assert "trials.csv is damaged (KeyError: 'valid')" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_trial_that_diverged_at_once_leaves_the_others_epochs_whole(
    here, tiny_corpus, tiny_setting
):
    for name, epoch in (("none", None), ("two", 2)):
        train(tiny_setting(epochs=2, seed=epoch or 1), tiny_corpus, here / name)
        run = Run(here / name)
        run.write("metrics.json", run.metrics | {"best_epoch": epoch})
        record(run)
    found = pd.read_csv(here / "trials.csv", dtype=str)["best_epoch"]
    assert sorted(found.fillna("")) == ["", "2"]


def test_rows_older_than_a_choice_have_its_default(here, tiny_corpus, tiny_setting):
    train(tiny_setting(epochs=1), tiny_corpus, here / "run")
    record(Run(here / "run"))
    older = pd.read_csv(here / "trials.csv").drop(columns=["same_mask", "biases", "experiment"])
    older.to_csv(here / "trials.csv", index=False)
    (found,) = trials.read().to_dict("records")
    assert (found["same_mask"], found["biases"], found["experiment"]) == (False, 2, "")


def test_a_trial_is_shown_with_what_differs_from_the_default():
    plain = asdict(Setting()) | {"best_epoch": 4, "train": 50.0, "valid": 90.128, "minutes": 7.25}
    tied = plain | {"tied": True, "weight_drop": 0.2, "lr": 25.0}
    table = tables.trials(pd.DataFrame([plain, tied]))
    assert list(table["other choices"]) == ["", "tied, weight drop 0.2"]
    assert list(table["lr"]) == ["20", "25"] and list(table["valid"]) == ["90.1", "90.1"]
