"""What the checks of the assignments share; a copy lies beside each notebook that is handed out.

Each check imports from here anew, so that a name of the notebook's own cannot stand in for it.
"""

import io
import os
import sys
import warnings
from contextlib import redirect_stdout
from importlib.util import find_spec

LIBRARIES = ("torch", "numpy", "sympy")  # whose functions a solution may call
COURSE = {"ptb", "ptb_utils"}  # this repository's own, which have the solutions
LAYERS = ("rnn", "lstm", "gru", "attention", "transformer")  # in the names of torch's functions


def agree(what, ours, theirs, tolerance=1e-10):
    """Raises AssertionError where two tensors differ, in shape or by more than the tolerance."""
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} is not {tuple(theirs.shape)}"
    difference = (ours - theirs).abs().max().item()
    assert difference <= tolerance, f"{what}: they differ by {difference:.1e}"
    print(f"{what}: equal" + (f", but for {difference:.0e}" if difference else ""))


def by_hand(function, *arguments, layers=False, without=()):
    """What the function returns; AssertionError where it calls code that is not the notebook's.

    Python reports each call that is made meanwhile. A Python function has to come from a cell of
    the notebook, from Python itself or from one of the LIBRARIES; and unless layers is true, no
    function of torch may be called that is a recurrent network or attention already. No function
    may have one of the words in without in its name. The course's own code must not even be
    imported: it has answers that are no functions. What is printed meanwhile appears at the end.
    """
    cells = os.path.dirname(sys._getframe(1).f_code.co_filename)  # the kernel's folder for them
    folders = tuple(find_spec(name).submodule_search_locations[0] + os.sep for name in LIBRARIES)
    refused, words = [], (*without, *(() if layers else LAYERS))
    printed = io.StringIO()  # a notebook's own output is another package's code

    def of_the_notebook(file):
        return os.path.dirname(file) == cells and not file.startswith("<frozen ")

    def of_a_library(file, caller):
        # "<string>" is what a named tuple is made of
        made = file == "<string>" and not of_the_notebook(caller)
        return made or of_python(file) or file.startswith(folders)

    def watch(frame, event, called):
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        caller = frame.f_back.f_code.co_filename
        if event == "c_call":
            name = called.__name__
        elif event != "call" or of_the_notebook(file):
            return
        elif not of_a_library(file, caller) and (
            # the libraries may call other packages, the notebook may not
            "-packages" not in file or caller == __file__ or of_the_notebook(caller)
        ):
            refused.append(f"{name} in {file}")
        if any(word in name for word in words):
            refused.append(f"torch's {name}")

    before = sys.getprofile()
    try:
        # nbgrader takes any warning for an error
        with warnings.catch_warnings(action="ignore"), redirect_stdout(printed):
            sys.setprofile(watch)
            try:
                result = function(*arguments)
            finally:
                watched = sys.getprofile() is watch
                sys.setprofile(before)
    finally:
        print(printed.getvalue(), end="")
    assert watched, "sys.setprofile belongs to the check"
    assert not refused, f"this is to be written by hand, without a call of {refused[0]}"
    imported = COURSE.intersection(sys.modules)
    assert not imported, f"restart the kernel, and do not import {imported.pop()} in this notebook"
    return result


def of_python(file):
    """Whether a file belongs to Python itself, and to no package that was added to it."""
    inside = file.startswith(os.path.dirname(os.__file__) + os.sep) and "-packages" not in file
    return inside or file.startswith("<frozen ")
