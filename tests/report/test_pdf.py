"""`jupyter nbconvert --to pdf`, run for real: what is printed, what is executed, what fails."""

import re
import subprocess
import sys

import markdown_to_pdf
import nbformat
import paper_preprocessors
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from paper_preprocessors import is_our_report
from pypdf import PdfReader

from ptb.paths import ROOT

NOTEBOOKS = ROOT / "notebooks"
PAPER = {"paper": True, "title": "Title in metadata"}

FRONT = """
from IPython.display import Markdown, display
paper = {"title": "Two cells", "authors": ["Ada"], "abstract": "In short, $2 + 2$."}
display(Markdown("front matter"), metadata={"paper": paper})
open("executed", "w").close()
"""

FIGURE = """
import matplotlib.pyplot as plt
from matplotlib_inline.backend_inline import set_matplotlib_formats
set_matplotlib_formats("png", "pdf")
figure, axes = plt.subplots(figsize=(4, 2))
axes.set_xlabel("vector text")
display(figure, metadata={"caption": "Perplexity", "label": "fig:curve", "fig_width": 0.5})
plt.close(figure)
"""

TABLE = r"""
import pandas as pd
class Table:
    def _repr_latex_(self):
        style = pd.DataFrame({"cell": ["gru"], "valid": [99.5]}).style.hide(axis="index")
        return style.format(precision=1).to_latex(hrules=True, caption="Results", label="tab:ppl")
display(Table())
display(Markdown("The best has perplexity ≤ 100, see Table \\ref{tab:ppl}."))
"""

PROSE = r"""# Title of the notebook

## Theory

$$ h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1} \label{eq:gru} $$

$$ x = y $$

Cells are in Equation \eqref{eq:gru}, curves in Figure $\ref{fig:curve}$ and [Figure](#fig:curve).
"""


def write(path, cells, **metadata):
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)
    return path


def export(*notebooks, to="pdf", options=()):
    names = [notebook.name for notebook in notebooks]
    command = [sys.executable, "-m", "nbconvert", *names, "--to", to, *options]
    return subprocess.run(command, cwd=notebooks[0].parent, capture_output=True, text=True)


def text_of(notebook):
    pages = PdfReader(notebook.with_suffix(".pdf")).pages
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pages))


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """A paper with one of everything, executed by the flag."""
    cells = [
        new_markdown_cell(PROSE), new_code_cell(FRONT), new_code_cell(FIGURE), new_code_cell(TABLE),
    ]  # fmt: skip
    notebook = tmp_path_factory.mktemp("paper") / "my paper.ipynb"
    write(notebook, cells, **PAPER)
    done = export(notebook, options=["--execute"])
    assert done.returncode == 0, done.stderr
    return notebook


def test_front_matter_comes_from_the_running_notebook(paper):
    text = text_of(paper)
    assert text.startswith("Two cells Ada Abstract In short, 2 + 2. Contents")
    for hidden in ("Title in metadata", "Title of the notebook", "front matter"):
        assert hidden not in text


def test_execution_is_in_the_folder_of_the_notebook(paper):
    assert (paper.parent / "executed").exists()


def test_paper_shows_no_code(paper):
    text = text_of(paper)
    assert "import" not in text
    assert "[1]" not in text


def test_sections_captions_and_references_are_numbered(paper):
    text = text_of(paper)
    assert "1 Theory" in text
    assert "Figure 1: Perplexity" in text
    assert "Table 1: Results" in text
    assert "Equation (1), curves in Figure 1 and Figure 1." in text
    assert "perplexity ≤ 100, see Table 1." in text


def test_contents_that_would_not_fit_on_the_first_page_are_those_of_the_sections(tmp_path):
    sections = [f"## Section {n}\n\n### Part {n} of it\n\nText." for n in range(30)]
    notebooks = [
        write(tmp_path / f"{n}.ipynb", [new_markdown_cell("\n\n".join(sections[:n]))], **PAPER)
        for n in (3, 30)
    ]
    assert export(*notebooks).returncode == 0
    pages = [PdfReader(notebook.with_suffix(".pdf")).pages[0] for notebook in notebooks]
    assert [len(page["/Annots"]) for page in pages] == [6, 30]  # links, a line each


def test_only_labelled_equations_are_numbered(paper):
    assert text_of(paper).count("(1)") == 2  # the equation and its reference


def test_figures_are_vector_graphics(paper):
    assert "vector text" in text_of(paper)
    assert not any(page.images for page in PdfReader(paper.with_suffix(".pdf")).pages)


