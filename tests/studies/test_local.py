"""ptb.studies.local: no process outlives the study that it serves, however that ends."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from ptb.studies.local import LocalPool

# A study of the command line whose runs do nothing, in a process of their own that has a kernel's
# place: it names itself in the study's folder and sleeps.
STUDY = """
if __name__ == "__main__":  # else the runs' processes would wait for these imports too
    import runpy, sys
    from pathlib import Path
    import signal
    from ptb import paths
    from ptb.studies import execute
    from test_local import sleep_for_ever
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
    execute.execute = sleep_for_ever
    paths.RUNS = Path(sys.argv[1])
    sys.argv[1:] = ["study", "run", "demo", "--workers", "2"]
    runpy.run_module("ptb", run_name="__main__", alter_sys=True)
"""


def sleep_for_ever(setting, folder, device):
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as kernel:
        (folder / "pid").write_text(str(kernel.pid))


def wait_until(true, seconds: float = 120) -> None:
    """Raises AssertionError where it does not become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def study(tmp_path):
    """The process of a study of four runs, once two of them are at work."""
    (tmp_path / "study.py").write_text(STUDY)
    command = [sys.executable, str(tmp_path / "study.py"), str(tmp_path)]
    paths = {"PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | paths)
    wait_until(lambda: len(started(tmp_path)) == 2)
    yield process
    for left in descendants(process):
        left.kill()
    process.kill()
    process.communicate()


def started(folder) -> list[Path]:
    return [path for path in folder.glob("demo/*/pid") if path.stat().st_size]


def descendants(process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(process.pid).children(recursive=True)
    return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_study_that_is_asked_to_stop_takes_its_processes_along(study, number, tmp_path):
    serving = descendants(study)
    assert len(serving) >= 4  # two runs' and two kernels'
    study.send_signal(number)
    said = study.communicate(timeout=120)[1].splitlines()
    assert study.returncode == 1
    assert said == ["stopped: run it again, and each run goes on from its last epoch"]
    wait_until(lambda: not any(running(process) for process in serving))
    assert len(started(tmp_path)) == 2  # no other was begun


def test_a_study_that_is_killed_takes_its_processes_along(study):
    serving = descendants(study)
    assert len(serving) >= 4
    study.kill()
    wait_until(lambda: not any(running(process) for process in serving))


def running(process: psutil.Process) -> bool:
    """Whether it is there, and not only because nobody has asked how it ended."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def test_a_pool_that_is_left_in_peace_waits_for_its_runs():
    with LocalPool(2) as pool:
        futures = [pool.submit(abs, -n) for n in range(3)]
    assert [future.result() for future in futures] == [0, 1, 2]
