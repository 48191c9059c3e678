"""Beyond the exercise, still two layers of 200 units: an ablation, and the finalists.

The study "ablation" trains, for each cell and for few epochs, the exercise's model; the same with
the embedding tied to the output matrix; the tied one with a projection before the output. The study
"beyond" trains the finalists, which are tied, for longer.
"""

from dataclasses import replace

from ptb.recipes import recipe
from ptb.setting import Setting

ABLATED = ("lstm", "gru")
DROPOUT, EPOCHS = 0.2, 10  # of every variant


def variants(cell: str) -> dict[str, Setting]:
    """The settings of a cell's ablation, by what each one adds."""
    plain = recipe(cell, DROPOUT, weight_decay=1e-5, epochs=EPOCHS)
    tied = replace(plain, tied=True)
    return {
        "the exercise's model": plain,
        "tied: the output matrix is the embedding": tied,
        "tied, with a projection before the output": replace(tied, projected=True),
    }


def _finalist(cell: str, **choices) -> Setting:
    tied = list(variants(cell).values())[1]
    return replace(tied, **choices)


FINALISTS = [
    _finalist("lstm", dropout=0.28, epochs=44),
    _finalist("lstm", dropout=0.3, weight_drop=0.2, epochs=72),
    _finalist("lstm", projected=True, dropout=0.3, weight_drop=0.2, epochs=60),
    _finalist("gru", projected=True, dropout=0.3, weight_drop=0.2, epochs=60),
]
ADDITIONS = {"tied": "tied", "projected": "projection", "weight_drop": "weight drop"}  # in tables
