"""Runs the settings of a study as notebooks: on this machine, or on a Dask cluster."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from ptb.errors import StudyError
from ptb.paths import NOTEBOOKS, ROOT
from ptb.runs.files import write_atomically
from ptb.runs.run import Run, epoch_line
from ptb.setting import Setting


def execute(setting: Setting, folder: Path, device: str = "cpu") -> None:
    """Trains one setting by executing train.ipynb; the executed copy is beside the run's files.

    What the notebook says or fails at stands in the copy; a copy of a failed or unfinished
    execution is never called train.ipynb. Raises RuntimeError with the failed cell and its error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "train.partial.ipynb"
    where = {"folder": _seen_from_notebooks(folder), "device": device, "threads": 1}
    try:
        papermill.execute_notebook(
            NOTEBOOKS / "train.ipynb",
            partial,
            asdict(setting) | where,
            cwd=NOTEBOOKS,
            progress_bar=False,
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel, which is loud on its end
        )
    except PapermillExecutionError as error:  # papermill's own can't be unpickled by a parent
        raise RuntimeError(f"cell {error.exec_count}: {error.ename}: {error.evalue}") from None
    write_atomically(partial, _without_paths(partial))
    partial.replace(folder / "train.ipynb")


def _seen_from_notebooks(folder: Path) -> str:
    """Relative, where it is in the repository: what is published names no one's folders."""
    inside = folder.resolve().is_relative_to(ROOT)
    return os.path.relpath(folder, NOTEBOOKS) if inside else str(folder)


def _without_paths(executed: Path) -> bytes:
    """An executed notebook without papermill's note of where it was."""
    notebook = nbformat.read(executed, 4)
    notebook.metadata["papermill"] |= {"input_path": "train.ipynb", "output_path": "train.ipynb"}
    return nbformat.writes(notebook).encode()


class LocalPool(ThreadPoolExecutor):
    """A process a run, so that one that is killed takes no other run along."""

    def submit(self, function, *arguments) -> Future:
        return super().submit(_in_a_process, function, *arguments)


def _in_a_process(function, *arguments):
    """Started afresh: torch's threads do not survive a fork."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The executor of the Dask cluster whose scheduler is there; its workers share this folder.

    A run whose worker dies is started once more and resumes; after a second death it has failed.
    """
    from distributed import Client  # a second to import, and few need it

    try:
        client = Client(address, timeout=5)
    except (OSError, ValueError) as error:
        raise StudyError(f"no Dask scheduler answers at {address!r}: {error}") from None
    with client, client.get_executor() as executor:
        # a task's `retries` are for its errors; deaths are counted by the scheduler, for all tasks
        client.run_on_scheduler(
            lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 1)
        )
        yield executor


def run_study(
    settings: list[Setting], folder: Path, executor: Executor, device: str = "cpu"
) -> list[str]:
    """Executes all settings that are not done, a line for each epoch; returns what failed."""
    todo = []
    for setting in settings:
        done = Run(folder / setting.name).complete
        print(f"{setting.name}: {'done already' if done else 'to train'}", flush=True)
        todo += [] if done else [setting]
    futures = {executor.submit(execute, s, folder / s.name, device): s for s in todo}
    try:
        _watch(futures, folder)
    except KeyboardInterrupt:
        for future in futures:  # those that wait; the others are interrupted as we are
            future.cancel()
        raise StudyError(
            "stopped: run it again, and each run goes on from its last epoch"
        ) from None
    return [f"{s.name}: {why}" for f, s in futures.items() if (why := _failure(f))]


KILLED = {  # by an exception's name: distributed takes a second to import
    "DeadKernelError": "its kernel was killed",
    "BrokenProcessPool": "its process was killed",
    "KilledWorker": "it lost two Dask workers, killed",
}


def _failure(future: Future) -> str | None:
    """What a run failed at; None: it did not."""
    if future.cancelled():
        return "given up by the Dask cluster"
    error = future.exception()
    if killed := KILLED.get(type(error).__name__):
        return f"{killed}, perhaps for want of memory; run again, it goes on from its last epoch"
    return None if error is None else str(error) or type(error).__name__


def _watch(futures: dict[Future, Setting], folder: Path) -> None:
    """Prints each new row of each run's history until all have ended."""
    seen = {setting: len(Run(folder / setting.name).history) for setting in futures.values()}
    waiting = set(futures)
    while waiting:
        _, waiting = wait(waiting, timeout=1)
        for setting in seen:
            rows = Run(folder / setting.name).history.to_dict("records")
            for row in rows[seen[setting] :]:
                print(epoch_line(setting, row), flush=True)
            seen[setting] = len(rows)