def test_long_table_breaks_across_pages(tmp_path):
    rows = "\n".join(f"| {row} | row{row}. |" for row in range(1, 81))
    table = f"| epoch | name |\n|--:|:--|\n{rows}\n\n: Every epoch {{#tab:long}}"
    notebook = write(tmp_path / "long.ipynb", [new_markdown_cell(table)], **PAPER)
    assert export(notebook).returncode == 0
    first, second = (page.extract_text() for page in PdfReader(tmp_path / "long.pdf").pages)
    assert "row1." in first and "row80." in second
    assert "epoch" in first and "epoch" in second


def test_other_notebooks_show_code_and_wrap_long_lines(tmp_path):
    long_line = new_output("stream", text="word " * 60 + "x" * 200 + " end")
    cells = [new_markdown_cell("# Plain title"), new_code_cell("1 + 1", outputs=[long_line])]
    notebook = write(tmp_path / "plain.ipynb", cells)
    assert export(notebook).returncode == 0
    text = text_of(notebook)
    assert text.startswith("Plain title 1 + 1 word")
    assert "x end" in text


@pytest.mark.parametrize("to", ["html", "latex", "pdf"])
def test_a_notebook_from_elsewhere_is_never_executed(tmp_path, to):
    """Whatever it says of itself, be it a report's very copy with a line of its own."""
    code = "open('executed', 'w')"
    report = nbformat.read(NOTEBOOKS / "report.ipynb", 4)
    report.cells[1].source += f"\n{code}"
    nbformat.write(report, tmp_path / "report.ipynb")
    marked = write(
        tmp_path / "marked.ipynb", [new_code_cell(code)], execute_on_export=True, **PAPER
    )
    done = export(marked, tmp_path / "report.ipynb", to=to)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "executed").exists()
    if to == "pdf":
        assert "This notebook was not executed" in text_of(marked)


