"""One factor at a time: the quick recipes with dropout, each row with one choice changed.

The rows compare with the quick recipe of their cell, which is a run of the study "dropout": equal
epochs, schedule and seed but for the one choice. The study "overfitting" trains both cells at a
constant rate for long, without and with dropout, so that the curves show where validation turns.
"""

from dataclasses import replace

from ptb.models.cells import CELLS
from ptb.recipes import recipe
from ptb.setting import Setting

DROPOUT = 0.25
BASE = {cell: recipe(cell, DROPOUT) for cell in ("lstm", "gru")}
CHANGES = {  # by what a table calls them; of the LSTM alone, which trains faster
    "windows of 20 words": {"bptt": 20},
    "windows of 70 words": {"bptt": 70},
    "no clipping": {"clip": 0.0},
    "state not carried": {"carried": False},
    "no weight decay": {"weight_decay": 0.0},
    "Zaremba's schedule": {"schedule": "hold", "hold": 4},  # then halved each epoch
    "no random offset": {"random_offset": False},
}


def factors() -> dict[str, Setting]:
    """The settings, by what each one changes."""
    without = {
        f"{CELLS[setting.cell].title} without dropout": replace(setting, dropout=0.0)
        for setting in BASE.values()
    }
    return without | {
        f"LSTM, {n}": replace(BASE["lstm"], **change) for n, change in CHANGES.items()
    }


# A constant rate: with one that falls to zero the weights come to rest before they overfit.
CONSTANT = {"lr": 10.0, "weight_decay": 0.0, "schedule": "hold", "decay": 1.0, "epochs": 25}
OVERFITTING = [
    recipe(cell, dropout, **CONSTANT) for cell in ("lstm", "gru") for dropout in (0.0, DROPOUT)
]
