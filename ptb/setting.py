"""`Setting`: every choice of one run, checked when made; a run's name."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches


class PlainError(Exception):
    """An error whose one line says all: a notebook shows it without the traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class SettingError(PlainError, ValueError):
    """A value or a name that no run can have."""


CHOICES = {
    "cell": ("lstm", "gru", "rnn", "transformer"),
    "reset": ("after", "before"),
    "optimiser": ("sgd", "adamw"),
    "schedule": ("linear", "cosine", "hold", "plateau"),
    "initial": ("uniform", "exercise"),
}
DEVICES = ("cpu", "cuda")
# the reset gate has a check of its own
RECURRENT_ONLY = (
    "tied", "init", "biases", "initial", "same_mask", "word_dropout", "weight_drop", "augmented",
    "projected",
)  # fmt: skip
TRANSFORMER_ONLY = ("heads", "feedforward", "attention_dropout")
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
}


@dataclass(frozen=True)
class Setting:
    """Every choice of one run. The default is the small model of Zaremba et al. 2014.

    dropout is the probability of dropping, on the embedding, between layers and on the last output.
    init is the half-width of the uniform range of all weights. bptt is the window T, batch_size B.
    lr multiplies the gradient of the mean loss a token, after its norm over all parameters is cut
    to clip (0: never). momentum belongs to sgd alone. The schedule, over the whole run or by epoch:
    "linear" to zero, "cosine" to zero, "hold" (lr for hold epochs, then times decay each epoch),
    "plateau" (times decay whenever an epoch does not improve the best validation perplexity).
    average is the decay a step of the exponential average of the weights, which then is what is
    evaluated and saved (0: none). reset: the GRU's reset gate acts "after" its product, as in torch
    and cuDNN, or "before" it, as the exercise writes it. biases: vectors a gate, two as in torch or
    one as in the equations. initial: all weights "uniform" within init, or as the second "exercise"
    has it: embedding and output matrix within init, the output's bias 0, every recurrent layer's
    weights within 1/√hidden. experiment names a run of that exercise; scale is what the widths and
    epochs of that run were multiplied by (see `ptb.architectures`).

    Beyond the exercise: same_mask has dropout's masks be the same at all steps of a window (Gal and
    Ghahramani 2016); word_dropout drops whole words of the vocabulary from a window, weight_drop
    entries of the recurrent matrices (Merity et al. 2018), each with that probability. augmented
    is the weight of the augmented loss of Inan et al. 2016, over their temperature squared (see
    `ptb.loss.augmented_loss`). projected puts a small step by a matrix and a bias between the last
    layer and the output matrix (after Press and Wolf 2016; see `ptb.model.Projection`). Both need
    tied matrices.

    The transformer alone has heads of attention, a width of its feed-forward layers and a dropout
    rate of its attention weights. Its matrices are drawn as Glorot & Bengio 2010 say, not by init;
    dropout acts on the embedding, on what each part of a layer adds and inside the feed-forward.
    bptt is all that it sees: it carries no state from window to window.
    """

    cell: str = "lstm"
    dropout: float = 0.0
    corpus: str = "ptb"
    embedding: int = 200
    hidden: int = 200
    layers: int = 2
    tied: bool = False
    init: float = 0.1
    bptt: int = 35
    batch_size: int = 20
    optimiser: str = "sgd"
    lr: float = 20.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "linear"
    hold: int = 0
    decay: float = 0.5
    clip: float = 0.25
    average: float = 0.0
    epochs: int = 4
    seed: int = 1
    reset: str = "after"
    same_mask: bool = False
    word_dropout: float = 0.0
    weight_drop: float = 0.0
    augmented: float = 0.0
    projected: bool = False
    heads: int = 16
    feedforward: int = 2048
    attention_dropout: float = 0.1
    biases: int = 2
    initial: str = "uniform"
    experiment: str = ""
    scale: float = 1.0

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
        """Raises SettingError for a transformer that can't be, or its choices at another cell."""
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
            divisors = (n for n in range(1, self.hidden + 1) if self.hidden % n == 0)
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


def meant(word: str, allowed) -> str:
    """The end of an error's line: the allowed word that was probably meant, else all of them."""
    text = word.lower() if isinstance(word, str) else ""
    close = get_close_matches(text, allowed, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"it can be {', '.join(map(repr, allowed))}"


def check_choice(name: str, value) -> str:
    """value, where it is one of name's CHOICES; else raises SettingError."""
    if value not in CHOICES[name]:
        allowed, likely = ", ".join(CHOICES[name]), meant(value, CHOICES[name])
        raise SettingError(f"{name} = {value!r} is none of {allowed}: {likely}")
    return value


def _checked(name: str, kind: type, value):
    if name in CHOICES:
        return check_choice(name, value)
    if kind is str or kind is bool:
        if not isinstance(value, kind):
            raise SettingError(f"{name} = {value!r} must be a {_KINDS[kind]}: {_meant_kind(kind)}")
        return value
    return check_number(name, kind, value)


_KINDS = {str: "text", bool: "yes or no", int: "whole number", float: "number"}


def _meant_kind(kind: type) -> str:
    return "True or False" if kind is bool else "put it in quotes"


def check_number(name: str, kind: type, value):
    """value as that kind, int or float; raises SettingError unless it is one in name's range."""
    low, high, closed = RANGES[name]
    allowed = f"a {_KINDS[kind]} from {low} to {'' if closed else 'below '}{high}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingError(f"{name} = {value!r} must be {allowed}{_meant_other(kind, value)}")
    whole = kind is float or value % 1 == 0  # not so for nan and inf
    if not whole or not (low <= value < high or closed and value == high):
        raise SettingError(f"{name} = {value} must be {allowed}{_meant_number(name, kind, value)}")
    return kind(value) + 0  # −0.0 is 0


def _meant_other(kind: type, value) -> str:
    """What a number in quotes, a decimal comma or a list may mean."""
    if isinstance(value, list | tuple):
        return "; execute the notebook once for each value"
    try:
        return f"; did you mean {kind(str(value).replace(',', '.'))}?"
    except ValueError:
        return ""


def _meant_number(name: str, kind: type, value) -> str:
    if not abs(value) < 2**53:  # nan and inf too
        return ""
    low, high, closed = RANGES[name]
    for guess in (-value, value / 10, value / 100):
        if low < guess < high and (kind is float or guess == int(guess)):
            return f"; did you mean {kind(guess):g}?"
    return f"; did you mean {round(value)}?" if kind is int and low <= round(value) <= high else ""


NAMES = tuple(field.name for field in fields(Setting))


def check_names(names, known: tuple[str, ...] = NAMES) -> None:
    """Raises `SettingError` for the first name that is not known; by default a choice is."""
    for name in names:
        if name not in known:
            raise SettingError(f"no parameter is called {name!r}: {meant(name, known)}")


def bar(setting: Setting) -> int | None:
    """The validation perplexity that the exercise asks to get below.

    None beyond Penn Treebank, and for the Transformer, of which that exercise knows nothing.
    """
    if setting.corpus != "ptb" or setting.cell == "transformer":
        return None
    return 100 if setting.dropout else 125
