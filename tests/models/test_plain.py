"""ptb.models.plain: the textbook's model and loop are correct, and the fast path is the same."""

import math

import pytest
import torch
from conftest import make_corpus, make_setting
from test_language_model import plain_copy
from torch import nn

from ptb.data.corpus import windows
from ptb.evaluation.perplexity import measure
from ptb.models.language_model import build
from ptb.models.plain import PlainModel, detach, evaluate, train_epoch
from ptb.training.trainer import Trainer

CELLS = ("lstm", "gru", "rnn")


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_is_where_the_fast_model_has_it(cell):
    """Embedding, between layers, last output: in each a kept value is scaled by 1 / (1 − p)."""
    torch.manual_seed(1)
    model = PlainModel(cell, 7, embedding=40, hidden=40, layers=2, dropout=0.5)
    seen = {}
    model.rnn.register_forward_pre_hook(lambda _, inputs: seen.update(embedded=inputs[0]))
    model.output.register_forward_pre_hook(lambda _, inputs: seen.update(last=inputs[0]))
    model.train()(torch.ones(5, 3, dtype=torch.int64))
    assert model.rnn.dropout == 0.5
    for values in seen.values():
        assert (values == 0).double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert PlainModel(cell, 7, layers=1, dropout=0.5).rnn.dropout == 0  # torch would warn


def test_weights_are_drawn_from_the_uniform_range():
    torch.manual_seed(1)
    model = PlainModel("lstm", 50, init=0.07)
    assert all(0.06 < weights.abs().max() <= 0.07 for weights in model.parameters())


@pytest.mark.parametrize("cell", CELLS)
def test_a_detached_state_has_its_values_and_no_history(cell):
    _, state = PlainModel(cell, 7, 4, 4)(torch.zeros(2, 3, dtype=torch.int64))
    torch.testing.assert_close(detach(state), state)
    parts = detach(state) if cell == "lstm" else [detach(state)]
    assert not any(part.requires_grad for part in parts)


@pytest.mark.parametrize("cell", CELLS)
def test_an_epochs_mean_loss_is_the_trainers(cell):
    corpus, setting = make_corpus(), make_setting(cell=cell, lr=2.0, schedule="hold", hold=9)
    trainer = Trainer(setting, corpus)
    theirs = plain_copy(setting, trainer.model.double())
    optimiser = torch.optim.SGD(theirs.parameters(), setting.lr)
    batches = windows(corpus["train"], setting.batch_size, setting.bptt)
    state, total, count = trainer.model.initial_state(setting.batch_size), 0.0, 0
    for x, y in batches:
        loss, state = trainer.step(x, y, state)
        total, count = total + loss.item() * y.numel(), count + y.numel()
    expected = train_epoch(theirs, optimiser, batches, setting.clip)
    assert total / count == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_evaluation_is_the_projects_perplexity(cell):
    """Where the rows leave nothing over."""
    setting = make_setting(cell=cell, dropout=0.5)
    torch.manual_seed(1)
    model = build(setting, 7).double()
    ids = make_corpus(valid=301)["valid"][:301]
    loss = evaluate(plain_copy(setting, model).train(), windows(ids, batch_size=10, bptt=7))
    found = measure(model, ids)
    assert found["tokens"] == 300
    assert math.exp(loss) == pytest.approx(found["perplexity"], rel=1e-12)


def test_the_docstrings_loop_learns():
    corpus = make_corpus()
    torch.manual_seed(1)
    model = PlainModel("lstm", len(corpus.words), embedding=8, hidden=8, init=0.5)
    assert isinstance(model.rnn, nn.LSTM) and model.rnn.num_layers == 2
    valid = windows(corpus["valid"], batch_size=2, bptt=100)
    before = evaluate(model, valid)
    optimiser = torch.optim.SGD(model.parameters(), lr=5)
    losses = [
        train_epoch(model, optimiser, windows(corpus["train"], 4, 5), clip=0.25) for _ in "1234"
    ]
    assert losses[-1] < losses[0] - 0.3
    assert evaluate(model, valid) < before - 0.3
