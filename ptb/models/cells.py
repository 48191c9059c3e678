"""One step of each recurrent cell, as its equations are, and `CELLS`, the one table of cells.

What is here is for reading; `ptb.models.kernels` has the same functions over a whole sequence,
faster, and the tests hold the two against each other. Gates are stacked as in `torch.nn`: (i, f, g,
o) for the LSTM, (r, z, n) for the GRU.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ptb.models import kernels


def rnn_step(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    """Elman network, h' = tanh(W_ih x + b_ih + W_hh h + b_hh).

    x (B, I), h (B, H), w_ih (H, I), w_hh (H, H), biases (H,) -> the new h (B, H).
    """
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)


def lstm_step(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber 1997 with forget gates; Zaremba et al. 2014, equation 4.

    x (B, I), h, c (B, H), w_ih (4H, I), w_hh (4H, H), biases (4H,) -> the new h and c.
    """
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)  # (B, H)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(
    x: Tensor,
    h: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    reset: str = "after",
) -> Tensor:
    """Cho et al. 2014; reset acts "after" the product, as in `nn.GRU`, or "before" it.

    x (B, I), h (B, H), w_ih (3H, I), w_hh (3H, H), biases (3H,) -> the new h (B, H).
    """
    x_r, x_z, x_n = (x @ w_ih.T + b_ih).chunk(3, dim=1)  # (B, H) each
    h_r, h_z, h_n = (h @ w_hh.T + b_hh).chunk(3, dim=1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    if reset == "before":
        size = h.shape[1]
        n = torch.tanh(x_n + (r * h) @ w_hh[2 * size :].T + b_hh[2 * size :])
    else:
        n = torch.tanh(x_n + r * h_n)
    return z * h + (1 - z) * n


class Cell(NamedTuple):
    """A recurrent cell: its sizes, its equations, and their fast versions.

    gates is the number of blocks of H rows in the input matrix and its bias, recurrent that in the
    recurrent matrix and its bias: as many, unless the gates do not see the state. states names what
    a layer carries from step to step, h first. step is one step, `step(x, *state, w_ih, w_hh, b_ih,
    b_hh)`, which returns the new state; w_hh and b_hh are None where recurrent is 0.

    fast is the same over a sequence, `fast(x, *state, *weights)` -> y and the state after it, for x
    (T, B, I); on_gpu is its counterpart there. Where there is none, a loop over step serves.
    """

    title: str  # as tables and legends have it
    gates: int
    recurrent: int
    states: tuple[str, ...]
    step: Callable | None
    fast: Callable | None = None
    on_gpu: Callable | None = None

    def parameter_count(self, inputs: int, hidden: int, biases: int = 2) -> int:
        """Parameters of one layer; the equations have one bias vector a gate, torch has two."""
        count = self.gates * hidden * inputs + self.recurrent * hidden * hidden
        return count + (self.gates + (self.recurrent if biases == 2 else 0)) * hidden


CELLS = {
    "lstm": Cell("LSTM", 4, 4, ("h", "c"), lstm_step, kernels.lstm, kernels.lstm),
    "gru": Cell("GRU", 3, 3, ("h",), gru_step, kernels.gru, kernels.torch_gru),
    "rnn": Cell("RNN", 1, 1, ("h",), rnn_step, kernels.rnn, kernels.torch_rnn),
    # no recurrent cell, but a choice in its place: its layers are in `ptb.models.transformer`
    "transformer": Cell("Transformer", 0, 0, (), None),
}
_RESET_BEFORE = CELLS["gru"]._replace(
    step=partial(gru_step, reset="before"),
    fast=kernels.gru_reset_before,
    on_gpu=kernels.gru_reset_before,
)


def find_cell(name: str, reset: str = "after") -> Cell:
    """The table's entry; of a GRU whose reset gate acts before its product, that GRU's."""
    return _RESET_BEFORE if (name, reset) == ("gru", "before") else CELLS[name]


def parameter_count(cell: str, inputs: int, hidden: int, biases: int = 2) -> int:
    """Parameters of one layer of a cell, as 321,600 for an LSTM of 200 units and inputs."""
    return CELLS[cell].parameter_count(inputs, hidden, biases)
