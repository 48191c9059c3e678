"""ptb.training.trainer: the rate follows its schedule, and every step is torch's."""

import math

import pytest
import torch
from test_language_model import counterpart, plain_copy, plain_loss

from ptb.data.corpus import windows
from ptb.evaluation.perplexity import perplexity, token_losses
from ptb.models.plain import train_step
from ptb.setting import Setting
from ptb.training.optim import learning_rate
from ptb.training.trainer import Trainer

# ---------------------------------------------------------------- the learning rate
RATES = [  # schedule, epoch, fraction, cuts, rate
    ("linear", 0, 0.0, 0, 8.0),
    ("linear", 1, 0.5, 0, 5.0),
    ("linear", 2, 0.0, 3, 4.0),
    ("linear", 3, 1.0, 0, 0.0),
    ("cosine", 0, 0.0, 0, 8.0),
    ("cosine", 1, 0.0, 0, 4 + 4 * math.sqrt(0.5)),
    ("cosine", 2, 0.0, 0, 4.0),
    ("cosine", 3, 1.0, 0, 0.0),
    ("hold", 0, 0.0, 0, 8.0),
    ("hold", 1, 0.9, 0, 8.0),
    ("hold", 2, 0.0, 0, 2.0),
    ("hold", 3, 0.5, 0, 0.5),
    ("plateau", 0, 0.0, 0, 8.0),
    ("plateau", 3, 0.5, 0, 8.0),
    ("plateau", 3, 0.0, 2, 0.5),
]


@pytest.mark.parametrize(("schedule", "epoch", "fraction", "cuts", "rate"), RATES)
def test_learning_rate(schedule, epoch, fraction, cuts, rate):
    setting = Setting(lr=8.0, epochs=4, schedule=schedule, hold=2, decay=0.25)
    assert learning_rate(setting, epoch, fraction, cuts) == pytest.approx(rate, abs=1e-12)


def test_steps_follow_the_schedule_within_an_epoch(tiny_setting, tiny_corpus, monkeypatch):
    asked = []

    def recorded(setting, epoch, fraction, cuts):
        asked.append(epoch + fraction)
        return learning_rate(setting, epoch, fraction, cuts)

    monkeypatch.setattr("ptb.training.trainer.learning_rate", recorded)
    trainer = Trainer(tiny_setting(), tiny_corpus)
    trainer.run_epoch()
    steps = trainer.steps
    assert asked[1:] == pytest.approx([n / steps for n in range(steps)])  # first: for the history
    last = learning_rate(trainer.setting, 0, (steps - 1) / steps)
    assert trainer.optimiser.param_groups[0]["lr"] == last


def test_the_best_epoch_is_by_validation_whatever_the_test_split_says(tiny_setting, tiny_corpus):
    trainer = Trainer(tiny_setting(), tiny_corpus)
    trainer.history = [{"valid": 2.0, "test": 1.0}, {"valid": 1.0, "test": 2.0}]
    assert trainer.best is trainer.history[1]


def test_what_a_watcher_does_is_no_training(tiny_setting, tiny_corpus, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("ptb.training.trainer.time.perf_counter", lambda: now[0])
    steps = []

    def watch(*_):
        steps.append(1)
        now[0] += 1

    trainer = Trainer(tiny_setting(), tiny_corpus)
    step = trainer.step

    def timed(*arguments):
        now[0] += 0.5
        return step(*arguments)

    monkeypatch.setattr(trainer, "step", timed)
    assert trainer.run_epoch(watch)["seconds"] == len(steps) / 2 > 0


# ---------------------------------------------------------------- one step
def test_the_first_step_takes_memory_for_four_tables_of_logits(
    tiny_setting, tiny_corpus, monkeypatch
):
    taken = []
    monkeypatch.setattr("ptb.training.trainer.take_spare_memory", taken.append)
    trainer = Trainer(tiny_setting(), tiny_corpus)
    ((x, y), *_) = windows(tiny_corpus["train"], 2, trainer.setting.bptt)
    trainer.step(x, y, trainer.model.initial_state(2))
    rows = trainer.setting.bptt * trainer.setting.batch_size
    assert taken == [4 * torch.empty(rows, len(tiny_corpus.words)).nbytes]


def clipped(gradients: list[torch.Tensor], clip: float) -> list[torch.Tensor]:
    norm = math.sqrt(sum((gradient**2).sum().item() for gradient in gradients))
    assert norm > 0.1  # else the clipped case clips nothing
    factor = min(1, clip / (norm + 1e-6)) if clip else 1  # 1e-6 is torch's
    return [g * factor for g in gradients]


@pytest.mark.parametrize("clip", [0.0, 0.05, 50.0])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_one_step_is_plain_gradient_descent(cell, clip, tiny_setting, tiny_corpus):
    setting = tiny_setting(cell=cell, clip=clip, lr=2.0)
    trainer = Trainer(setting, tiny_corpus)
    model = trainer.model.double()
    theirs = plain_copy(setting, model)
    x, y = tiny_corpus["train"][:24].long().view(2, 4, 3)
    expected_loss, _ = plain_loss(theirs, x, y)
    parameters = [counterpart(theirs, name) for name, _ in model.named_parameters()]
    gradients = clipped(list(torch.autograd.grad(expected_loss, parameters)), clip)
    expected = [(p - 2.0 * g).detach() for p, g in zip(parameters, gradients, strict=True)]
    loss, _ = trainer.step(x, y, model.initial_state(3))
    assert loss.item() == pytest.approx(expected_loss.item(), abs=1e-12)
    found = [p.detach() for p in model.parameters()]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("chosen", "optimiser"),
    [
        ({}, lambda p: torch.optim.SGD(p, 5.0)),
        ({"momentum": 0.9}, lambda p: torch.optim.SGD(p, 5.0, momentum=0.9)),
        ({"weight_decay": 0.1}, lambda p: torch.optim.SGD(p, 5.0, weight_decay=0.1)),
        (
            {"optimiser": "adamw", "lr": 0.01, "weight_decay": 0.1},
            lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
        ),
    ],
)
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_steps_are_those_of_torchs_optimiser(clip, chosen, optimiser, tiny_setting, tiny_corpus):
    trainer = Trainer(tiny_setting(schedule="plateau", clip=clip, **chosen), tiny_corpus)
    theirs = plain_copy(trainer.setting, trainer.model.double())
    plain = optimiser(theirs.parameters())
    x, y = tiny_corpus["train"][:24].long().view(2, 4, 3)
    for _ in range(3):
        trainer.step(x, y, trainer.model.initial_state(3))
        plain.zero_grad()
        plain_loss(theirs, x, y)[0].backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip or math.inf)
        plain.step()
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter, counterpart(theirs, name), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_steps_loss_is_that_of_the_plain_loop(
    cell, dtype, tolerance, tiny_setting, tiny_corpus
):
    setting = tiny_setting(cell=cell, schedule="hold", hold=9, lr=2.0, hidden=16, init=0.3)
    trainer = Trainer(setting, tiny_corpus)
    theirs = plain_copy(setting, trainer.model.to(dtype)).to(dtype)
    optimiser = torch.optim.SGD(theirs.parameters(), setting.lr)
    batches = 4 * list(windows(tiny_corpus["train"], 4, 5))
    assert len(batches) >= 50
    state, their_state, found, expected = trainer.model.initial_state(4), None, [], []
    for x, y in batches:
        loss, state = trainer.step(x, y, state)
        their_loss, their_state = train_step(theirs, optimiser, x, y, their_state, setting.clip)
        found.append(loss.item())
        expected.append(their_loss)
    assert found == pytest.approx(expected, rel=tolerance)
    assert found[-1] < found[0] - 0.05  # something was learned


