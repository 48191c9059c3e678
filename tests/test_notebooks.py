"""The notebooks as people use them: papermill, nbconvert, a local pool, a Dask cluster."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import nbformat
import pypdf
import pytest
from bs4 import BeautifulSoup
from distributed import LocalCluster
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import RichOutput, capture_output
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from torture import results

from ptb.data.corpora import load
from ptb.paths import ROOT
from ptb.recipes import FOUR, recipe
from ptb.report.publish import make_pdf
from ptb.report.tables import corpus_size
from ptb.runs.files import PUBLISHED
from ptb.runs.run import Run
from ptb.runs.table import find_runs, gather
from ptb.studies import execute as study
from ptb.studies.cluster import dask_executor
from ptb.studies.local import LocalPool
from ptb.training.train import train

NOTEBOOKS = ROOT / "notebooks"
# Beside them README's commands leave out.ipynb, which git ignores.
COMMITTED = sorted(p for p in NOTEBOOKS.glob("*.ipynb") if not p.match("out*.ipynb"))
TINY = {"hidden": 8, "embedding": 8, "epochs": 1, "batch_size": 200}
ONE_THREAD = {"threads": 1}  # the machine may be busy


WIDE = 89  # columns that JupyterLab shows in a window of 1280 pixels; longer lines break in a word


def command(*words, cwd=NOTEBOOKS):
    """Runs a command of the environment's own bin folder."""
    program = Path(sys.executable).with_name(words[0])
    return subprocess.run([program, *map(str, words[1:])], cwd=cwd, capture_output=True, text=True)


def parameters(**chosen):
    return [word for name, value in chosen.items() for word in ("-p", name, str(value))]


