"""The site: the executed notebooks and the pages of text, as HTML that needs no network.

`python -m ptb site` writes site/. Formulas become MathML by pandoc, and there is no script. What a
page links to in the repository comes along: a notebook or a page of text as a page, a source file
as a page that shows it, any other file as it is.
"""

import posixpath
import re
import shutil
import subprocess
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from ptb.errors import StudyError
from ptb.paths import ROOT
from ptb.report.publish import READ, check_converters

SITE = ROOT / "site"
DRAFT = ROOT / "site.partial"
TEMPLATES = ROOT / "report" / "template"
COPIES = "report/notebooks"
# The pages by their paths in the repository, as every page lists them.
LISTED = {
    "": {"README.md": "index.html"},
    "Notebooks": {f"{COPIES}/{name}.ipynb": f"{name}.html" for name in READ},
    "To look things up": {
        **{f"docs/{p.name}": f"{p.stem}.html" for p in sorted((ROOT / "docs").glob("*.md"))},
        "data/README.md": "data.html",
    },
}
PAGES = {path: target for group in LISTED.values() for path, target in group.items()}
SHOWN = {".py": "python", ".txt": "text", ".yml": "yaml", ".cff": "yaml", "": "text"}


def write_site() -> Path:
    """Writes the site anew, into site/; returns its first page.

    Raises StudyError for a link to a file that is not there, and what check_converters does; the
    site that was there stays then.
    """
    check_converters()
    shutil.rmtree(DRAFT, ignore_errors=True)
    DRAFT.mkdir()
    todo, written = list(PAGES), set()
    while todo:
        page = Page(todo.pop())
        page.write()
        written.add(page.source)
        todo += [path for path in page.shown if path not in written and path not in todo]
    styles = [code_colours(), (TEMPLATES / "site" / "style.css").read_text(encoding="utf-8")]
    (DRAFT / "style.css").write_text("\n".join(styles), encoding="utf-8")
    shutil.rmtree(SITE, ignore_errors=True)
    DRAFT.rename(SITE)
    return SITE / "index.html"


def code_colours() -> str:
    """Pygments' rules for a light page and a dark one."""
    light, dark = (
        HtmlFormatter(style=style).get_style_defs(".highlight")
        for style in ("friendly", "github-dark")
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def address(path: str) -> str:
    """Where the site has a source file: a page in its one folder."""
    return PAGES.get(path) or f"{path.replace('/', '.').strip('.')}.html"


def github() -> str | None:
    """OWNER/NAME of the repository on GitHub, by git's origin; None where it is from elsewhere."""
    command = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    try:
        found = subprocess.run(command, capture_output=True, encoding="utf-8").stdout.strip()
    except OSError:  # there is no git
        return None
    match = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?$", found)
    return match and match[1]


class Page:
    """A page as it is made: its headings, its formulas, the source files that it links to."""

    def __init__(self, source: str):
        """source is the file's path in the repository."""
        self.source, self.path = source, ROOT / source
        self.headings: list[tuple[int, str, str]] = []  # level, anchor, HTML
        self.formulas: list[str] = []
        self.shown: list[str] = []
        self.is_copy = source.startswith(COPIES)
        # an executed copy has the links of its source, which are seen from notebooks/
        self.folder = "notebooks" if self.is_copy else posixpath.dirname(source)

    def write(self) -> None:
        notebook = self.notebook()
        about = {
            "title": title(notebook),
            "headings": lambda: self.headings,  # once the cells are done
            "listed": listed(),
            "here": address(self.source),
            "notebook": copied(f"notebooks/{self.path.name}") if self.is_copy else None,
            "github": github(),
        }
        exporter = HTMLExporter(
            template_name="site",
            extra_template_basedirs=[str(TEMPLATES)],
            filters={"markdown2html": self.html, "formula": self.formula},
            exclude_input_prompt=True,
            exclude_output_prompt=True,
        )
        page, _ = exporter.from_notebook_node(notebook, resources={"site": about})
        formulas = mathml(self.formulas)
        page = re.sub(r"<!--formula (\d+)-->", lambda found: formulas[int(found[1])], page)
        (DRAFT / address(self.source)).write_text(page, encoding="utf-8")

    def notebook(self) -> nbformat.NotebookNode:
        """The page as a notebook, without outputs that a script would draw."""
        if self.path.suffix == ".ipynb":
            notebook = nbformat.read(self.path, 4)
            for output in (o for cell in notebook.cells for o in cell.get("outputs", [])):
                for kind in [k for k in output.get("data", {}) if k.startswith("application/")]:
                    del output.data[kind]
            return notebook
        text = self.path.read_text(encoding="utf-8")
        if self.path.suffix in SHOWN:
            fence = "`" * 20
            text = f"# {self.source}\n\n{fence}{SHOWN[self.path.suffix]}\n{text}\n{fence}"
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])

    def html(self, markdown: str) -> str:
        """Markdown as HTML; commands that are meant for the PDF, as \\appendix, are left out."""
        markdown = re.sub(r"^\\(appendix|newpage)$", "", markdown, flags=re.M)
        return MarkdownWithMath(renderer=Renderer(self)).render(markdown)

    def formula(self, tex: str) -> str:
        """A place for a formula, which `write` fills: pandoc is called once a page."""
        self.formulas.append(tex.replace(r"\displaystyle", ""))
        return f"<!--formula {len(self.formulas) - 1}-->"

    def link(self, url: str) -> str | None:
        """A link of the repository's as the site has it; a file that it leads to comes along.

        None for a folder, which has no page. Raises StudyError for what is not there.
        """
        parts = urlsplit(url)
        if parts.scheme or not parts.path:
            return url
        path = posixpath.normpath(posixpath.join(self.folder, unquote(parts.path)))
        if (copy := f"{COPIES}/{Path(path).name}") in PAGES and path.startswith("notebooks/"):
            path = copy
        if path not in PAGES and not (ROOT / path).is_file():
            if (ROOT / path).is_dir():
                return None
            raise StudyError(f"{self.source} links to {url}, which is not there")
        if path in PAGES or Path(path).suffix in SHOWN:
            if path not in PAGES:
                self.shown.append(path)
            return address(path) + (f"#{parts.fragment}" if parts.fragment else "")
        return copied(path)


