"""The gradients are those of finite differences; the norms are the exercise's."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_language_model import KINDS, make, small, window
from test_layers import WEIGHTS

from ptb.evaluation.gradient_flow import gradient_flow, half_life, state_gradients

SMALL = {"embedding": 3, "hidden": 4}
SPLIT = torch.arange(60) * 7 % 11  # ids of a split


@torch.no_grad()
def last_loss(model, x, y, place=None, change=0.0):
    """The last step's mean loss by the cells; a state moves at (t, layer, part, row, unit)."""
    states = [[part.clone() for part in layer] for layer in model.initial_state(x.shape[1])]
    for t, inputs in enumerate(model.embedding(x)):
        for n, layer in enumerate(model.layers):
            after = layer.cell.step(inputs, *states[n], *(getattr(layer, name) for name in WEIGHTS))
            states[n] = [part.clone() for part in (after if layer.name == "lstm" else (after,))]
            if place and place[:2] == (t, n):
                states[n][place[2]][place[3:]] += change
            inputs = states[n][0]
    return F.cross_entropy(model.output(inputs), y[-1]).item()


@pytest.mark.parametrize(("cell", "reset"), KINDS)
def test_gradients_are_those_of_finite_differences(cell, reset):
    model, (x, y) = make(small(cell, reset=reset, **SMALL)), window()
    gradients, parts, tiny = state_gradients(model, x, y), len(model.initial_state(1)[0]), 1e-5
    assert gradients.shape == (4, 3, 2 * parts * 4)  # T, B, layers · parts · H
    for t, row, column in torch.cartesian_prod(*map(torch.arange, gradients.shape)).tolist():
        layer, part, unit = column // (parts * 4), column // 4 % parts, column % 4
        moved = [last_loss(model, x, y, (t, layer, part, row, unit), d) for d in (tiny, -tiny)]
        slope = (moved[0] - moved[1]) / (2 * tiny)
        assert gradients[t, row, column].item() == pytest.approx(slope, abs=1e-9)


def test_the_loss_is_of_the_last_step_alone():
    model, (x, y) = make(small("gru")), window()
    other = y.clone()
    other[:-1] = (y[:-1] + 1) % 11
    assert torch.equal(state_gradients(model, x, y), state_gradients(model, x, other))
    other[-1] = (y[-1] + 1) % 11
    assert not torch.equal(state_gradients(model, x, y), state_gradients(model, x, other))


def test_norms_of_the_average_and_of_each_by_hand():
    model = make(small("rnn"))
    x, y = SPLIT[:15].view(3, 5).T, SPLIT[1:16].view(3, 5).T
    by_row = [state_gradients(model, x[:, b : b + 1], y[:, b : b + 1])[:, 0] for b in range(3)]
    ids = SPLIT[:16]
    found = gradient_flow(model.train(), ids, batch_size=3, bptt=5)
    average = (sum(by_row) / 3).norm(dim=1)
    each = sum(gradient.norm(dim=1) for gradient in by_row) / 3
    assert found["average"] == pytest.approx(average.tolist(), rel=1e-10)
    assert found["each"] == pytest.approx(each.tolist(), rel=1e-10)


def test_of_an_lstm_h_alone_is_beside_h_and_c():
    model = make(small("lstm", **SMALL))
    x, y = SPLIT[:15].view(3, 5).T, SPLIT[1:16].view(3, 5).T
    gradients = state_gradients(model, x, y)  # (T, B, 16): h and c of layer 1, h and c of layer 2
    hidden = torch.cat((gradients[:, :, :4], gradients[:, :, 8:12]), 2)
    found = gradient_flow(model, SPLIT[:16], batch_size=3, bptt=5)
    assert found["average"] == pytest.approx(gradients.sum(1).norm(dim=1).tolist())
    assert found["average, h"] == pytest.approx(hidden.sum(1).norm(dim=1).tolist())
    assert found["each, h"] == pytest.approx(hidden.norm(dim=2).sum(1).tolist())
    assert found["average, h"] != found["average"]
    assert set(gradient_flow(make(small("gru")), SPLIT, 3, 5)) == {"average", "each"}


def test_dropout_is_off():
    model = make(small("gru", dropout=0.5)).train()
    assert gradient_flow(model, SPLIT, 3, 5) == gradient_flow(model, SPLIT, 3, 5)


def test_what_is_not_finite_is_none():
    model = make(small("rnn"))
    model.output.weight.data.fill_(math.nan)
    assert gradient_flow(model, SPLIT, 3, 5)["each"] == [None] * 5


@pytest.mark.parametrize(
    ("factor", "life"), [(0.5, 1.0), (0.25, 0.5), (2**-0.1, 10.0), (2.0, math.inf)]
)
def test_half_life_of_a_geometric_fall(factor, life):
    assert half_life([7 * factor**n for n in reversed(range(9))]) == pytest.approx(life)


def test_half_life_is_by_the_steps_above_a_thousandth():
    """Beyond it rounding may hold the norm up."""
    fall = [2.0**-n for n in range(10)]
    assert half_life([1e-9] * 20 + fall[::-1]) == pytest.approx(1.0)


@pytest.mark.parametrize("norms", [[0.0, 0.0, 1.0], [None, None, None, 1.0], [1e-6, 1e-3, 1.0]])
def test_too_few_steps_have_no_half_life(norms):
    assert half_life(norms) is None
