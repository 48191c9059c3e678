"""inside.ipynb runs on the published models and on one's own, watched or not."""

import nbformat
import pypdf
import pytest
from test_notebooks import NOTEBOOKS, ONE_THREAD, TINY, assert_refused, command, parameters, printed

from ptb.data.corpora import load
from ptb.recipes import recipe
from ptb.training.train import train

SMALL = {"length": 12, "steps": 2, "units": 4} | ONE_THREAD
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """The folder of a tiny GRU on the embedded corpus."""
    folder = tmp_path_factory.mktemp("run")
    train(recipe("gru", 0.0, "embedded", **TINY), load("embedded"), folder)
    return folder


def outputs(notebook):
    cells = nbformat.read(notebook, 4).cells
    return [o for c in cells if c.cell_type == "code" for o in c.outputs]


def figures(notebook) -> list[str]:
    """The labels of the figures that are there as pictures, for screen and for paper."""
    shown = [o for o in outputs(notebook) if "application/pdf" in o.get("data", {})]
    return [output.metadata["label"] for output in shown if output.metadata["caption"]]


def test_the_published_models_are_looked_into_without_their_corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("PTB_DATA", str(tmp_path / "nothing"))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    out = tmp_path / "out.ipynb"
    done = command("papermill", "inside.ipynb", out, *parameters(**SMALL))
    assert done.returncode == 0, done.stderr
    kinds = "gates", "followers"
    expected = [f"fig:{kind}-{n}" for kind in kinds for n in (1, 2)]
    expected += ["fig:gradient", "fig:next", "fig:attention-1", "fig:attention-2"]
    assert figures(out) == expected
    assert not any(WIDGET in output.get("data", {}) for output in outputs(out))
    text = printed(out)
    assert "LSTM, dropout 0.25 and GRU, dropout 0.25 read:" in text
    assert "the company said its profit rose" in text
    assert "words since the sentence began" in text and "after “said” in its sentence" in text
    assert "the source's own is 40.8" in text
    assert command("jupyter", "nbconvert", out, "--to", "pdf").returncode == 0
    pages = pypdf.PdfReader(out.with_suffix(".pdf")).pages
    text = "\n".join(page.extract_text() for page in pages)
    assert "Figure 8: Attention in layer 2" in text and "Table 3" in text


def test_a_run_of_ones_own_and_a_typed_sentence_under_a_persons_eyes(
    own_run, tmp_path, monkeypatch
):
    """In JupyterLab, which tells its kernels the notebook's name, controls stand by pictures."""
    monkeypatch.setenv("JPY_SESSION_NAME", "inside.ipynb")
    out, words = tmp_path / "out.ipynb", " ".join(load("embedded").words[1:5])
    chosen = parameters(run=own_run, sentence=words, top_k=3, temperature=2.5, **SMALL)
    done = command("papermill", "inside.ipynb", out, *chosen)
    assert done.returncode == 0, done.stderr
    assert figures(out)[:2] == ["fig:gates-1", "fig:followers-1"] and len(figures(out)) == 6
    assert sum(WIDGET in output.get("data", {}) for output in outputs(out)) == 3
    assert f"> {words}" in printed(out) and "said” in its sentence" not in printed(out)


def test_a_bad_parameter_is_refused_in_one_line(tmp_path):
    said = "sentence = ' ' must be text, in quotes"
    assert_refused("inside.ipynb", tmp_path / "out.ipynb", {"sentence": " "}, said)


def test_cells_are_short():
    cells = nbformat.read(NOTEBOOKS / "inside.ipynb", 4).cells
    assert max(len(c.source.splitlines()) for c in cells if c.cell_type == "code") <= 16
