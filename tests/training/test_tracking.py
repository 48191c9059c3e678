"""ptb.training.tracking: what a tracker is given, and read back where the tracker is installed."""

import ast
import json
import os
import sqlite3
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
from test_notebooks import NOTEBOOKS, ONE_THREAD, TINY, command, parameters

from ptb.errors import RunError, SettingError
from ptb.paths import ROOT
from ptb.runs.run import Run
from ptb.training import tracking
from ptb.training.tracking import LOGGED, TRACKERS, track

ROWS = [
    {"epoch": 1, "lr": 5.0, "train_running": 9.0, "train": 8.0, "valid": 8.5, "test": 8.25}
    | {"seconds": 2.0, "tokens_per_second": 100.0},
    {"epoch": 2, "lr": 2.5, "train_running": 7.0, "train": 6.0, "valid": 6.5, "test": 6.25}
    | {"seconds": 4.0, "tokens_per_second": 100.0},
]
LOGGED_ROWS = [(row["epoch"], {name: row[name] for name in LOGGED}) for row in ROWS]


class Fake:
    """Trackio's or Weights & Biases' module and its run in one: keeps what it is told."""

    def __init__(self):
        self.given, self.logged, self.finished = None, [], 0

    def init(self, **given):
        self.given = given
        return self

    def log(self, values, epoch):
        self.logged.append((epoch, values))

    def finish(self):
        self.finished += 1


@pytest.fixture
def installed(monkeypatch):
    """Every tracker's package seems to be there."""
    monkeypatch.setattr(tracking, "find_spec", lambda name: SimpleNamespace(name=name))


@pytest.fixture
def fake(monkeypatch, installed):
    """Puts a fake in a module's place."""

    def replace(name):
        monkeypatch.setitem(sys.modules, name, module := Fake())
        return module

    return replace


