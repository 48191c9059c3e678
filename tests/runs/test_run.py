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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ptb.errors import RunError, SettingError, WeightsError
from ptb.models.language_model import build
from ptb.paths import ROOT
from ptb.runs import files
from ptb.runs.environment import environment
from ptb.runs.files import HISTORY, write_atomically, write_json
from ptb.runs.run import Run, run_folder
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


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("checkpoint.pt", lambda run: run.write_checkpoint({"a": torch.zeros(10)})),
        ("weights.next.safetensors", lambda run: run.write_weights({"a": torch.zeros(10)}, ("x",))),
        ("history.csv", lambda run: run.write_history([row(1)])),
        ("metrics.json", lambda run: run.finish({})),
    ],
)
def test_whatever_a_full_disk_stops_says_so(tmp_path, full_disk, name, write):
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


@pytest.mark.parametrize("refusals", [2, 3])
def test_a_file_that_another_process_has_open_is_tried_again_for_a_while(
    refusals, tmp_path, monkeypatch
):
    """As on Windows, which refuses to replace it meanwhile."""
    left, replaced = [PermissionError(13, "in use")] * refusals, os.replace

    def refused(*paths):
        if left:
            raise left.pop()
        replaced(*paths)

    monkeypatch.setattr(files, "TRIES", 3)
    monkeypatch.setattr(os, "replace", refused)
    if refusals < 3:
        write_atomically(tmp_path / "file.txt", b"new")
        assert (tmp_path / "file.txt").read_text() == "new"
    else:
        with pytest.raises(RunError, match="file.txt can't be written: in use"):
            write_atomically(tmp_path / "file.txt", b"new")
        assert os.listdir(tmp_path) == []


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


@pytest.mark.parametrize(("units", "name"), [("AVX2", "AMD EPYC, AVX2"), ("DEFAULT", "AMD EPYC")])
def test_a_processor_is_named_with_its_widest_units(monkeypatch, units, name):
    """Chips of one name may differ by a factor of two."""
    monkeypatch.setattr("ptb.runs.environment._model_name", lambda: "AMD EPYC")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: units)
    assert environment()["processor"] == name


def test_folder_of_another_setting_is_refused_and_left_as_it_is(tmp_path):
    with Run(tmp_path).writing(SETTING):
        pass
    other = replace(SETTING, seed=2)
    with pytest.raises(RunError, match="another setting") as error, Run(tmp_path).writing(other):
        pytest.fail("the folder was given away")
    assert "\n" not in str(error.value)
    assert Run(tmp_path).setting == SETTING


def test_a_run_that_went_on_elsewhere_says_where(tmp_path, monkeypatch):
    places = [{"commit": name} for name in "aaba"]
    monkeypatch.setattr("ptb.runs.run.environment", lambda: places.pop(0))
    for end in (False, False, True, False):
        with Run(tmp_path).writing(SETTING) as run:
            if end:
                run.finish({"status": "finished"})
    assert [found["commit"] for found in run.environments] == ["a", "b"]
    assert run.environment == {"commit": "a"} and run.setting == SETTING


def test_second_writer_in_this_process_is_refused(tmp_path):
    with (
        Run(tmp_path).writing(SETTING),
        pytest.raises(RunError, match=f"being written by process {os.getpid()} on "),
        Run(tmp_path).writing(SETTING),
    ):
        pytest.fail("two writers")


