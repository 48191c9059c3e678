"""The notebooks as people use them: papermill, nbconvert, a local pool, a Dask cluster."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pypdf
import pytest

from ptb import study
from ptb.runs import PUBLISHED, ROOT, Run, find_runs
from ptb.setting import FOUR, recipe

NOTEBOOKS = ROOT / "notebooks"
TINY = {"hidden": 8, "embedding": 8, "epochs": 1, "batch_size": 200}
ONE_THREAD = {"threads": 1}  # the machine may be busy


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


@pytest.fixture(scope="module")
def tiny_study(tmp_path_factory):
    """Four runs on the embedded corpus, by a local pool of two processes."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    settings = [recipe(cell, p, "embedded", **TINY) for cell, p in FOUR]
    with study.local_pool(2) as pool:
        assert study.run_study(settings, folder, pool) == []
    return folder


@pytest.fixture(scope="module")
def report(tiny_study):
    """The report of the tiny study: the executed notebook and its PDF."""
    return study._report(tiny_study, tiny_study)


def test_papermill_as_typed(tmp_path):
    chosen = parameters(
        cell="gru", dropout=0.5, corpus="embedded", folder=tmp_path / "run", **TINY | ONE_THREAD
    )
    out = tmp_path / "out.ipynb"
    done = command("papermill", "train.ipynb", out, *chosen)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "run")
    assert run.metrics["status"] == "finished" and run.setting.cell == "gru"
    assert f"{run.metrics['test']['perplexity']:.2f}" in printed(out)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("drpout", 0.5, "no parameter is called 'drpout': did you mean 'dropout'?"),
        ("cell", "lsmt", "cell = 'lsmt' is none of lstm, gru, rnn: did you mean 'lstm'?"),
        ("dropout", 1.5, "dropout = 1.5 must be a number from 0 to below 1"),
    ],
)
def test_a_bad_parameter_stops_at_once_with_one_line(tmp_path, name, value, said):
    out, runs = tmp_path / "out.ipynb", tmp_path / "run"
    assert_refused("train.ipynb", out, {"folder": runs, name: value}, said)
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
    runs = find_runs(tiny_study)
    assert len(runs) == 4
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
    assert "bits a word on average" in text and "Table 3: The words nearest" in text


def test_an_incomplete_study_has_a_report_that_says_so(tiny_study, tmp_path):
    first, second, *_ = find_runs(tiny_study)
    for run in (first, second):
        shutil.copytree(run.folder, tmp_path / run.folder.name)
    (tmp_path / second.folder.name / "samples.json").write_text("[")
    pages = pypdf.PdfReader(study._report(tmp_path, tmp_path)).pages
    text = "".join("".join(page.extract_text() for page in pages).split())  # lines break anywhere
    assert "1of4," in text and "Missing:GRUwithdropout,LSTMwithdropout,LSTMwithout" in text
    assert f"Leftout:{second.folder.name}:samples.jsonisdamaged(JSONDecodeError" in text
    assert "Conclusions" in text


def test_the_reports_theory_checks_agree(report):
    shown = printed(report.with_suffix(".ipynb"))
    assert "equal" in shown and "DIFFERENT" not in shown and ">NO<" not in shown


def test_nbconvert_as_typed(tmp_path):
    """The report of the default study, executed on export."""
    done = command("jupyter", "nbconvert", "report.ipynb", "--to", "pdf", "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(pypdf.PdfReader(tmp_path / "report.pdf").pages) > 5


def test_committed_notebooks_have_no_outputs():
    for path in NOTEBOOKS.glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)


def test_a_watched_run_ends_with_its_figure_and_no_bar(tmp_path, monkeypatch):
    """In JupyterLab, which tells its kernels the notebook's name."""
    monkeypatch.setenv("JPY_SESSION_NAME", "train.ipynb")
    out = tmp_path / "out.ipynb"
    small = TINY | ONE_THREAD
    chosen = parameters(cell="rnn", corpus="embedded", folder=tmp_path / "run", **small)
    assert command("papermill", "train.ipynb", out, *chosen).returncode == 0
    (cell,) = (c for c in nbformat.read(out, 4).cells if "pu.Live" in c.source)
    figures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(figures) == 1 and "<progress" not in str(cell.outputs)


def test_train_on_a_dask_cluster(tmp_path):
    from distributed import LocalCluster

    setting = recipe("rnn", 0.1, "embedded", **TINY)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        study.dask_executor(cluster.scheduler_address) as executor,
    ):
        assert study.run_study([setting], tmp_path, executor) == []
    assert Run(tmp_path / setting.name).metrics["status"] == "finished"
