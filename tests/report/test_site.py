"""ptb.report.site: every page's links lead somewhere, and nothing is fetched from the network."""

import re
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest

from ptb.errors import StudyError
from ptb.paths import ROOT
from ptb.report import site
from ptb.report.publish import READ
from ptb.report.site import PAGES, Page, code_colours, mathml

VOID = {"meta", "link", "img", "br", "hr", "input", "col"}


class Read(HTMLParser):
    """What a browser would fetch or follow on a page, its anchors, and whether its tags nest."""

    def __init__(self, text: str):
        super().__init__()
        self.fetched, self.links, self.anchors, self.tags = [], [], [], set()
        self.open, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.add(tag)
        self.anchors += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.fetched += [given[n] for n in ("src", "srcset", "data") if n in given]
        self.fetched += [given["href"]] if tag == "link" else []
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        if tag in self.open:  # a <p> may end by itself
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"pre", "code", "annotation", "style"} & set(self.open):
            self.text.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site, written once into a folder of its own."""
    folder = tmp_path_factory.mktemp("pages") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "SITE", folder)
        patch.setattr(site, "DRAFT", folder.with_name("site.partial"))
        patch.setattr(site, "github", lambda: "ada/course")
        assert site.write_site() == folder / "index.html"
    return folder


@pytest.fixture(scope="module")
def pages(folder):
    return {p.name: Read(p.read_text(encoding="utf-8")) for p in folder.glob("*.html")}


def test_there_is_a_page_for_every_executed_notebook_and_every_document(pages):
    assert {f"{name}.html" for name in READ} | {"index.html"} <= set(PAGES.values()) <= set(pages)
    assert len(PAGES.values()) == len(set(PAGES.values()))


def test_every_link_leads_to_a_file_of_the_site_and_a_heading_in_it(pages, folder):
    lost = []
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = unquote(parts.path) or name
            there = (folder / target).is_file()
            if not there or parts.fragment and parts.fragment not in pages[target].anchors:
                lost.append((name, link))
    assert lost == []


def test_nothing_is_fetched_from_elsewhere_and_no_page_has_a_script(pages, folder):
    for name, page in pages.items():
        assert not {"script", "iframe", "object"} & page.tags, name
        for fetched in page.fetched:
            assert fetched.startswith("data:image/") or (folder / fetched).is_file(), name
    styles = (folder / "style.css").read_text()
    assert not re.search(r"@import|url\(", styles) and "prefers-color-scheme: dark" in styles


def test_formulas_are_mathml_and_none_is_left_as_tex(pages, folder):
    formulas = {name for name, page in pages.items() if "math" in page.tags}
    assert {"cells.html", "lesson.html", "report.html", "architectures.html"} <= formulas
    for name in READ:
        text = "".join(pages[f"{name}.html"].text)
        assert not re.findall(r"\$[^$\n]*\\|\\(?:frac|begin|appendix|newpage)\b", text), name
        assert "<!--formula" not in (folder / f"{name}.html").read_text(encoding="utf-8")


def test_every_page_lists_all_pages_and_its_own_headings(pages):
    for name, page in pages.items():
        assert set(PAGES.values()) <= set(page.links), name
    assert {"#the-lstm", "#the-gru"} <= set(pages["cells.html"].links)


def test_headings_of_one_name_have_anchors_of_their_own(pages):
    anchors = pages["cells.html"].anchors
    assert {"fast", "fast-1", "fast-2"} <= set(anchors)
    assert all(len(page.anchors) == len(set(page.anchors)) for page in pages.values())


def test_a_notebook_can_be_had_and_opened_in_colab_and_set_up_there(pages, folder):
    page, name = pages["lesson.html"], "notebooks/lesson.ipynb"
    assert name in page.links
    assert nbformat.read(folder / name, 4) == nbformat.read(ROOT / name, 4)
    assert f"https://colab.research.google.com/github/ada/course/blob/main/{name}" in page.links
    text = (folder / "lesson.html").read_text(encoding="utf-8")
    assert "git clone --depth 1 https://github.com/ada/course course" in text


@pytest.mark.parametrize(
    ("origin", "found"),
    [
        ("https://github.com/ada/course", "ada/course"),
        ("https://github.com/ada/course.git", "ada/course"),
        ("git@github.com:ada/my.course.git", "ada/my.course"),
        ("https://example.org/ada/course", None),
        ("", None),
    ],
)
def test_the_repository_on_github_is_gits_origin(origin, found, monkeypatch):
    done = subprocess.CompletedProcess([], 0, stdout=f"{origin}\n")
    monkeypatch.setattr(site.subprocess, "run", lambda *command, **options: done)
    assert site.github() == found


def test_without_git_no_page_leads_to_github(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr("subprocess.run", missing)
    assert site.github() is None


def test_a_source_file_is_shown_as_it_is(pages, folder):
    text = (folder / "ptb.models.plain.py.html").read_text(encoding="utf-8")
    code = re.search(r"<pre>(.*?)</pre>", text, re.S)[1]
    shown = re.sub(r"<[^>]+>", "", code)
    for sign, reference in (("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#39;")):
        shown = shown.replace(reference, sign)
    source = (ROOT / "ptb/models/plain.py").read_text(encoding="utf-8")
    assert shown.replace("&amp;", "&").strip() == source.strip()


def test_what_a_link_becomes(monkeypatch, tmp_path):
    monkeypatch.setattr(site, "DRAFT", tmp_path)
    page = Page("docs/studies.md")
    assert page.link("https://example.org/a") == "https://example.org/a"
    assert page.link("#trials") == "#trials"
    assert page.link("contributing.md#without-make") == "contributing.html#without-make"
    assert page.link("../notebooks/lesson.ipynb") == "lesson.html"
    assert page.link("../notebooks/train.ipynb") == "notebooks/train.ipynb"  # has no copy
    assert page.link("../report/records") is None
    assert page.link("../ptb/recipes.py") == "ptb.recipes.py.html" and page.shown
    assert Page("report/notebooks/lesson.ipynb").link("../report/report.pdf") == "report/report.pdf"
    assert (tmp_path / "report" / "report.pdf").exists()
    with pytest.raises(StudyError, match="docs/studies.md links to nowhere.md, which is not there"):
        page.link("nowhere.md")


def test_a_site_that_cannot_be_written_leaves_the_one_that_was_there(monkeypatch, tmp_path):
    def no_luck(self):
        raise StudyError("docs/studies.md links to nowhere.md, which is not there")

    for name in ("SITE", "DRAFT"):
        monkeypatch.setattr(site, name, tmp_path / name)
    monkeypatch.setattr(Page, "write", no_luck)
    (tmp_path / "SITE").mkdir()
    (tmp_path / "SITE" / "index.html").write_text("before")
    with pytest.raises(StudyError, match="nowhere"):
        site.write_site()
    assert (tmp_path / "SITE" / "index.html").read_text() == "before"


def test_a_formula_that_pandoc_does_not_know_is_named():
    assert [m.count("<math") for m in mathml(["$x$", r"$$\frac{1}{2}$$"])] == [1, 1]
    with pytest.raises(StudyError, match=r"a formula is not MathML"):
        mathml([r"$\nosuchcommand{x}$"])
    assert mathml([]) == []


def test_code_has_colours_for_light_and_dark():
    light, dark = code_colours().split("@media (prefers-color-scheme: dark)")
    assert ".highlight .k " in light and ".highlight .k " in dark
