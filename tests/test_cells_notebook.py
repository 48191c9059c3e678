"""cells.ipynb runs, all its checks agree, and it makes a paper."""

import nbformat
from pypdf import PdfReader
from test_notebooks import NOTEBOOKS, command

NOTEBOOK = NOTEBOOKS / "cells.ipynb"


def test_the_whole_notebook_runs_and_is_a_paper(tmp_path):
    done = command("jupyter", "nbconvert", NOTEBOOK.name, "--to", "pdf", "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    text = "".join(page.extract_text() for page in PdfReader(tmp_path / "cells.pdf").pages)
    assert text.count(": equal") > 30 and "ptb/models/transformer.py, from line" in text
    assert "Figure 1" in text and "Table 1" in text


def test_cells_are_short():
    cells = nbformat.read(NOTEBOOK, 4).cells
    assert max(len(c.source.splitlines()) for c in cells if c.cell_type == "code") <= 15
