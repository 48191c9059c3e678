"""The assignments generated and graded by nbgrader itself: `make test-kit`, some minutes.

Hands in what tests/report/submissions.py has, as one student each, and exits at the first points
that are not as they should be.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook

from ptb.report import student

sys.path.insert(0, str(Path(__file__).with_name("report")))
from submissions import (  # noqa: E402
    FROM_THE_COURSE,
    FROM_TORCH,
    IN_OTHER_WORDS,
    MISTAKES,
    handed_in,
    mistaken,
)

THEORY = IN_OTHER_WORDS["theory"]
FULL = {"cells": 25, "theory": 30, "lesson": 20}  # by the checks alone
EXPECTED = {  # assignment -> student -> answers, the points that the checks give
    "cells": {
        "own-words": (IN_OTHER_WORDS["cells"], 25),
        "forbidden-torch": (FROM_TORCH["cells"], 10),
        "forbidden-course": (FROM_THE_COURSE["cells"], 0),
    },
    "theory": {
        "own-words": (THEORY, 30),
        "sigma-slip": (mistaken(THEORY, "sigma(1 - sigma^2)"), 20),
        "h2-slip": (mistaken(THEORY, "h_2 for h_1"), 28),
        "transposed-slip": (mistaken(THEORY, "transposed factor"), 28),
        "all-slips": (mistaken(THEORY, *MISTAKES), 18),
        "forbidden-course": (FROM_THE_COURSE["theory"], 12),
    },
    "lesson": {
        "own-words": (IN_OTHER_WORDS["lesson"], 20),
        "forbidden-course": (FROM_THE_COURSE["lesson"], 0),
    },
}


def nbgrader(course, *words):
    """Runs a command of nbgrader's in the course folder; exits with its messages if it fails."""
    bin = Path(sys.executable).parent
    path = f"{bin}{os.pathsep}{os.environ['PATH']}"  # it calls alembic, by that name alone
    done = subprocess.run(
        [bin / "nbgrader", *words],
        cwd=course,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(done.stderr[-3000:])


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells]


def teachers(name, released):
    """The students' version with the teacher's solutions in it."""
    whole = nbformat.read(student.ASSIGNMENTS / f"{name}.ipynb", 4)
    copy = nbformat.from_dict(released)
    for cell, solved in zip(copy.cells, whole.cells, strict=True):
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = solved.source
    return copy


def tampered(released):
    """Nothing is solved, and every check is made to pass."""
    copy = nbformat.from_dict(released)
    for cell in copy.cells:
        if cell.metadata.get("nbgrader", {}).get("grade") and cell.cell_type == "code":
            cell.source = "print('all is well')"
    return copy


def hand_in(course, name, who, notebook):
    folder = course / "submitted" / who / name
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    (folder / "checks.py").write_text("def by_hand(*_, **__): ...\nagree = by_hand\n")


def main():
    with tempfile.TemporaryDirectory() as folder:
        student.COURSE = course = Path(folder)
        student.write_course()
        for name, answers in EXPECTED.items():
            release = course / "release" / name / f"{name}.ipynb"
            ours = nbformat.read(release, 4)
            nbgrader(course, "generate_assignment", name)
            released = nbformat.read(release, 4)
            if sources(released) != sources(ours):
                sys.exit(f"{name}: nbgrader's students' version is not ours")
            expected = {"blank": 0, "tampered": 0, "teacher": FULL[name]}
            hand_in(course, name, "blank", released)
            hand_in(course, name, "tampered", tampered(released))
            hand_in(course, name, "teacher", teachers(name, released))
            for who, (answer, points) in answers.items():
                hand_in(course, name, who, handed_in(released, answer))
                expected[who] = points
            nbgrader(course, "autograde", name)
            compare(course, name, expected)


def compare(course, name, expected):
    """Prints every student's points, and exits where they are not those expected."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "language-models") as book:
        for who, points in expected.items():
            (graded,) = book.find_submission(name, who).notebooks
            found = sum(grade.auto_score or 0 for grade in graded.grades)
            waiting = sum(g.max_score for g in graded.grades if g.needs_manual_grade)
            lost = [g.name for g in graded.grades if g.auto_score == 0]
            print(
                f"{name:8}{who:18}{found:4g} of {FULL[name]}, {waiting:g} for the teacher to give"
            )
            if found != points:
                sys.exit(f"{points} were expected; without points: {', '.join(lost)}")


if __name__ == "__main__":
    main()
