"""Configuration of `jupyter nbconvert`, installed under the environment's etc/jupyter.

`--to pdf` makes its PDF with the template "paper", pandoc and Typst: no TeX. Every other format
keeps its stock template.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from nbconvert.exporters import Exporter

PAPER = Path(__file__).parents[2] / "share/jupyter/nbconvert/templates/paper"
sys.path.append(str(PAPER))
from paper_preprocessors import ExecuteOnExport, FrontMatter, report_briefly  # noqa: E402

from ptb.report.text import as_it_is  # noqa: E402

c = get_config()  # noqa: F821
stock = [
    name
    for name in Exporter.default_preprocessors.default()
    if not name.endswith(".ExecutePreprocessor")
]
c.HTMLExporter.default_preprocessors = [ExecuteOnExport, *stock]
c.LatexExporter.default_preprocessors = [ExecuteOnExport, *stock]
c.SlidesExporter.reveal_scroll = True  # a section may be longer than a screen

pdf = c.PDFExporter
pdf.default_preprocessors = [ExecuteOnExport, FrontMatter, *stock]
pdf.template_name = "paper"
pdf.filters = {"as_it_is": as_it_is}
pdf.latex_command = [sys.executable, str(PAPER / "markdown_to_pdf.py"), "{filename}"]
pdf.latex_count = 1
pdf.bib_command = [sys.executable, "-c", "raise SystemExit(1)"]  # failed: no second round
pdf.SVG2PDFPreprocessor.enabled = False  # Typst reads SVG; the stock way needs Inkscape
pdf.CoalesceStreamsPreprocessor.enabled = True  # the last state of a progress bar, not all
pdf.TagRemovePreprocessor.enabled = True
pdf.TagRemovePreprocessor.remove_cell_tags = {"remove-cell"}
pdf.TagRemovePreprocessor.remove_input_tags = {"remove-input"}
pdf.TagRemovePreprocessor.remove_all_outputs_tags = {"remove-output"}

if find_spec("pypandoc"):  # for the formats that nbconvert itself makes by pandoc
    import pypandoc

    os.environ["PATH"] += os.pathsep + os.path.dirname(pypandoc.get_pandoc_path())
sys.excepthook = report_briefly
