"""How weights are changed: the tables of schedules and optimisers, and the one clip."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from ptb.setting import Setting


class Schedule(NamedTuple):
    """How the learning rate changes over a run.

    factor(setting, epoch, progress, cuts) is what multiplies the rate: epoch counts from 0,
    progress is the fraction of the whole run that is done, cuts how many epochs did not improve the
    best validation perplexity. words(setting) say it behind "learning rate 20".
    """

    factor: Callable[[Setting, int, float, int], float]
    words: Callable[[Setting], str]


def _hold_words(setting: Setting) -> str:
    if setting.decay == 1:
        return "constant"
    return f"times {setting.decay:g} each epoch after {setting.hold}"


SCHEDULES = {
    "linear": Schedule(
        lambda setting, epoch, progress, cuts: 1 - progress,
        lambda setting: "falling linearly to 0",
    ),
    "cosine": Schedule(
        lambda setting, epoch, progress, cuts: (1 + math.cos(math.pi * progress)) / 2,
        lambda setting: "falling to 0 as a cosine",
    ),
    "hold": Schedule(  # as Zaremba et al. 2014: constant for some epochs, then falling
        lambda setting, epoch, progress, cuts: setting.decay ** max(0, epoch - setting.hold + 1),
        _hold_words,
    ),
    "plateau": Schedule(
        lambda setting, epoch, progress, cuts: setting.decay**cuts,
        lambda setting: f"times {setting.decay:g} when validation is no better",
    ),
}


def learning_rate(setting: Setting, epoch: int, fraction: float, cuts: int = 0) -> float:
    """The rate a fraction of the way through an epoch, which counts from 0."""
    progress = (epoch + fraction) / setting.epochs
    return setting.lr * SCHEDULES[setting.schedule].factor(setting, epoch, progress, cuts)


class Optimiser(NamedTuple):
    """How an optimiser is made from a setting and parameters, what it is called, a rate to try."""

    make: Callable[[Setting, list[Tensor]], torch.optim.Optimizer]
    title: str
    first_lr: float  # to begin a search with


def _sgd(setting: Setting, parameters: list[Tensor]) -> torch.optim.SGD:
    # plain SGD multiplies the weights themselves (see `Trainer`), so that the embedding's gradient
    # can stay sparse
    decay = setting.weight_decay if setting.momentum else 0
    return torch.optim.SGD(parameters, setting.lr, setting.momentum, weight_decay=decay)


def _adamw(setting: Setting, parameters: list[Tensor]) -> torch.optim.AdamW:
    """With a weight decay of 0 it is Adam (Kingma & Ba 2015), to the bit."""
    return torch.optim.AdamW(parameters, setting.lr, weight_decay=setting.weight_decay)


OPTIMISERS = {
    "sgd": Optimiser(_sgd, "SGD", 2.0),
    "adamw": Optimiser(_adamw, "Adam", 0.002),
}


def clip_factor(gradients: list[Tensor], largest: float) -> Tensor:
    """What clipping multiplies all gradients by, so that their norm together is at most largest."""
    return (largest / (get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
