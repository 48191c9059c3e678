"""The kernels by Triton compute what the plain steps do, a layer as a whole too.

Where there is no GPU Triton's interpreter runs them; without Triton they are skipped.
"""

import pytest
import torch

from ptb.models import gru_steps, kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def fused(monkeypatch):
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    language = pytest.importorskip("triton.language")
    from ptb.models import fused_gru_steps

    def tanh(a):
        return 2 * language.sigmoid(2 * a) - 1

    if DEVICE == "cpu":  # the interpreter has no libdevice
        monkeypatch.setattr(fused_gru_steps.libdevice, "tanh", tanh)
    return fused_gru_steps


def test_a_layer_by_fused_steps_has_the_same_states_and_gradients(fused, monkeypatch):
    steps, batch, inputs, hidden = 5, 3, 4, 300  # more than one block, and none full
    torch.manual_seed(1)
    shapes = [(steps, batch, inputs), (batch, hidden), (3 * hidden, inputs), (3 * hidden, hidden)]
    shapes += [(3 * hidden,)] * 2
    arguments = [torch.randn(shape, dtype=torch.float64) / 8 for shape in shapes]
    arguments = [a.to(DEVICE).requires_grad_() for a in arguments]
    found = {}
    for module in (gru_steps, fused):
        monkeypatch.setattr(kernels, "_element_wise", lambda x, module=module: module)
        y, last = kernels.gru_reset_before(*arguments)
        loss = (y * torch.linspace(-1, 1, hidden, device=DEVICE)).sum() + last.square().sum()
        found[module] = [y, last, *torch.autograd.grad(loss, arguments)]
    torch.testing.assert_close(found[fused], found[gru_steps])


def test_the_steps_are_tried_out_before_a_layer_uses_them(fused, monkeypatch):
    fused.try_out(torch.device(DEVICE))
    kernels._fused.cache_clear()
    assert kernels._fused(torch.device(DEVICE)) is fused
    kernels._fused.cache_clear()
    monkeypatch.setattr(fused, "_launch", lambda *_: 1 / 0)
    assert kernels._fused(torch.device(DEVICE)) is None
    kernels._fused.cache_clear()
