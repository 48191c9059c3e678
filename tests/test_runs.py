"""ptb.runs: files whole or not there, one writer a folder, and finished runs gathered."""

import errno
import hashlib
import json
import math
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from ptb.model import WeightsError
from ptb.runs import (
    ANALYSIS,
    HISTORY,
    RECORDS,
    Run,
    RunError,
    environment,
    faults,
    find_runs,
    four_settings,
    gather,
    left_out,
    write_atomically,
    write_json,
)
from ptb.setting import Setting

SETTING = Setting(cell="gru", dropout=0.25, tied=True)


@pytest.fixture
def full_disk(monkeypatch):
    def fsync(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("old", [{"file.json": b"old"}, {}])
def test_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, full_disk, old):
    path = tmp_path / "file.json"
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError) as error:
        write_atomically(path, b"new")
    assert str(error.value) == f"{path} can't be written: No space left on device"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == old


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("checkpoint.pt", lambda run: run.write_checkpoint({"a": torch.zeros(10)})),
        ("weights.safetensors", lambda run: run.write_weights({"a": torch.zeros(10)}, ("x",))),
        ("history.csv", lambda run: run.write_history([row(1)])),
        ("metrics.json", lambda run: run.finish({})),
    ],
)
def test_whatever_a_full_disk_stops_says_so(tmp_path, name, write):
    (tmp_path / f"{name}.partial").symlink_to("/dev/full")
    with pytest.raises(RunError, match=f"{name} can't be written: No space left on device"):
        write(Run(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")
    folder = tmp_path / "file" / "run"
    with pytest.raises(RunError) as error, Run(folder).writing(SETTING):
        pytest.fail("written")
    assert str(error.value) == f"{folder} can't be written: Not a directory"


def test_old_file_stands_while_the_new_one_is_written(tmp_path, monkeypatch):
    path, seen = tmp_path / "file.txt", []
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(path.read_text()))
    write_atomically(path, b"new")
    assert seen == ["old"]
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path):
    with Run(tmp_path).writing(SETTING) as run:
        run.finish({"status": "finished"})
        run.write_checkpoint({"cuts": 0})
    (tmp_path / "metrics.json.partial").write_text("half of")
    with Run(tmp_path).writing(SETTING):
        pass
    visible = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert visible == {"setting.json", "metrics.json"}


@pytest.mark.parametrize("value", [math.nan, math.inf, object()])
def test_json_that_no_one_could_read_is_refused_and_the_old_stays(tmp_path, value):
    path = tmp_path / "file.json"
    write_json(path, [1])
    with pytest.raises((ValueError, TypeError)):
        write_json(path, [value])
    assert json.loads(path.read_text()) == [1]


# ---------------------------------------------------------------- whose folder it is
def test_folder_remembers_its_setting_and_where_it_was_made(tmp_path):
    with Run(tmp_path / "a" / "run").writing(SETTING):
        pass
    run = Run(tmp_path / "a" / "run")
    assert run.setting == SETTING
    assert run.environment["torch"] == version("torch")
    assert run.environment["threads"] == torch.get_num_threads()


def test_environment_can_be_written_as_json():
    found = json.loads(json.dumps(environment()))
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_folder_of_another_setting_is_refused_and_left_as_it_is(tmp_path):
    with Run(tmp_path).writing(SETTING):
        pass
    other = replace(SETTING, seed=2)
    with pytest.raises(RunError, match="another setting") as error, Run(tmp_path).writing(other):
        pytest.fail("the folder was given away")
    assert "\n" not in str(error.value)
    assert Run(tmp_path).setting == SETTING


def test_second_writer_in_this_process_is_refused(tmp_path):
    with (
        Run(tmp_path).writing(SETTING),
        pytest.raises(RunError, match=f"being written by process {os.getpid()} on "),
        Run(tmp_path).writing(SETTING),
    ):
        pytest.fail("two writers")


WRITER = """
import sys
from ptb.runs import Run, RunError
from ptb.setting import Setting
try:
    with Run(sys.argv[1]).writing(Setting()) as run:
        print("writes", flush=True)
        for line in sys.stdin:
            run.write("samples.json", [line])
            print("has written", flush=True)
except RunError as error:
    print(error)
"""


