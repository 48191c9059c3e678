"""ptb.models.cells: each step is the function of torch's cell; the count is what torch holds."""

import pytest
import torch
from torch import nn

from ptb.models.cells import CELLS as TABLE
from ptb.models.cells import gru_step, lstm_step, parameter_count, rnn_step

STEPS = {"rnn": rnn_step, "gru": gru_step, "lstm": lstm_step}
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}
LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
SIZES = [(1, 1, 1), (3, 5, 2), (2, 4, 7)]  # B, I, H


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_step_is_that_of_torch(cell, sizes):
    batch, inputs, hidden = sizes
    torch.manual_seed(1)
    theirs = CELLS[cell](inputs, hidden, dtype=torch.float64)
    x = torch.randn(batch, inputs, dtype=torch.float64)
    state = torch.randn(2 if cell == "lstm" else 1, batch, hidden, dtype=torch.float64)
    weights = (theirs.weight_ih, theirs.weight_hh, theirs.bias_ih, theirs.bias_hh)
    ours = STEPS[cell](x, *state, *weights)
    expected = theirs(x, tuple(state) if cell == "lstm" else state[0])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-14)


def gru_by_hand(x, h, w_ih, w_hh, b_ih, b_hh):
    """One row, unit by unit: n = tanh(W x + b + U (r * h) + b'), as the exercise writes it."""
    size = len(h)

    def gate(place, state):
        return w_ih[place] @ x + b_ih[place] + w_hh[place] @ state + b_hh[place]

    r = torch.stack([torch.sigmoid(gate(i, h)) for i in range(size)])
    z = torch.stack([torch.sigmoid(gate(size + i, h)) for i in range(size)])
    n = torch.stack([torch.tanh(gate(2 * size + i, r * h)) for i in range(size)])
    return z * h + (1 - z) * n


def random_gru(batch, inputs, hidden):
    torch.manual_seed(1)
    shapes = (batch, inputs), (batch, hidden), (3 * hidden, inputs), (3 * hidden, hidden)
    biases = (3 * hidden,), (3 * hidden,)
    return [torch.randn(shape, dtype=torch.float64) for shape in (*shapes, *biases)]


@pytest.mark.parametrize("sizes", SIZES)
def test_gru_with_reset_before_is_that_of_the_exercise(sizes):
    x, h, *weights = random_gru(*sizes)
    expected = [gru_by_hand(*row, *weights) for row in zip(x, h, strict=True)]
    ours = gru_step(x, h, *weights, reset="before")
    torch.testing.assert_close(ours, torch.stack(expected), rtol=0, atol=1e-14)


def test_the_two_grus_differ_but_for_diagonal_products_without_a_bias():
    x, h, w_ih, w_hh, b_ih, b_hh = random_gru(2, 3, 4)
    both = [gru_step(x, h, w_ih, w_hh, b_ih, b_hh, reset) for reset in ("after", "before")]
    assert not torch.allclose(*both, atol=1e-2)
    w_hh[8:], b_hh[8:] = torch.diag(torch.arange(1.0, 5)), 0
    both = [gru_step(x, h, w_ih, w_hh, b_ih, b_hh, reset) for reset in ("after", "before")]
    torch.testing.assert_close(*both, rtol=0, atol=1e-14)


def test_forget_gate_alone_keeps_the_memory():
    weights = torch.zeros(4, 1), torch.zeros(4, 1), torch.tensor([-99.0, 99, 0, 99]), torch.zeros(4)
    h, c = lstm_step(torch.ones(1, 1), torch.ones(1, 1), torch.full((1, 1), 0.5), *weights)
    assert c.item() == 0.5
    assert h.item() == pytest.approx(torch.tanh(torch.tensor(0.5)).item())


@pytest.mark.parametrize(
    ("cell", "bias_vectors", "count"),
    [
        ("lstm", 1, 320_800),
        ("lstm", 2, 321_600),
        ("gru", 1, 240_600),
        ("gru", 2, 241_200),
        ("rnn", 2, 80_400),
    ],
)
def test_parameter_count_of_200_units(cell, bias_vectors, count):
    assert parameter_count(cell, 200, 200, bias_vectors) == count


@pytest.mark.parametrize("cell", [name for name in TABLE if name != "transformer"])
def test_parameter_count_is_what_torch_holds(cell):
    held = sum(p.numel() for p in LAYERS[cell](5, 3).parameters())
    assert parameter_count(cell, 5, 3) == held
