"""ptb.training.cuda_graph: a step over tensors that stay in place is the trainer's own step."""

import pytest
import torch

from ptb.data.corpus import windows
from ptb.setting import Setting
from ptb.training.cuda_graph import StaticStep
from ptb.training.optim import learning_rate
from ptb.training.trainer import Trainer


def trained(trainer, step, corpus):
    """Losses, weights and state after eight steps of (x, y, state, fraction of the epoch)."""
    torch.manual_seed(2)
    state, losses = trainer.model.initial_state(4), []
    for n, (x, y) in enumerate(list(windows(corpus["train"], 4, 6))[:8]):
        loss, state = step(x, y, state, n / 8)
        losses.append(loss.item())
    return losses, [p.detach() for p in trainer.parameters], state


@pytest.mark.parametrize(
    "choices", [{}, {"clip": 0.0}, {"dropout": 0.4}, {"clip": 0.01}, {"weight_decay": 0.02}]
)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_static_steps_are_the_trainers(cell, choices, tiny_corpus):
    setting = Setting(cell, hidden=7, embedding=5, bptt=6, batch_size=4, lr=3.0, **choices)
    one, other = Trainer(setting, tiny_corpus), Trainer(setting, tiny_corpus)
    one.model.embedding.sparse = False
    static = StaticStep(one)
    ours = trained(one, lambda *a: static(*a[:3], learning_rate(setting, 0, a[3])), tiny_corpus)
    expected = trained(other, other.step, tiny_corpus)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_inputs_and_state_stay_in_place(tiny_corpus):
    trainer = Trainer(Setting(hidden=3, embedding=2, bptt=5, batch_size=2), tiny_corpus)
    trainer.model.embedding.sparse = False
    step = StaticStep(trainer)
    tensors = [step.x, step.y, step.lr, *(part for layer in step.state for part in layer)]
    places = [tensor.data_ptr() for tensor in tensors]
    x, y = next(iter(windows(tiny_corpus["train"], 2, 5)))
    _, state = step(x, y, trainer.model.initial_state(2), 1.0)
    assert [tensor.data_ptr() for tensor in tensors] == places
    assert len(set(places)) == len(places)
    assert state is step.state
    assert torch.equal(step.x, x) and torch.equal(step.y, y)
    assert all(part.abs().sum() > 0 for part in state[0][:1])
