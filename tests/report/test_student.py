"""The assignments: what is handed out leaks nothing, and their checks find what is wrong.

`make test-kit` has nbgrader itself generate and grade them; here their cells run in this process.
"""

import re
import sys

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from submissions import (
    FROM_THE_COURSE,
    FROM_TORCH,
    IN_OTHER_WORDS,
    MISTAKES,
    STUB,
    handed_in,
    identity,
    mistaken,
)

from ptb.__main__ import main
from ptb.errors import AssignmentError
from ptb.paths import ROOT
from ptb.report import student

POINTS = {"cells": (25, 0), "theory": (30, 20), "lesson": (20, 5)}  # by checks, by a person
WITHOUT_LAST_DROPOUT = """None
def forward(self, x, state=None):
    outputs, state = self.rnn(self.drop(self.embedding(x)), state)
    return self.output(outputs), state
"""
WRONG = [  # assignment, cell, a slip in IN_OTHER_WORDS, and the check that must find it
    ("cells", "rnn-step", "+ b_hh", "", "rnn-step-check"),
    ("cells", "lstm-step", "i, f, g, o", "i, f, o, g", "lstm-step-check"),
    ("cells", "lstm-step", ", c", ", g", "lstm-step-check"),
    ("cells", "gru-step", "(h - new)", "(new - h)", "gru-step-check"),
    ("cells", "gru-step", "r * b[:, 2 * n :]", "b[:, 2 * n :] * z", "gru-step-check"),
    ("cells", "gru-before-step", "F.linear(r * h,", "r * F.linear(h,", "gru-before-step-check"),
    ("cells", "turned-gru-step", "-p[n", "p[n", "turned-gru-step-check"),
    ("cells", "initial-state", "[h_0]", "[h_0.detach()]", "initial-state-check"),
    ("cells", "masked-softmax-by-product", "- shift", "", "masked-softmax-by-product-check"),
    ("cells", "masked-softmax", "-1e9", "0.0", "masked-softmax-check"),
    ("cells", "attention", " * q.shape[-1] ** -0.5", "", "attention-check"),
    ("cells", "attention", "-0.5, mask)", "-0.5, mask | ~mask)", "attention-check"),
    ("cells", "multi-head-attention", "weights.output(", "(", "multi-head-attention-check"),
    ("theory", "masked-loss", ", ignore_index=pad", "", "masked-loss-check"),
    ("theory", "parameters", "4 * (", "3 * (", "lstm-parameters-check"),
    ("theory", "parameters", "+ biases * hidden", "+ 2 * hidden", "lstm-parameters-check"),
    ("theory", "scalar-gradients", "(1 - g_2**2)", "(1 - g_2)", "gradient-c"),
    ("theory", "scalar-gradients", "h_1 * r_2 * error", "h_1 * error", "gradient-d"),
    ("theory", "vector-gradients", "(r_2 * h_1)", "h_1", "candidate-vectors-check"),
    ("lesson", "windows", "cut(1)", "cut(0)", "windows-check"),
    ("lesson", "windows", "torch.stack(ids[k", "torch.stack(ids[2 * k", "windows-check"),
    ("lesson", "gru-model", "nn.GRU(", "nn.LSTM(", "gru-model-check"),
    ("lesson", "gru-model", "uniform_(-0.1, 0.1)", "normal_(0.0, 0.1)", "gru-model-check"),
    ("lesson", "gru-model", "LSTMModel.forward", WITHOUT_LAST_DROPOUT, "gru-model-check"),
    ("lesson", "saved-by-the-gru", "2 + 2", "2 + 1", "saved-by-the-gru-check"),
    ("lesson", "tie", "= model.output.weight", "= model.rnn.weight_ih_l0", "tie-check"),
    ("lesson", "train", "state[0].detach(), state[1].detach()", "state", "train-check"),
    ("lesson", "train", "state = state.detach()", "state = None", "train-check"),
    ("lesson", "train", "parameters(), clip)", "parameters(), 100.0)", "train-check"),
    ("lesson", "train", "model.zero_grad()", "pass", "train-check"),
    ("lesson", "evaluate", "train(False)", "train()", "evaluate-check"),
    ("lesson", "evaluate", "model(x, state)", "model(x)", "evaluate-check"),
    ("lesson", "evaluate", ".flatten())", ".mean()[None])", "evaluate-check"),
    ("lesson", "loss-by-place", ".mean(1)", ".mean(0)", "loss-by-place-check"),
    ("lesson", "loss-by-place", "model.eval()", "model.train()", "loss-by-place-check"),
    ("lesson", "my-model", "range(6)", "range(1)", "my-model-check"),
]  # fmt: skip


