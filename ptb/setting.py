"""`Setting`: every choice of one run, checked when made; a run's name."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields
from pkgutil import resolve_name

from ptb.errors import SettingError, closest, meant

# The choices that name an entry of a table, and where the table is: an entry is all that a new cell
# or schedule needs. The tables are found by name, since this module is imported by theirs.
TABLES = {
    "cell": "ptb.models.cells:CELLS",
    "schedule": "ptb.training.optim:SCHEDULES",
    "optimiser": "ptb.training.optim:OPTIMISERS",
}
CHOICES = {
    "reset": ("after", "before"),
    "initial": ("uniform", "exercise"),
    "precision": ("float32", "tf32", "bfloat16"),
}
DEVICES = ("cpu", "cuda")
# the reset gate has a check of its own
RECURRENT_ONLY = (
    "tied", "init", "biases", "initial", "same_mask", "word_dropout", "weight_drop", "augmented",
    "projected", "carried",
)  # fmt: skip
TRANSFORMER_ONLY = ("heads", "feedforward", "attention_dropout")
EXPERIMENT_ONLY = ("experiment", "scale")
# lowest and highest value, and whether the highest itself is allowed
RANGES = {
    "dropout": (0, 1, False),
    "embedding": (1, 4096, True),
    "hidden": (1, 4096, True),
    "layers": (1, 16, True),
    "init": (0, 1, True),
    "bptt": (1, 1000, True),
    "batch_size": (1, 4096, True),
    "lr": (0, 1000, True),
    "momentum": (0, 1, False),
    "weight_decay": (0, 1, False),
    "hold": (0, 1000, True),
    "decay": (0, 1, True),
    "clip": (0, 1000, True),
    "average": (0, 1, False),
    "weight_drop": (0, 1, False),
    "word_dropout": (0, 1, False),
    "augmented": (0, 100, True),
    "epochs": (1, 1000, True),
    "seed": (0, 2**31, False),
    "heads": (1, 256, True),
    "feedforward": (1, 16_384, True),
    "attention_dropout": (0, 1, False),
    "biases": (1, 2, True),
    "scale": (0, 1, True),
    # what a notebook may be given beside a setting
    "threads": (1, 1024, True),
    "workers": (1, 1024, True),
    "temperature": (0, 100, True),
    "length": (1, 10_000, True),
    "top_k": (1, 1_000_000, True),
    "units": (1, 4096, True),
    "steps": (1, 100_000, True),
}


@dataclass(frozen=True)
class Setting:
    """Every choice of one run, checked. The defaults are the small model of Zaremba et al. 2014.

    Raises SettingError for a value that is out of range, or for choices that exclude one another.
    """

    # ------------------------------------------------------------ what most people set
    cell: str = "lstm"  # an entry of `ptb.models.cells.CELLS`
    dropout: float = 0.0  # probability of dropping: on the embedding, between layers, on the output
    corpus: str = "ptb"  # an entry of `ptb.data.corpora.CORPORA`, or a folder of texts
    seed: int = 1  # of the initial weights, the dropout masks and the epochs' offsets

    # ------------------------------------------------------------ the model
    embedding: int = 200  # E, dimensions of a word's vector
    hidden: int = 200  # H, units of a layer
    layers: int = 2
    tied: bool = False  # the output matrix is the embedding's (Press and Wolf 2016)
    init: float = 0.1  # all weights are drawn from U(−init, init)
    initial: str = "uniform"  # or "exercise": layers within 1/√H, the output's bias 0
    biases: int = 2  # bias vectors per gate: two as in torch, or one as in the equations
    reset: str = "after"  # the GRU's reset gate acts after its product, as in torch, or "before"

    # ------------------------------------------------------------ reading
    bptt: int = 35  # T, words in a window
    batch_size: int = 20  # B, rows read side by side
    epochs: int = 4
    carried: bool = True  # in training a window begins with the last state of the one before
    random_offset: bool = True  # each epoch starts at an offset drawn anew, else at the first word

    # ------------------------------------------------------------ the optimiser
    optimiser: str = "sgd"  # an entry of `ptb.training.optim.OPTIMISERS`
    lr: float = 20.0  # multiplies the gradient of the mean loss per token
    momentum: float = 0.0  # of sgd alone
    # Plain sgd multiplies all weights by 1 − lr · weight_decay at each step; with momentum it is an
    # L2 term that joins the gradient after clipping; adamw's is decoupled (Loshchilov and Hutter).
    weight_decay: float = 0.0
    clip: float = 0.25  # the largest norm of the gradient over all parameters; 0: no clipping
    average: float = 0.0  # decay a step of the weights' exponential average, which is then what is
    # evaluated and saved; 0: no averaging
    schedule: str = "linear"  # an entry of `ptb.training.optim.SCHEDULES`
    hold: int = 0  # epochs at the full rate, for the schedule "hold"
    decay: float = 0.5  # factor of the rate, for the schedules "hold" and "plateau"

    # ------------------------------------------------------------ beyond the exercise
    same_mask: bool = False  # variational dropout: one mask a window (Gal and Ghahramani 2016)
    word_dropout: float = 0.0  # probability of dropping a word of the vocabulary from a window
    weight_drop: float = 0.0  # of dropping an entry of the recurrent matrices (Merity et al. 2018)
    augmented: float = 0.0  # weight of the augmented loss of Inan et al. 2016, for tied matrices
    projected: bool = False  # a projection before the tied output matrix, see `Projection`

    # ------------------------------------------------------------ the Transformer alone
    heads: int = 16  # they divide hidden
    feedforward: int = 2048  # units of the feed-forward layers
    attention_dropout: float = 0.1  # probability of dropping an attention weight

    # ------------------------------------------------------------ the second exercise
    experiment: str = ""  # the run's name there, as "3.1a" (see `ptb.studies.architectures`)
    scale: float = 1.0  # what that run's widths and epochs were multiplied by

    # ------------------------------------------------------------ what computes
    precision: str = "float32"  # of products: or tf32 (a GPU), bfloat16 (some CPUs); see
    # `ptb.models.precision`

    def __post_init__(self):
        for field in fields(self):
            value = _checked(field.name, field.type, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        if self.tied and self.embedding != self.hidden:
            raise SettingError(
                f"tied = True needs embedding = hidden, not {self.embedding} and {self.hidden}"
            )
        for name in ("augmented", "projected"):
            if (value := getattr(self, name)) and not self.tied:
                raise SettingError(f"{name} = {value} needs tied = True")
        if self.reset != "after" and self.cell != "gru":
            raise SettingError(
                f"reset = {self.reset!r} is for the gru, not {self.cell}: use 'after'"
            )
        if self.momentum and self.optimiser != "sgd":
            raise SettingError(
                f"momentum = {self.momentum:g} is for sgd, not {self.optimiser}: use 0"
            )
        if not re.fullmatch(r"[\w.]*", self.experiment):
            raise SettingError(f"experiment = {self.experiment!r} must be a plain name, as '3.1a'")
        self._check_transformer()

    def _check_transformer(self) -> None:
        """Raises SettingError for an impossible transformer, or its choices at another cell."""
        transformer = self.cell == "transformer"
        for name in RECURRENT_ONLY if transformer else TRANSFORMER_ONLY:
            if (value := getattr(self, name)) != (default := getattr(Setting, name)):
                whose = "recurrent cells, not a" if transformer else "the transformer, not"
                raise SettingError(f"{name} = {value} is for {whose} {self.cell}: use {default}")
        if transformer and self.embedding != self.hidden:
            raise SettingError(
                f"a transformer adds to its embedding: embedding = {self.embedding} "
                f"must be hidden = {self.hidden}"
            )
        if transformer and self.hidden % self.heads:
            _, most, _ = RANGES["heads"]
            divisors = (n for n in range(1, most + 1) if self.hidden % n == 0)
            close = min(divisors, key=lambda n: abs(n - self.heads))
            raise SettingError(
                f"heads = {self.heads} must divide hidden = {self.hidden}: did you mean {close}?"
            )

    def __str__(self):
        of = f"{self.experiment}-" if self.experiment else ""
        return f"{of}{self.cell}-dropout{self.dropout:g}-seed{self.seed}"

    @property
    def name(self) -> str:
        """The run's folder: experiment, cell, dropout, seed, a hash of all that is not the default.

        A choice that a later version adds leaves the names of earlier runs as they are.
        """
        chosen = {k: v for k, v in asdict(self).items() if v != getattr(Setting, k)}
        digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
        return f"{self}-{digest[:6]}"


def choices(name: str) -> tuple[str, ...]:
    """The values that a choice by name can have, as "lstm" and "gru" for the cell."""
    return tuple(resolve_name(TABLES[name])) if name in TABLES else CHOICES[name]


def entry(name: str, value: str):
    """The entry of the choice's table that the value names."""
    return resolve_name(TABLES[name])[value]


