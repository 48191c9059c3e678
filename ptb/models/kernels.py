"""The recurrent cells over a whole sequence, with backward passes derived by hand.

The same functions as the steps of `ptb.models.cells`, one after another, and as `torch.nn.LSTM`,
`nn.GRU` and `nn.RNN`. What makes the GRU and the RNN faster here: the input products of all steps
are one product; the backward pass forms every factor that does not depend on the incoming gradient
for all steps at once, keeps only the recurrence in its loop, and gathers each weight's gradient in
one product over time. The LSTM is torch's own, which oneDNN computes as a whole.

Shapes: x (T, B, I), y (T, B, H), states (B, H); w_ih (G·H, I), w_hh (G·H, H), biases (G·H,). Each
kernel takes x, the state and these four, and returns y and the state after the last step.
"""

from functools import cache
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.backends.cudnn.rnn import get_cudnn_mode

from ptb.models import gru_steps
from ptb.models.matmul import add_recurrent_product_, product, recurrent_product


def input_products(x: Tensor, w_ih: Tensor, bias: Tensor) -> Tensor:
    """W_ih x + bias for all steps in one product: (T, B, G·H)."""
    return product(x.flatten(0, 1), w_ih.T, bias).view(*x.shape[:2], -1)


def _sequence(first: Tensor, steps: int) -> Tensor:
    """Memory for the states of all steps, the initial one first: (T+1, B, H)."""
    states = first.new_empty(steps + 1, *first.shape)
    states[0] = first
    return states