def printed(notebook):
    """All that an executed notebook shows, as one text."""
    cells = nbformat.read(notebook, 4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(str(o.get("text") or o.get("data") or o.get("traceback")) for o in outputs)


def displayed(path, **chosen) -> list[RichOutput]:
    """What a notebook's cells display, run in this process, which spares a kernel's start."""
    notebook = parameterize_notebook(load_notebook_node(str(path)), chosen)
    shell, before = InteractiveShell.instance(), Path.cwd()
    os.chdir(path.parent)
    try:
        with capture_output() as captured:
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    done = shell.run_cell(cell.source)
                    done.raise_error()
                    display(done.result)  # what a last expression shows isn't captured otherwise
    finally:
        os.chdir(before)
        InteractiveShell.clear_instance()
    return captured.outputs


@pytest.fixture(scope="module")
def tiny_study(tmp_path_factory):
    """Four runs on the embedded corpus, two of them by a local pool of two processes."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    settings = [recipe(cell, p, "embedded", **TINY) for cell, p in FOUR]
    with LocalPool(2) as pool:
        assert study.run_study(settings[:2], folder, pool) == []
    for setting in settings[2:]:
        train(setting, load("embedded"), folder / setting.name)
    return folder


@pytest.fixture(scope="module")
def report(tiny_study):
    """The report of the tiny study: the executed notebook and its PDF."""
    return make_pdf(tiny_study, "report.ipynb")


def test_papermill_on_own_texts(tmp_path):
    (tmp_path / "mytext").mkdir()
    for split, lines in (("train", 200), ("valid", 20), ("test", 20)):
        text = "the cat saw a bird\n<unk> sat in the tree\n" * lines
        (tmp_path / "mytext" / f"{split}.txt").write_text(text)
    typed = os.path.relpath(tmp_path / "mytext", NOTEBOOKS)
    folder = tmp_path / "run"
    chosen = parameters(cell="gru", corpus=typed, folder=folder, **TINY | ONE_THREAD)
    done = command("papermill", "train.ipynb", tmp_path / "out.ipynb", *chosen)
    assert done.returncode == 0, done.stderr
    assert Run(folder).setting.corpus == str(tmp_path / "mytext")
    assert "mytext</span>: 2,400 / 240 / 240 tokens" in corpus_size(gather([Run(folder)]))


@pytest.fixture
def run_cells():
    """Runs cells one after another, as one kernel does."""
    shell = InteractiveShell.instance()
    yield lambda *cells: [shell.run_cell(cell, store_history=True) for cell in cells][-1]
    InteractiveShell.clear_instance()


def test_all_cells_can_be_run_again(run_cells):
    """The variables that later cells made, or a name since corrected, are no parameters."""
    first, check = [c.source for c in nbformat.read(NOTEBOOKS / "train.ipynb", 4).cells][1:3]
    wrong = run_cells(first.replace("dropout =", "drpout ="), check).error_in_exec
    assert "'drpout': did you mean 'dropout'?" in str(wrong)
    assert run_cells(first, check).success
    gru = first.replace('"lstm"', '"gru"')
    assert (
        run_cells("text = live = 1", gru, check).success
        and run_cells("setting.cell").result == "gru"
    )


def test_a_bad_parameter_stops_at_once_with_one_line(tmp_path):
    out, runs = tmp_path / "out.ipynb", tmp_path / "run"
    said = "no parameter is called 'drpout': did you mean 'dropout'?"
    assert_refused("train.ipynb", out, {"folder": runs, "drpout": 0.5}, said)
    assert not runs.exists()


def test_the_other_notebooks_refuse_likewise(tmp_path):
    said = "temperature = -1 must be a number from 0 to 100; did you mean 1?"
    assert_refused("evaluate.ipynb", tmp_path / "evaluate.ipynb", {"temperature": -1}, said)
    said = "no parameter is called 'autors': did you mean 'authors'?"
    assert_refused("report.ipynb", tmp_path / "report.ipynb", {"autors": "Ada"}, said)


def assert_refused(notebook, out, chosen, said):
    done = command("papermill", notebook, out, *parameters(**chosen))
    assert done.returncode != 0 and f"SettingError: {said}" in done.stderr
    errors = [
        o
        for c in nbformat.read(out, 4).cells
        for o in c.get("outputs", [])
        if o.output_type == "error"
    ]
    assert [len(error.traceback) for error in errors] == [1] and said in errors[0].traceback[0]


def test_study_leaves_complete_run_folders(tiny_study):
    runs = [run for run in find_runs(tiny_study) if run.complete]
    assert len(runs) == 2
    for run in runs:
        assert all((run.folder / name).exists() for name in PUBLISHED)
        assert not list(run.folder.glob("*partial*"))
        assert run.metrics["test"]["perplexity"] == pytest.approx(
            run.history["test"].iloc[-1], rel=0.01
        )


def test_the_report_shows_what_the_records_hold(tiny_study, report):
    text = "\n".join(page.extract_text() for page in pypdf.PdfReader(report).pages)
    for run in find_runs(tiny_study):
        for split in ("train", "valid", "test"):
            assert f"{run.metrics[split]['perplexity']:.2f}" in text
    assert "Theory" in text and "Conclusions" in text and "320,800" in text
    assert "import ptb_utils" not in text and "In [" not in text


def test_evaluate_finds_the_record_and_shows_the_words_of_a_model(tiny_study, tmp_path):
    run, out = find_runs(tiny_study)[0], tmp_path / "out.ipynb"
    done = command("papermill", "evaluate.ipynb", out, *parameters(run=run.folder, length=5))
    assert done.returncode == 0, done.stderr
    shown = printed(out)
    assert f"{run.metrics['test']['perplexity']:.3f}" in shown
    assert ">yes<" in shown and ">NO<" not in shown
    assert "background-color: #" in shown and "Temperature 0.7" in shown and "cosine" in shown
    assert command("jupyter", "nbconvert", out, "--to", "pdf").returncode == 0
    text = "\n".join(page.extract_text() for page in pypdf.PdfReader(out.with_suffix(".pdf")).pages)
    assert "bits per word on average" in text and "Table 3: The words nearest" in text


def test_an_incomplete_study_of_a_short_text_has_a_report_that_says_so(tiny_study, tmp_path):
    first, second, *_ = find_runs(tiny_study)
    for run in (first, second):
        shutil.copytree(run.folder, tmp_path / run.folder.name)
    whole = first.analysis["sentences"]
    short = {key: [*values[:28], sum(values[28:])] for key, values in whole.items()}
    Run(tmp_path / first.folder.name).write("analysis.json", first.analysis | {"sentences": short})
    (tmp_path / second.folder.name / "samples.json").write_text("[")
    outputs = displayed(NOTEBOOKS / "report.ipynb", study=str(tmp_path))
    shown = "\n".join(output.data.get("text/markdown", "") for output in outputs)
    text = BeautifulSoup(shown, "html.parser").get_text()  # names and errors are escaped
    assert "1 of 4," in text
    assert "Missing: GRU with dropout, LSTM with dropout, LSTM without" in text
    assert f"Left out: {second.folder.name}: samples.json is damaged (JSONDecodeError" in text
    assert "The test text has 29 sentences" in text and "Lowest on validation" not in text


def test_the_reports_theory_checks_agree(report):
    shown = printed(report.with_suffix(".ipynb"))
    assert "equal" in shown and "DIFFERENT" not in shown and ">NO<" not in shown


def test_nbconvert_as_typed(tmp_path):
    """The report of the default study, executed on export."""
    done = command("jupyter", "nbconvert", "report.ipynb", "--to", "pdf", "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pypdf.PdfReader(tmp_path / "report.pdf").pages) > 5


def shown_functions() -> list[str]:
    sources = "".join(path.read_text(encoding="utf-8") for path in COMMITTED)
    return sorted(set(re.findall(r"pu\.source\((?:pu\.)?([\w.]+)\)", sources)))


@pytest.mark.parametrize("name", shown_functions())
def test_code_that_a_notebook_shows_fits_a_window(name):
    source = textwrap.dedent(inspect.getsource(resolve_name(f"ptb.models.{name}")))
    assert [line for line in source.splitlines() if len(line) > WIDE] == []


def test_committed_notebooks_have_no_outputs():
    for path in COMMITTED:
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_notebooks_are_scripts_and_slides_too(path):
    """A script is named .py; each section begins a slide, each part of one a slide below it."""
    notebook = nbformat.read(path, 4)
    assert notebook.metadata["language_info"]["file_extension"] == ".py"
    for cell in notebook.cells:
        heading = re.search("^#{1,6} ", cell.source, re.MULTILINE)
        slide = cell.metadata.get("slideshow", {}).get("slide_type")
        assert (slide in ("slide", "subslide")) == (cell.cell_type == "markdown" and bool(heading))


def test_make_lab_opens_copies_and_leaves_those_that_are_there(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.ipynb").write_text("my own")
    jupyter = tmp_path / "bin" / "jupyter"
    jupyter.parent.mkdir()
    jupyter.write_text('#!/bin/sh\necho "$PWD: $*"\n')
    jupyter.chmod(0o755)
    make = ["make", "--old-file=setup", "lab", "BIN=bin"]
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}: lab --ServerApp.root_dir=. " in done.stdout  # runs/ is seen from there
    assert (tmp_path / "mine" / "train.ipynb").read_text() == "my own"
    report = (tmp_path / "mine" / "report.ipynb").read_bytes()
    assert report == (NOTEBOOKS / "report.ipynb").read_bytes()


def test_a_watched_run_ends_with_its_figure_and_no_bar(tmp_path, monkeypatch):
    """In JupyterLab, which tells its kernels the notebook's name."""
    monkeypatch.setenv("JPY_SESSION_NAME", "train.ipynb")
    out = tmp_path / "out.ipynb"
    small = TINY | ONE_THREAD
    chosen = parameters(cell="rnn", corpus="embedded", folder=tmp_path / "run", **small)
    assert command("papermill", "train.ipynb", out, *chosen).returncode == 0
    (cell,) = (c for c in nbformat.read(out, 4).cells if "pu.Live" in c.source)
    (figure,) = (o for o in cell.outputs if "application/pdf" in o.get("data", {}))
    assert "<figcaption>" in figure.data["text/html"]
    assert figure.metadata["caption"].startswith("Convergence of RNN")  # which the PDF shows
    assert "<progress" not in str(cell.outputs)


# ---------------------------------------------------------------- killed in an epoch
LONGER = recipe("rnn", 0.1, "embedded", **TINY | {"epochs": 3})


def wait_for_an_epoch(folder, ended) -> None:
    while Run(folder).history.empty and not ended.done():
        time.sleep(0.05)


def kernel(folder) -> int:
    """The process that trains there."""
    return int((folder / ".writer").read_text().split()[1])


def test_run_whose_dask_worker_is_killed_ends_as_if_it_had_not(tmp_path):
    folder, one = tmp_path / LONGER.name, {"n_workers": 1, "threads_per_worker": 1}
    with (
        LocalCluster(**one, dashboard_address=None) as cluster,
        dask_executor(cluster.scheduler_address) as executor,
        ThreadPoolExecutor(1) as thread,
    ):
        ended = thread.submit(study.run_study, [LONGER], tmp_path, executor)
        wait_for_an_epoch(folder, ended)
        first = kernel(folder)
        os.kill(cluster.workers[0].pid, signal.SIGKILL)
        assert ended.result() == []
    assert kernel(folder) != first
    train(LONGER, load("embedded"), tmp_path / "whole")
    assert results(folder) == results(tmp_path / "whole")


def test_killed_kernel_is_one_line_and_the_others_go_on(tmp_path):
    folder, other = tmp_path / LONGER.name, replace(LONGER, epochs=1)
    with LocalPool(1) as pool, ThreadPoolExecutor(1) as thread:
        ended = thread.submit(study.run_study, [LONGER, other], tmp_path, pool)
        wait_for_an_epoch(folder, ended)
        os.kill(kernel(folder), signal.SIGKILL)
        (line,) = ended.result()
    assert line.startswith(f"{LONGER.name}: its kernel was killed")
    assert not (folder / "train.ipynb").exists()
    assert [run.setting for run in find_runs(tmp_path)] == [other]