def check_choice(name: str, value) -> str:
    """value, where it is one of the choice's; else raises SettingError."""
    allowed = choices(name)
    if value not in allowed:
        known = ", ".join(allowed)
        raise SettingError(f"{name} = {value!r} is none of {known}{closest(value, allowed)}")
    return value


def _checked(name: str, kind: type, value):
    if name in TABLES or name in CHOICES:
        return check_choice(name, value)
    if kind is bool and not isinstance(value, bool):
        raise SettingError(f"{name} = {value!r} must be yes or no: True or False")
    if kind is str:
        # of an experiment "" is the default: none
        return value if (name, value) == ("experiment", "") else check_text(name, value)
    return value if kind is bool else check_number(name, kind, value)


_KINDS = {int: "whole number", float: "number"}


def check_number(name: str, kind: type, value):
    """value as that kind, int or float; raises SettingError unless it is one in name's range."""
    low, high, closed = RANGES[name]
    allowed = f"a {_KINDS[kind]} from {low} to {'' if closed else 'below '}{high}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(f"{name} = {value!r} must be {allowed}{_meant_other(name, kind, value)}")
    whole = kind is float or value % 1 == 0  # not so for nan and inf
    if not whole or not _in_range(name, value):
        raise SettingError(f"{name} = {value} must be {allowed}{_meant_number(name, kind, value)}")
    return kind(value) + 0  # −0.0 is 0


