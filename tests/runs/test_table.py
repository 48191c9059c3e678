"""ptb.runs.table: runs are found and gathered, faulty ones named in one line."""

import json
import math

import pandas as pd
import pytest
from test_run import SETTING, analysed, measured, parameters, row

from ptb.paths import RECORDS
from ptb.runs.run import Run
from ptb.runs.table import faults, find_runs, four_settings, gather, left_out
from ptb.setting import Setting


# ---------------------------------------------------------------- gathered
def make_run(study, cell="lstm", dropout=0.0, valid=100.0, status="finished", rows=2, **choices):
    setting = Setting(cell=cell, dropout=dropout, **choices)
    metrics = {"status": status, "best_epoch": 1 if rows else None, "floor": {}, "types": 9}
    metrics["parameters"] = parameters(setting, 9)
    metrics |= {"reason": "loss nan"} if status == "diverged" else {}
    values = {"train": valid - 10, "valid": valid, "test": valid - 1}
    with Run(study / setting.name).writing(setting) as run:
        if rows:
            metrics |= {split: measured(p) for split, p in values.items()}
            run.write_history([row(epoch, **values) for epoch in range(1, rows + 1)])
            run.write("samples.json", [{"temperature": 1.0, "text": "a b"}])
            run.write("analysis.json", analysed(metrics["test"]))
        run.finish(metrics)
        return run


def test_only_runs_that_are_done_are_found(tmp_path):
    make_run(tmp_path, "gru")
    make_run(tmp_path, "lstm")
    with Run(tmp_path / "unfinished").writing(SETTING) as run:
        run.write_history([row(1)])
    assert [run.setting.cell for run in find_runs(tmp_path)] == ["gru", "lstm"]
    assert find_runs(tmp_path / "nowhere") == []


def test_gathered_row_has_setting_metrics_and_minutes(tmp_path):
    make_run(tmp_path, "gru", 0.3, valid=95.0)
    (found,) = gather(find_runs(tmp_path)).to_dict("records")
    assert (found["cell"], found["dropout"], found["bptt"]) == ("gru", 0.3, 35)
    assert (found["train"], found["valid"], found["test"]) == (85.0, 95.0, 94.0)
    assert (found["minutes"], found["tokens_per_second"]) == (2.0, 9.0)
    assert (found["status"], found["best_epoch"], found["parameters"]) == ("finished", 1, 486_009)
    assert found["run"].setting.cell == "gru"


def test_run_that_diverged_in_its_first_epoch_is_gathered_without_perplexities(tmp_path):
    make_run(tmp_path, "gru")
    make_run(tmp_path, "lstm", status="diverged", rows=0)
    table = gather(find_runs(tmp_path)).set_index("cell")
    assert table.loc["gru", "valid"] == 100
    assert math.isnan(table.loc["lstm", "valid"])
    assert len(four_settings(gather(find_runs(tmp_path)))) == 1


def test_four_settings_are_in_the_exercises_order(tmp_path):
    for cell, dropout in [("gru", 0.3), ("rnn", 0.0), ("lstm", 0.2), ("gru", 0.0), ("lstm", 0.0)]:
        make_run(tmp_path, cell, dropout)
    table = four_settings(gather(find_runs(tmp_path)))
    found = list(zip(table["cell"], table["dropout"], strict=True))
    assert found == [("lstm", 0.0), ("lstm", 0.2), ("gru", 0.0), ("gru", 0.3)]


def test_best_of_several_is_chosen_on_validation_among_finished_runs(tmp_path):
    for seed, valid, status in [
        (1, 99.0, "finished"),
        (2, 97.0, "finished"),
        (3, 19.0, "diverged"),
    ]:
        make_run(tmp_path, "lstm", 0.3, valid, status, seed=seed)
    make_run(tmp_path, "lstm", 0.5, 98.0)
    table = four_settings(gather(find_runs(tmp_path)))
    assert table[["seed", "dropout", "valid"]].to_numpy().tolist() == [[2, 0.3, 97.0]]


def test_four_settings_of_nothing_are_empty():
    assert four_settings(gather([])).empty
    assert isinstance(four_settings(gather([])), pd.DataFrame)


# ---------------------------------------------------------------- faulty records
def altered(name: str, **changes):
    """Changes what one of a run's JSON files says; a dictionary in it keeps its other values."""

    def alter(run):
        value = run._json(name)
        for key, new in changes.items():
            value[key] = value[key] | new if isinstance(new, dict) else new
        (run.folder / name).write_text(json.dumps(value))

    return alter


def lost(name: str):
    return lambda run: (run.folder / name).unlink()


def says(name: str, text: str):
    return lambda run: (run.folder / name).write_text(text)


def rows_are(*rows):
    return lambda run: run.write_history(list(rows))