class Renderer(IPythonRenderer):
    """nbconvert's own, with the site's links, anchors and formulas."""

    def __init__(self, page: Page):
        super().__init__(escape=False)
        self.page = page

    def heading(self, text: str, level: int, **attributes) -> str:
        plain = re.sub(r"<[^>]+>", "", text).lower()
        anchor = re.sub(r"[^\w -]", "", plain).strip().replace(" ", "-")  # as GitHub's
        before = [re.sub(r"-\d+$", "", other) for _, other, _ in self.page.headings].count(anchor)
        anchor += f"-{before}" if before else ""
        self.page.headings.append((level, anchor, re.sub(r"</?a\b[^>]*>", "", text)))
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        target = self.page.link(url)
        return f'<a href="{escape(target)}">{text}</a>' if target else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return super().image(text, self.page.link(url), title)

    def table(self, text: str) -> str:
        return f'<div class="scroll"><table>\n{text}</table></div>\n'

    def inline_math(self, body: str) -> str:
        return self.page.formula(f"${body.strip()}$")

    def block_math(self, body: str) -> str:
        return self.page.formula(f"$${body.strip()}$$")

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


def copied(path: str) -> str:
    """A file of the repository copied into the site, under the same path."""
    (DRAFT / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / path, DRAFT / path)
    return path


@cache
def listed() -> dict[str, dict[str, str]]:
    """The title of each page by its place in the site, in the groups in which they are listed."""
    return {
        name: {target: title(Page(path).notebook()) for path, target in group.items()}
        for name, group in LISTED.items()
    }


def title(notebook: nbformat.NotebookNode) -> str:
    """The page's first heading."""
    return re.search(r"^# (.+)$", notebook.cells[0].source, re.M)[1]


def mathml(formulas: list[str]) -> list[str]:
    """Each formula, with its dollars, as MathML; raises StudyError for one that pandoc can't do."""
    import pypandoc

    if not formulas:
        return []
    lines = "\n\n".join(" ".join(tex.split()) for tex in formulas)  # a paragraph each
    options = ["--mathml", "--wrap=none", "--fail-if-warnings"]
    try:
        done = pypandoc.convert_text(lines, "html", "markdown", extra_args=options)
    except RuntimeError as error:
        raise StudyError(f"a formula is not MathML: {error}") from None
    found = re.findall(r"<p>(.*?)</p>", done, re.S)
    if len(found) != len(formulas):
        raise StudyError(f"{len(formulas)} formulas became {len(found)}: is one empty?")
    return [f'<span class="formula">{m}</span>' if 'display="block"' in m else m for m in found]
