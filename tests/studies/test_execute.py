"""Studies: runs on an executor, skipped when done, failures named, nothing half-done published."""

import errno
import os
import random
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import dask
import pytest
from distributed import Client, LocalCluster

from ptb.__main__ import main
from ptb.errors import StudyError
from ptb.recipes import recipe
from ptb.runs.files import PUBLISHED
from ptb.runs.run import Run
from ptb.studies import cluster as clusters
from ptb.studies import execute as study
from ptb.studies import local
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


def test_every_epoch_and_what_follows_gets_a_line(faked, tmp_path, capsys):
    assert study.run_study([TINY], tmp_path, ThreadPoolExecutor(1)) == []
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [
        f"{TINY.name}: epoch 1/2",
        f"{TINY.name}: epoch 2/2",
        f"{TINY.name}: measuring the saved weights",
        f"{TINY.name}: done",
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
    busy = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(busy.wait)
        with pytest.raises(StudyError, match="stopped: run it again"):
            study.run_study([TINY], tmp_path, executor)
        busy.set()
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
    with local.LocalPool(2) as pool:
        failed = study.run_study([others[0], dies, others[1]], tmp_path, pool)
    why = "its process was killed, perhaps for want of memory"
    assert failed == [f"{dies.name}: {why}; run again, it goes on from its last epoch"]
    assert all(Run(tmp_path / setting.name).done for setting in others)


@pytest.fixture
def patient(monkeypatch):
    """Waits for a worker that begins anew after a death, on however slow a machine."""
    monkeypatch.setattr(clusters, "DEADLINE", 120)


@pytest.fixture(scope="module")
def cluster():
    # a LocalCluster gives up a worker that is not back in 15 seconds: too few on a busy machine
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": 120}),
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


def test_a_run_whose_dask_worker_dies_is_started_once_more(cluster, patient, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "execute", execute_with_deaths)
    once, twice = (replace(TINY, seed=deaths) for deaths in (1, 2))
    with clusters.dask_executor(cluster) as executor:
        assert study.run_study([once], tmp_path, executor) == []
        (line,) = study.run_study([twice], tmp_path, executor)
    assert line.startswith(f"{twice.name}: it lost two Dask workers, killed")
    assert [attempts(tmp_path, setting) for setting in (once, twice)] == [2, 2]


def test_a_run_that_fails_on_dask_is_not_tried_again(cluster, patient, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "execute", execute_with_deaths)
    bad = replace(TINY, cell="rnn", seed=0)
    with clusters.dask_executor(cluster) as executor:
        assert study.run_study([bad], tmp_path, executor) == [
            f"{bad.name}: cell 7: ValueError: no luck"
        ]
    assert attempts(tmp_path, bad) == 1


def test_a_full_disk_is_named_and_nothing_counts_as_a_result(tmp_path, monkeypatch):
    def full(source, target, *_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr("papermill.execute_notebook", full)
    (line,) = study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    assert line.startswith(f"{TINY.name}: ") and os.strerror(errno.ENOSPC) in line
    assert not (tmp_path / TINY.name / "train.ipynb").exists()


def test_a_link_in_the_place_of_the_copy_is_not_followed(tmp_path, monkeypatch):
    def execute_notebook(source, target, *_, **__):
        target.write_text("{}")
        raise RuntimeError("no luck")

    monkeypatch.setattr("papermill.execute_notebook", execute_notebook)
    other, folder = tmp_path / "other", tmp_path / TINY.name
    other.write_text("mine")
    folder.mkdir()
    (folder / "train.partial.ipynb").symlink_to(other)
    study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    assert other.read_text() == "mine" and (folder / "train.partial.ipynb").read_text() == "{}"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "study").write_text("no folder")
    (line,) = study.run_study([TINY], tmp_path / "study", ThreadPoolExecutor(1))
    assert line.startswith(f"{TINY.name}: ") and os.strerror(errno.ENOTDIR) in line


def test_failure_is_the_exit_status(faked, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    monkeypatch.setattr(local, "LocalPool", ThreadPoolExecutor)
    monkeypatch.setitem(STUDIES, "demo", [TINY, replace(TINY, cell="rnn")])
    assert main(["study", "run", "demo", "--workers", "2"]) == 1
    assert "failed:\nrnn-dropout0-seed1-" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "judged"), [("demo", 0), ("demo-architectures", 1)])
def test_a_study_that_ends_says_so_and_the_second_exercises_texts_are_judged(
    name, judged, faked, tmp_path, monkeypatch, capsys
):
    calls = []
    monkeypatch.setattr("ptb.studies.judging.judge", calls.append)
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    monkeypatch.setattr(local, "LocalPool", ThreadPoolExecutor)
    monkeypatch.setitem(STUDIES, name, [TINY])
    assert main(["study", "run", name, "--workers", "1"]) == 0
    assert capsys.readouterr().out.endswith("all runs are done\n")
    assert len(calls) == judged


