"""Studies: runs on an executor, skipped when done, failures named, nothing half-done published."""

import errno
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from distributed import LocalCluster

from ptb.__main__ import main
from ptb.errors import StudyError
from ptb.recipes import recipe
from ptb.runs.files import PUBLISHED
from ptb.runs.run import Run
from ptb.studies import execute as study
from ptb.studies.named import STUDIES

TINY = recipe("lstm", 0.0, "embedded", hidden=4, embedding=4, epochs=2)


def fake_execute(setting, folder, device="cpu"):
    """Stands for an executed notebook: writes the files a run has when it is complete."""
    if setting.cell == "rnn":
        raise RuntimeError("cell 7: ValueError: no luck")
    with Run(folder).writing(setting) as run:
        for epoch in range(1, setting.epochs + 1):
            row = {"train": 9.0, "valid": 8.0, "seconds": 60.0, "tokens_per_second": 100.0}
            run.write_history([{"epoch": n + 1, **row} for n in range(epoch)])
            time.sleep(0.01)
        for name in PUBLISHED:
            if not (folder / name).exists():
                (folder / name).write_text(f"{name} of {setting}")


@pytest.fixture
def faked(monkeypatch):
    calls = []

    def execute(setting, folder, device="cpu"):
        calls.append(setting)
        fake_execute(setting, folder)

    monkeypatch.setattr(study, "execute", execute)
    return calls


def test_every_epoch_gets_a_line(faked, tmp_path, capsys):
    assert study.run_study([TINY], tmp_path, ThreadPoolExecutor(1)) == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [
        f"{TINY.name}: epoch 1/2",
        f"{TINY.name}: epoch 2/2",
    ]


def test_complete_runs_are_skipped(faked, tmp_path, capsys):
    for _ in range(2):
        study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    assert faked == [TINY]
    assert "done already" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["metrics.json", "train.ipynb"])
def test_a_run_without_metrics_or_notebook_is_not_complete(faked, tmp_path, lost):
    study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    (tmp_path / TINY.name / lost).unlink()
    study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    assert faked == [TINY, TINY]


def test_one_failure_leaves_the_others_alone_and_is_named(faked, tmp_path):
    bad = replace(TINY, cell="rnn")
    failed = study.run_study([bad, TINY], tmp_path, ThreadPoolExecutor(1))
    assert failed == [f"{bad.name}: cell 7: ValueError: no luck"]
    assert Run(tmp_path / TINY.name).done


def test_an_error_without_words_is_a_failure_too(tmp_path, monkeypatch):
    def out_of_memory(*_):
        raise MemoryError

    monkeypatch.setattr(study, "execute", out_of_memory)
    failed = study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    assert failed == [f"{TINY.name}: MemoryError"]


def test_interrupted_study_begins_no_other_run(faked, tmp_path, monkeypatch):
    def interrupted(futures, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "_watch", interrupted)
    with (
        pytest.raises(StudyError, match="stopped: run it again"),
        ThreadPoolExecutor(1) as executor,
    ):
        executor.submit(time.sleep, 0.1)
        study.run_study([TINY], tmp_path, executor)
    assert faked == []


# ---------------------------------------------------------------- processes that are killed
def execute_with_deaths(setting, folder, device="cpu"):
    """fake_execute, but that its process is first killed as often as the seed says."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "attempts", "a") as attempts:
        attempts.write("x")
    if (folder / "attempts").stat().st_size <= setting.seed:
        os.kill(os.getpid(), signal.SIGKILL)
    fake_execute(setting, folder)


def attempts(folder, setting) -> int:
    return (folder / setting.name / "attempts").stat().st_size


def test_a_killed_process_takes_no_other_run_along(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "execute", execute_with_deaths)
    dies, others = replace(TINY, seed=1), [replace(TINY, seed=0, epochs=n) for n in (2, 3)]
    with study.LocalPool(2) as pool:
        failed = study.run_study([others[0], dies, others[1]], tmp_path, pool)
    why = "its process was killed, perhaps for want of memory"
    assert failed == [f"{dies.name}: {why}; run again, it goes on from its last epoch"]
    assert all(Run(tmp_path / setting.name).done for setting in others)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def test_a_run_whose_dask_worker_dies_is_started_once_more(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "execute", execute_with_deaths)
    once, twice = (replace(TINY, seed=deaths) for deaths in (1, 2))
    with study.dask_executor(cluster) as executor:
        assert study.run_study([once], tmp_path, executor) == []
        (line,) = study.run_study([twice], tmp_path, executor)
    assert line.startswith(f"{twice.name}: it lost two Dask workers, killed")
    assert [attempts(tmp_path, setting) for setting in (once, twice)] == [2, 2]


def test_a_run_that_fails_on_dask_is_not_tried_again(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "execute", execute_with_deaths)
    bad = replace(TINY, cell="rnn", seed=0)
    with study.dask_executor(cluster) as executor:
        assert study.run_study([bad], tmp_path, executor) == [
            f"{bad.name}: cell 7: ValueError: no luck"
        ]
    assert attempts(tmp_path, bad) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_named_and_nothing_counts_as_a_result(tmp_path):
    folder = tmp_path / TINY.name
    folder.mkdir()
    (folder / "train.partial.ipynb").symlink_to("/dev/full")
    (line,) = study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    assert line.startswith(f"{TINY.name}: ") and os.strerror(errno.ENOSPC) in line
    assert not (folder / "train.ipynb").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "study").write_text("no folder")
    (line,) = study.run_study([TINY], tmp_path / "study", ThreadPoolExecutor(1))
    assert line.startswith(f"{TINY.name}: ") and os.strerror(errno.ENOTDIR) in line


def test_failure_is_the_exit_status(faked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    monkeypatch.setattr(study, "LocalPool", ThreadPoolExecutor)
    monkeypatch.setitem(STUDIES, "demo", [TINY, replace(TINY, cell="rnn")])
    assert main(["study", "run", "demo", "--workers", "2"]) == 1
    assert "failed:\nrnn-dropout0-seed1-" in capsys.readouterr().out


def test_a_scheduler_that_does_not_answer_is_one_line(capsys):
    assert main(["study", "run", "demo", "--scheduler", "tcp://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err.startswith("no Dask scheduler answers at 'tcp://127.0.0.1:9'")


def test_an_unknown_study_is_one_line(capsys):
    assert main(["study", "run", "dropuot"]) == 1
    error = capsys.readouterr().err
    assert error == "no study is called 'dropuot': did you mean 'dropout'?\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "3.1d"], "demo has no experiments: leave out --only 3.1d\n"),
        (["--workers", "0"], "workers = 0 must be a whole number from 1 to 1024"),
    ],
)
def test_an_option_that_cannot_be_met_is_one_line(options, said, capsys):
    assert main(["study", "run", "demo", *options]) == 1
    assert capsys.readouterr().err.startswith(said)
