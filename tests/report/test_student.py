"""cells.ipynb runs and agrees; in its student's version what is blank or wrong is found out."""

import nbformat
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from pypdf import PdfReader
from test_notebooks import command

from ptb.__main__ import main
from ptb.paths import ROOT
from ptb.report import student

NOTEBOOK = ROOT / "notebooks" / "cells.ipynb"
WRITTEN = {  # as a student might: other words for the same
    "rnn-step": ["return (x @ w_ih.T + h @ w_hh.T + b_ih + b_hh).tanh()"],
    "lstm-step": [
        "a = F.linear(x, w_ih, b_ih) + F.linear(h, w_hh, b_hh)\n"
        "    i, f, g, o = (a[:, n * H : (n + 1) * H] for n in range(4))\n"
        "    c = c * f.sigmoid() + g.tanh() * i.sigmoid()\n"
        "    return c.tanh() * o.sigmoid(), c"
    ],
    "gru-step": [
        "r, z, n = (slice(k * H, (k + 1) * H) for k in range(3))\n"
        "    inputs = F.linear(x, w_ih, b_ih)\n"
        "    gate = lambda k: (inputs[:, k] + F.linear(h, w_hh[k], b_hh[k])).sigmoid()\n"
        "    if reset == 'after':\n"
        "        carried = gate(r) * F.linear(h, w_hh[n], b_hh[n])\n"
        "    else:\n"
        "        carried = F.linear(gate(r) * h, w_hh[n], b_hh[n])\n"
        "    new = (inputs[:, n] + carried).tanh()\n"
        "    return new + gate(z) * (h - new)"
    ],
    "exercise-gru-step": [
        "r, z, n = (slice(k * H, (k + 1) * H) for k in range(3))\n"
        "    gate = lambda k: (x @ w[k].T + h @ u[k].T + b[k]).sigmoid()\n"
        "    new = (x @ w[n].T + (gate(r) * h) @ u[n].T + b[n]).tanh()\n"
        "    return h + gate(z) * (new - h)"
    ],
    "initial-state": ["return torch.stack([h_0] * rows)"],
    "masked-softmax": [
        "shift = torch.where(mask, scores, -torch.inf).max(-1, keepdim=True).values\n"
        "    kept = torch.where(mask, (scores - shift).exp(), 0.0)\n"
        "    return kept / kept.sum(-1, keepdim=True)",
        "return F.softmax(torch.where(mask, scores, -1e9), -1)",
    ],
    "attention": ["return masked_softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, mask) @ v"],
    "multi-head-attention": [
        "mask, found = transformer.causal_mask(len(x)), []\n"
        "    parts = [p(x).transpose(0, 1) for p in (layer.query, layer.key, layer.value)]\n"
        "    for q, k, v in zip(*(p.chunk(layer.heads, -1) for p in parts)):\n"
        "        found.append(attention(q, k, v, mask))\n"
        "    return layer.output(torch.cat(found, -1).transpose(0, 1))"
    ],
}
CHECK = "multi-head-attention-check"
WRONG = [  # a slip in what is written, and the check that must find it
    ("rnn-step", "+ b_hh", "", "rnn-step-check"),
    ("lstm-step", "i, f, g, o", "i, f, o, g", "lstm-step-check"),
    ("lstm-step", ", c", ", g", "lstm-step-check"),
    ("gru-step", "(h - new)", "(new - h)", "gru-step-check"),
    ("gru-step", "'after'", "'before'", "gru-step-check"),
    ("exercise-gru-step", "(new - h)", "(h - new)", "gru-variants-check"),
    ("exercise-gru-step", "(gate(r) * h) @ u[n].T", "gate(r) * (h @ u[n].T)", "gru-variants-check"),
    ("initial-state", "[h_0]", "[h_0.detach()]", "initial-state-check"),
    ("masked-softmax", "(scores - shift)", "scores", "masked-softmax-check"),
    ("masked-softmax", "-1e9", "0.0", "masked-softmax-check"),
    ("attention", " * q.shape[-1] ** -0.5", "", "attention-check"),
    ("attention", "-0.5, mask)", "-0.5, mask | ~mask)", "attention-check"),
    ("multi-head-attention", "layer.query, layer.key", "layer.key, layer.query", CHECK),
    ("multi-head-attention", "layer.output(", "(", CHECK),
]