# ---------------------------------------------------------------- chosen or not
def test_no_tracker_takes_rows_and_keeps_nothing(tiny_setting, tmp_path):
    with track("", tiny_setting(), tmp_path / "run") as log:
        assert log(ROWS[0]) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tracker", "said"),
    [
        ("tensorbord", "tracker = 'tensorbord': did you mean 'tensorboard'?"),
        ("mlflow", "tracker = 'mlflow': it can be '', 'tensorboard', 'trackio', 'wandb'"),
        (None, "tracker = None: did you mean ''?"),
    ],
)
def test_another_tracker_is_refused(tracker, said, tiny_setting, tmp_path):
    with pytest.raises(SettingError) as refused, track(tracker, tiny_setting(), tmp_path):
        pass
    assert str(refused.value) == said


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_missing_package_is_one_line_that_says_what_to_install(tracker, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(SettingError) as refused:
        tracking.check_tracker(tracker)
    assert str(refused.value) == f"tracker = {tracker!r} is not installed: pip install {tracker}"


def test_no_tracker_is_imported_unless_it_is_chosen():
    code = f"import sys, ptb_utils; print([n for n in {list(TRACKERS)} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_notebook_says_every_tracker():
    cells = nbformat.read(NOTEBOOKS / "train.ipynb", 4).cells
    (source,) = (c.source for c in cells if "parameters" in c.metadata.get("tags", ()))
    (line,) = (line for line in source.splitlines() if line.startswith("tracker = "))
    assert ast.literal_eval(line.split("=")[1].split("#")[0].strip()) == ""
    assert [name for name in TRACKERS if name not in line] == []


# ---------------------------------------------------------------- what it is given
@pytest.mark.parametrize(
    ("tracker", "own"),
    [
        ("trackio", {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}),
        ("wandb", {"mode": "offline"}),
    ],
)
def test_the_tracker_gets_the_setting_and_each_epoch(tracker, own, fake, tiny_setting, tmp_path):
    module, setting, folder = fake(tracker), tiny_setting(), tmp_path / "run"
    with track(tracker, setting, folder) as log:
        for row in ROWS:
            log(row)
        assert not module.finished
    assert module.logged == LOGGED_ROWS and module.finished == 1
    assert "test" not in module.logged[0][1]
    place = {"dir": folder} if tracker == "wandb" else {}
    about = {"project": "ptb", "name": setting.name, "config": vars(setting)}
    assert module.given == about | own | place
    assert folder.exists() == (tracker == "wandb")  # which wants it there


def test_tensorboard_gets_each_epoch_as_scalars(installed, monkeypatch, tiny_setting, tmp_path):
    made = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            self.folder, self.purge_step, self.scalars, self.closed = folder, purge_step, [], False
            made.append(self)

        def add_scalar(self, name, value, step):
            self.scalars.append((step, name, value))

        def close(self):
            self.closed = True

    package = SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    with track("tensorboard", tiny_setting(), tmp_path) as log:
        for row in ROWS:
            log(row)
        assert not made[0].closed
    (writer,) = made
    assert (writer.folder, writer.purge_step, writer.closed) == (tmp_path, 0, True)
    expected = [(epoch, *pair) for epoch, values in LOGGED_ROWS for pair in values.items()]
    assert writer.scalars == expected


def test_the_tracker_is_finished_where_training_fails(fake, tiny_setting, tmp_path):
    module = fake("wandb")
    with pytest.raises(KeyboardInterrupt), track("wandb", tiny_setting(), tmp_path) as log:
        log(ROWS[0])
        raise KeyboardInterrupt
    assert module.finished == 1


def test_a_run_that_is_refused_leaves_no_record(fake, tiny_setting, tmp_path):
    fake("wandb")
    with pytest.raises(RunError), track("wandb", tiny_setting(), tmp_path / "run"):
        raise RunError("another setting's")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- the real ones
def tensorboard_scalars(folder) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads from a folder's event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_reads_each_epoch_once_after_a_resume(tiny_setting, tmp_path):
    pytest.importorskip("tensorboard")
    for rows in (ROWS[:1], ROWS):  # stopped after an epoch, and started again
        with track("tensorboard", tiny_setting(), tmp_path) as log:
            for row in rows:
                log(row)
    found = tensorboard_scalars(tmp_path)
    assert found == {name: [(row["epoch"], row[name]) for row in ROWS] for name in LOGGED}


def test_the_notebook_gives_tensorboard_what_the_history_says(tmp_path):
    """A run with a tracker is the run that it is without one."""
    pytest.importorskip("tensorboard")
    chosen = {"corpus": "embedded", **TINY | ONE_THREAD, "epochs": 2}
    for name, more in (("plain", {}), ("tracked", {"tracker": "tensorboard"})):
        given = parameters(folder=tmp_path / name, **chosen | more)
        done = command("papermill", "train.ipynb", tmp_path / f"{name}.ipynb", *given)
        assert done.returncode == 0, done.stderr
    plain, tracked = Run(tmp_path / "plain"), Run(tmp_path / "tracked")
    assert tracked.setting == plain.setting
    assert tracked.metrics["valid"] == plain.metrics["valid"]
    found = tensorboard_scalars(tracked.folder)
    assert [step for step, _ in found["valid"]] == [1, 2]
    assert [value for _, value in found["valid"]] == pytest.approx(list(tracked.history["valid"]))
    assert set(found) == set(LOGGED)


TRACKIO = """
from conftest import make_setting
from test_tracking import ROWS, track
with track("trackio", make_setting(), None) as log:
    for row in ROWS:
        log(row)
"""


def test_trackio_has_each_epoch_in_its_file(tmp_path):
    """In a process of its own: Trackio decides where its files are when it is imported."""
    pytest.importorskip("trackio")
    tests = [ROOT, ROOT / "tests", ROOT / "tests" / "training"]
    own = {"TRACKIO_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(map(str, tests))}
    environment = os.environ | own
    done = subprocess.run([sys.executable, "-c", TRACKIO], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "ptb.db") as database:
        found = database.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    assert [(step, json.loads(values)) for step, values in found] == LOGGED_ROWS
