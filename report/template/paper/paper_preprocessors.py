"""What happens to a notebook on export, before the template sees it."""

import json
import sys

from nbconvert.exporters.pdf import LatexFailed
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor, Preprocessor
from traitlets import Bool

FRONT_MATTER = ("title", "subtitle", "authors", "date", "abstract", "paper")


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def executed(nb):
    """Has anything run this notebook, papermill or a person?"""
    return "papermill" in nb.metadata or any(cell.outputs for cell in code_cells(nb))


class ExecuteOnExport(ExecutePreprocessor):
    """Execute a notebook whose metadata says `"execute_on_export": true`, unless it was executed.

    `--execute` still executes any notebook.
    """

    def __call__(self, nb, resources):
        marked = nb.metadata.get("execute_on_export", False)
        if self.enabled or (marked and not executed(nb)):
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
        front["name"] = resources["metadata"]["name"]
        resources["outputs"] = {"metadata.json": json.dumps(front).encode()}
        return nb, resources


def named(authors):
    """`"A"`, `["A", "B"]` and `[{"name": "A"}]` all as the last."""
    authors = [authors] if isinstance(authors, (str, dict)) else authors
    return [{"name": author} if isinstance(author, str) else author for author in authors]


def report_briefly(kind, error, trace):
    """An exception hook: a failed cell's or converter's own message, without nbconvert's stack."""
    if isinstance(error, (CellExecutionError, LatexFailed)):
        print(str(error).partition(" command:\n")[2] or error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
