"""pyproject.toml and requirements.txt: ranges that hold the pins, and all that is imported.

`make test-package` installs the wheel for real.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_imports import MODULES, imported

from ptb import __main__ as command_line
from ptb import paths
from ptb.paths import ROOT
from ptb.report import publish
from ptb.training.tracking import TRACKERS

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
RANGES = {r.name: r for r in map(Requirement, PROJECT["dependencies"])}
EXTRAS = {
    name: {r.name: r for r in map(Requirement, lines)}
    for name, lines in PROJECT["optional-dependencies"].items()
}
LINES = (ROOT / "requirements.txt").read_text().splitlines()
PINS = {r.name: r for r in (Requirement(x) for x in LINES if re.match(r"\w", x))}
OPTIONAL = {"distributed", "pypandoc", "triton", *TRACKERS}  # imported on demand
COME_ALONG = {"IPython", "matplotlib_inline", "nbformat", "pygments", "traitlets"}  # of Jupyter's


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


@pytest.mark.parametrize("name", PINS)
def test_a_pin_is_a_version_that_the_ranges_allow(name):
    ranges = [group[name] for group in (RANGES, *EXTRAS.values()) if name in group]
    assert ranges, f"{name} is pinned, but pyproject.toml does not name it"
    assert all(version(PINS[name]) in given.specifier for given in ranges)


def test_a_range_has_a_lower_bound_and_torch_an_upper_one():
    for requirement in RANGES.values():
        assert ">=" in [part.operator for part in requirement.specifier], requirement
    assert "2.12.0" in RANGES["torch"].specifier and "3.0" not in RANGES["torch"].specifier


def test_what_is_not_pinned_is_a_tracker():
    named = set(RANGES).union(*EXTRAS.values()) - {PROJECT["name"]}
    assert named - set(PINS) == set(TRACKERS)
    assert set(TRACKERS) <= set(EXTRAS)


def test_requirements_install_the_project_itself():
    assert LINES[-1] == "-e ."  # after the pins, so that one resolution holds both


def test_every_package_that_is_imported_is_a_dependency():
    names = {n.split(".")[0] for path in MODULES.values() for n in imported(path.read_text())}
    packages = names - sys.stdlib_module_names - {"ptb"} - OPTIONAL - COME_ALONG
    distributions = packages_distributions()
    needed = {name: distributions[name][0] for name in packages}
    assert {n for n, d in needed.items() if d.replace("-", "_").lower() not in RANGES} == set()
    assert {"torch", "pandas", "papermill", "seaborn"} <= packages


@pytest.fixture
def reinstalls(tmp_path):
    """Whether make would install again where no file but a changed one is newer than .venv."""
    for name in ("report/template", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "installed").touch()

    def would(changed: Path) -> bool:
        command = ["make", "--dry-run", f"--what-if={changed.relative_to(ROOT)}", "setup"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return "pip install" in done.stdout

    return would


def test_make_installs_again_after_a_change_in_what_is_installed_as_a_copy_and_no_other(reinstalls):
    sources = [
        ROOT / p for p in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    ]
    copied = [f for s in sources for f in (s.rglob("*.*") if s.is_dir() else [s])]
    copied = [file for file in copied if "__pycache__" not in file.parts]
    assert len(copied) > 8
    assert [file for file in copied if not reinstalls(file)] == []
    assert not reinstalls(ROOT / "notebooks" / "train.ipynb")


# ---------------------------------------------------------------- without the extras, or a clone
@pytest.mark.parametrize("action", ["report", "publish", "rebuild"])
def test_reports_without_their_extra_are_refused_at_once(action, monkeypatch, capsys):
    monkeypatch.setattr(publish, "find_spec", lambda name: None if name == "typst" else name)
    monkeypatch.setattr(publish, action, lambda study: pytest.fail("it went on"))
    assert command_line.main(["study", action, "demo"]) == 1
    assert capsys.readouterr().err == "reports need typst: pip install pypandoc_binary typst\n"


WITHOUT_TYPST = """
import runpy, sys
sys.modules["typst"] = None
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_nbconverts_pdf_without_the_extra_says_what_to_install():
    script = ROOT / "report" / "template" / "paper" / "markdown_to_pdf.py"
    command = [sys.executable, "-c", WITHOUT_TYPST, str(script)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "a PDF needs typst: pip install pypandoc_binary typst\n"


@pytest.mark.parametrize(
    "typed", ["trial", "study run demo", "baselines", "copies", "student", "site"]
)
def test_what_needs_a_clone_says_so_elsewhere_in_one_line(monkeypatch, capsys, typed):
    monkeypatch.setattr(command_line, "NOTEBOOKS", Path("nowhere"))
    assert command_line.main(typed.split()) == 1
    line = f"{typed.split()[0]} needs the repository's notebooks and records: use a clone\n"
    assert capsys.readouterr().err == line


def test_an_installed_package_works_in_the_clone_around_it_or_in_the_folder(monkeypatch, tmp_path):
    assert paths.CODE == ROOT  # here it is the clone
    monkeypatch.setattr(paths, "CODE", tmp_path / "site-packages")
    monkeypatch.chdir(ROOT / "notebooks")
    assert paths._root() == ROOT
    monkeypatch.chdir(tmp_path)
    assert paths._root() == tmp_path
