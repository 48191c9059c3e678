"""CUDA graphs: hundreds of kernels, started by one call."""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # calls beside the default stream, as PyTorch's manual asks before a capture


def captured(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """What does the same as call by replaying its kernels, and returns the same tensor each time.

    All that call reads and writes must stay in place. Capturing calls it, so that what it changes
    is changed, and random numbers are drawn; a replay draws new ones from torch's state on the GPU.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def keep(mine: tuple, state: tuple) -> None:
    """Copies a model's state, a tuple of tensors per layer, into one that stays in place."""
    for ours, layer in zip(mine, state, strict=True):
        torch._foreach_copy_(ours, layer)


def place_for(state: tuple) -> tuple:
    """Memory for a state: no two of its tensors share it, as those of an initial one may."""
    return tuple(tuple(part.clone() for part in layer) for layer in state)


class StaticLosses:
    """`LanguageModel.token_losses` over tensors that stay in place, as a graph's replay needs.

    Takes windows of T steps and B rows alone. What it returns, the next call overwrites.
    """

    def __init__(self, model, steps: int, rows: int, device):
        self.model, self.state = model, place_for(model.initial_state(rows))
        self.x, self.y = torch.zeros(2, steps, rows, dtype=torch.int64, device=device)

    def __call__(self, x: Tensor, y: Tensor, state) -> tuple[Tensor, tuple]:
        """The losses (T, B) and the state after the window."""
        self.x.copy_(x)
        self.y.copy_(y)
        keep(self.state, state)
        return self.run(), self.state

    def run(self) -> Tensor:
        losses, state = self.model.token_losses(self.x, self.y, self.state)
        keep(self.state, state)
        return losses


class GraphedLosses(StaticLosses):
    """The same, captured."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.run = captured(self.run)
