"""The studies by their names: which settings each one trains."""

from ptb import beyond
from ptb.architectures import DEMO
from ptb.architectures import study as experiments
from ptb.recipes import FOUR, LONG, recipe
from ptb.setting import PlainError

STUDIES = {
    "dropout": [recipe(cell, dropout) for cell, dropout in FOUR],
    "long": [recipe(cell, dropout, **best) for (cell, dropout), best in LONG.items()],
    "seeds": [recipe(cell, dropout, seed=2) for cell, dropout in FOUR if dropout],
    "demo": [recipe(cell, dropout, "embedded") for cell, dropout in FOUR],
    **beyond.STUDIES,
    "architectures": experiments("ptb"),
    "demo-architectures": experiments("embedded", DEMO),
}
MAIN = "dropout"  # the study of the first report, and the one whose weights are published
SECOND = ("architectures", "demo-architectures")  # of the second exercise, with a report of its own


class StudyError(PlainError):
    """A study that can't be run, reported or published; one line says why."""