def test_a_study_that_is_stopped_says_that_its_workers_are_not(
    cluster, patient, tmp_path, monkeypatch
):
    def interrupted(futures, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "execute", fake_execute)
    monkeypatch.setattr(study, "_watch", interrupted)
    with (
        pytest.raises(StudyError, match="stopped: .*one that a worker has begun is trained to its"),
        clusters.dask_executor(cluster) as executor,
    ):
        study.run_study([TINY], tmp_path, executor)


# ---------------------------------------------------------------- what counts as done
def test_a_run_that_left_nothing_here_has_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "execute", lambda *_: None)
    (line,) = study.run_study([TINY], tmp_path, ThreadPoolExecutor(1))
    folder = tmp_path / TINY.name
    why = f"it has ended, but its files are not in {folder}: its worker must share that folder"
    assert line == f"{TINY.name}: {why}"


class Elsewhere(ThreadPoolExecutor):
    """A cluster's executor whose workers have a disk of their own."""

    def __init__(self, disk):
        super().__init__(1)
        self.disk = disk

    def submit(self, task, function, setting, folder, device):
        return super().submit(task, function, setting, str(self.disk / setting.name), device)


def test_a_run_comes_back_from_a_worker_that_shares_no_folder(faked, tmp_path, capsys):
    disk, here = tmp_path / "disk", tmp_path / "here"
    with Elsewhere(disk) as workers:
        assert study.run_study([TINY], here, clusters.Cluster(workers)) == []
    there, run = Run(disk / TINY.name), Run(here / TINY.name)
    assert [file.name for file in run.files] == [file.name for file in there.files]
    assert all(
        a.read_bytes() == b.read_bytes() for a, b in zip(run.files, there.files, strict=True)
    )
    assert f"{TINY.name}: epoch 2/2" in capsys.readouterr().out
    assert study.run_study([TINY], here, clusters.Cluster(None)) == []  # done already


def test_a_run_that_comes_back_to_a_full_disk_has_failed(faked, tmp_path, monkeypatch):
    def full(file):
        if threading.current_thread() is threading.main_thread():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with Elsewhere(tmp_path / "disk") as workers:
        (line,) = study.run_study([TINY], tmp_path / "here", clusters.Cluster(workers))
    assert "setting.json can't be written: No space left on device" in line


# ---------------------------------------------------------------- what is no scheduler
@contextmanager
def listener(answer: bytes | None):
    """The port of a server that reads, and says that; None: nothing, while its callers wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with suppress(OSError):
                while True:
                    caller, _ = server.accept()
                    callers.append(caller)
                    if answer is not None:
                        caller.sendall(answer)
                        caller.close()

        callers = []
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for caller in callers:
            caller.close()


def refused(address: str, capsys) -> str:
    """The one line on standard error."""
    assert main(["study", "run", "demo", "--scheduler", address]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_workers_are_not_a_schedulers(capsys):
    assert main(["study", "run", "demo", "--scheduler", "tcp://host:1", "--workers", "3"]) == 1
    assert "--workers is for runs on this machine" in capsys.readouterr().err


HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
RANDOM = random.Random(1).randbytes(4096)


@pytest.mark.parametrize(
    "answer", [None, HTTP, RANDOM, b""], ids=["silent", "http", "bytes", "end"]
)
def test_what_is_no_scheduler_is_one_line(answer, capsys, monkeypatch):
    monkeypatch.setattr(clusters, "DEADLINE", 1)
    with listener(answer) as port:
        address = f"tcp://127.0.0.1:{port}"
        assert refused(address, capsys).startswith(f"no Dask scheduler answers at {address!r}: ")


@pytest.mark.parametrize("address", ["", " ", "tcp:/x", "http://x", "tcp://127.0.0.1"])
def test_what_is_no_address_is_one_line(address, capsys):
    said = f"scheduler = {address!r} must be an address such as tcp://HOST:8786"
    assert refused(address, capsys) == said


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9", "ucx://127.0.0.1:9", "\x07:1"]
)
def test_an_address_of_no_scheduler_is_one_line(address, capsys, monkeypatch):
    monkeypatch.setattr(clusters, "DEADLINE", 1)
    assert refused(address, capsys).startswith(f"no Dask scheduler answers at {address!r}: ")


def test_a_worker_is_no_scheduler_and_a_scheduler_needs_a_worker(cluster, capsys, monkeypatch):
    with Client(cluster) as client:
        (worker,) = client.scheduler_info()["workers"]
    assert refused(worker, capsys) == f"{worker!r} is a Dask Worker, not its scheduler"
    monkeypatch.setattr(clusters, "DEADLINE", 2)
    with LocalCluster(n_workers=0, dashboard_address=None) as empty:
        line = refused(address := empty.scheduler_address, capsys)
    said = (
        f"the Dask scheduler at {address!r} has no workers: start some with dask worker {address}"
    )
    assert line == said


def test_without_dask_a_scheduler_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert refused("tcp://127.0.0.1:9", capsys).endswith("pip install distributed")


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