def source(name):
    return nbformat.read(student.ASSIGNMENTS / f"{name}.ipynb", 4)


@pytest.fixture(scope="module")
def released():
    """The students' version of each assignment."""
    return {
        name: nbformat.reads(student.student_version(student.ASSIGNMENTS / f"{name}.ipynb"), 4)
        for name in POINTS
    }


def by_person(cell) -> bool:
    """Whether a cell is a free text that a person grades."""
    kind = cell.metadata.get("nbgrader", {})
    return bool(kind.get("grade") and kind.get("solution"))


def checks(notebook) -> dict[str, int]:
    """The points of each check."""
    kinds = {identity(c): c.metadata.nbgrader for c in notebook.cells if c.cell_type == "code"}
    return {name: kind.points for name, kind in kinds.items() if kind.grade}


@pytest.fixture
def grade(monkeypatch):
    """Runs a notebook as grading does; each check's error, or None.

    The checks are the source's, with the hidden tests in them. With one check named, all others
    and the long training that they need are left out.
    """
    monkeypatch.syspath_prepend(student.ASSIGNMENTS)
    course = [name for name in sys.modules if re.match(r"ptb(_utils)?(\.|$)", name)]
    kept = {name: sys.modules.pop(name) for name in course}  # a student's kernel has none of it
    threads = torch.get_num_threads()
    shell = InteractiveShell.instance()
    shell.showtraceback = lambda *error, **options: None

    def run(name, notebook, only=None) -> dict:
        originals = {identity(cell): cell.source for cell in source(name).cells}
        left_out = set()
        if only:
            left_out = {*checks(notebook), "my-model"} - {only, only.removesuffix("-check")}
        errors = {}
        for cell in notebook.cells:
            this = identity(cell)
            if cell.cell_type == "code" and this not in left_out:
                done = shell.run_cell(
                    cell.source if cell.metadata.nbgrader.solution else originals[this]
                )
                errors[this] = done.error_before_exec or done.error_in_exec
        return errors

    yield run
    InteractiveShell.clear_instance()
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if re.match(r"(ptb(_utils)?|checks)(\.|$)", name)]:
        del sys.modules[name]
    sys.modules.update(kept)


def points(notebook, errors) -> int:
    """What the checks give."""
    return sum(worth for name, worth in checks(notebook).items() if errors[name] is None)


