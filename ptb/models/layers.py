"""The layers that models are made of: `Dropout`, `Linear` and `Recurrent`."""

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ptb.models.cells import find_cell
from ptb.models.kernels import flatten, input_gradients, input_products


def drop(x: Tensor, p: float) -> Tensor:
    """x with each entry dropped with probability p and the others scaled to keep the mean.

    As `F.dropout`, but four entries share one draw of 64 bits, since drawing is what takes the
    time: p is rounded to a multiple of 2⁻¹⁶, and the scale is that of the rounded p.
    """
    dropped = min(round(p * 2**16), 2**16 - 1)  # of 2¹⁶ values of 16 bits; never all
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    bits = words.random_(-(2**63), None).view(torch.int16)[: x.numel()].view_as(x)
    keep = (bits >= dropped - 2**15).to(x.dtype).mul_(2**16 / (2**16 - dropped))
    return x * keep


class Dropout(nn.Module):
    """Dropout with probability p in training, on (T, B, ·): a new mask at each step.

    With same_mask one mask serves all steps of a window: variational dropout, Gal and Ghahramani
    2016.
    """

    def __init__(self, p: float, same_mask: bool = False):
        super().__init__()
        self.p, self.same_mask = p, same_mask

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.p):
            return x
        if self.same_mask:
            return x * drop(torch.ones_like(x[:1]), self.p)  # the mask is (1, B, ·)
        return drop(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p:g}" + (", same_mask=True" if self.same_mask else "")


class _Linear(Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return input_products(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        return input_gradients(x, dy, weight)


class Linear(nn.Linear):
    """`nn.Linear` for x (T, B, inputs) -> (T, B, outputs), by the faster product of two."""

    def forward(self, x: Tensor) -> Tensor:
        return _Linear.apply(x, self.weight, self.bias)


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
        self.name, self.reset, self.weight_drop = cell, reset, weight_drop
        self.cell, self.inputs, self.hidden = find_cell(cell, reset), inputs, hidden
        rows, recurrent_rows = self.cell.gates * hidden, self.cell.recurrent * hidden
        self.weight_ih = nn.Parameter(torch.empty(rows, inputs))
        self.weight_hh = None  # and so it stays where no gate sees the state, and bias_hh with it
        if recurrent_rows:
            self.weight_hh = nn.Parameter(torch.empty(recurrent_rows, hidden))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        if recurrent_rows and biases == 2:
            self.bias_hh = nn.Parameter(torch.empty(recurrent_rows))
        else:
            zeros = torch.zeros(recurrent_rows) if recurrent_rows else None
            self.register_buffer("bias_hh", zeros, persistent=False)

    def _apply(self, *arguments, **named):
        """What moves a module to a device, as torch's own recurrent layers extend it."""
        super()._apply(*arguments, **named)
        flatten(self.cell.on_gpu, self._weights())
        return self

    def _weights(self) -> tuple[Tensor | None, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def initial_state(self, batch_size: int) -> tuple[Tensor, ...]:
        """The zero state: (h, c) for the LSTM, (h,) for the others, (B, hidden) each."""
        zeros = self.weight_ih.new_zeros(batch_size, self.hidden)
        return (zeros,) * len(self.cell.states)

    def forward(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        self._check(x, state)
        w_ih, w_hh, b_ih, b_hh = self._weights()
        if self.training and self.weight_drop and w_hh is not None:
            w_hh = drop(w_hh, self.weight_drop)
        weights = (w_ih, w_hh, b_ih, b_hh)
        kernel = self.cell.on_gpu if x.is_cuda else self.cell.fast
        if kernel is None:
            return self._loop(x, state, weights)
        y, *state = kernel(x, *state, *weights)
        return y, tuple(state)

    def _loop(self, x: Tensor, state: tuple[Tensor, ...], weights: tuple):
        """One step after another, for a cell of which the table has no kernel."""
        outputs = []
        for x_t in x:
            after = self.cell.step(x_t, *state, *weights)
            state = after if isinstance(after, tuple) else (after,)
            outputs.append(state[0])
        return torch.stack(outputs), state

    def _check(self, x: Tensor, state: tuple[Tensor, ...]) -> None:
        """Raises ValueError where a shape or a dtype is not the layer's."""
        dtype = self.weight_ih.dtype
        if x.dim() != 3 or x.shape[2] != self.inputs or x.dtype != dtype or not x.shape[0]:
            raise ValueError(f"x is {tuple(x.shape)} {x.dtype}, not (T, B, {self.inputs}) {dtype}")
        expected = [((x.shape[1], self.hidden), dtype)] * len(self.cell.states)
        found = [(tuple(part.shape), part.dtype) for part in state]
        if found != expected:
            raise ValueError(f"the state is {found}, not {expected}")

    def extra_repr(self) -> str:
        reset = ", reset=before" if self.reset == "before" else ""
        dropped = f", weight_drop={self.weight_drop:g}" if self.weight_drop else ""
        return f"{self.name}, {self.inputs}, {self.hidden}{reset}{dropped}"