WRITER = """
import sys
from ptb.errors import RunError
from ptb.runs.run import Run, run_folder
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


def test_a_mark_that_cannot_be_read_is_no_deleted_folder(tmp_path):
    with Run(tmp_path).writing(SETTING) as run:
        (tmp_path / ".writer").unlink()
        (tmp_path / ".writer").mkdir()
        said = refusal(RunError, lambda: run.write("samples.json", []))
        assert ".writer can't be read: " in said


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
    write_weights(Run(tmp_path), weights, words)
    read, read_words = Run(tmp_path).read_weights()
    assert read_words == words
    assert read.keys() == weights.keys()
    for name, tensor in weights.items():
        assert read[name].dtype == torch.float32
        assert torch.equal(read[name], tensor.half().float())


def write_weights(run: Run, *weights) -> None:
    run.settle_weights(run.write_weights(*weights))


def test_weights_beyond_half_precision_stay_finite(tmp_path):
    write_weights(Run(tmp_path), {"a": torch.tensor([1e6, -1e6, 1.0])}, ("x",))
    assert Run(tmp_path).read_weights()[0]["a"].tolist() == [65504.0, -65504.0, 1.0]


def test_weights_are_two_bytes_each(tmp_path):
    write_weights(Run(tmp_path), {"a": torch.zeros(100, 100)}, ("x",))
    assert 20_000 < (tmp_path / "weights.safetensors").stat().st_size < 21_000


def test_checkpoint_round_trip(tmp_path):
    state = {"model": {"a": torch.arange(3.0)}, "history": [{"epoch": 1, "valid": 3.5}], "cuts": 2}
    Run(tmp_path).write_checkpoint(state)
    read = Run(tmp_path).read_checkpoint()
    assert torch.equal(read["model"]["a"], state["model"]["a"])
    assert (read["history"], read["cuts"]) == (state["history"], 2)


def test_checkpoint_of_a_gpu_goes_on_without_one(tmp_path, monkeypatch):
    with monkeypatch.context() as there:
        there.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        Run(tmp_path).write_checkpoint({"a": torch.arange(3.0)})
    assert Run(tmp_path).read_checkpoint()["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("place", "error"),
    [("torch.load", MemoryError()), ("pathlib.Path.read_bytes", PermissionError("denied"))],
)
def test_checkpoint_that_may_be_whole_is_not_to_be_deleted(tmp_path, monkeypatch, place, error):
    def failing(*_, **__):
        raise error

    Run(tmp_path).write_checkpoint({})
    monkeypatch.setattr(place, failing)
    said = refusal(RunError, Run(tmp_path).read_checkpoint)
    assert "checkpoint.pt can't be read: " in said and "delete" not in said


def test_a_damaged_file_is_said_of_the_folder_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    said = refusal(RunError, lambda: Run(Path(".")).metrics)
    assert said.startswith(f"{tmp_path.name}: metrics.json is damaged")


def test_a_run_whose_name_is_too_long_is_refused_in_one_line(tmp_path):
    folder = run_folder(SETTING, None, str(tmp_path / ("x" * 300)))

    def write():
        with Run(folder).writing(SETTING):
            pass

    assert "can't be written: File name too long" in refusal(RunError, write)


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
    assert "not a checkpoint of a run (UnpicklingError): delete it" in line
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 7, 0.5, 0.99])
def test_truncated_checkpoint_is_refused_and_says_what_to_do(tmp_path, size):
    Run(tmp_path).write_checkpoint({"model": {"a": torch.arange(3000.0)}})
    truncate(tmp_path / "checkpoint.pt", size)
    line = refusal(RunError, Run(tmp_path).read_checkpoint)
    assert "truncated" in line and "delete it, and the run starts again" in line


def truncate(path, size):
    """Keeps the first bytes of a file: that many, or that share."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * size) if 0 < size < 1 else size])


# ---------------------------------------------------------------- weights that are refused
@pytest.fixture
def weighed(tmp_path) -> Run:
    """A run with weights, done as far as they are concerned."""
    run = Run(tmp_path)
    write_weights(run, {"a": torch.ones(40, 20), "b": torch.zeros(3)}, ("x", "y"))
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
    assert "weights.safetensors is truncated" in refusal(WeightsError, weighed.read_weights)


def test_missing_weights_are_refused(weighed, monkeypatch):
    (weighed.folder / "weights.safetensors").unlink()
    refused = refusal(WeightsError, weighed.read_weights)
    assert "weights.safetensors is missing: copy it again, or delete the folder" in refused
    monkeypatch.setattr("ptb.runs.run.RECORDS", weighed.folder.parent)  # a published run
    refused = refusal(WeightsError, weighed.read_weights)
    assert "missing: of most runs no weights are published: train the run yourself" in refused


@pytest.mark.parametrize("metadata", [None, {}, {"words": "no list"}, {"words": "3"}])
def test_tensors_without_a_vocabulary_are_no_weights_of_a_run(tmp_path, metadata):
    save_file({"a": torch.ones(2)}, tmp_path / "weights.safetensors", metadata)
    assert "not the weights of a run" in refusal(WeightsError, Run(tmp_path).read_weights)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    weights = {"a": torch.ones(2).half(), "layers.0.b": torch.tensor([1, value]).half()}
    save_file(weights, tmp_path / "weights.safetensors", {"words": "[]"})
    line = refusal(WeightsError, Run(tmp_path).read_weights)
    assert "layers.0.b has values that are not finite" in line


def test_pickled_weights_are_refused_and_not_executed(tmp_path, capsys):
    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps({"a": Payload()}))
    assert "not the weights of a run" in refusal(WeightsError, Run(tmp_path).read_weights)
    assert "executed" not in capsys.readouterr().out