@contextmanager
def writer(folder):
    """Another process, which writes a line of its input to the folder, if it gets it."""
    command = [sys.executable, "-c", WRITER, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        yield process
        process.stdin.close()


def said(process, line: str = "") -> str:
    """What the process prints next, after a line of input."""
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_second_process_is_told_who_writes(tmp_path):
    with writer(tmp_path) as first, pytest.raises(RunError) as error:
        assert said(first) == "writes"
        with Run(tmp_path).writing(Setting()):
            pytest.fail("two writers")
    start = f"{tmp_path} is being written by process {first.pid} on {platform.node()} since "
    assert re.fullmatch(
        re.escape(start) + r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d: wait for it or stop it",
        str(error.value),
    )


def test_folder_is_free_when_its_writer_is_killed(tmp_path):
    with writer(tmp_path) as first:
        assert said(first) == "writes"
        first.kill()
        first.wait()
        with writer(tmp_path) as second:
            assert said(second) == "writes"


def test_orphan_whose_folder_was_deleted_leaves_the_new_run_alone(tmp_path):
    """The lock went with the folder, and the run that was begun anew there has its own."""
    folder = tmp_path / "run"
    with writer(folder) as orphan:
        assert said(orphan) == "writes"
        assert said(orphan, "before\n") == "has written"
        shutil.rmtree(folder)
        with Run(folder).writing(Setting()) as run:
            run.write("samples.json", ["new"])
            assert said(orphan, "after\n") == f"{folder} was deleted while this process wrote it"
            assert run.samples == ["new"]


def test_folder_is_free_after_its_writer_failed(tmp_path):
    with pytest.raises(OSError, match="disk full"), Run(tmp_path).writing(SETTING):
        raise OSError("disk full")
    with Run(tmp_path).writing(SETTING) as run:
        run.write("samples.json", ["free"])
    assert Run(tmp_path).samples == ["free"]


# ---------------------------------------------------------------- what it holds
def test_weights_round_trip_as_half_precision_with_the_vocabulary(tmp_path):
    torch.manual_seed(1)
    weights = {"a": torch.randn(3, 4), "layers.0.b": torch.randn(5, 2).T}
    words = ("<eos>", "<unk>", "naïve", "'s", '"quoted"')
    Run(tmp_path).write_weights(weights, words)
    read, read_words = Run(tmp_path).read_weights()
    assert read_words == words
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        assert read[name].dtype == torch.float32
        assert torch.equal(read[name], tensor.half().float())


def test_weights_beyond_half_precision_stay_finite(tmp_path):
    Run(tmp_path).write_weights({"a": torch.tensor([1e6, -1e6, 1.0])}, ("x",))
    assert Run(tmp_path).read_weights()[0]["a"].tolist() == [65504.0, -65504.0, 1.0]


def test_weights_are_two_bytes_each(tmp_path):
    Run(tmp_path).write_weights({"a": torch.zeros(100, 100)}, ("x",))
    assert 20_000 < (tmp_path / "weights.safetensors").stat().st_size < 21_000


def test_checkpoint_round_trip(tmp_path):
    state = {"model": {"a": torch.arange(3.0)}, "history": [{"epoch": 1, "valid": 3.5}], "cuts": 2}
    Run(tmp_path).write_checkpoint(state)
    read = Run(tmp_path).read_checkpoint()
    assert torch.equal(read["model"]["a"], state["model"]["a"])
    assert (read["history"], read["cuts"]) == (state["history"], 2)


def test_no_checkpoint_is_none(tmp_path):
    assert Run(tmp_path).read_checkpoint() is None


class Payload:
    """What a hostile checkpoint could hold."""

    def __reduce__(self):
        return print, ("executed",)


def refusal(error_type, read) -> str:
    """The one line of the error that read raises."""
    with pytest.raises(error_type) as error:
        read()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_hostile_checkpoint_is_refused_and_not_executed(tmp_path, capsys):
    torch.save({"model": Payload()}, tmp_path / "checkpoint.pt")
    line = refusal(RunError, Run(tmp_path).read_checkpoint)
    assert "no checkpoint of a run (UnpicklingError): delete it" in line
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 7, 0.5, 0.99])
def test_truncated_checkpoint_is_refused_and_says_what_to_do(tmp_path, size):
    Run(tmp_path).write_checkpoint({"model": {"a": torch.arange(3000.0)}})
    truncate(tmp_path / "checkpoint.pt", size)
    line = refusal(RunError, Run(tmp_path).read_checkpoint)
    assert "cut short" in line and "delete it, and the run starts again" in line