def identity(cell) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


@pytest.fixture(scope="module")
def blank():
    return nbformat.reads(student.student_version(NOTEBOOK), 4)


@pytest.fixture
def run_all():
    """Runs a notebook's cells, whatever fails, up to one; their errors by grade_id or id."""
    shell = InteractiveShell.instance()
    shell.showtraceback = lambda *error, **options: None

    def run(notebook, last=None) -> dict:
        errors = {}
        for cell in notebook.cells:
            if cell.cell_type == "code" and last not in errors:
                errors[identity(cell) or cell.id] = shell.run_cell(cell.source).error_in_exec
        return errors

    yield run
    InteractiveShell.clear_instance()
    torch.set_default_dtype(torch.float32)


def solved(blank, answers=WRITTEN):
    """The student's version with the answers in it."""
    copy = nbformat.from_dict(blank)
    for cell in copy.cells:
        for answer in answers.get(identity(cell), ()):
            stub = "# YOUR CODE HERE\n    raise NotImplementedError()"
            cell.source = cell.source.replace(stub, answer, 1)
    return copy


def checks(notebook) -> list[str]:
    return [identity(c) for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade")]


def test_the_whole_notebook_runs_and_is_a_paper(tmp_path):
    done = command("jupyter", "nbconvert", NOTEBOOK.name, "--to", "pdf", "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    text = "".join(page.extract_text() for page in PdfReader(tmp_path / "cells.pdf").pages)
    assert text.count(": equal") > 30 and "ptb/models/transformer.py, from line" in text
    assert "Figure 1" in text and "Table 1" in text


def test_cells_are_short():
    cells = nbformat.read(NOTEBOOK, 4).cells
    assert max(len(c.source.splitlines()) for c in cells if c.cell_type == "code") <= 15


def test_solutions_are_blank_and_checks_are_as_they_were(blank):
    whole = nbformat.read(NOTEBOOK, 4)
    text = nbformat.writes(blank)
    assert "SOLUTION" not in text and "source(cells." not in text
    assert text.count("raise NotImplementedError()") == sum(map(len, WRITTEN.values()))
    before, after = ({c.id: c.source for c in n.cells} for n in (whole, blank))
    changed = {identity(c) for c in blank.cells if before[c.id] != c.source}
    assert changed == set(WRITTEN)
    gone = [c for c in whole.cells if c.id not in after]
    assert gone and all(c.metadata["tags"] == ["solution"] for c in gone)
    assert not any(c.get("outputs") for c in blank.cells)


def test_unsolved_every_check_fails_and_says_what_is_to_do(blank, run_all):
    errors = run_all(blank)
    assert len(checks(blank)) > 10
    assert {type(errors[check]) for check in checks(blank)} == {NotImplementedError}


def test_solved_in_other_words_every_cell_runs(blank, run_all):
    assert [cell for cell, error in run_all(solved(blank)).items() if error] == []


@pytest.mark.parametrize(("task", "right", "wrong", "check"), WRONG)
def test_a_slip_is_found(task, right, wrong, check, blank, run_all):
    answers = [answer.replace(right, wrong) for answer in WRITTEN[task]]
    assert answers != WRITTEN[task]
    errors = run_all(solved(blank, WRITTEN | {task: answers}), last=check)
    assert isinstance(errors.pop(check), AssertionError | RuntimeError)
    assert not any(errors.values())


def test_a_solution_without_marks_is_an_error(tmp_path):
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("### END SOLUTION", "")
    nbformat.write(notebook, tmp_path / "cells.ipynb")
    with pytest.raises(ValueError, match="is a solution without its two marks"):
        student.student_version(tmp_path / "cells.ipynb")


def test_the_command_writes_the_students_version(tmp_path, monkeypatch, capsys, blank):
    monkeypatch.setattr(student, "FOLDER", tmp_path / "student")
    assert main(["student"]) == 0
    written = tmp_path / "student" / "cells.ipynb"
    assert capsys.readouterr().out == f"{written}\n"
    assert nbformat.read(written, 4) == blank
