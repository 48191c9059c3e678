"""Runs the settings of a study as notebooks, on whatever executor."""

import os
from concurrent.futures import Executor, Future, wait
from dataclasses import asdict
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from ptb.errors import RunError, StudyError
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
    partial.unlink(missing_ok=True)  # it may be a link to another file
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
    write_atomically(folder / "train.ipynb", _without_paths(partial))
    partial.unlink()


def _seen_from_notebooks(folder: Path) -> str:
    """Relative, where it is in the repository: what is published names no one's folders."""
    inside = folder.resolve().is_relative_to(ROOT)
    return os.path.relpath(folder, NOTEBOOKS) if inside else str(folder)


def _without_paths(executed: Path) -> bytes:
    """An executed notebook without papermill's note of where it was."""
    notebook = nbformat.read(executed, 4)
    notebook.metadata["papermill"] |= {"input_path": "train.ipynb", "output_path": "train.ipynb"}
    return nbformat.writes(notebook).encode()


def run_study(
    settings: list[Setting], folder: Path, executor: Executor, device: str = "cpu"
) -> list[str]:
    """Executes all settings that are not done, a line for each epoch; returns what failed."""
    todo = []
    for setting in settings:
        done = Run(folder / setting.name).complete
        print(f"{setting.name}: {'done already' if done else 'to train'}", flush=True)
        if not done:
            todo.append(setting)
    futures = {}
    try:
        for setting in todo:
            futures[executor.submit(execute, setting, folder / setting.name, device)] = setting
        failed = _watch(futures, folder)
    except KeyboardInterrupt:
        for future in futures:  # those that wait; the others end with this process
            future.cancel()
        raise StudyError(
            "stopped: run it again, and each run goes on from its last epoch"
        ) from None
    return [f"{setting.name}: {failed[setting]}" for setting in todo if setting in failed]


KILLED = {  # by an exception's name: distributed takes a second to import
    "DeadKernelError": "its kernel was killed",
    "BrokenProcessPool": "its process was killed",
    "KilledWorker": "it lost two Dask workers, killed",
}


def _failure(future: Future, setting: Setting, run: Run) -> str | None:
    """What a run failed at; None where it ended and its files are here."""
    if future.cancelled():
        return "given up by the Dask cluster"
    error = future.exception()
    if killed := KILLED.get(type(error).__name__):
        return f"{killed}, perhaps for want of memory; run again, it goes on from its last epoch"
    if error is not None:
        return str(error) or type(error).__name__
    if run.complete:
        return None
    try:
        run.receive(setting, future.result() or {})
    except RunError as fault:
        return str(fault)
    if run.complete:
        return None
    return f"it has ended, but its files are not in {run.folder}: its worker must share that folder"


def _watch(futures: dict[Future, Setting], folder: Path) -> dict[Setting, str]:
    """Prints each new row of each run's history, and each run's end; returns what failed."""
    runs = {setting: Run(folder / setting.name) for setting in futures.values()}
    seen = {setting: len(_rows(run)) for setting, run in runs.items()}
    waiting, failed = set(futures), {}
    while waiting:
        ended, waiting = wait(waiting, timeout=1)
        for future in ended:
            setting = futures[future]
            if why := _failure(future, setting, runs[setting]):
                failed[setting] = why
        for setting, run in runs.items():
            rows = _rows(run)
            for row in rows[seen[setting] :]:
                print(epoch_line(setting, row), flush=True)
                if row["epoch"] == setting.epochs:
                    print(f"{setting.name}: measuring the saved weights", flush=True)
            seen[setting] = len(rows)
        for setting in (futures[future] for future in ended):
            print(f"{setting.name}: {'failed' if setting in failed else 'done'}", flush=True)
    return failed


def _rows(run: Run) -> list[dict]:
    """The rows of its history; none of a damaged one, which its training will write anew."""
    try:
        return run.history.to_dict("records")
    except RunError:
        return []
