"""Every printable ASCII character and pair of them is shown as it is, in every format and place."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path
from string import ascii_letters, digits, punctuation

import markdown_to_pdf
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pypandoc
import pytest
import typst
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html
from nbformat.v4 import new_code_cell, new_notebook, new_output
from paper_preprocessors import FrontMatter
from pypdf import PdfReader

import ptb.report.display
from ptb.report.display import Table, passage, show
from ptb.report.text import NO_MATHS, choice

PAPER = Path(sys.prefix) / "share/jupyter/nbconvert/templates/paper"
os.environ["PATH"] += os.pathsep + os.path.dirname(pypandoc.get_pandoc_path())

PRINTABLE = [*ascii_letters, *digits, *punctuation]
PAIRS = [a + b for a in PRINTABLE for b in PRINTABLE]
# At the start a letter is like any other, and so is a digit; in the middle is every pair. With
# every pair at the start too these tests pass, but take four minutes.
STARTS = [*PRINTABLE, *(a + b for a in "a1" + punctuation for b in "a1" + punctuation)]
MIDDLES = [*PRINTABLE, *PAIRS]


def texts(name: str, starts: list[str] = STARTS) -> list[str]:
    """A text for each start; in its middle its share of MIDDLES, as words and within words."""
    found = []
    for n, start in enumerate(starts):
        middle = " ".join(f"{case} b{case}c" for case in MIDDLES[n :: len(starts)])
        found.append(f"{start}x {middle} {name}{n}n")
    return found


def squeezed(text: str) -> str:
    """text without white space: a line may break anywhere."""
    return re.sub(r"\s", "", text)


def assert_shown(texts: list[str], shown: str) -> None:
    shown = squeezed(shown)
    assert [text for text in texts if squeezed(text) not in shown] == []


def run(*command, cwd=None) -> None:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def pdf_text(path: Path) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def display(data: dict[str, str], **metadata):
    return new_output("display_data", data, metadata=metadata)


def test_every_pair_of_characters_is_a_case():
    assert len(PRINTABLE) == 94 and len(MIDDLES) == 94 + 94**2 and len(STARTS) == 94 + 34**2
    words = set(" ".join(texts("p")).split())
    assert {*MIDDLES, *(f"b{case}c" for case in MIDDLES)} <= words


def test_pdf(tmp_path):
    """Passages, the cells of a table and its head, captions of figures and of tables."""
    passages, cells = texts("p"), texts("c")
    captions = texts("f", starts=PRINTABLE)  # each is an output of its own, which takes time
    table = Table(pd.DataFrame({cells[-1]: cells}), captions[-1], "tab:t")
    small = [Table(pd.DataFrame({"a": ["b"]}), text, "")._repr_latex_() for text in texts("t")]
    outputs = [
        display({"text/markdown": "\n\n".join(passage(text).data for text in passages)}),
        display({"text/latex": table._repr_latex_()}),
        display({"text/latex": "\n".join(small)}),
        *(display({"text/markdown": "a figure"}, caption=text) for text in captions),
    ]
    cell = new_code_cell("", outputs=outputs)
    nbformat.write(new_notebook(cells=[cell], metadata={"paper": True}), tmp_path / "a.ipynb")
    run(sys.executable, "-m", "nbconvert", "a.ipynb", "--to", "pdf", cwd=tmp_path)
    shown = pdf_text(tmp_path / "a.pdf")
    assert_shown([*passages, *cells, *captions, *texts("t")], shown)


def test_title_page(tmp_path):
    """As authors, of whom a page can have many: what the preprocessor and pandoc make of them."""
    names = texts("a")
    notebook, resources = new_notebook(metadata={"authors": names}), {"metadata": {"name": "a"}}
    _, resources = FrontMatter().preprocess(notebook, resources)
    (tmp_path / "metadata.json").write_bytes(resources["outputs"]["metadata.json"])
    (tmp_path / "names.typ").write_text("$for(authors)$[$authors.name$]\n\n$endfor$")
    (tmp_path / "empty.md").touch()
    options = {"metadata-file": "metadata.json", "lua-filter": PAPER / "paper.lua"}
    options |= {"template": "names.typ", "from": markdown_to_pdf.MARKDOWN, "to": "typst"}
    typed = [f"--{name}={value}" for name, value in options.items()]
    run(pypandoc.get_pandoc_path(), "empty.md", *typed, "--output=a.typ", cwd=tmp_path)
    typst.Compiler(str(tmp_path / "a.typ")).compile(output=str(tmp_path / "a.pdf"))
    assert_shown(names, pdf_text(tmp_path / "a.pdf"))


@pytest.mark.parametrize(
    "title", ["2. Übungsblatt", "ends in \\", "[x] $5 -- *\"a\" 'b'*", "- a ~"]
)
def test_title(tmp_path, title):
    _, resources = FrontMatter().preprocess(
        new_notebook(metadata={"title": title, "authors": [title]}), {"metadata": {"name": title}}
    )
    (tmp_path / "metadata.json").write_bytes(resources["outputs"]["metadata.json"])
    (tmp_path / "notebook.tex").write_text("text")
    run(sys.executable, PAPER / "markdown_to_pdf.py", "notebook.tex", cwd=tmp_path)
    assert squeezed(pdf_text(tmp_path / "notebook.pdf")) == squeezed(f"{title} {title} text 1")


def browser_text(html: str) -> str:
    """The text that a browser shows; fails where MathJax would look for mathematics in it."""
    soup = BeautifulSoup(html, "html.parser")
    shown = soup.get_text()
    for element in soup.find_all(class_=NO_MATHS.split()):
        assert NO_MATHS in " ".join(element["class"])  # for both versions of MathJax
        element.decompose()
    assert not re.search(r"[$\\]", soup.get_text())
    return shown


def test_html():
    """Markdown by nbconvert's own renderer; tables and captions are HTML."""
    everywhere = texts("p")
    passages = "\n\n".join(passage(text).data for text in everywhere)
    assert_shown(everywhere, browser_text(markdown2html(passages)))
    table = Table(pd.DataFrame({everywhere[-1]: everywhere}), "caption", "tab:t")
    assert_shown(everywhere, browser_text(table._repr_html_()))
    captions = [Table(pd.DataFrame(), text, "")._repr_html_() for text in everywhere]
    assert_shown(everywhere, browser_text("\n".join(captions)))


