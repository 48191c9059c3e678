"""What is handed out: a course folder for nbgrader, made from the notebooks in assignments/.

`python -m ptb student` writes assignments/course. source/NAME has an assignment with its solutions,
for nbgrader; release/NAME is the students' version, which nbgrader would make just so. The marks
are nbgrader's: what stands between `### BEGIN SOLUTION` and `### END SOLUTION` becomes a blank,
what stands between `### BEGIN HIDDEN TESTS` and `### END HIDDEN TESTS` goes.
"""

import re
import shutil
from pathlib import Path

from nbconvert import NotebookExporter
from nbconvert.preprocessors import Preprocessor
from traitlets.config import Config

from ptb.errors import AssignmentError
from ptb.paths import ROOT
from ptb.runs.files import write_atomically

ASSIGNMENTS = ROOT / "assignments"
COURSE = ASSIGNMENTS / "course"
BLANK = {
    "code": r"\1# YOUR CODE HERE\n\1raise NotImplementedError()",
    "markdown": "YOUR ANSWER HERE",
}
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?### END SOLUTION", re.DOTALL | re.MULTILINE)
HIDDEN = re.compile(r"\n### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", re.DOTALL)
OPTIONS = {
    "NotebookExporter": {"preprocessors": ["ptb.report.student.ClearSolutions"]},
    "ClearOutputPreprocessor": {"enabled": True},
}


class ClearSolutions(Preprocessor):
    """Takes solutions and hidden tests out; AssignmentError for marks missing or astray."""

    enabled = True

    def preprocess_cell(self, cell, resources, index):
        kind = cell.metadata.get("nbgrader", {})
        where = f"{resources['metadata']['name']}.ipynb: cell {cell.id}"
        if kind.get("solution"):
            cell.source, found = SOLUTION.subn(BLANK[cell.cell_type], cell.source)
            if not found:
                raise AssignmentError(f"{where} is a solution without its two marks")
        elif kind.get("grade"):
            cell.source = HIDDEN.sub("", cell.source)
        if re.search("### (BEGIN|END) (SOLUTION|HIDDEN TESTS)", cell.source):
            raise AssignmentError(f"{where} has a mark without its other, or where none belongs")
        return cell, resources


def student_version(notebook: Path) -> str:
    """A notebook's file with the solutions blanked out and the hidden tests taken out."""
    return NotebookExporter(config=Config(OPTIONS)).from_filename(str(notebook))[0]


def write_course() -> Path:
    """Writes source/ and release/ of the course folder anew, and returns that folder.

    What nbgrader has put there (submitted/, autograded/, gradebook.db, …) stays as it is. Raises
    AssignmentError, before anything is written, for marks that are missing or astray.
    """
    versions = {path: student_version(path) for path in sorted(ASSIGNMENTS.glob("*.ipynb"))}
    for notebook, version in versions.items():
        source, release = (COURSE / part / notebook.stem for part in ("source", "release"))
        for folder in (source, release):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(ASSIGNMENTS / "checks.py", folder)
        shutil.copy(notebook, source)
        write_atomically(release / notebook.name, version.encode())
    shutil.copy(ASSIGNMENTS / "nbgrader_config.py", COURSE)
    return COURSE