FITS = {"train": 90.0, "valid": 100.0, "test": 99.0}
FAULTS = [
    (lost("metrics.json"), "not finished, it has no metrics.json"),
    (lost("setting.json"), "setting.json is missing"),
    (lost("samples.json"), "samples.json is missing"),
    (lost("analysis.json"), "analysis.json is missing"),
    (says("analysis.json", '{"sentences": []}'), "analysis.json is damaged (ValueError: data must"),
    (lost("history.csv"), "history.csv has no row for the best epoch, 1"),
    (says("metrics.json", ""), "metrics.json is damaged (JSONDecodeError"),
    (says("metrics.json", '{"status": "fini'), "metrics.json is damaged (JSONDecodeError"),
    (says("metrics.json", "[1, 2]"), "metrics.json is damaged (ValueError: data must be object)"),
    (
        says("metrics.json", '{"status": "finished"}'),
        "metrics.json is damaged (ValueError: data must contain",
    ),
    (says("setting.json", "{}"), "setting.json is damaged (ValueError: data must contain"),
    (altered("setting.json", setting={"dropout": 2}), "setting.json is damaged (SettingError"),
    (altered("setting.json", setting={"droput": 0}), "setting.json is damaged (TypeError"),
    (says("samples.json", "[]"), "samples.json has not one sample at temperature 1"),
    (says("texts.json", "["), "texts.json is damaged"),
    (says("judged.json", "{"), "judged.json is damaged"),
    (says("history.csv", ""), "history.csv is damaged (EmptyDataError"),
    (says("history.csv", "epoch,lr\n1,2\n"), "history.csv is damaged (ValueError: Usecols"),
    (rows_are(row(1, **FITS | {"valid": "x"})), "history.csv is damaged (ValueError: could not"),
    (altered("metrics.json", best_epoch=3), "history.csv has no row for the best epoch, 3"),
    (rows_are(row(2, **FITS), row(3, **FITS)), "history.csv has not one row for each epoch"),
    (rows_are(row(1, **FITS), row(2, train=1.0, valid=math.nan)), "values that are not finite"),
    (rows_are(row(1, **FITS | {"valid": 100.6})), "100.00 in metrics.json, 100.60"),
    (
        altered("metrics.json", valid={"perplexity": math.nan}),
        "damaged (ValueError: NaN is not a JSON number)",
    ),
    (
        altered("metrics.json", test={"loss": math.inf}),
        "damaged (ValueError: Infinity is not a JSON number)",
    ),
    (altered("metrics.json", train={"tokens": None}), "(ValueError: train.tokens must be integer)"),
    (altered("metrics.json", best_epoch="2"), "(ValueError: best_epoch must be integer)"),
    (
        altered("metrics.json", best_epoch=None),
        "(ValueError: data must contain ['reason'] properties)",
    ),
]


@pytest.mark.parametrize(("alter", "said"), FAULTS, ids=[said[:40] for _, said in FAULTS])
def test_faulty_records_are_named_in_one_line_and_left_out(tmp_path, alter, said):
    good, bad = make_run(tmp_path, "gru"), make_run(tmp_path, "lstm")
    alter(bad)
    assert [run.folder for run in gather(find_runs(tmp_path))["run"]] == [good.folder]
    (line,) = left_out(tmp_path)
    assert line.startswith(f"{bad.folder.name}: ") and said in line and "\n" not in line


def test_sound_records_have_no_faults(tmp_path):
    assert faults(make_run(tmp_path, "gru")) is None
    assert faults(make_run(tmp_path, "lstm", status="diverged", rows=0)) is None
    assert left_out(tmp_path) == []


def test_rounded_weights_may_differ_a_little_from_the_history(tmp_path):
    run = make_run(tmp_path)
    run.write_history([row(1, **FITS | {"valid": 100.4})])
    assert faults(run) is None


def test_published_records_have_no_faults():
    """Though they are older than texts, and have none."""
    runs = find_runs(RECORDS / "dropout")
    assert len(runs) == len(gather(runs)) == 4
    assert left_out(RECORDS / "dropout") == []


def test_records_without_texts_have_none_and_are_gathered(tmp_path):
    run = make_run(tmp_path)
    assert (run.texts, run.judged) == ([], None) and len(gather([run])) == 1


def test_other_folders_in_a_study_are_no_runs(tmp_path):
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "report-checkpoint.ipynb").write_text("{}")
    assert left_out(tmp_path) == []


@pytest.mark.parametrize(("unigram", "kept"), [(90.0, True), (110.0, False)])
def test_a_run_that_is_worse_than_word_frequencies_may_differ_from_its_rounded_weights(
    tmp_path, unigram, kept
):
    run = make_run(tmp_path, valid=100.0)
    rows_are(row(1, **FITS | {"valid": 103.0}))(run)
    analysis = run.analysis | {"unigram": unigram}
    (run.folder / "analysis.json").write_text(json.dumps(analysis))
    assert (faults(run) is None) == kept