def _weight_gradients(inputs: Tensor, dg: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a weight and its bias, given inputs (T, B, I) and pre-activations' (T, B, G·H).

    The product copies what it turns: the inputs, narrower than the gates.
    """
    rows = dg.flatten(0, 1)  # (T·B, G·H)
    return product(inputs.flatten(0, 1).T, rows).T, rows.sum(0)


def input_gradients(x: Tensor, dg: Tensor, w_ih: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, w_ih and b_ih, given those of the pre-activations, (T, B, G·H)."""
    dx = product(dg.flatten(0, 1), w_ih).view_as(x)
    return dx, *_weight_gradients(x, dg)


class _GRU(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        size = h0.shape[1]
        bias = b_ih.clone()
        bias[: 2 * size] += b_hh[: 2 * size]
        gates = input_products(x, w_ih, bias)  # becomes r, z and W_hn h + b_hn, in place
        # tanh(a) = 2σ(2a) − 1: on an AMD processor torch's σ takes a fifth of the time
        # of its tanh
        n = gates[:, :, 2 * size :] * 2
        gates[:, :, 2 * size :] = b_hh[2 * size :]
        states = _sequence(h0, len(x))
        minus_one = gates.new_tensor(-1.0)

        # The loop below takes views out of lists, since indexing a tensor costs a step
        # more time than its arithmetic: each list has the T views of one step.
        gates_t, rz = gates.unbind(), gates[:, :, : 2 * size].unbind()
        r, z, n_h = (part.unbind() for part in gates.chunk(3, 2))
        n_t, h, to_gates = n.unbind(), states.unbind(), w_hh.T.contiguous()
        for t in range(len(x)):
            add_recurrent_product_(gates_t[t], h[t], to_gates)
            rz[t].sigmoid_()
            n_t[t].addcmul_(r[t], n_h[t], value=2).sigmoid_()
            torch.add(minus_one, n_t[t], alpha=2, out=n_t[t])
            torch.lerp(n_t[t], h[t], z[t], out=h[t + 1])  # h' = n + z (h − n)
        ctx.save_for_backward(x, w_ih, w_hh, gates, n, states)
        return states[1:], states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh):
        x, w_ih, w_hh, gates, n, h = ctx.saved_tensors
        r, z, n_h = gates.chunk(3, 2)
        to_n = (1 - z).mul_(1 - n * n)  # dh' / d(pre-activation of n), all steps
        factors = gru_factors(r, z, n, h, n_h, to_n)  # (T, B, 3, H)
        dgates = torch.empty_like(factors)  # of the recurrent pre-activations of r, z, n
        dstates = _sequence(torch.zeros_like(dh), len(x))  # (T+1, B, H), from h0's on
        dstates[1:], dstates[-1] = dy, dy[-1] + dh

        # lists of T views, as in the forward pass
        step_factors, step_dgates, z_t = factors.unbind(), dgates.unbind(), z.unbind()
        rows, dh_t = dgates.flatten(2).unbind(), dstates.unbind()  # rows: (B, 3·H)
        to_h = w_hh.contiguous()
        for t in reversed(range(len(x))):
            torch.mul(step_factors[t], dh_t[t + 1][:, None], out=step_dgates[t])
            add_recurrent_product_(dh_t[t].addcmul_(dh_t[t + 1], z_t[t]), rows[t], to_h)

        dw_hh, db_hh = _weight_gradients(h[:-1], dgates.flatten(2))
        torch.mul(to_n, dstates[1:], out=dgates[:, :, 2])  # the input's part of n is not times r
        dx, dw_ih, db_ih = input_gradients(x, dgates.flatten(2), w_ih)
        return dx, dstates[0], dw_ih, dw_hh, db_ih, db_hh


def gru_factors(r, z, n, h, n_h, to_n) -> Tensor:
    """dh' / d(recurrent pre-activations of r, z, n), of all steps: (T, B, 3, H)."""
    factors = n.new_empty(*n.shape[:2], 3, n.shape[2])
    to_r, to_z, to_n_h = factors.unbind(2)
    torch.mul(to_n, r, out=to_n_h)
    torch.mul(to_n_h, n_h, out=to_r).mul_(1 - r)
    torch.sub(h[:-1], n, out=to_z).mul_(torch.addcmul(z, z, z, value=-1))  # z (1 - z)
    return factors


def _element_wise(x: Tensor) -> ModuleType:
    """The module of the element-wise steps: each one kernel, where Triton can make them."""
    return (x.is_cuda and _fused(x.device)) or gru_steps


@cache
def _fused(device: torch.device) -> ModuleType | None:
    try:
        from ptb.models import fused_gru_steps

        fused_gru_steps.try_out(device)
    except Exception:  # no Triton, no C compiler for it, or a GPU that it does not know
        return None
    return fused_gru_steps


class _GRUResetBefore(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        size, steps = h0.shape[1], x.shape[0]
        gates = input_products(x, w_ih, b_ih + b_hh)  # becomes r, z, n in place
        h, rh = _sequence(h0, steps), h0.new_empty(steps, *h0.shape)
        to_gates, to_n = w_hh[: 2 * size].T.contiguous(), w_hh[2 * size :].T.contiguous()
        # lists of T views, as in `_GRU`
        rz, n = (part.unbind() for part in gates.split((2 * size, size), 2))
        r, z = (part.unbind() for part in gates[:, :, : 2 * size].chunk(2, 2))
        h_t, rh_t, step = h.unbind(), rh.unbind(), _element_wise(x)
        for t in range(steps):
            add_recurrent_product_(rz[t], h_t[t], to_gates)
            step.reset(rz[t], r[t], z[t], h_t[t], rh_t[t])
            add_recurrent_product_(n[t], rh_t[t], to_n)
            step.update(n[t], z[t], h_t[t], h_t[t + 1])
        ctx.save_for_backward(x, w_ih, w_hh, gates, h, rh)
        return h[1:], h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh):
        x, w_ih, w_hh, gates, h, rh = ctx.saved_tensors
        size = h.shape[2]
        r, z, n = gates.chunk(3, dim=2)
        to_n, to_z = (1 - z) * (1 - n * n), (h[:-1] - n) * z * (1 - z)  # dh' / d(pre-activation)
        to_r = h[:-1] * r * (1 - r)  # d(r h) / d(pre-activation of r)
        drz, dn = gates.new_empty(*z.shape[:2], 2 * size), gates.new_empty(z.shape)
        dstates = _sequence(torch.zeros_like(dh), len(x))  # (T+1, B, H), from h0's on
        dstates[1:], dstates[-1] = dy, dy[-1] + dh

        dr_t, dz_t = (part.unbind() for part in drz.chunk(2, 2))
        drz_t, dn_t, dh_t = drz.unbind(), dn.unbind(), dstates.unbind()
        to_r, to_z, to_n, r, z = (part.unbind() for part in (to_r, to_z, to_n, r, z))
        w_rz, w_n = w_hh.contiguous().split((2 * size, size))
        step = _element_wise(x)
        for t in reversed(range(len(x))):
            step.update_backward(to_n[t], to_z[t], dh_t[t + 1], dn_t[t], dz_t[t])
            drh = recurrent_product(dn_t[t], w_n)
            step.reset_backward(to_r[t], r[t], z[t], drh, dh_t[t + 1], dr_t[t], dh_t[t])
            add_recurrent_product_(dh_t[t], drz_t[t], w_rz)
        dx, dw_ih, db = input_gradients(x, torch.cat((drz, dn), 2), w_ih)
        dw_hh = torch.cat((_weight_gradients(h[:-1], drz)[0], _weight_gradients(rh, dn)[0]))
        return dx, dstates[0], dw_ih, dw_hh, db, db


class _RNN(Function):
    @staticmethod
    def forward(ctx, x, h0, w_ih, w_hh, b_ih, b_hh):
        h, recurrent = _sequence(h0, len(x)), w_hh.T.contiguous()
        h[1:] = input_products(x, w_ih, b_ih + b_hh)
        for before, after in zip(h[:-1].unbind(), h[1:].unbind(), strict=True):
            add_recurrent_product_(after, before, recurrent).tanh_()
        ctx.save_for_backward(x, w_ih, w_hh, h)
        return h[1:], h[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh):
        x, w_ih, w_hh, h = ctx.saved_tensors
        slope, dgates, dh = 1 - h[1:] * h[1:], torch.empty_like(h[1:]), dh.clone()
        to_h = w_hh.contiguous()
        for t in reversed(range(len(x))):
            dh += dy[t]
            torch.mul(slope[t], dh, out=dgates[t])
            dh = recurrent_product(dgates[t], to_h)
        dx, dw_ih, db = input_gradients(x, dgates, w_ih)
        dw_hh, _ = _weight_gradients(h[:-1], dgates)
        return dx, dh, dw_ih, dw_hh, db, db


def _flags() -> tuple:
    """torch's arguments: biases, layers, dropout, training, both directions, batch first."""
    return True, 1, 0.0, torch.is_grad_enabled(), False, False


def lstm(x, h0, c0, *weights):
    """torch's own, on the CPU by oneDNN, on a GPU by cuDNN."""
    y, h, c = torch._VF.lstm(x, (h0[None], c0[None]), weights, *_flags())
    return y, h[0], c[0]


def torch_gru(x, h0, *weights):
    """torch's GRU, which on a GPU is cuDNN's."""
    y, h = torch._VF.gru(x, h0[None], weights, *_flags())
    return y, h[0]


def torch_rnn(x, h0, *weights):
    """torch's Elman network, which on a GPU is cuDNN's."""
    y, h = torch._VF.rnn_tanh(x, h0[None], weights, *_flags())
    return y, h[0]


CUDNNS = {lstm: "LSTM", torch_gru: "GRU", torch_rnn: "RNN_TANH"}  # by cuDNN's names


def flatten(kernel, weights: tuple[Tensor, ...]) -> None:
    """Moves a layer's four weights into the one chunk of memory that cuDNN wants on a GPU.

    Elsewhere it would copy them at each call. They stay the same objects, as an optimiser knows
    them. Of another kernel, or not on a GPU, they stay where they are.
    """
    w_ih, w_hh = weights[:2]
    if kernel in CUDNNS and w_ih.is_cuda and torch.backends.cudnn.is_acceptable(w_ih):
        mode, sizes = get_cudnn_mode(CUDNNS[kernel]), (w_ih.shape[1], w_hh.shape[1])
        with torch.no_grad():
            torch._cudnn_rnn_flatten_weight(
                weights, len(weights), sizes[0], mode, sizes[1], 0, 1, False, False
            )  # no projection, one layer, steps first, one direction


gru, gru_reset_before, rnn = _GRU.apply, _GRUResetBefore.apply, _RNN.apply
