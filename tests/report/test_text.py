"""Every printable ASCII character and pair of them is shown as it is, in every format and place."""

import json
import re
import subprocess
import sys
from pathlib import Path
from string import ascii_letters, digits, punctuation

import nbformat
import pandas as pd
import pypandoc
import pytest
from bs4 import BeautifulSoup
from nbconvert import LatexExporter
from nbconvert.filters import markdown2html
from nbformat.v4 import new_code_cell, new_notebook, new_output
from pypdf import PdfReader

from ptb.report.display import Table, passage
from ptb.report.text import NO_MATHS, as_it_is

PAPER = Path(sys.prefix) / "share/jupyter/nbconvert/templates/paper"
PRINTABLE = [*ascii_letters, *digits, *punctuation]
PAIRS = [a + b for a in PRINTABLE for b in PRINTABLE]
# at the start a letter is like any other, and so is a digit; in the middle is every pair
STARTS = [*PRINTABLE, *(a + b for a in "a1" + punctuation for b in "a1" + punctuation)]
MIDDLES = [*PRINTABLE, *PAIRS]


def texts(name: str) -> list[str]:
    """A text for each start; in its middle its share of MIDDLES, as words and within words."""
    shares = [MIDDLES[n :: len(STARTS)] for n in range(len(STARTS))]
    middles = [" ".join(f"{case} b{case}c" for case in share) for share in shares]
    starts = zip(STARTS, middles, strict=True)
    return [f"{start}x {middle} {name}{n}n" for n, (start, middle) in enumerate(starts)]


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
    assert all(f" {case} b{case}c" in " ".join(texts("p")) for case in MIDDLES)


def test_pdf(tmp_path):
    """Passages, the cells of a table and its head, captions of figures and of tables."""
    passages, cells, captions = texts("p"), texts("c"), texts("f")
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
