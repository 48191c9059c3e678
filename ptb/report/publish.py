"""Studies as PDF reports; a finished study's records, figures and tables as the published ones."""

import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pandas as pd
import papermill
from papermill.exceptions import PapermillExecutionError

from ptb.errors import StudyError
from ptb.paths import NOTEBOOKS, RECORDS, ROOT, RUNS, relative
from ptb.recipes import recipe
from ptb.report import benchmark, figures
from ptb.report.architecture_runs import experiments, largest
from ptb.report.architecture_tables import results
from ptb.report.figures import label
from ptb.report.literature import beyond, published_and_ours
from ptb.report.tables import markdown, minutes, readme_results, recorded, rounded
from ptb.runs.files import ADAPTED, WEIGHTS, write_atomically, write_json
from ptb.runs.run import Run
from ptb.runs.table import faults, find_runs, read_adapted
from ptb.setting import Setting
from ptb.studies.adaptation import measured
from ptb.studies.named import MAIN, SECOND_EXERCISE, STUDIES, WITH_WEIGHTS

EXPERIMENT_COLUMNS = [
    "run", "model", "step", "B", "p", "par.", "s", "prec.", "best", "train", "valid", "solution",
]  # fmt: skip


def report(study: str) -> Path:
    """Executes the report's notebook for your study and makes its PDF, in runs/STUDY."""
    if not (RUNS / study).exists():
        raise StudyError(f"no run of {study} is there: python -m ptb study run {study}")
    return make_pdf(RUNS / study, notebook(study))


def notebook(study: str) -> str:
    """The name of the notebook that reports a study."""
    return "architectures.ipynb" if study in SECOND_EXERCISE else "report.ipynb"


def check_converters() -> None:
    """Raises StudyError unless pandoc and Typst are here: the extra "report" in pyproject.toml."""
    if missing := [name for name in ("pypandoc", "typst") if find_spec(name) is None]:
        needs = " and ".join(missing)
        raise StudyError(f"reports need {needs}: pip install pypandoc_binary typst")


def make_pdf(study: Path, name: str) -> Path:
    """Executes a report's notebook for a study's folder; the copy and its PDF are in there."""
    executed = study / name
    print(f"executing {name} for {relative(study)}, then making its PDF", flush=True)
    _execute(name, executed, {"study": str(study)})
    export = [sys.executable, "-m", "jupyter", "nbconvert", "--log-level=ERROR", "--to", "pdf"]
    if subprocess.run([*export, str(executed)]).returncode:
        raise StudyError(f"nbconvert made no PDF of {relative(executed)}; what it says is above")
    return executed.with_suffix(".pdf")


def _execute(name: str, out: Path, given: dict) -> None:
    """Executes a notebook; raises StudyError with the error that stopped it."""
    try:
        papermill.execute_notebook(NOTEBOOKS / name, out, given, cwd=NOTEBOOKS, progress_bar=False)
    except PapermillExecutionError as error:
        raise StudyError(f"{name}: {error.ename}: {error.evalue}") from None
    except RuntimeError as error:
        if type(error).__name__ != "DeadKernelError":  # nbclient's, which papermill works with
            raise
        raise StudyError(f"{name}: its kernel was killed, perhaps for want of memory") from None


def publish(study: str) -> Path:
    """Adds your finished runs of a study to report/records; rebuilds figures and published PDF.

    Your run replaces the published one of the same setting; the others stay, and what is still to
    be trained is printed: a long study is published as it grows. The main study alone must be
    complete. Weights are large: only those of two studies are published. An experiment of the
    second exercise counts at any scale.
    """
    runs, copies, old = _finished(study), RECORDS / f"{study}.partial", RECORDS / f"{study}.old"
    if old.exists() and not (RECORDS / study).exists():
        old.rename(RECORDS / study)  # an earlier call was stopped between its two renames
    shutil.rmtree(old, ignore_errors=True)  # or after them
    shutil.rmtree(copies, ignore_errors=True)
    if (RECORDS / study).exists():
        shutil.copytree(RECORDS / study, copies)
    for run in runs:
        shutil.rmtree(copies / run.folder.name, ignore_errors=True)
        (copies / run.folder.name).mkdir(parents=True)
        for file in run.files:
            if study in WITH_WEIGHTS or file.name != WEIGHTS:
                shutil.copyfile(file, copies / run.folder.name / file.name)
    rows = _adapted(study, runs)
    if rows or (copies / ADAPTED).exists():
        write_json(copies / ADAPTED, rows)
    if (RECORDS / study).exists():
        (RECORDS / study).rename(old)
    copies.rename(RECORDS / study)
    shutil.rmtree(old, ignore_errors=True)
    return rebuild(study)


def _finished(study: str) -> list[Run]:
    """Your complete runs of a study; raises StudyError where none can be published."""
    complete = [run for run in find_runs(RUNS / study) if run.complete]
    wanted = {_part(setting) for setting in STUDIES[study]}
    runs = [run for run in complete if _part(run.setting) in wanted]
    if runs and study != MAIN:  # beside what is published already
        wanted -= {_part(run.setting) for run in find_runs(RECORDS / study)}
    if missing := wanted - {_part(run.setting) for run in runs}:
        line = f"{study} is not finished; still to train: {', '.join(sorted(missing))}"
        if study == MAIN or not runs:
            raise StudyError(line)
        print(line)
    read_adapted(RUNS / study)  # raises where it is damaged
    if damaged := [reason for run in runs if (reason := faults(run))]:
        raise StudyError(f"{study} can't be published: {'; '.join(damaged)}")
    return runs


