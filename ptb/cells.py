"""One step of each recurrent cell, written as the equations are, and the count of its parameters.

Everything here is for reading and for checking `ptb.layers`, which computes the same functions
over whole sequences, faster. Gates are stacked as in `torch.nn`: (i, f, g, o) for the LSTM,
(r, z, n) for the GRU.
"""

import torch
from torch import Tensor

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def rnn_step(
    x: Tensor, h: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> Tensor:
    """Elman network, h' = tanh(W_ih x + b_ih + W_hh h + b_hh); x (B, I), h (B, H) -> (B, H)."""
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)


def lstm_step(
    x: Tensor, h: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """Hochreiter & Schmidhuber 1997 with forget gates, as in Zaremba et al. 2014, equation 4.

    x (B, I), h and c (B, H), w_ih (4H, I), w_hh (4H, H), biases (4H,) -> the new h and c.
    """
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)  # (B, H) each
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
    """Cho et al. 2014; the reset gate acts "after" the product, as in `nn.GRU`, or "before" it.

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


def parameter_count(cell: str, inputs: int, hidden: int, bias_vectors: int = 2) -> int:
    """Parameters of one layer: per gate, an input and a recurrent matrix and its bias vectors.

    The equations have one bias vector a gate, torch and cuDNN keep two.
    """
    return GATES[cell] * (hidden * inputs + hidden * hidden + bias_vectors * hidden)
