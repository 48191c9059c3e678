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
from ptb.architectures import DEMO, at_scale
from ptb.architectures import study as experiments
from ptb.findings import epoch_line, markdown, readme_commands, readme_results
from ptb.published import beside, recorded
from ptb.recipes import FOUR, LONG, recipe
from ptb.records import faults, find_runs
from ptb.runs import RECORDS, ROOT, RUNS, Run, write_atomically
from ptb.setting import DEVICES, PlainError, Setting, SettingError, check_number, meant
from ptb.texts import judge

NOTEBOOKS = ROOT / "notebooks"
STUDIES = {
    "dropout": [recipe(cell, dropout) for cell, dropout in FOUR],
    "long": [recipe(cell, dropout, **best) for (cell, dropout), best in LONG.items()],
    "demo": [recipe(cell, dropout, "embedded") for cell, dropout in FOUR],
    "architectures": experiments("ptb"),
    "demo-architectures": experiments("embedded", DEMO),
}
MAIN = "dropout"  # the study of the first report, and the one whose weights are published
SECOND = ("architectures", "demo-architectures")  # of the second exercise, with a report of its own


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
    """Executes the report's notebook for your study and makes its PDF, in runs/STUDY."""
    return _report(RUNS / study, notebook(study))


def notebook(study: str) -> str:
    """The name of the notebook that reports a study."""
    return "architectures.ipynb" if study in SECOND else "report.ipynb"


def _report(study: Path, name: str) -> Path:
    executed = study / name
    papermill.execute_notebook(
        NOTEBOOKS / name,
        executed,
        {"study": str(study)},
        cwd=NOTEBOOKS,
        progress_bar=False,
    )
    export = [sys.executable, "-m", "jupyter", "nbconvert", "--log-level=ERROR", "--to", "pdf"]
    subprocess.run([*export, str(executed)], check=True)
    return executed.with_suffix(".pdf")


def publish(study: str) -> None:
    """Copies your finished study to report/records; rebuilds the figures and the published PDF.

    Of the second exercise an experiment may be there at any scale. Weights are large: they are
    published of the main study alone.
    """
    runs = _finished(study)
    shutil.rmtree(RECORDS / study, ignore_errors=True)
    for run in runs:
        (RECORDS / study / run.folder.name).mkdir(parents=True)
        for file in run.files:
            if study == MAIN or file.name != "weights.safetensors":
                shutil.copyfile(file, RECORDS / study / run.folder.name / file.name)
    rebuild(study)


def _finished(study: str) -> list[Run]:
    """Your complete runs of a study; raises StudyError where one is still to train."""
    complete = [run for run in find_runs(RUNS / study) if _complete(run.folder)]
    wanted = {_part(setting) for setting in STUDIES[study]}
    runs = [run for run in complete if _part(run.setting) in wanted]
    if missing := wanted - {_part(run.setting) for run in runs}:
        names = ", ".join(sorted(missing))
        raise StudyError(f"{study} is not finished: {names} is still to train")
    return runs


def _part(setting: Setting) -> str:
    """What a run is of its study: an experiment, at whatever scale, or that very setting."""
    return setting.experiment or setting.name


def rebuild(study: str) -> None:
    """The published report of a study's exercise, from report/records alone.

    Of the first exercise the figures and the README's tables too.
    """
    study = study if study in SECOND else MAIN
    if study == MAIN:
        _rebuild_tables()
    pdf = _report(RECORDS / study, notebook(study))
    pdf.with_suffix(".ipynb").unlink()
    pdf.replace(published_pdf(study))


def _rebuild_tables() -> None:
    table = recorded(MAIN)
    figures.save_all(table, ROOT / "figures")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (ROOT / "README.md").write_text(with_tables(readme, table), encoding="utf-8")


def published_pdf(study: str) -> Path:
    """Where the published report of a study is."""
    return (ROOT / "report" / notebook(study)).with_suffix(".pdf")


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
    """The command line's options; raises SettingError for a study or a part that there isn't."""
    parser = argparse.ArgumentParser(prog="python -m ptb.study", description=__doc__)
    parser.add_argument("action", choices=["run", "report", "publish", "rebuild"])
    parser.add_argument("study", nargs="?", default="dropout", help=f"one of {', '.join(STUDIES)}")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="cuda: on the GPU")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="run on this Dask cluster")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--scale", type=float, help="of widths and epochs, for architectures")
    parser.add_argument("--only", nargs="+", metavar="EXPERIMENT", help="of architectures: 3.1d")
    options = parser.parse_args(arguments)
    if options.study not in STUDIES:
        known = meant(options.study, list(STUDIES))
        raise SettingError(f"no study is called {options.study!r}: {known}")
    options.settings = _chosen(STUDIES[options.study], options)
    return options


def _chosen(settings: list[Setting], options) -> list[Setting]:
    """A study's settings at the scale that was asked for, and of the experiments asked for."""
    if options.scale is not None:
        scale = check_number("scale", float, options.scale)
        settings = [at_scale(setting, scale) for setting in settings]
    known = [setting.experiment for setting in settings]
    for name in options.only or ():
        if name not in known:
            raise SettingError(f"{options.study} has no experiment {name!r}: {meant(name, known)}")
    return [s for s in settings if not options.only or s.experiment in options.only]


def main(arguments: list[str] | None = None) -> int:
    """`python -m ptb.study run|report|publish|rebuild [STUDY]`; the status is 1 if a run failed."""
    try:
        return _act(parse(arguments))
    except PlainError as error:
        print(error, file=sys.stderr)
        return 1


def _act(options) -> int:
    actions = {"report": report, "publish": publish, "rebuild": rebuild}
    if options.action != "run":
        print(actions[options.action](options.study) or published_pdf(options.study))
        return 0
    pool = dask_executor(options.scheduler) if options.scheduler else LocalPool(options.workers)
    with pool as executor:
        folder = RUNS / options.study
        failed = run_study(options.settings, folder, executor, options.device)
    if options.study in SECOND:
        judge([run for run in find_runs(folder) if not faults(run)])
    print("\n".join(["", "failed:", *failed]) if failed else "all runs are done")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
