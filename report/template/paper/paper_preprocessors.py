"""What happens to a notebook on export, before the template sees it."""

import ast
import json
import sys
from pathlib import Path

import nbformat
from nbconvert.exporters.pdf import LatexFailed
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor, Preprocessor
from traitlets import Bool

from ptb.paths import ROOT
from ptb.report.text import references

NOTEBOOKS = ROOT / "notebooks"
REPORTS = Path(__file__).with_name("reports")  # copies that the set-up of the environment made
FRONT_MATTER = ("title", "subtitle", "authors", "date", "abstract", "paper")
NOT_EXECUTED = (
    "This notebook was not executed, so its tables and figures are missing: run all its cells "
    "first, or export it with jupyter nbconvert --execute."
)


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def executed(nb):
    """Has anything run this notebook, papermill or a person?"""
    return "papermill" in nb.metadata or any(cell.outputs for cell in code_cells(nb))


def is_our_report(nb, resources):
    """Is it a report in this repository's folder, its code as it was when `make setup` copied it?

    Its text may have changed, and the values of its parameters.
    """
    name = f"{resources['metadata']['name']}.ipynb"
    folder = Path(resources["metadata"].get("path") or ".").resolve()
    if folder != NOTEBOOKS or not (REPORTS / name).exists():
        return False
    return code(nb) == code(nbformat.read(REPORTS / name, nbformat.current_nbformat))


def code(nb):
    """The source of each code cell; of a parameters cell only the names, if it only sets values."""
    return [
        assigned_names(cell.source)
        if "parameters" in cell.metadata.get("tags", [])
        else cell.source
        for cell in code_cells(nb)
    ]


def assigned_names(source):
    """The names that lines like `name = value` set; the source itself if another line is there."""
    try:
        lines = ast.parse(source).body
        for line in lines:
            ast.literal_eval(line.value)
        return [line.targets[0].id for line in lines if len(line.targets) == 1]
    except (SyntaxError, ValueError, AttributeError):
        return source


class ExecuteOnExport(ExecutePreprocessor):
    """Execute this repository's reports, unless they were executed; any other only by `--execute`.

    A notebook of somebody else's is never executed for what it says of itself.
    """

    def __call__(self, nb, resources):
        if self.enabled or (not executed(nb) and is_our_report(nb, resources)):
            return self.preprocess(nb, resources)
        return nb, resources


class FrontMatter(Preprocessor):
    """Collect title, authors, date and abstract for the first page, into metadata.json.

    They come from the notebook's metadata; an output whose own metadata holds a dictionary
    `paper` overrides them (a running notebook cannot change its metadata) and is not printed.
    """

    enabled = Bool(True).tag(config=True)

    def preprocess(self, nb, resources):
        """Take the `paper` outputs out of `nb` and write the front matter beside the document."""
        front = {key: nb.metadata[key] for key in FRONT_MATTER if key in nb.metadata}
        for cell in code_cells(nb):
            for output in list(cell.outputs):
                if paper := output.get("metadata", {}).get("paper"):
                    front.update(paper)
                    cell.outputs.remove(output)
        front["authors"] = named(front.get("authors") or [])
        front["name"] = references(resources["metadata"]["name"])
        for key in {"title", "subtitle", "date"} & {*front}:  # the abstract is Markdown
            front[key] = references(front[key])
        if front.get("paper") and code_cells(nb) and not executed(nb):
            front["notice"] = NOT_EXECUTED
        resources["outputs"] = {"metadata.json": json.dumps(front).encode()}
        return nb, resources


def named(authors):
    """`"A"`, `["A", "B"]` and `[{"name": "A"}]` all as the last, for Markdown."""
    authors = [authors] if isinstance(authors, (str, dict)) else authors
    authors = [{"name": author} if isinstance(author, str) else author for author in authors]
    return [{key: references(value) for key, value in author.items()} for author in authors]


def report_briefly(kind, error, trace):
    """An exception hook: a failed cell's or converter's own message, without nbconvert's stack."""
    if isinstance(error, (CellExecutionError, LatexFailed)):
        print(str(error).partition(" command:\n")[2] or error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
