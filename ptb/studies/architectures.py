"""The second exercise's fifteen settings and their labels."""

from dataclasses import replace

from ptb.errors import SettingError
from ptb.setting import Setting

_COMMON = {"corpus": "ptb", "bptt": 35, "epochs": 20, "seed": 1111, "clip": 0.25}
_COMMON |= {"schedule": "hold", "decay": 1.0}  # a constant rate
_RECURRENT = {"layers": 2, "hidden": 512, "batch_size": 128, "biases": 1, "initial": "exercise"}
_RNN_CHOICES = {"cell": "rnn", "dropout": 0.2}
_GRU_CHOICES = {"cell": "gru", "dropout": 0.5, "reset": "before"}
_ADAM = {"optimiser": "adamw", "lr": 1e-3}  # without weight decay: Adam


def _recurrent(experiment: str, *choices: dict, **more) -> Setting:
    chosen = _COMMON | _RECURRENT
    for choice in choices:
        chosen = chosen | choice
    return Setting(experiment=experiment, **chosen | more)


def _transformer(experiment: str, hidden: int, layers: int, dropout: float) -> Setting:
    sizes = {"hidden": hidden, "embedding": hidden, "heads": 16, "feedforward": 2048}
    chosen = _COMMON | sizes | {"batch_size": 128, "optimiser": "adamw", "lr": 1e-4}
    return Setting(
        cell="transformer", experiment=experiment, layers=layers, dropout=dropout, **chosen
    )


_SETTINGS = (
    _recurrent("3.1a", _RNN_CHOICES, lr=1.0),
    _recurrent("3.1b", _RNN_CHOICES, lr=1.0, batch_size=20),
    _recurrent("3.1c", _RNN_CHOICES, lr=10.0),
    _recurrent("3.1d", _RNN_CHOICES, _ADAM),
    _recurrent("3.1e", _RNN_CHOICES, _ADAM, lr=1e-4),
    _recurrent("3.2a", _GRU_CHOICES, _ADAM),
    _recurrent("3.2b", _GRU_CHOICES, lr=10.0),
    _recurrent("3.2c", _GRU_CHOICES, _ADAM, batch_size=20),
    _recurrent("3.3a", _GRU_CHOICES, _ADAM, hidden=256, dropout=0.8),
    _recurrent("3.3b", _GRU_CHOICES, _ADAM, hidden=2048),
    # From 1111 most units of the four layers saturate within 20 steps, and for six epochs at least
    # perplexity stays above that of word frequencies alone (docs/second-exercise.md). The
    # exercise's own code draws other weights from that seed.
    _recurrent("3.3c", _GRU_CHOICES, _ADAM, layers=4, seed=1),
    _transformer("3.4a", hidden=512, layers=6, dropout=0.1),
    _transformer("3.4b", hidden=512, layers=2, dropout=0.1),
    _transformer("3.4c", hidden=2048, layers=2, dropout=0.4),
    _transformer("3.4d", hidden=1024, layers=6, dropout=0.1),
)
FIFTEEN = {setting.experiment: setting for setting in _SETTINGS}
LSTM = "LSTM"  # no run of the exercise: 3.2a with another cell, for the gradients' flow
FULL = FIFTEEN | {LSTM: replace(FIFTEEN["3.2a"], cell="lstm", reset="after", experiment=LSTM)}
EXPERIMENTS = {  # the first part of a label, and what it is about
    "3.1": "the RNN, five ways to train it",
    "3.2": "the GRU, three ways to train it",
    "3.3": "the GRU in three other sizes",
    "3.4": "the Transformer in four sizes",
}
DEMO = 0.05  # the scale at which the demonstration runs
PAIR = ("3.1d", "3.2a")  # the two that the exercise looks at closely
CELL_ORDER = ("rnn", "gru", "transformer", "lstm")  # in tables and figures


def at_scale(setting: Setting, scale: float) -> Setting:
    """The experiment of a setting, on its corpus, with widths and epochs of that scale.

    It multiplies hidden and feedforward (rounded, at least 16; a Transformer's hidden, which is its
    embedding too, to a multiple of its heads) and epochs (at least 1), whatever the scale was
    before. Raises SettingError for a setting of no experiment, or a scale outside [0, 1].
    """
    if setting.experiment not in FULL:
        raise SettingError(f"{setting} is of no experiment of the second exercise: it has no scale")
    full = replace(FULL[setting.experiment], corpus=setting.corpus, scale=scale)
    if full.scale == 1:
        return full
    if full.cell != "transformer":
        return replace(full, hidden=_scaled(full.hidden, scale), epochs=_epochs(full, scale))
    width = max(1, round(full.hidden * scale / full.heads)) * full.heads
    sizes = {"hidden": width, "embedding": width, "feedforward": _scaled(full.feedforward, scale)}
    return replace(full, **sizes, epochs=_epochs(full, scale))


def _scaled(width: int, scale: float) -> int:
    return max(16, round(width * scale))


def _epochs(full: Setting, scale: float) -> int:
    return max(1, round(full.epochs * scale))


def all_settings(corpus: str, scale: float = 1.0) -> list[Setting]:
    """All experiments on a corpus, in their order, the LSTM last."""
    return [at_scale(replace(setting, corpus=corpus), scale) for setting in FULL.values()]


def tag(setting: Setting) -> str:
    """The experiment as figures and tables name it: "3.2a", "3.2a ×0.25" where it is scaled."""
    scaled = "" if setting.scale == 1 else f" ×{setting.scale:g}"
    return f"{setting.experiment}{scaled}"
