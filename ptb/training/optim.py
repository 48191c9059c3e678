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
    """How an optimiser is made from a setting and parameters, what it is called, a rate to try.

    static is the same as a CUDA graph can hold it (see `StaticSGD`); without it, a GPU takes the
    step kernel by kernel.
    """

    make: Callable[[Setting, list[Tensor]], object]
    title: str
    first_lr: float  # to begin a search with
    static: Callable | None = None


class PlainSGD:
    """`torch.optim.SGD` without momentum, to the bit, gradients sparse or not; its rate alone.

    torch's own optimisers import its compiler, which takes two seconds and 70 MB of each process.
    Weight decay is the `Trainer`'s, so that the embedding's gradient can stay sparse.
    """

    def __init__(self, parameters: list[Tensor], lr: float):
        self.parameters = parameters
        places = list(range(len(parameters)))
        self.param_groups = [{"lr": lr, "momentum": 0, "weight_decay": 0, "params": places}]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for parameter in self.parameters:
            parameter.add_(parameter.grad, alpha=-self.param_groups[0]["lr"])

    def state_dict(self) -> dict:
        """In torch's format, so that a checkpoint of an earlier version can be resumed."""
        return {"state": {}, "param_groups": self.param_groups}

    def load_state_dict(self, state: dict) -> None:
        """Nothing: it has no moments, and the rate is set before each step."""


def _sgd(setting: Setting, parameters: list[Tensor]) -> PlainSGD | torch.optim.SGD:
    if not setting.momentum:
        return PlainSGD(parameters, setting.lr)
    decay = setting.weight_decay
    return torch.optim.SGD(parameters, setting.lr, setting.momentum, weight_decay=decay)


def _adamw(setting: Setting, parameters: list[Tensor]) -> torch.optim.AdamW:
    """With a weight decay of 0 it is Adam (Kingma & Ba 2015), to the bit."""
    return torch.optim.AdamW(parameters, setting.lr, weight_decay=setting.weight_decay)


def _own(optimiser, parameters: list[Tensor], name: str) -> list[Tensor]:
    """The tensors of that name in an optimiser's state, one per parameter; zero at first."""
    states = [optimiser.state[parameter] for parameter in parameters]
    pairs = zip(states, parameters, strict=True)
    return [state.setdefault(name, torch.zeros_like(p.detach())) for state, p in pairs]


class StaticSGD:
    """SGD, plain or with momentum, over tensors that stay in place: all that changes is in tensors.

    `set(lr)` before each update, which a graph's replay repeats; `state` are the tensors that it
    changes beside the parameters, those of torch's optimiser.
    """

    def __init__(self, setting: Setting, parameters: list[Tensor], optimiser):
        self.parameters, self.decay = parameters, setting.weight_decay
        self.momentum, self.lr = setting.momentum, parameters[0].new_zeros(())
        self.state = _own(optimiser, parameters, "momentum_buffer") if setting.momentum else []

    def set(self, lr: float) -> None:
        self.lr.fill_(lr)

    def __call__(self, gradients: tuple[Tensor, ...], shrink: Tensor) -> None:
        # gradients are not changed in place: two biases may have one
        if not self.momentum:
            torch._foreach_mul_(self.parameters, 1 - self.lr * self.decay)
            changes = torch._foreach_mul(gradients, self.lr * shrink)
        else:
            gradients = torch._foreach_mul(gradients, shrink)
            torch._foreach_add_(gradients, self.parameters, alpha=self.decay)
            torch._foreach_mul_(self.state, self.momentum)
            torch._foreach_add_(self.state, gradients)
            changes = torch._foreach_mul(self.state, self.lr)
        torch._foreach_sub_(self.parameters, changes)


class StaticAdamW:
    """AdamW over tensors that stay in place: see `StaticSGD`. Steps are counted on the CPU."""

    def __init__(self, setting: Setting, parameters: list[Tensor], optimiser: torch.optim.AdamW):
        (group,) = optimiser.param_groups
        self.parameters, self.decay = parameters, setting.weight_decay
        self.betas, self.eps = group["betas"], group["eps"]
        self.means, self.squares = (
            _own(optimiser, parameters, name) for name in ("exp_avg", "exp_avg_sq")
        )
        states = [optimiser.state[parameter] for parameter in parameters]
        self.counts = [state.setdefault("step", torch.zeros(())) for state in states]
        self.state = [*self.means, *self.squares]
        # the rate, the same over the means' correction, the root of the squares' correction
        self.lr, self.step_size, self.root = parameters[0].new_zeros(3).unbind()

    def set(self, lr: float) -> None:
        torch._foreach_add_(self.counts, 1)
        steps = self.counts[0].item()
        corrections = [1 - beta**steps for beta in self.betas]
        self.lr.fill_(lr)
        self.step_size.fill_(lr / corrections[0])
        self.root.fill_(math.sqrt(corrections[1]))

    def __call__(self, gradients: tuple[Tensor, ...], shrink: Tensor) -> None:
        gradients = torch._foreach_mul(gradients, shrink)
        torch._foreach_mul_(self.parameters, 1 - self.lr * self.decay)
        torch._foreach_lerp_(self.means, gradients, 1 - self.betas[0])
        torch._foreach_mul_(self.squares, self.betas[1])
        torch._foreach_addcmul_(self.squares, gradients, gradients, 1 - self.betas[1])
        roots = torch._foreach_sqrt(self.squares)
        torch._foreach_div_(roots, self.root)
        torch._foreach_add_(roots, self.eps)
        changes = torch._foreach_div(self.means, roots)
        torch._foreach_mul_(changes, self.step_size)
        torch._foreach_sub_(self.parameters, changes)


OPTIMISERS = {
    "sgd": Optimiser(_sgd, "SGD", 2.0, StaticSGD),
    "adamw": Optimiser(_adamw, "Adam", 0.002, StaticAdamW),
}


def clip_factor(gradients: list[Tensor], largest: float) -> Tensor:
    """What clipping multiplies all gradients by, so that their norm together is at most largest."""
    return (largest / (get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