def _adapted(study: str, runs: list[Run]) -> list[dict]:
    """The rows of adaptation.json: yours, and those published of weights that are not replaced."""
    mine = {run.folder.name: run.metrics.get("weights_sha256") for run in runs}
    replaced = {
        old.folder.name
        for old in find_runs(RECORDS / study)
        if old.folder.name in mine and mine[old.folder.name] != old.metrics.get("weights_sha256")
    }
    kept = [row for row in read_adapted(RECORDS / study) if not replaced & set(measured(row)[1])]
    rows = {measured(row): row for row in [*kept, *read_adapted(RUNS / study)]}
    return list(rows.values())


def _part(setting: Setting) -> str:
    """What a run is of its study: an experiment, at whatever scale, or that very setting."""
    return setting.experiment or setting.name


def rebuild(study: str) -> Path:
    """The published report of a study's exercise, and the pages' tables, from records alone.

    Of the first exercise the figures too.
    """
    study = "architectures" if study in SECOND_EXERCISE else MAIN
    try:  # first: where the records do not bear a claim out, all that is published stays
        pdf = make_pdf(RECORDS / study, notebook(study))
    finally:
        (RECORDS / study / notebook(study)).unlink(missing_ok=True)
    if study == MAIN:
        figures.save_all(recorded(MAIN), ROOT / "figures")
    write_tables()
    return pdf.replace(ROOT / "report" / pdf.name)


READ = {  # the notebooks of which there are executed copies, and their parameters
    "lesson": {},
    "cells": {},
    "inside": {"threads": 1},
    "evaluate": {},
    "report": {"study": str(RECORDS / MAIN)},
    "architectures": {"study": str(RECORDS / "architectures")},
}


def execute_copies() -> Path:
    """Executes the notebooks that are read, into report/notebooks; returns that folder.

    They are shown by GitHub, which needs neither the PDF beside each picture nor papermill's times.
    """
    folder = ROOT / "report" / "notebooks"
    folder.mkdir(exist_ok=True)
    for name, given in READ.items():
        partial = folder / f"{name}.partial.ipynb"
        print(f"{name}.ipynb", flush=True)
        _execute(f"{name}.ipynb", partial, given)
        write_atomically(folder / f"{name}.ipynb", nbformat.writes(_to_read(partial)).encode())
        partial.unlink()
    return folder


def _to_read(path: Path) -> nbformat.NotebookNode:
    """An executed notebook without papermill's marks, and without what only a PDF needs."""
    notebook = nbformat.read(path, 4)
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.tags]
    notebook.metadata.pop("papermill")
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/pdf", None)
    return notebook


def write_tables() -> None:
    """Brings the tables of README.md and docs/ up to the records and the benchmark."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        written = with_tables(page.read_text(encoding="utf-8"))
        write_atomically(page, written.encode())


def with_tables(page: str) -> str:
    """A page of Markdown with the tables that it has marks for as the records have them."""
    for name, written in PAGE_TABLES.items():
        begin, end = f"<!-- {name}: written by make publish -->\n", f"\n<!-- end of {name} -->"
        if begin in page:
            before, rest = page.split(begin)
            page = before + begin + written() + end + rest.split(end)[1]
    return page


def training_commands() -> pd.DataFrame:
    """The papermill command of each published run, what it costs and what it reaches."""
    runs = [row for study in (MAIN, "long", "half") for row in recorded(study).to_dict("records")]
    return pd.DataFrame(
        {
            "setting": label(row["run"].setting),
            "command, in `notebooks/`": _papermill(row["run"].setting),
            "minutes": minutes(row["minutes"]),
            "valid / test": f"{row['valid']:.2f} / {row['test']:.2f}",
        }
        for row in runs
    )


def _papermill(setting: Setting) -> str:
    """The command that trains a setting: cell, dropout, and what differs from their recipe."""
    usual = recipe(setting.cell, setting.dropout, setting.corpus)
    chosen = {"cell": setting.cell, "dropout": f"{setting.dropout:g}"}
    chosen |= {name: v for name, v in asdict(setting).items() if v != getattr(usual, name)}
    words = [f"-p {name} {value}" for name, value in chosen.items()]
    return f"`papermill train.ipynb out.ipynb {' '.join(words)}`"


PAGE_TABLES = {  # by the name in the marks
    "results": lambda: readme_results(recorded(MAIN)),
    "published": lambda: markdown(published_and_ours()),
    "commands": lambda: markdown(training_commands()),
    "speeds": benchmark.speeds,
    "steps": benchmark.steps,
    "machines": benchmark.machines,
    "rounded": lambda: markdown(rounded()),
    "beyond": lambda: markdown(beyond(RECORDS / "beyond")),
    "experiments": lambda: markdown(
        results(largest(experiments(RECORDS / "architectures"))).filter(EXPERIMENT_COLUMNS)
    ),
}