def test_only_an_unchanged_report_in_this_repository_is_executed(tmp_path, monkeypatch):
    monkeypatch.setattr(paper_preprocessors, "REPORTS", NOTEBOOKS)  # the copies
    report = nbformat.read(NOTEBOOKS / "report.ipynb", 4)
    here = {"metadata": {"name": "report", "path": str(NOTEBOOKS)}}
    assert is_our_report(report, here)
    assert not is_our_report(report, {"metadata": {"name": "report", "path": str(tmp_path)}})
    assert not is_our_report(report, {"metadata": {"name": "other", "path": str(NOTEBOOKS)}})
    report.cells.append(new_markdown_cell("My conclusions"))
    (parameters,) = (c for c in report.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source = parameters.source.replace("authors = None", 'authors = "Ada"')
    assert is_our_report(report, here)
    parameters.source += "\nauthors = open('executed', 'w')"
    assert not is_our_report(report, here)


def test_scripts_that_no_font_has_are_named(tmp_path):
    """Greek is in every font of Typst's; nobody's has the planes for private use."""
    notebook = write(tmp_path / "scripts.ipynb", [new_markdown_cell("γάτα \U000f0000.")], **PAPER)
    assert export(notebook).returncode == 0
    text = text_of(notebook)
    assert "these, which are boxes or missing below: U+F0000." in text and "γάτα" in text
    found = markdown_to_pdf.scripts(["猫", "が", "แ", "\u0e31", "고", "😀"])
    assert found == ["CJK", "Hangul", "Hiragana", "Thai", "grinning face"]


def test_an_error_in_a_cell_fails_the_export(tmp_path):
    cells = [new_code_cell("raise ValueError('no such run')")]
    notebook = write(tmp_path / "failing.ipynb", cells)
    done = export(notebook, options=["--execute"])
    assert done.returncode != 0
    assert "no such run" in done.stderr
    assert not notebook.with_suffix(".pdf").exists()


@pytest.mark.parametrize(
    ("markdown", "message"),
    [
        (r"See Figure \ref{fig:none}.", "fig:none"),
        (r"$\undefinedmacro$", "undefinedmacro"),
    ],
)
def test_what_cannot_be_printed_fails_by_name(tmp_path, markdown, message):
    notebook = write(tmp_path / "wrong.ipynb", [new_markdown_cell(markdown)], **PAPER)
    done = export(notebook)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_html_keeps_its_stock_template(tmp_path):
    notebook = write(tmp_path / "plain.ipynb", [new_code_cell("1 + 1")])
    assert export(notebook, to="html").returncode == 0
    assert "jp-Notebook" in notebook.with_suffix(".html").read_text(encoding="utf8")


# ---------------------------------------------------------------- as print
TOP, FOOT = 2.7 / 29.7, 2.7 / 29.7  # the margins of paper.typ, as shares of the page


def blank_feet(path):
    """For each page but the last, the share of the text's height that is blank at its foot.

    By the lowest line of text but the page's number; a figure ends with its caption.
    """
    found = []
    for page in PdfReader(path).pages[:-1]:
        page["/Resources"].pop("/XObject", None)  # figures, which have coordinates of their own
        height, lines = float(page.mediabox.height), []

        def see(text, outer, inner, font, size, lines=lines):
            if text.strip():
                lines.append(inner[4] * outer[1] + inner[5] * outer[3] + outer[5])

        page.extract_text(visitor_text=see)
        lowest = min(y for y in lines if y > 0.8 * FOOT * height)
        found.append((lowest / height - FOOT) / (1 - TOP - FOOT))
    return found


FIGURES = """
import matplotlib.pyplot as plt
for n in range(5):
    figure, axes = plt.subplots(figsize=(6, 4.6))
    display(figure, metadata={"caption": f"Number {n}.", "label": f"fig:{n}"})
    plt.close(figure)
"""


def test_figures_move_so_that_no_page_loses_a_fifth(tmp_path):
    text = "\n\n".join(["All work and no play. " * 25] * 18)
    cells = [new_code_cell(FIGURES), new_markdown_cell(f"## Text\n\nSee [it](#fig:3).\n\n{text}")]
    notebook = write(tmp_path / "tall.ipynb", cells, **PAPER)
    assert export(notebook, options=["--execute"]).returncode == 0
    feet = blank_feet(notebook.with_suffix(".pdf"))
    assert len(feet) >= 3 and max(feet) < 0.2
    found = text_of(notebook)
    places = [found.index(f"Figure {n}: Number {n - 1}.") for n in range(1, 6)]
    assert places == sorted(places) and "See it (Figure 4)." in found


@pytest.mark.parametrize("name", ["report", "architectures"])
def test_no_page_of_the_published_reports_loses_a_fifth(name):
    assert max(blank_feet(ROOT / "report" / f"{name}.pdf")) < 0.2


@pytest.mark.parametrize("end", ["## A heading", "A colon:", "**Lead.**", "A formula:\n$$x$$"])
def test_nothing_that_announces_is_the_last_on_its_page(tmp_path, end):
    """Whatever the number of lines before it, each number on a new page."""
    pieces = []
    for count in range(26, 46):
        before = "\n\n".join(["Line."] * count)
        pieces.append(f"{before}\n\n{end}\n\nFOLLOWS and ends.\n\n\\newpage\n\n")
    notebook = write(tmp_path / "ends.ipynb", [new_markdown_cell("".join(pieces))], title="T")
    assert export(notebook).returncode == 0
    announced = end.split("\n")[0].strip("#* ")
    pages = [page.extract_text() for page in PdfReader(notebook.with_suffix(".pdf")).pages]
    after = [page.split(announced)[1] for page in pages if announced in page]
    assert len(after) == 20 and len(pages) > 22  # of some the end is on a second page
    assert all(text.strip(" \n0123456789") for text in after)


def test_references_are_a_section_without_a_number(tmp_path):
    cells = [new_markdown_cell("## Theory\n\nText.\n\n## References\n\n- A book")]
    notebook = write(tmp_path / "book.ipynb", cells, title="T")
    assert export(notebook).returncode == 0
    assert "1 Theory Text. References" in text_of(notebook)


def test_columns_of_numbers_have_their_points_below_each_other(tmp_path):
    code = """
import pandas as pd
from ptb.report.display import table
columns = {"name": ["a 1", "b"], "rate": ["0.35", "12.5"], "valid": ["9.1 / 8.25", "7 (+1.5%)"]}
table(pd.DataFrame(columns), "Numbers.", "tab:n")
"""
    notebook = write(tmp_path / "numbers.ipynb", [new_code_cell(code)], title="T")
    assert export(notebook, options=["--execute", "--no-input"]).returncode == 0
    ends = {}

    def see(text, outer, inner, font, size):
        ends[text.strip()] = inner[4] * outer[0] + outer[4]

    PdfReader(notebook.with_suffix(".pdf")).pages[0].extract_text(visitor_text=see)
    digit = (ends["12.5"] - ends["0.35"]) / -1  # one more digit before the point
    assert 3 < digit < 7
    assert "(+1.5%)" in text_of(notebook) and text_of(notebook).count("%") == 1
