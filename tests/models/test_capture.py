"""ptb.models.capture: losses over tensors that stay in place are the model's own."""

import pytest
import torch

from ptb.data.corpus import windows
from ptb.evaluation import perplexity
from ptb.models.capture import StaticLosses
from ptb.models.language_model import build
from ptb.setting import Setting

CELLS = [
    {"cell": "lstm"},
    {"cell": "gru"},
    {"cell": "gru", "reset": "before"},
    {"cell": "rnn"},
    {"cell": "transformer", "heads": 2, "feedforward": 8},
]


@pytest.mark.parametrize("cell", CELLS)
def test_static_losses_are_the_models(cell, tiny_corpus):
    sizes = {"hidden": 6, "embedding": 6, "bptt": 5, "batch_size": 3, "dropout": 0.4}
    model = build(Setting(**sizes | cell), 7).eval()
    static = StaticLosses(model, 5, 3, "cpu")
    state = carried = model.initial_state(3)
    for x, y in windows(tiny_corpus["valid"], 3, 5):
        if len(x) == 5:
            expected, state = model.token_losses(x.long(), y.long(), state)
            found, carried = static(x, y, carried)
            assert torch.equal(found, expected)
            assert all(
                torch.equal(a, b) for a, b in zip(sum(carried, ()), sum(state, ()), strict=True)
            )


def test_a_split_measured_by_static_losses_has_the_same_perplexity(
    tiny_corpus, tiny_setting, monkeypatch
):
    model = build(tiny_setting(), 7)
    expected = perplexity.measure(model, tiny_corpus["train"], 3)
    calls = []

    class Ids(torch.Tensor):
        """Ids that pass for a GPU's."""

        is_cuda = True

    def static(*sizes):
        calls.append(sizes[1:3])
        return StaticLosses(*sizes)

    monkeypatch.setattr(perplexity, "GraphedLosses", static)
    monkeypatch.setattr(perplexity, "WINDOW", 7)
    ids = tiny_corpus["train"].as_subclass(Ids)
    assert perplexity.measure(model, ids, 3) == pytest.approx(expected, rel=1e-6)
    assert calls == [(7, 3)]
    assert perplexity.measure(model, ids[:40], 3)["tokens"] == 39
    assert len(calls) == 1  # not worth a capture


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cell", CELLS)
def test_a_gpu_measures_what_the_cpu_does(cell, tiny_corpus, monkeypatch):
    monkeypatch.setattr(perplexity, "WINDOW", 5)
    sizes = {"hidden": 6, "embedding": 6, "bptt": 5, "batch_size": 3}
    model, ids = build(Setting(**sizes | cell), 7), tiny_corpus["train"]
    assert len(ids) > 2 * 5 * perplexity.WORTH_CAPTURING
    expected = perplexity.measure(model, ids, 2)["loss"]
    found = perplexity.measure(model.cuda(), ids.cuda(), 2)["loss"]
    assert found == pytest.approx(expected, rel=1e-4)
