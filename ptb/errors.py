"""The errors whose one line says all, "did you mean …?", and numbers of things."""

import re
from difflib import get_close_matches


class PlainError(Exception):
    """An error that a notebook shows as one line, without the traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class SettingError(PlainError, ValueError):
    """A value or a name that no run can have."""


class CorpusError(PlainError):
    """A corpus that can't be had or isn't what it should be."""


class WeightsError(PlainError):
    """Saved weights that are damaged or do not belong to the model."""


class RunError(PlainError):
    """A run's folder that can't be used or read."""


class ComparisonError(PlainError):
    """Runs that can't be compared: of different texts, or of too few seeds or too many."""


class ClaimError(PlainError):
    """A sentence of a published report that its records do not support."""


class AssignmentError(PlainError):
    """An assignment whose marks for solutions and hidden tests are missing or astray."""


class StudyError(PlainError):
    """A study that can't be run, reported or published."""


def closest(word: str, allowed) -> str:
    """The end of a line that names what is allowed: what was probably meant; empty if unclear."""
    text = word.lower() if isinstance(word, str) else ""
    close = get_close_matches(text, allowed, n=1, cutoff=0.5)
    return f": did you mean {close[0]!r}?" if close else ""


def meant(word: str, allowed) -> str:
    """The end of an error's line: the allowed word that was probably meant, else all of them."""
    all_of_them = f"it can be {', '.join(map(repr, allowed))}"
    return closest(word, allowed).removeprefix(": ") or all_of_them


def counted(number: float, noun: str) -> str:
    """A whole number and what it counts: "1 epoch", "13 epochs"."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that there is too little memory, which torch says in several ways."""
    return (
        isinstance(error, MemoryError)
        or re.search("out of memory|(allocate|enough) memory|ALLOC_FAILED", str(error))
        and isinstance(error, (RuntimeError, OSError))
    )
