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
from ptb.products import add_product_, product


def dropout(x: Tensor, p: float) -> Tensor:
    """x with each entry dropped with probability p and the others scaled to keep the mean.

    As `F.dropout`, but four entries take one draw of 64 bits: p is rounded to a multiple of 2⁻¹⁶,
    and the scale is that of the rounded p.
    """
    dropped = min(round(p * 2**16), 2**16 - 1)  # never all
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    bits = words.random_(-(2**63), None).view(torch.int16)[: x.numel()].view_as(x)
    keep = (bits >= dropped - 2**15).to(x.dtype).mul_(2**16 / (2**16 - dropped))
    return x * keep


def _input_products(x: Tensor, w_ih: Tensor, bias: Tensor) -> Tensor:
    """W_ih x + bias for all steps in one product: (T, B, G·H)."""
    return product(x.flatten(0, 1), w_ih.T, bias).view(*x.shape[:2], -1)


def _sequence(first: Tensor, steps: int) -> Tensor:
    """Room for the states of all steps, the initial one first: (T+1, B, H)."""
    states = first.new_empty(steps + 1, *first.shape)
    states[0] = first
    return states


def _weight_gradients(inputs: Tensor, dg: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a weight and its bias, given inputs (T, B, I) and pre-activations' (T, B, G·H).

    The product copies what it turns: the inputs, narrower than the gates.
    """
    rows = dg.flatten(0, 1)  # (T·B, G·H)
    return product(inputs.flatten(0, 1).T, rows).T, rows.sum(0)


def _input_gradients(x: Tensor, dg: Tensor, w_ih: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, w_ih and b_ih, given those of the pre-activations, (T, B, G·H)."""
    dx = product(dg.flatten(0, 1), w_ih).view_as(x)
    return dx, *_weight_gradients(x, dg)


class _Linear(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _input_products(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        return _input_gradients(x, dy, weight)


class Linear(nn.Linear):
    """`nn.Linear` for x (T, B, inputs) -> (T, B, outputs), by the faster product of two."""

    def forward(self, x: Tensor) -> Tensor:
        return _Linear.apply(x, self.weight, self.bias)


class _GRU(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        gates = _input_products(x, w_ih, b_ih)  # becomes r, z, n in place
        through_h, to_gates = torch.empty_like(gates), w_hh.T.contiguous()
        halves = (part.split(2 * h0.shape[1], 2) for part in (gates, through_h))
        (rz, n), (rz_h, n_h), h = *halves, _sequence(h0, len(x))
        n.mul_(2)  # tanh(a) is 2σ(2a) − 1, and σ takes a fifth of its time where MKL is held back
        minus_one = n.new_tensor(-1.0)
        parts = through_h, rz, rz_h, *rz.chunk(2, 2), n, n_h, h[:-1], h[1:]
        steps = zip(*(part.unbind() for part in parts), strict=True)
        for through_h_t, rz_t, rz_h_t, r_t, z_t, n_t, n_h_t, before, after in steps:
            product(before, to_gates, b_hh, out=through_h_t)
            rz_t.add_(rz_h_t).sigmoid_()
            n_t.addcmul_(r_t, n_h_t, value=2).sigmoid_()
            torch.add(minus_one, n_t, alpha=2, out=n_t)
            torch.lerp(n_t, before, z_t, out=after)  # n + z (h - n)
        ctx.save_for_backward(x, w_ih, w_hh, gates, h, n_h)
        return h[1:], h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh):
        x, w_ih, w_hh, gates, h, n_h = ctx.saved_tensors
        r, z, n = gates.chunk(3, 2)
        to_n = (1 - z).mul_(1 - n * n)  # d(pre-activation of n) / dh', all steps
        factors = _gru_factors(r, z, n, h, n_h, to_n)
        dhs, dgh = _sequence(torch.zeros_like(dh), len(x)), torch.empty_like(factors)
        dhs[1:], dhs[-1] = dy, dy[-1] + dh
        views = (part.unbind() for part in (factors, dgh, dgh.flatten(2), z, dhs[:-1], dhs[1:]))
        for factors_t, dgh_t, row, z_t, before, after in reversed(list(zip(*views, strict=True))):
            torch.mul(factors_t, after[:, None], out=dgh_t)
            add_product_(before.addcmul_(after, z_t), row, w_hh)
        dw_hh, db_hh = _weight_gradients(h[:-1], dgh.flatten(2))
        torch.mul(to_n, dhs[1:], out=dgh[:, :, 2])  # where the input's part of n differs
        dx, dw_ih, db_ih = _input_gradients(x, dgh.flatten(2), w_ih)
        return dx, dhs[0], dw_ih, dw_hh, db_ih, db_hh


def _gru_factors(r, z, n, h, n_h, to_n) -> Tensor:
    """d(recurrent pre-activations of r, z, n) / dh' of all steps: (T, B, 3, H)."""
    factors = n.new_empty(*n.shape[:2], 3, n.shape[2])
    to_r, to_z, to_n_h = factors.unbind(2)
    torch.mul(to_n, r, out=to_n_h)
    torch.mul(to_n_h, n_h, out=to_r).mul_(1 - r)
    torch.sub(h[:-1], n, out=to_z).mul_(torch.addcmul(z, z, z, value=-1))  # z (1 - z)
    return factors


class _GRUResetBefore(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        size, steps = h0.shape[1], x.shape[0]
        gates = _input_products(x, w_ih, b_ih + b_hh)  # becomes r, z, n in place
        h, rh = _sequence(h0, steps), h0.new_empty(steps, *h0.shape)
        to_gates, to_n = w_hh[: 2 * size].T.contiguous(), w_hh[2 * size :].T.contiguous()
        for t in range(steps):
            gates[t, :, : 2 * size].add_(product(h[t], to_gates)).sigmoid_()
            r, z, n = gates[t].chunk(3, dim=1)
            torch.mul(r, h[t], out=rh[t])
            n.add_(product(rh[t], to_n)).tanh_()
            torch.lerp(n, h[t], z, out=h[t + 1])  # n + z (h - n)
        ctx.save_for_backward(x, w_ih, w_hh, gates, h, rh)
        return h[1:], h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh):
        x, w_ih, w_hh, gates, h, rh = ctx.saved_tensors
        size = h.shape[2]
        r, z, n = gates.chunk(3, dim=2)
        to_n, to_z = (1 - z) * (1 - n * n), (h[:-1] - n) * z * (1 - z)  # d(pre-activation) / dh'
        to_r = h[:-1] * r * (1 - r)  # d(pre-activation of r) / d(r h)
        dgates, dh = torch.empty_like(gates), dh.clone()
        for t in reversed(range(len(x))):
            dh += dy[t]
            dr, dz, dn = dgates[t].chunk(3, dim=1)
            torch.mul(to_n[t], dh, out=dn)
            drh = product(dn.contiguous(), w_hh[2 * size :])
            torch.mul(to_r[t], drh, out=dr)
            torch.mul(to_z[t], dh, out=dz)
            through_gates = product(dgates[t, :, : 2 * size].contiguous(), w_hh[: 2 * size])
            dh = through_gates.addcmul_(dh, z[t]).addcmul_(drh, r[t])
        dx, dw_ih, db = _input_gradients(x, dgates, w_ih)
        dw_hh, _ = _weight_gradients(h[:-1], dgates)
        dw_hh[2 * size :], _ = _weight_gradients(rh, dgates[..., 2 * size :])
        return dx, dh, dw_ih, dw_hh, db, db


class _RNN(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        h, recurrent = _sequence(h0, len(x)), w_hh.T.contiguous()
        h[1:] = _input_products(x, w_ih, b_ih + b_hh)
        for before, after in zip(h[:-1].unbind(), h[1:].unbind(), strict=True):
            add_product_(after, before, recurrent).tanh_()
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
        dx, dw_ih, db = _input_gradients(x, dgates, w_ih)
        dw_hh, _ = _weight_gradients(h[:-1], dgates)
        return dx, dh, dw_ih, dw_hh, db, db


def _options() -> tuple:
    """torch's: biases, one layer, no dropout, whether gradients will be asked for, …"""
    return True, 1, 0.0, torch.is_grad_enabled(), False, False


def _lstm(x, h0, c0, *weights):
    y, h, c = torch._VF.lstm(x, (h0[None], c0[None]), weights, *_options())
    return y, h[0], c[0]


def _gru(x, h0, *weights):
    y, h = torch._VF.gru(x, h0[None], weights, *_options())
    return y, h[0]


def _rnn(x, h0, *weights):
    y, h = torch._VF.rnn_tanh(x, h0[None], weights, *_options())
    return y, h[0]


FUNCTIONS = {
    ("lstm", "after"): _lstm,
    ("gru", "after"): _GRU.apply,
    ("gru", "before"): _GRUResetBefore.apply,
    ("rnn", "after"): _RNN.apply,
}
CUDNN = FUNCTIONS | {("gru", "after"): _gru, ("rnn", "after"): _rnn}  # torch's own, on a GPU


class Recurrent(nn.Module):
    """One recurrent layer with torch's parameters: the function of `nn.LSTM`, `nn.GRU` or `nn.RNN`.

    `forward(x, state)` takes x (T, B, inputs) and a state, a tuple of (B, hidden) tensors: (h, c)
    for the LSTM, (h,) for the others. It returns y (T, B, hidden) and the state after step T.
    weight_drop is the probability of dropping an entry of weight_hh in training, the same entries
    at all T steps: DropConnect, as in Merity et al. 2018, section 2. With one bias vector a gate
    instead of torch's two, the recurrent one is zero for ever.
    """

    def __init__(
        self,
        cell: str,
        inputs: int,
        hidden: int,
        reset: str = "after",
        biases: int = 2,
        weight_drop: float = 0.0,
    ):
        super().__init__()
        self.cell, self.hidden, self.kind = cell, hidden, (cell, reset)
        self.weight_drop = weight_drop
        rows = GATES[cell] * hidden
        self.weight_ih = nn.Parameter(torch.empty(rows, inputs))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        if biases == 2:
            self.bias_hh = nn.Parameter(torch.empty(rows))
        else:
            self.register_buffer("bias_hh", torch.zeros(rows), persistent=False)

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """The zero state: (h, c) for the LSTM, (h,) for the others, (B, hidden) each."""
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden)
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        self._check(x, state)
        dropping = self.training and self.weight_drop
        weight_hh = dropout(self.weight_hh, self.weight_drop) if dropping else self.weight_hh
        weights = (self.weight_ih, weight_hh, self.bias_ih, self.bias_hh)
        y, *state = (CUDNN if x.is_cuda else FUNCTIONS)[self.kind](x, *state, *weights)
        return y, tuple(state)

    def _check(self, x: Tensor, state: tuple[Tensor, ...]) -> None:
        """Raises ValueError where a shape or a dtype is not the layer's."""
        inputs, dtype = self.weight_ih.shape[1], self.weight_ih.dtype
        if x.dim() != 3 or x.shape[2] != inputs or x.dtype != dtype or not x.shape[0]:
            raise ValueError(f"x is {tuple(x.shape)} {x.dtype}, not (T, B, {inputs}) {dtype}")
        expected = [((x.shape[1], self.hidden), dtype)] * (2 if self.cell == "lstm" else 1)
        found = [(tuple(part.shape), part.dtype) for part in state]
        if found != expected:
            raise ValueError(f"the state is {found}, not {expected}")