def _in_range(name: str, value: float) -> bool:
    low, high, closed = RANGES[name]
    return low <= value < high or closed and value == high


def _meant_other(name: str, kind: type, value) -> str:
    """What a number in quotes, a decimal comma or a list may mean."""
    if isinstance(value, list | tuple):
        return "; execute the notebook once for each value"
    try:
        guess = kind(str(value).replace(",", "."))
        return f"; did you mean {check_number(name, kind, guess)}?"
    except (ValueError, SettingError):
        return ""


def _meant_number(name: str, kind: type, value) -> str:
    if not abs(value) < 2**53:  # nan and inf too
        return ""
    low, high, _ = RANGES[name]
    for guess in (-value, value / 10, value / 100):
        if low < guess < high and (kind is float or guess == int(guess)):
            shown = f"{guess:g}" if kind is float else int(guess)
            return f"; did you mean {shown}?"
    whole = round(value)
    fits = kind is int and whole != value and _in_range(name, whole)
    return f"; did you mean {whole}?" if fits else ""


def check_text(name: str, value) -> str:
    """value, where it is text with a word in it, or a whole number, which papermill makes of 2026.

    Else raises SettingError: of 1.50 or true papermill no longer tells how it was typed.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    typed = isinstance(value, float | bool)
    remedy = "in quotes" + (f", or with papermill as -r {name} {value}" if typed else "")
    raise SettingError(f"{name} = {value!r} must be text, {remedy}")


FIELDS = {field.name: field for field in fields(Setting)}


def check_names(names: Iterable[str], known: Collection[str] = FIELDS.keys()) -> None:
    """Raises `SettingError` for the first name that is not known: by default, no field's."""
    for name in names:
        if name not in known:
            raise SettingError(f"no parameter is called {name!r}: {meant(name, known)}")


def target_of(setting: Setting) -> int | None:
    """The validation perplexity that the exercise asks to get below.

    None beyond Penn Treebank, and for the Transformer, of which that exercise knows nothing.
    """
    if setting.corpus != "ptb" or setting.cell == "transformer":
        return None
    return 100 if setting.dropout else 125
