"""report/notebooks: the executed copies that are read have the cells of their sources."""

import re
from importlib import import_module
from operator import attrgetter

import nbformat
import pytest

from ptb.paths import NOTEBOOKS, ROOT
from ptb.report.display import source
from ptb.report.publish import READ, _to_read

COPIES = ROOT / "report" / "notebooks"


@pytest.mark.parametrize("name", READ)
def test_a_copy_has_its_sources_cells_and_was_executed_without_an_error(name):
    source, copy = (nbformat.read(f / f"{name}.ipynb", 4) for f in (NOTEBOOKS, COPIES))
    assert [c.source for c in copy.cells] == [c.source for c in source.cells], "run make copies"
    code = [c for c in copy.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code if c.source] and all(c.execution_count for c in code)
    kinds = {output.output_type for c in code for output in c.outputs}
    assert "display_data" in kinds or "execute_result" in kinds
    assert "error" not in kinds


@pytest.mark.parametrize("name", READ)
def test_links_lead_somewhere_from_the_notebook_and_from_its_copy(name):
    for folder in (NOTEBOOKS, COPIES):
        cells = nbformat.read(folder / f"{name}.ipynb", 4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
        assert [link for link in links if not (folder / link).exists()] == []


def test_code_that_a_copy_shows_is_that_of_today():
    shown = 0
    for cell in nbformat.read(COPIES / "cells.ipynb", 4).cells:
        if named := re.fullmatch(r"pu\.source\((\w+)\.([\w.]+)\)", cell.source):
            function = attrgetter(named[2])(import_module(f"ptb.models.{named[1]}"))
            assert cell.outputs[0].data["text/markdown"] == source(function).data, "run make copies"
            shown += 1
    assert shown > 10


def test_there_is_no_other_copy():
    left = {path.stem for path in COPIES.iterdir() if not path.stem.endswith(".partial")}
    assert left == set(READ)


def test_a_copy_to_read_has_pictures_but_neither_pdf_nor_papermills_marks(tmp_path):
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {"input_path": "/home/me"}})
    picture = nbformat.v4.new_output("display_data", {"image/png": "x", "application/pdf": "y"})
    shown = nbformat.v4.new_code_cell("1", outputs=[picture], metadata={"tags": []})
    shown.metadata.papermill = {"duration": 1}
    given = nbformat.v4.new_code_cell("t = 1", metadata={"tags": ["injected-parameters"]})
    notebook.cells = [given, shown]
    nbformat.write(notebook, tmp_path / "a.ipynb")
    found = _to_read(tmp_path / "a.ipynb")
    assert [cell.source for cell in found.cells] == ["1"]
    assert list(found.cells[0].outputs[0].data) == ["image/png"]
    assert "papermill" not in found.metadata and "papermill" not in found.cells[0].metadata