def measured(perplexity: float, tokens: int = 60) -> dict:
    """A split's measures, as metrics.json has them."""
    return {"loss": math.log(perplexity), "perplexity": perplexity, "tokens": tokens}


def analysed(test: dict) -> dict:
    """An analysis.json that fits the test split's measures: all in one sentence, all in one bin."""
    loss, tokens = test["loss"] * test["tokens"], test["tokens"]
    bins = [{"bin": "1", "loss": loss, "tokens": tokens}]
    sentences = {"loss": [loss], "tokens": [tokens]}
    return {"sentences": sentences, "frequency": bins, "position": bins, "distance": bins}


def parameters(setting: Setting, types: int) -> int:
    """How many the setting's model has."""
    with torch.device("meta"):
        return sum(p.numel() for p in build(setting, types).parameters())


def row(epoch, **others):
    columns = {"lr": 1e-4, "train_running": 3.1, "train": 3.0, "valid": 4.0, "test": 5.0}
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


# ---------------------------------------------------------------- what a hostile folder may hold
def test_a_link_that_was_left_as_a_partial_file_goes_and_its_target_stays(tmp_path):
    other, folder = tmp_path / "other", tmp_path / "run"
    other.write_text("mine")
    folder.mkdir()
    for name in ("setting.json", "history.csv", ".writer"):
        (folder / f"{name}.partial").symlink_to(other)
    with Run(folder).writing(SETTING) as run:
        run.write_history([row(1)])
    assert other.read_text() == "mine" and not list(folder.glob("*.partial"))


def test_writing_that_is_interrupted_leaves_the_old_file_and_no_part(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    write_json(tmp_path / "file.json", "old")
    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "file.json", "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ['"old"\n']


def test_the_name_of_a_partial_file_cannot_be_guessed_and_a_link_there_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / f"file.json.{'0' * 16}.partial").symlink_to(other)
    with pytest.raises(RunError, match="file.json can't be written: File exists"):
        write_json(tmp_path / "file.json", [1])
    assert other.read_text() == "mine"


@pytest.mark.parametrize("name", ["setting.json", ".writer", ".lock"])
def test_a_folder_where_a_file_belongs_is_one_line(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(RunError) as error, Run(tmp_path).writing(SETTING):
        pytest.fail("written")
    assert "\n" not in str(error.value) and "Is a directory" in str(error.value)


def test_a_folder_in_the_place_of_the_weights_is_one_line(tmp_path):
    (tmp_path / "weights.safetensors").mkdir()
    assert "weights.safetensors" in refusal(WeightsError, Run(tmp_path).read_weights)
    said = refusal(RunError, lambda: Run(tmp_path).remove("weights.safetensors"))
    assert "weights.safetensors can't be deleted" in said


def test_too_little_memory_for_weights_is_not_a_damaged_file(weighed, monkeypatch):
    def failing(*_):
        raise MemoryError

    monkeypatch.setattr("ptb.runs.weights.safe_open", failing)
    assert "there is too little memory" in refusal(WeightsError, weighed.read_weights)


def test_a_folder_of_no_user_is_one_line():
    with pytest.raises(SettingError, match="folder = '~nosuch/run': ~nosuch is not a user"):
        run_folder(SETTING, None, "~nosuch/run")


# ---------------------------------------------------------------- where it was made
def test_what_is_not_installed_has_no_version(monkeypatch):
    def missing(name):
        if name == "papermill":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("ptb.runs.environment.version", missing)
    found = environment()
    assert found["papermill"] is None and found["torch"] == version("torch")


def git(folder, *arguments) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A git repository with a ptb/ of its own."""
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "code.py").write_text("1")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "ptb")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path.resolve()


def test_the_commit_is_this_repositorys_own(repository, monkeypatch):
    monkeypatch.setattr("ptb.runs.environment.CODE", repository)
    head = git(repository, "rev-parse", "HEAD")
    assert environment()["commit"] == head
    (repository / "ptb" / "code.py").write_text("2")
    assert environment()["commit"] == head + "+"
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))  # as in a hook of another repository
    assert environment()["commit"] == head + "+"


def test_a_copy_inside_another_repository_has_no_commit(repository, monkeypatch):
    copy = repository / "copy"
    shutil.copytree(repository / "ptb", copy / "ptb")
    monkeypatch.setattr("ptb.runs.environment.CODE", copy)
    assert environment()["commit"] is None