@pytest.mark.parametrize("name", POINTS)
def test_points_and_metadata_are_nbgraders(name):
    kinds = [cell.metadata.nbgrader for cell in source(name).cells if "nbgrader" in cell.metadata]
    assert len({kind.grade_id for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert kind.schema_version == 3 and not kind.task
        assert kind.locked is not kind.solution and ("points" in kind) is kind.grade
    read = sum(c.metadata.nbgrader.points for c in source(name).cells if by_person(c))
    assert (sum(checks(source(name)).values()), read) == POINTS[name]
    code = [cell for cell in source(name).cells if cell.cell_type == "code"]
    assert all("nbgrader" in cell.metadata and not cell.outputs for cell in code)


@pytest.mark.parametrize("name", POINTS)
def test_the_page_for_teachers_gives_these_points(name):
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| \[{name}\]\(.*?\) \| .*? \| (\d+) \| (\d+|–) \|", page, re.MULTILINE)
    assert (int(row[1]), int(row[2].replace("–", "0"))) == POINTS[name]
    read = {identity(c): c.metadata.nbgrader.points for c in source(name).cells if by_person(c)}
    rubric = re.findall(rf"^\| {name} [^|]*\| (\d+) \|", page, re.MULTILINE)
    assert [int(points) for points in rubric] == [*read.values()]


@pytest.mark.parametrize("name", POINTS)
def test_the_points_in_headings_are_those_of_their_cells(name):
    """A heading's points are those of what follows it, up to the next."""
    said, given = [], []
    for cell in source(name).cells:
        for heading in re.findall(r"^## .*\((\d+) point", cell.source, re.MULTILINE):
            said.append(int(heading))
            given.append(0)
        if "points" in cell.metadata.get("nbgrader", {}):
            given[-1] += cell.metadata.nbgrader.points
    assert said == given and sum(said) == sum(POINTS[name])


@pytest.mark.parametrize("name", POINTS)
def test_what_is_handed_out_has_no_solution_and_no_hidden_test(name, released):
    before, after = source(name), released[name]
    assert [cell.id for cell in before.cells] == [cell.id for cell in after.cells]
    text = nbformat.writes(after)
    assert not re.search("SOLUTION|HIDDEN|MARK SCHEME", text)
    assert not re.search(r"^ *(from|import) ptb", text, re.MULTILINE) and "import ptb" not in text
    for whole, blank in zip(before.cells, after.cells, strict=True):
        kind = whole.metadata.get("nbgrader", {})
        if kind.get("solution"):
            blanks = [blank.source] if blank.cell_type == "markdown" else STUB.findall(blank.source)
            assert len(blanks) == whole.source.count("### BEGIN SOLUTION")
        elif kind.get("grade"):
            hidden = "### BEGIN HIDDEN TESTS" in whole.source
            assert hidden or identity(whole) == "initial-state-check"
            assert whole.source.startswith(blank.source) and "from checks import" in blank.source
            assert (whole.source != blank.source) is hidden
        else:
            assert whole.source == blank.source


@pytest.mark.parametrize("name", POINTS)
def test_solved_in_two_ways_every_check_passes_and_blank_none(name, released, grade):
    blank = grade(name, released[name])
    assert points(released[name], blank) == 0
    for copy in (source(name), handed_in(released[name], IN_OTHER_WORDS[name])):
        errors = grade(name, copy)
        assert {check: error for check, error in errors.items() if error} == {}
        assert points(copy, errors) == POINTS[name][0]


@pytest.mark.parametrize(("name", "task", "right", "wrong", "check"), WRONG)
def test_a_slip_is_found(name, task, right, wrong, check, released, grade):
    answers = [answer.replace(right, wrong) for answer in IN_OTHER_WORDS[name][task]]
    assert answers != IN_OTHER_WORDS[name][task]
    copy = handed_in(released[name], IN_OTHER_WORDS[name] | {task: answers})
    error = grade(name, copy, only=check)[check]
    assert error is not None and not isinstance(error, NameError | SyntaxError)


@pytest.mark.parametrize(
    ("mistakes", "lost"),
    [
        (["sigma(1 - sigma^2)"], {"sigmoid-slope-check", *(f"gradient-{c}" for c in "abef")}),
        (["h_2 for h_1"], {"gradient-b"}),
        (["transposed factor"], {"reset-gate-vectors-check"}),
        (
            [*MISTAKES],
            {"sigmoid-slope-check", "reset-gate-vectors-check"} | {f"gradient-{c}" for c in "abef"},
        ),
    ],
)
def test_known_mistakes_lose_what_they_deserve(mistakes, lost, released, grade):
    answers = mistaken(IN_OTHER_WORDS["theory"], *mistakes)
    copy = handed_in(released["theory"], answers)
    errors = grade("theory", copy)
    assert {check for check in checks(copy) if errors[check]} == lost
    assert points(copy, errors) == 30 - 2 * len(lost)


@pytest.mark.parametrize(
    ("name", "way"),
    [*FROM_THE_COURSE.items(), *FROM_TORCH.items()],
    ids=[*(f"{name}-ptb" for name in FROM_THE_COURSE), *(f"{name}-torch" for name in FROM_TORCH)],
)
def test_what_can_be_imported_passes_no_check(name, way, released, grade):
    """Each attempt by itself, in a notebook that is right everywhere else."""
    right = IN_OTHER_WORDS[name]
    attempts = {task: answers for task, answers in way.items() if answers != right[task]}
    assert attempts
    for task, answers in attempts.items():
        several = {
            "parameters": "lstm-parameters-check",
            "scalar-gradients": "gradient-a",
            "vector-gradients": "update-gate-vectors-check",
        }
        check = several.get(task, f"{task}-check")
        error = grade(name, handed_in(released[name], right | {task: answers}), only=check)[check]
        assert isinstance(error, AssertionError), (task, error)
        assert re.search("by hand, without a call of|do not import ptb", str(error)), task


@pytest.mark.parametrize(
    "call",
    [
        "by_hand(cells.gru_step, x, h, *weights)",
        "by_hand(functools.partial(cells.gru_step, reset='after'), x, h, *weights)",
        "by_hand(torch.gru_cell, x, h, *weights)",
        "by_hand(torch.ops.aten.gru_cell, x, h, *weights)",
        "by_hand(cell, x, h)",
        "by_hand(lambda: torch.nn.GRU(2, 3)(x[None]))",
        "by_hand(lambda: torch.nn.TransformerEncoderLayer(2, 1)(x[None]))",
        "by_hand(lambda: (sys.setprofile(None), cells.gru_step(x, h, *weights))[1])",
        "by_hand(lambda: x.exp())",  # as long as the course's code is there
        "by_hand(lambda: nbformat.from_dict({}))",  # another package
    ],
)
def test_by_hand_refuses(call, monkeypatch):
    monkeypatch.syspath_prepend(student.ASSIGNMENTS)
    setup = (
        "import functools, sys, nbformat, torch\n"
        "from checks import by_hand\n"
        "from ptb.models import cells\n"
        "x, h, cell = torch.randn(1, 2), torch.randn(1, 3), torch.nn.GRUCell(2, 3)\n"
        "weights = list(cell.parameters())\n"
    )
    names = {}
    exec(compile(setup, "cell 1", "exec"), names)
    with pytest.raises(AssertionError, match="by hand|restart the kernel|sys.setprofile"):
        exec(compile(call, "cell 2", "exec"), names)


def test_by_hand_allows_what_a_student_may_call(grade):
    shell = InteractiveShell.instance()
    done = shell.run_cell(
        "import math, statistics, torch, sympy\n"
        "from checks import by_hand\n"
        "def helper(x):\n"
        "    return torch.nn.functional.linear(x, torch.eye(2)).sigmoid()\n"
        "def answer(x):\n"
        "    import colorsys\n"
        "    print('shape', x.shape, x)\n"
        "    return [helper(x), statistics.mean([1, 3]), math.exp(0), sympy.Symbol('a') ** 2]\n"
        "found = by_hand(answer, torch.zeros(1, 2))\n"
        "assert found[0].tolist() == [[0.5, 0.5]] and found[1:3] == [2, 1]\n"
    )
    assert (done.error_before_exec or done.error_in_exec) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("### END SOLUTION", "", "is a solution without its two marks"),
        ("### BEGIN SOLUTION", "", "is a solution without its two marks"),
        ("### END HIDDEN TESTS", "", "has a mark without its other"),
        ("import torch", "### BEGIN HIDDEN TESTS", "or where none belongs"),
    ],
)
def test_marks_that_are_astray_are_one_line_and_nothing_is_written(
    old, new, said, tmp_path, monkeypatch
):
    notebook = source("cells")
    for cell in notebook.cells:
        cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, tmp_path / "cells.ipynb")
    monkeypatch.setattr(student, "ASSIGNMENTS", tmp_path)
    monkeypatch.setattr(student, "COURSE", tmp_path / "course")
    with pytest.raises(AssignmentError, match=f"cells.ipynb: cell .* {said}"):
        student.write_course()
    assert not (tmp_path / "course").exists()


def test_the_command_writes_a_course_and_leaves_what_is_handed_in(
    tmp_path, monkeypatch, capsys, released
):
    monkeypatch.setattr(student, "COURSE", tmp_path / "course")
    submitted = tmp_path / "course" / "submitted" / "ada" / "cells" / "cells.ipynb"
    submitted.parent.mkdir(parents=True)
    submitted.write_text("mine")
    for _ in range(2):
        assert main(["student"]) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'course'}\n"
    assert submitted.read_text() == "mine"
    for name in POINTS:
        kept, handed_out = (tmp_path / "course" / p / name for p in ("source", "release"))
        assert nbformat.read(kept / f"{name}.ipynb", 4) == source(name)
        assert nbformat.read(handed_out / f"{name}.ipynb", 4) == released[name]
        for folder in (kept, handed_out):
            shared = (folder / "checks.py").read_bytes()
            assert shared == (ROOT / "assignments" / "checks.py").read_bytes()
    assert (tmp_path / "course" / "nbgrader_config.py").exists()