def test_a_figure_has_its_caption_and_its_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr(
        ptb.report.display, "display", lambda data, **given: shown.append((data, given))
    )
    figure, axes = plt.subplots()
    axes.plot([1, 2], label="<unk>")
    axes.set(xlabel="epoch", ylabel="perplexity")
    show(axes, '$5 "a"', "fig:a")
    ((data, given),) = shown
    html = BeautifulSoup(data["text/html"], "html.parser")
    assert html.img["alt"] == "Figure: perplexity over epoch: <unk>"
    assert browser_text(data["text/html"]) == '$5 "a"'
    assert base64.b64decode(data["application/pdf"]).startswith(b"%PDF")
    assert given["metadata"] == {"caption": '$5 "a"', "label": "fig:a"}


def test_an_empty_table_says_so():
    for frame in (pd.DataFrame(), pd.DataFrame(columns=["word", "cosine"])):
        table = Table(frame, "Nothing.", "tab:none")
        latex = pypandoc.convert_text(table._repr_latex_(), "plain", "latex")
        assert "no rows" in latex and "no rows" in table._repr_html_()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1e-5, "10⁻⁵"), (2.5e-7, "2.5·10⁻⁷"), (1e20, "10²⁰"), (25.0, "25"), (0.25, "0.25")]
    + [(0.0, "0"), (5, "5"), (False, "False"), (None, "None"), ("linear", "linear")],
)
def test_a_setting_is_shown_as_one_writes_it(value, shown):
    assert choice(value) == shown


@pytest.mark.parametrize(
    ("texts", "right"),
    [
        (["0.35", "12.5", "–"], True),
        (["1,204", "−3.1", "10⁻⁵", "2·10⁻⁴", "3e-05"], True),
        (["112.4 / 109.4 (7.9)", "5 of 13", "1.4 ± 0.2", "9/20‡", "13.8%"], True),
        (["3.1d", "3.1e"], False),
        (["125: yes", "100: no"], False),
        (["–", ""], False),
    ],
)
def test_columns_of_numbers_are_to_the_right(texts, right):
    table = Table(pd.DataFrame({"name": ["a"] * len(texts), "x": texts}), "caption", "tab:t")
    assert (r"\begin{tabular}{lr}" in table._repr_latex_()) is right
    assert ("td.col1 {\n  text-align: left" in table._repr_html_()) is not right
