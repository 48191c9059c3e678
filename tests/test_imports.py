"""Who imports whom: the order of the folders in ptb/, and who may draw figures."""

import ast
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ptb
from ptb.paths import ROOT

# From top to bottom, as in `ptb.__doc__`: a module imports from its own folder and those above.
ORDER = (
    "ptb",
    "ptb.data",
    "ptb.models",
    "ptb.evaluation",
    "ptb.runs",
    "ptb.training",
    "ptb.studies",
    "ptb.report",
)
ENTRY_POINTS = ("ptb.notebook", "ptb.__main__")  # nothing in a folder imports them
TOP = {"ptb.errors", "ptb.paths", "ptb.setting", "ptb.recipes", "ptb.parameters"}
DRAWING = {"matplotlib", "seaborn"}
MAY_DRAW = ("ptb.report", "ptb.notebook", "ptb_utils")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((ROOT / "ptb").rglob("*.py"))}


def imported(source: str) -> set[str]:
    """The full name of all that is imported anywhere in a source, inside functions too.

    `from ptb.report import figures` counts as `ptb.report.figures`.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import: write the whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rank(name: str) -> int:
    """How far down a module is, or something that is imported from it."""
    if any(name == entry or name.startswith(f"{entry}.") for entry in ENTRY_POINTS):
        return len(ORDER)
    return ORDER.index(folder if (folder := ".".join(name.split(".")[:2])) in ORDER else "ptb")


def against_the_order(module: str, source: str) -> list[str]:
    """What a module imports from further down."""
    own = [name for name in imported(source) if name.split(".")[0] == "ptb"]
    return sorted(name for name in own if rank(name) > rank(module))


def drawing(source: str) -> set[str]:
    """The libraries for figures that a source imports."""
    return DRAWING & {name.split(".")[0] for name in imported(source)}


def test_every_module_is_in_a_folder():
    folders = {name for name in MODULES if MODULES[name].name == "__init__.py"}
    assert folders == set(ORDER)
    at_the_top = {name for name in MODULES if name.count(".") == 1} - folders
    assert at_the_top == TOP | set(ENTRY_POINTS)


def test_the_map_names_every_folder_in_order():
    lines = ptb.__doc__.splitlines()
    named = [line.split()[0] for line in lines if line.startswith("    ") and "/  " in line]
    assert named == [f"{folder.removeprefix('ptb.')}/" for folder in ORDER[1:]]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_upwards(module):
    assert against_the_order(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith(MAY_DRAW)])
def test_only_reports_draw(module):
    assert drawing(MODULES[module].read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("ptb.data.corpus", "from ptb.runs.run import Run", ["ptb.runs.run.Run"]),
        ("ptb.setting", "import ptb.models.cells", ["ptb.models.cells"]),
        ("ptb.runs.run", "def f():\n    from ptb.report import figures", ["ptb.report.figures"]),
        ("ptb.report.live", "from ptb.notebook import check", ["ptb.notebook.check"]),
        ("ptb.report.live", "from ptb import notebook", ["ptb.notebook"]),
        ("ptb.runs.run", "from ptb.data.corpus import Corpus\nfrom ptb.runs import table", []),
    ],
)
def test_the_check_sees_an_import_against_the_order(module, source, found):
    assert against_the_order(module, source) == found


def test_the_check_sees_a_figure_inside_a_function():
    assert drawing("def f():\n    import matplotlib.pyplot as plt") == {"matplotlib"}


TRAIN = """
import sys
import ptb.__main__ as command_line
from pathlib import Path
import ptb.runs.run
ptb.runs.run.RUNS = Path(sys.argv.pop(1))
status = command_line.main(sys.argv[1:])
slow = ("matplotlib", "seaborn", "IPython", "torch._dynamo")  # the last is torch's compiler
loaded = [name for name in slow if name in sys.modules]
print("loaded:", *loaded)
sys.exit(status)
"""


def test_training_from_the_command_line_loads_neither_figures_nor_a_compiler(tmp_path):
    """The whole way of `python -m ptb train`, with its folder in place of runs/."""
    line = "train --corpus embedded --hidden 8 --embedding 8 --epochs 1 --batch-size 200"
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path), *shlex.split(line)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert len(list(tmp_path.glob("demo/*/metrics.json"))) == 1
