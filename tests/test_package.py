"""pyproject.toml and requirements.txt: ranges that hold the pins, and all that is imported.

`make test-package` installs the wheel for real.
"""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from test_imports import MODULES, imported

from ptb.paths import ROOT
from ptb.training.tracking import TRACKERS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = {r.name: r for r in map(Requirement, PROJECT["dependencies"])}
EXTRAS = {
    name: {r.name: r for r in map(Requirement, lines)}
    for name, lines in PROJECT["optional-dependencies"].items()
}
LINES = (ROOT / "requirements.txt").read_text().splitlines()
PINS = {r.name: r for r in (Requirement(x) for x in LINES if re.match(r"\w", x))}
OPTIONAL = {"distributed", "pypandoc", *TRACKERS}  # imported where one asks for what needs them
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
