"""Studies: named lists of settings, run as notebooks on an executor, reported and published."""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import nbformat
import pandas as pd
import papermill
from papermill.exceptions import PapermillExecutionError

from ptb import figures
from ptb.findings import epoch_line, markdown, readme_commands, readme_results
from ptb.published import beside, recorded
from ptb.runs import RECORDS, ROOT, RUNS, Run, write_atomically
from ptb.setting import DEVICES, FOUR, LONG, PlainError, Setting, SettingError, meant, recipe

NOTEBOOKS = ROOT / "notebooks"
STUDIES = {
    "dropout": [recipe(cell, dropout) for cell, dropout in FOUR],
    "long": [recipe(cell, dropout, **best) for (cell, dropout), best in LONG.items()],
    "demo": [recipe(cell, dropout, "embedded") for cell, dropout in FOUR],
}


MAIN = "dropout"  # the study of the published report, and the one whose weights are published


class StudyError(PlainError):
    """A study that can't be run, reported or published; one line says why."""


def execute(setting: Setting, folder: Path, device: str = "cpu", threads: int = 1) -> None:
    """Trains one setting by executing train.ipynb; the executed copy is beside the run's files.

    What the notebook says or fails at stands in the copy; a copy of a failed or unfinished
    execution is never called train.ipynb. Raises RuntimeError with the failed cell and its error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "train.partial.ipynb"
    where = {"folder": _seen_from_notebooks(folder), "device": device, "threads": threads}
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
        done = _complete(folder / setting.name)
        print(f"{setting}: {'done already' if done else 'to train'}", flush=True)
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
    return [f"{s}: {why}" for f, s in futures.items() if (why := _failure(f))]


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
    return error and str(error)


def _complete(folder: Path) -> bool:
    """Whether a run is done and its executed notebook whole."""
    return Run(folder).done and (folder / "train.ipynb").exists()


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


def report(study: str) -> Path:
    """Executes report.ipynb for your study and makes its PDF: runs/STUDY/report.pdf."""
    return _report(RUNS / study, RUNS / study)


def _report(study: Path, folder: Path) -> Path:
    executed = folder / "report.ipynb"
    papermill.execute_notebook(
        NOTEBOOKS / "report.ipynb",
        executed,
        {"study": str(study)},
        cwd=NOTEBOOKS,
        progress_bar=False,
    )
    export = [sys.executable, "-m", "jupyter", "nbconvert", "--log-level=ERROR", "--to", "pdf"]
    subprocess.run([*export, str(executed)], check=True)
    return executed.with_suffix(".pdf")


def publish(study: str) -> None:
    """Copies your finished study to report/records; rebuilds the figures and the published PDF."""
    names = [setting.name for setting in STUDIES[study]]
    if missing := [name for name in names if not _complete(RUNS / study / name)]:
        raise StudyError(f"{study} is not finished: {', '.join(missing)} is still to train")
    shutil.rmtree(RECORDS / study, ignore_errors=True)
    for name in names:
        (RECORDS / study / name).mkdir(parents=True)
        for file in Run(RUNS / study / name).files:
            if study == MAIN or file.suffix != ".safetensors":
                shutil.copyfile(file, RECORDS / study / name / file.name)
    rebuild()


def rebuild() -> None:
    """The published figures, the README's tables and the PDF, from report/records alone."""
    table, folder = recorded(MAIN), RECORDS / MAIN
    figures.save_all(table, ROOT / "figures")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (ROOT / "README.md").write_text(with_tables(readme, table), encoding="utf-8")
    pdf = _report(folder, folder)
    pdf.replace(ROOT / "report" / "report.pdf")
    (folder / "report.ipynb").unlink()


def with_tables(readme: str, table: pd.DataFrame) -> str:
    """The README with its tables as the records have them, each between its two marks."""
    tables = {
        "results": readme_results(table),
        "commands": readme_commands(table),
        "published": markdown(beside()),
    }
    for name, text in tables.items():
        begin, end = f"<!-- {name}: written by make publish -->\n", f"\n<!-- end of {name} -->"
        before, rest = readme.split(begin)
        readme = before + begin + text + end + rest.split(end)[1]
    return readme


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's action, study, scheduler and workers; raises SettingError for a study."""
    parser = argparse.ArgumentParser(prog="python -m ptb.study", description=__doc__)
    parser.add_argument("action", choices=["run", "report", "publish", "rebuild"])
    parser.add_argument("study", nargs="?", default="dropout", help=f"one of {', '.join(STUDIES)}")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="cuda: on the GPU")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="run on this Dask cluster")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time")
    options = parser.parse_args(arguments)
    if options.study not in STUDIES:
        known = meant(options.study, list(STUDIES))
        raise SettingError(f"no study is called {options.study!r}: {known}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """`python -m ptb.study run|report|publish|rebuild [STUDY]`; the status is 1 if a run failed."""
    try:
        return _act(parse(arguments))
    except PlainError as error:
        print(error, file=sys.stderr)
        return 1


def _act(options) -> int:
    actions = {"report": report, "publish": publish, "rebuild": lambda study: rebuild()}
    if options.action != "run":
        print(actions[options.action](options.study) or ROOT / "report" / "report.pdf")
        return 0
    pool = dask_executor(options.scheduler) if options.scheduler else LocalPool(options.workers)
    with pool as executor:
        settings, folder = STUDIES[options.study], RUNS / options.study
        failed = run_study(settings, folder, executor, options.device)
    print("\n".join(["", "failed:", *failed]) if failed else "all runs are done")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
