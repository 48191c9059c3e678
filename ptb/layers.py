"""The recurrent cells over a whole sequence, with hand-derived backward passes.

The same functions as `ptb.cells`, step by step, and as `torch.nn.LSTM`, `nn.GRU` and `nn.RNN`.
What is faster in the GRU and the RNN: the input products of all steps are one product; the
backward pass forms every factor that does not depend on the incoming gradient for all steps at
once, keeps only the recurrence in its loop, and gathers each weight's gradient in one product over
time. The LSTM is torch's own, which oneDNN computes as a whole.

Shapes: x (T, B, I), y (T, B, H), states (B, H); w_ih (G·H, I), w_hh (G·H, H), biases (G·H,).
"""

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ptb.cells import GATES
from ptb.products import product


def _input_products(x: Tensor, w_ih: Tensor, bias: Tensor) -> Tensor:
    """W_ih x + bias for all steps in one product: (T, B, G·H)."""
    return product(x.flatten(0, 1), w_ih.T).add_(bias).view(*x.shape[:2], -1)


def _sequence(first: Tensor, steps: int) -> Tensor:
    """Room for the states of all steps, the initial one first: (T+1, B, H)."""
    states = first.new_empty(steps + 1, *first.shape)
    states[0] = first
    return states


def _weight_gradients(x: Tensor, h: Tensor, dgx: Tensor, dgh: Tensor, w_ih: Tensor) -> tuple:
    """Gradients of x, w_ih, w_hh, b_ih, b_hh, given those of both pre-activations (T, B, G·H)."""
    dgx_rows, dgh_rows = dgx.flatten(0, 1), dgh.flatten(0, 1)  # (T·B, G·H)
    return (
        product(dgx_rows, w_ih).view_as(x),
        product(x.flatten(0, 1).T, dgx_rows).T,
        product(h[:-1].flatten(0, 1).T, dgh_rows).T,
        dgx_rows.sum(0),
        dgh_rows.sum(0),
    )


class _GRU(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        size, steps = h0.shape[1], x.shape[0]
        gates = _input_products(x, w_ih, b_ih)  # becomes r, z, n in place
        h, h_n = _sequence(h0, steps), h0.new_empty(steps, *h0.shape)
        recurrent = w_hh.T.contiguous()
        for t in range(steps):
            products = product(h[t], recurrent).add_(b_hh)
            gate = gates[t]
            gate[:, : 2 * size].add_(products[:, : 2 * size]).sigmoid_()
            r, z, n = gate.chunk(3, dim=1)
            h_n[t] = products[:, 2 * size :]
            n.addcmul_(r, h_n[t]).tanh_()
            torch.lerp(n, h[t], z, out=h[t + 1])  # n + z (h - n)
        ctx.save_for_backward(x, w_ih, w_hh, gates, h, h_n)
        return h[1:], h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh):
        x, w_ih, w_hh, gates, h, h_n = ctx.saved_tensors
        r, z, n = gates.chunk(3, dim=2)
        to_n = (1 - z) * (1 - n * n)  # d(pre-activation of n) / dh', all steps: (T, B, H)
        to_r = to_n * h_n * r * (1 - r)
        factors = torch.stack((to_r, (h[:-1] - n) * z * (1 - z), to_n * r), dim=2)
        dgh = torch.empty_like(gates)
        split, dhs, dh = dgh.unflatten(2, (3, -1)), torch.empty_like(h[1:]), dh.clone()
        for t in reversed(range(len(x))):
            torch.add(dh, dy[t], out=dhs[t])
            torch.mul(factors[t], dhs[t].unsqueeze(1), out=split[t])
            dh = product(dgh[t], w_hh).addcmul_(dhs[t], z[t])
        dgx = torch.cat((dgh[..., : 2 * h.shape[2]], to_n * dhs), dim=2)
        dx, dw_ih, dw_hh, db_ih, db_hh = _weight_gradients(x, h, dgx, dgh, w_ih)
        return dx, dh, dw_ih, dw_hh, db_ih, db_hh


class _RNN(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        h = _sequence(h0, len(x))
        products, recurrent = _input_products(x, w_ih, b_ih + b_hh), w_hh.T.contiguous()
        for t in range(len(x)):
            torch.add(products[t], product(h[t], recurrent), out=h[t + 1]).tanh_()
        ctx.save_for_backward(x, w_ih, w_hh, h)
        return h[1:], h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh):
        x, w_ih, w_hh, h = ctx.saved_tensors
        slope, dgates, dh = 1 - h[1:] * h[1:], torch.empty_like(h[1:]), dh.clone()
        for t in reversed(range(len(x))):
            dh += dy[t]
            torch.mul(slope[t], dh, out=dgates[t])
            dh = product(dgates[t], w_hh)
        dx, dw_ih, dw_hh, db, _ = _weight_gradients(x, h, dgates, dgates, w_ih)
        return dx, dh, dw_ih, dw_hh, db, db


def _lstm(x, h0, c0, *weights):
    y, h, c = torch._VF.lstm(
        x, (h0[None], c0[None]), weights, True, 1, 0.0, torch.is_grad_enabled(), False, False
    )
    return y, h[0], c[0]


FUNCTIONS = {"lstm": _lstm, "gru": _GRU.apply, "rnn": _RNN.apply}


class Recurrent(nn.Module):
    """One recurrent layer with torch's parameters: the function of `nn.LSTM`, `nn.GRU` or `nn.RNN`.

    `forward(x, state)` takes x (T, B, inputs) and a state, a tuple of (B, hidden) tensors: (h, c)
    for the LSTM, (h,) for the others. It returns y (T, B, hidden) and the state after step T.
    """

    def __init__(self, cell: str, inputs: int, hidden: int):
        super().__init__()
        self.cell, self.hidden = cell, hidden
        rows = GATES[cell] * hidden
        self.weight_ih = nn.Parameter(torch.empty(rows, inputs))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """The zero state: (h, c) for the LSTM, (h,) for the others, (B, hidden) each."""
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden)
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        y, *state = FUNCTIONS[self.cell](x, *state, *weights)
        return y, tuple(state)