def truncate(path, size):
    """Keeps the first bytes of a file: that many, or that share."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * size) if 0 < size < 1 else size])


# ---------------------------------------------------------------- weights that are refused
@pytest.fixture
def weighed(tmp_path) -> Run:
    """A run with weights, done as far as they are concerned."""
    run = Run(tmp_path)
    run.write_weights({"a": torch.ones(40, 20), "b": torch.zeros(3)}, ("x", "y"))
    run.finish({"status": "finished"})
    return run


def forget_hash(run: Run) -> None:
    """As in records that were made before it was recorded."""
    run.write("metrics.json", {"status": "finished"})


def test_record_has_the_hash_of_the_weights(weighed):
    found = hashlib.sha256((weighed.folder / "weights.safetensors").read_bytes()).hexdigest()
    assert weighed.metrics["weights_sha256"] == found
    assert weighed.read_weights()[1] == ("x", "y")


def test_one_changed_bit_of_the_weights_is_noticed(weighed):
    path = weighed.folder / "weights.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-1000] ^= 1
    path.write_bytes(changed)
    line = refusal(WeightsError, weighed.read_weights)
    assert str(path) in line and "SHA-256 differs" in line
    forget_hash(weighed)
    assert weighed.read_weights()[1] == ("x", "y")


@pytest.mark.parametrize("size", [0, 7, 0.5, 0.99])
def test_truncated_weights_are_refused(weighed, size):
    forget_hash(weighed)
    truncate(weighed.folder / "weights.safetensors", size)
    assert "weights.safetensors is cut short" in refusal(WeightsError, weighed.read_weights)


def test_missing_weights_are_refused(weighed):
    (weighed.folder / "weights.safetensors").unlink()
    assert "weights.safetensors is missing" in refusal(WeightsError, weighed.read_weights)


@pytest.mark.parametrize("metadata", [None, {}, {"words": "no list"}, {"words": "3"}])
def test_tensors_without_a_vocabulary_are_no_weights_of_a_run(tmp_path, metadata):
    save_file({"a": torch.ones(2)}, tmp_path / "weights.safetensors", metadata)
    assert "no weights of a run" in refusal(WeightsError, Run(tmp_path).read_weights)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    weights = {"a": torch.ones(2).half(), "layers.0.b": torch.tensor([1, value]).half()}
    save_file(weights, tmp_path / "weights.safetensors", {"words": "[]"})
    line = refusal(WeightsError, Run(tmp_path).read_weights)
    assert "layers.0.b has values that are not finite" in line


def test_pickled_weights_are_refused_and_not_executed(tmp_path, capsys):
    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps({"a": Payload()}))
    assert "no weights of a run" in refusal(WeightsError, Run(tmp_path).read_weights)
    assert "executed" not in capsys.readouterr().out


def row(epoch, **others):
    columns = {"lr": 1.0, "train_running": 3.1, "train": 3.0, "valid": 4.0, "test": 5.0}
    return {"epoch": epoch, **columns, "seconds": 60.0 * epoch, "tokens_per_second": 9.0} | others


def test_history_has_the_columns_of_the_contract(tmp_path):
    Run(tmp_path).write_history([row(1), row(2)])
    history = Run(tmp_path).history
    assert list(history.columns) == HISTORY
    assert history["epoch"].tolist() == [1, 2]
    assert history["seconds"].tolist() == [60, 120]


def test_history_of_a_run_that_has_none_is_empty(tmp_path):
    assert list(Run(tmp_path).history.columns) == HISTORY
    assert len(Run(tmp_path).history) == 0


def test_run_is_done_when_its_metrics_are_there_and_then_has_no_checkpoint(tmp_path):
    run = Run(tmp_path)
    run.write_checkpoint({"cuts": 0})
    assert not run.done
    assert run.finish({"status": "finished"}) == run.metrics
    assert run.done
    assert run.read_checkpoint() is None


# ---------------------------------------------------------------- gathered
def make_run(study, cell="lstm", dropout=0.0, valid=100.0, status="finished", seed=1, rows=2):
    setting = Setting(cell=cell, dropout=dropout, seed=seed)
    metrics = {"status": status, "best_epoch": rows or None, "parameters": 7}
    metrics |= {"floor": {}, "types": 9}
    values = {"train": valid - 10, "valid": valid, "test": valid - 1}
    with Run(study / setting.name).writing(setting) as run:
        if rows:
            measured = {"loss": 4.0, "tokens": 60}
            metrics |= {split: {"perplexity": p, **measured} for split, p in values.items()}
            run.write_history([row(epoch, **values) for epoch in range(1, rows + 1)])
            run.write("samples.json", [{"temperature": 1.0, "text": "a b"}])
            run.write("analysis.json", dict.fromkeys(ANALYSIS, []))
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
    assert (found["status"], found["best_epoch"], found["parameters"]) == ("finished", 2, 7)
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
    for seed, valid, status in [(1, 99.0, "finished"), (2, 97.0, "finished"), (3, 9.0, "diverged")]:
        make_run(tmp_path, "lstm", 0.3, valid, status, seed)
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
    (says("analysis.json", '{"sentences": []}'), "analysis.json is damaged"),
    (lost("history.csv"), "history.csv has no row for every epoch up to the best, 2"),
    (says("metrics.json", ""), "metrics.json is damaged (JSONDecodeError"),
    (says("metrics.json", '{"status": "fini'), "metrics.json is damaged (JSONDecodeError"),
    (says("metrics.json", "[1, 2]"), "metrics.json is damaged (TypeError"),
    (says("metrics.json", '{"status": "finished"}'), "metrics.json is damaged (KeyError: 'best_"),
    (says("setting.json", "{}"), "setting.json is damaged (KeyError: 'setting')"),
    (altered("setting.json", setting={"dropout": 2}), "setting.json is damaged (SettingError"),
    (altered("setting.json", setting={"droput": 0}), "setting.json is damaged (TypeError"),
    (says("samples.json", "[]"), "samples.json is damaged"),
    (says("texts.json", "["), "texts.json is damaged"),
    (says("judged.json", "{"), "judged.json is damaged"),
    (says("history.csv", ""), "history.csv is damaged (EmptyDataError"),
    (says("history.csv", "epoch,lr\n1,2\n"), "history.csv is damaged (ValueError: Usecols"),
    (rows_are(row(1, **FITS | {"valid": "x"})), "history.csv is damaged (ValueError: could not"),
    (rows_are(row(1, **FITS)), "history.csv has no row for every epoch up to the best, 2"),
    (rows_are(row(2, **FITS), row(3, **FITS)), "history.csv has no row for every epoch"),
    (rows_are(row(1, **FITS), row(2, train=1.0, valid=math.nan)), "values that are not finite"),
    (rows_are(row(1, **FITS), row(2, **FITS | {"valid": 100.6})), "100.00 in metrics.json, 100.60"),
    (altered("metrics.json", valid={"perplexity": math.nan}), "valid perplexity is nan"),
    (altered("metrics.json", test={"loss": math.inf}), "test loss is inf"),
    (altered("metrics.json", train={"tokens": None}), "metrics.json is damaged (TypeError"),
    (altered("metrics.json", best_epoch="2"), "no row for every epoch up to the best, 2"),
    (altered("metrics.json", best_epoch=None), "no row for every epoch up to the best, None"),
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
    run.write_history([row(1, **FITS), row(2, **FITS | {"valid": 100.4})])
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
