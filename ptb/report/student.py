"""The student's version of cells.ipynb: its solutions are blank, its checks are left in.

`python -m ptb student` writes notebooks/student/cells.ipynb. The marks are nbgrader's: a cell whose
metadata say that it is a solution loses what stands between `### BEGIN SOLUTION` and
`### END SOLUTION`. A cell tagged "solution" goes as a whole.
"""

import re
from pathlib import Path

from nbconvert import NotebookExporter
from nbconvert.preprocessors import Preprocessor
from traitlets.config import Config

from ptb.paths import ROOT
from ptb.runs.files import write_atomically

NOTEBOOK = ROOT / "notebooks" / "cells.ipynb"
FOLDER = ROOT / "notebooks" / "student"
REGION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION", re.DOTALL | re.MULTILINE)
STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"
OPTIONS = {
    "NotebookExporter": {"preprocessors": ["ptb.report.student.ClearSolutions"]},
    "TagRemovePreprocessor": {"enabled": True, "remove_cell_tags": {"solution"}},
    "ClearOutputPreprocessor": {"enabled": True},
}


class ClearSolutions(Preprocessor):
    """Puts nbgrader's stub in the place of each solution; ValueError for a cell without marks."""

    enabled = True

    def preprocess_cell(self, cell, resources, index):
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source, found = REGION.subn(STUB, cell.source)
            if not found:
                raise ValueError(f"{cell.id} is a solution without its two marks")
        return cell, resources


def student_version(notebook: Path) -> str:
    """A notebook's file with the solutions blanked out."""
    return NotebookExporter(config=Config(OPTIONS)).from_filename(str(notebook))[0]


def write_student_version() -> Path:
    """Writes notebooks/student/cells.ipynb, and returns its path."""
    FOLDER.mkdir(exist_ok=True)
    write_atomically(FOLDER / NOTEBOOK.name, student_version(NOTEBOOK).encode())
    return FOLDER / NOTEBOOK.name
