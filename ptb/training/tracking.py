"""A run's epochs sent to TensorBoard, Trackio or Weights & Biases too, where one asks for it.

The run's folder remains the record: nothing is read back from a tracker, and none of them is asked
to send anything anywhere. Their packages are imported only when they are chosen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from ptb.errors import SettingError, meant
from ptb.setting import Setting

PROJECT = "ptb"  # Trackio's and Weights & Biases' name for a collection of runs
# Without the test split: in a tracker one compares runs, and nothing may be chosen by it.
LOGGED = ("lr", "train_running", "train", "valid", "seconds", "tokens_per_second")

Log = Callable[[dict, int], None]  # values by name, and their epoch


def check_tracker(tracker: str) -> None:
    """Raises SettingError for a tracker that does not exist, or whose package is not installed."""
    if tracker not in ("", *TRACKERS):
        raise SettingError(f"tracker = {tracker!r}: {meant(tracker, ('', *TRACKERS))}")
    if tracker and find_spec(tracker) is None:
        raise SettingError(f"tracker = {tracker!r} is not installed: pip install {tracker}")


@contextmanager
def track(tracker: str, setting: Setting, folder: Path) -> Iterator[Callable[[dict], None]]:
    """Gives a function that takes a row of the history; "" is no tracker, and it does nothing.

    Each call begins a record of its own, and a run that goes on gives its earlier epochs again:
    every record holds the whole curve. Raises what check_tracker does.
    """
    check_tracker(tracker)
    if not tracker:
        yield lambda row: None
        return
    opened = []  # only by the first row: a run that is refused leaves nothing in the folder

    def log_row(row: dict) -> None:
        if not opened:
            opened.extend(TRACKERS[tracker](setting, folder))
        opened[0]({name: row[name] for name in LOGGED}, row["epoch"])

    try:
        yield log_row
    finally:
        if opened:
            opened[1]()


def _tensorboard(setting: Setting, folder: Path) -> tuple[Log, Callable]:
    """Event files in the run's folder, for `tensorboard --logdir runs`."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder, purge_step=0)  # TensorBoard hides what an earlier sitting wrote

    def log(values: dict, epoch: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, epoch)

    return log, writer.close


def _trackio(setting: Setting, folder: Path) -> tuple[Log, Callable]:
    """A SQLite file in Trackio's own folder, TRACKIO_DIR, for `trackio show`."""
    import trackio

    # by default it also opens its page in a notebook, and measures the machine
    quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    run = trackio.init(project=PROJECT, name=setting.name, config=asdict(setting), **quiet)
    return run.log, run.finish


def _wandb(setting: Setting, folder: Path) -> tuple[Log, Callable]:
    """A folder wandb/ in the run's own; `wandb sync` sends it, should one want that."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=PROJECT, name=setting.name, config=asdict(setting), dir=folder, mode="offline"
    )
    return run.log, run.finish


TRACKERS = {"tensorboard": _tensorboard, "trackio": _trackio, "wandb": _wandb}