def test_average_of_the_weights_is_that_written_by_hand(tiny_setting, tiny_corpus):
    trainer = Trainer(tiny_setting(average=0.3, lr=1.0), tiny_corpus)
    expected = [p.detach().double() for p in trainer.parameters]
    x, y = tiny_corpus["train"][:24].long().view(2, 4, 3)
    for step in range(1, 9):
        trainer.step(x, y, trainer.model.initial_state(3))
        decay = min(0.3, step / (step + 10))  # reaches 0.3 at the fifth step
        weights = [p.detach().double() for p in trainer.parameters]
        expected = [decay * a + (1 - decay) * w for a, w in zip(expected, weights, strict=True)]
    last = [p.detach().clone() for p in trainer.parameters]
    averaged = list(trainer.weights().values())
    torch.testing.assert_close(averaged, expected, rtol=1e-5, atol=1e-6, check_dtype=False)
    assert not torch.allclose(averaged[0], last[0], rtol=1e-3)
    assert all(map(torch.equal, trainer.parameters, last))  # the model itself goes on unaveraged


def test_averaged_weights_are_what_is_evaluated(tiny_setting, tiny_corpus):
    trainer = Trainer(tiny_setting(average=0.99), tiny_corpus)
    row = trainer.run_epoch()
    without = perplexity(token_losses(trainer.model, tiny_corpus["valid"]))
    with trainer.averaged():
        within = perplexity(token_losses(trainer.model, tiny_corpus["valid"]))
    assert row["valid"] == within
    assert within != pytest.approx(without, rel=1e-3)


# ---------------------------------------------------------------- how an epoch reads
def windows_of_an_epoch(setting, corpus, monkeypatch) -> list[tuple]:
    """(x, state before, state after) of each step of a first epoch."""
    seen, step = [], Trainer.step

    def recorded(self, x, y, state, fraction):
        loss, after = step(self, x, y, state, fraction)
        seen.append((x, state[0][0], after[0][0]))
        return loss, after

    monkeypatch.setattr(Trainer, "step", recorded)
    Trainer(setting, corpus).run_epoch()
    return seen


def test_a_state_is_carried_from_window_to_window_or_is_zero_in_each(
    tiny_setting, tiny_corpus, monkeypatch
):
    seen = windows_of_an_epoch(tiny_setting(), tiny_corpus, monkeypatch)
    for (_, _, after), (_, before, _) in zip(seen, seen[1:], strict=False):
        assert torch.equal(after, before) and before.any()
    monkeypatch.undo()
    seen = windows_of_an_epoch(tiny_setting(carried=False), tiny_corpus, monkeypatch)
    assert len(seen) > 3 and not any(before.any() for _, before, _ in seen)


def test_epochs_begin_at_an_offset_drawn_anew_or_at_the_first_word(
    tiny_setting, tiny_corpus, monkeypatch
):
    firsts = set()
    for seed in range(8):
        (x, *_), *_ = windows_of_an_epoch(tiny_setting(seed=seed), tiny_corpus, monkeypatch)
        monkeypatch.undo()
        firsts.add(tuple(x[:, 0].tolist()))
    assert len(firsts) > 1
    drawn, trainer = set(), Trainer(tiny_setting(epochs=3), tiny_corpus)
    for _ in range(3):
        trainer.run_epoch(lambda *_: drawn.add(torch.initial_seed()))
    assert len(drawn) == 3  # each epoch has a seed of its own
    for seed in range(3):
        setting = tiny_setting(seed=seed, random_offset=False)
        (x, *_), *_ = windows_of_an_epoch(setting, tiny_corpus, monkeypatch)
        monkeypatch.undo()
        assert torch.equal(x[:, 0], tiny_corpus["train"][: len(x)].long())
