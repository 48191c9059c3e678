"""What a benchmark compares: a plain PyTorch loop, the project's training step, and the limit.

The limit is the time of only the matrix products that a step needs, each by the fastest of torch's
own product into a preallocated output, the project's `product` and, in bfloat16, torch's product
of matrices that are rounded already.
"""

import time
from collections.abc import Callable

import torch

from ptb.data.corpus import Corpus, windows
from ptb.models.cells import CELLS
from ptb.models.matmul import product
from ptb.models.plain import PlainModel, train_step
from ptb.models.precision import current_precision
from ptb.setting import Setting
from ptb.training.trainer import Trainer

T, B, H, V = 35, 20, 200, 10_000


def made_up_words(count: int) -> torch.Tensor:
    """Ids with Zipf's frequencies, as a text's are."""
    return torch.multinomial(1 / torch.arange(1, V + 1), count, True)


def batches(count: int, device: str = "cpu") -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Windows of made-up words."""
    words = made_up_words(count * T * B + 1).to(device)
    return list(windows(words, B, T))


class Plain:
    """The plain loop: `ptb.models.plain`, torch's modules and nothing else."""

    def __init__(self, cell: str, device: str):
        self.model = PlainModel(cell, V, H, H, dropout=0.3).to(device)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.state = None

    def step(self, x, y):
        arguments = self.model, self.optimiser, x, y, self.state
        loss, self.state = train_step(*arguments, clip=0.25)
        return loss


class Ours:
    """The project's training step, through its public interface."""

    def __init__(self, cell: str, device: str = "cpu", average: float = 0.0):
        setting = Setting(cell=cell, dropout=0.3, lr=1.0, schedule="hold", hold=9, average=average)
        words, few = tuple(map(str, range(V))), torch.randint(V, (2 * T * B,))
        corpus = Corpus("made up", words, dict.fromkeys(("train", "valid", "test"), few))
        self.trainer = Trainer(setting, corpus, device)
        self.trainer.model.train()
        self.state = self.trainer.model.initial_state(B)

    def step(self, x, y):
        loss, self.state = self.trainer.step(x, y, self.state)
        return loss.item()


def needed_products(cell: str) -> list[tuple[int, int, int, int]]:
    """(M, K, N, times per step) of every product that training the model cannot avoid."""
    gates, rows = CELLS[cell].gates * H, T * B
    output = [(rows, H, V, 1), (rows, V, H, 1), (H, rows, V, 1)]
    batched = [(rows, H, gates, 2), (rows, gates, H, 2), (H, rows, gates, 4)]
    recurrent = [(B, H, gates, 2 * T), (B, gates, H, 2 * T)]
    return output + batched + recurrent


class Limit:
    """Only the products, each by the fastest way."""

    def __init__(self, cell: str, device: str):
        needed = needed_products(cell)
        self.work = [(self._fastest(m, k, n, device), times) for m, k, n, times in needed]

    @staticmethod
    def _fastest(m: int, k: int, n: int, device: str):
        a, b, out = (torch.randn(shape, device=device) for shape in ((m, k), (k, n), (m, n)))
        ways = [lambda: torch.mm(a, b, out=out), lambda: product(a, b)]
        if current_precision() == "bfloat16":  # without the rounding, which is no product
            rounded = a.bfloat16(), b.bfloat16()
            ways.append(lambda: torch.mm(*rounded))
        return min(ways, key=lambda way: min(seconds(way) for _ in range(7)))

    def step(self, *_):
        for multiply, times in self.work:
            for _ in range(times):
                multiply()


def seconds(call: Callable, *arguments) -> float:
    """Of a call, until a GPU has done what it was given."""
    start = time.perf_counter()
    call(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
