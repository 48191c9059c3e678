"""The notebooks as people use them: papermill, nbconvert, a local pool, a Dask cluster."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pypdf
import pytest
from IPython.core.interactiveshell import InteractiveShell

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


@pytest.fixture
def kernel():
    """Runs cells one after another, as one kernel does."""
    shell = InteractiveShell.instance()
    yield lambda *cells: [shell.run_cell(cell, store_history=True) for cell in cells][-1]
    InteractiveShell.clear_instance()


def test_all_cells_can_be_run_again(kernel):
    """The variables that later cells made, or a name since corrected, are no parameters."""
    first, check = [c.source for c in nbformat.read(NOTEBOOKS / "train.ipynb", 4).cells][1:3]
    assert kernel(first, check).success
    gru = first.replace('"lstm"', '"gru"')
    assert kernel("text = live = 1", gru, check).success and kernel("setting.cell").result == "gru"
    wrong = kernel(first.replace("dropout =", "drpout ="), check).error_in_exec
    assert "'drpout': did you mean 'dropout'?" in str(wrong)
    assert kernel(first, check, check).success
    assert kernel(first, "# Parameters\nhiden = 8", check).error_in_exec
    assert kernel(first, "# Parameters\nhidden = 8", check).success
    assert kernel("setting.hidden").result == 8


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
    done = command("papermill", "train.ipynb", out, *parameters(folder=runs, **{name: value}))
    assert done.returncode != 0 and f"SettingError: {said}" in done.stderr
    errors = [
        o
        for c in nbformat.read(out, 4).cells
        for o in c.get("outputs", [])
        if o.output_type == "error"
    ]
    assert [len(error.traceback) for error in errors] == [1] and said in errors[0].traceback[0]
    assert not runs.exists()


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
