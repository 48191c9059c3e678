"""ptb.training.cuda_graph: a step over tensors that stay in place is the trainer's own step."""

import pytest
import torch
from torture import CASES, results

from ptb.data.corpus import windows
from ptb.errors import RunError
from ptb.setting import Setting
from ptb.training.cuda_graph import GraphedStep, StaticStep
from ptb.training.train import train
from ptb.training.trainer import Trainer

MOMENTUM = {"momentum": 0.9, "lr": 1.0}
ADAM = {"optimiser": "adamw", "lr": 0.02}
TRANSFORMER = {"cell": "transformer", "heads": 2, "feedforward": 8, "embedding": 6, "hidden": 6}
TRANSFORMER |= {"lr": 0.02}  # at a high one, rounding grows from step to step
CHOICES = [
    {}, {"clip": 0.0}, {"dropout": 0.4}, {"clip": 0.01}, {"weight_decay": 0.02},
    MOMENTUM, MOMENTUM | {"weight_decay": 0.02, "clip": 0.01}, MOMENTUM | {"clip": 0.0},
    ADAM, ADAM | {"weight_decay": 0.1, "clip": 0.01}, ADAM | {"clip": 0.0, "dropout": 0.4},
    {"average": 0.3}, {"average": 0.3, "dropout": 0.4} | MOMENTUM, {"average": 0.99} | ADAM,
]  # fmt: skip
CELLS = [
    {"cell": "lstm"}, {"cell": "gru"}, {"cell": "gru", "reset": "before"}, {"cell": "rnn"},
    {"cell": "lstm", "weight_drop": 0.3}, {"cell": "lstm", "tied": True, "hidden": 6},
    TRANSFORMER,
]  # fmt: skip


def take_static_steps(trainer) -> None:
    """As `Trainer._capture`, without a GPU: steps that a graph could hold, not captured."""
    trainer.model.embedding.sparse = False
    trainer.graphed = StaticStep(trainer)


@pytest.fixture
def doubles():
    """Everything in float64, so that nothing but rounding at 1e-16 can differ."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trained(trainer, corpus):
    """Losses, weights, the optimiser's and the average's tensors after two epochs.

    A shorter window ends an epoch, which is no graph's.
    """
    losses = []
    for epoch in range(2):
        torch.manual_seed(epoch)
        state = trainer.model.initial_state(4)
        ran = list(windows(corpus["train"][:131], 4, 6))
        for n, (x, y) in enumerate(ran):
            loss, state = trainer.step(x, y, state, n / len(ran))
            losses.append(loss.item())
        trainer.history.append({"valid": 1.0})  # the rate falls with the epochs
        assert len(x) < 6
    states = trainer.optimiser.state_dict()["state"]
    return losses, [p.detach() for p in trainer.parameters], states, trainer.average


@pytest.mark.parametrize(
    ("cell", "choices"),
    [*((cell, CHOICES[-1]) for cell in CELLS), *(({}, choices) for choices in CHOICES)],
)
def test_static_steps_are_the_trainers(cell, choices, tiny_corpus, doubles):
    """Which are those of torch's optimisers."""
    sizes = {"hidden": 7, "embedding": 6, "bptt": 6, "batch_size": 4, "lr": 3.0, "epochs": 2}
    setting = Setting(**sizes | choices | cell)
    one, other = Trainer(setting, tiny_corpus), Trainer(setting, tiny_corpus)
    take_static_steps(one)
    ours, expected = trained(one, tiny_corpus), trained(other, tiny_corpus)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    assert one.steps == other.steps == len(expected[0])


@pytest.mark.parametrize("case", CASES)
def test_static_steps_stopped_and_started_again_end_to_the_bit(
    case, tiny_setting, tiny_corpus, tmp_path, monkeypatch
):
    def stop(rows):
        if len(rows) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_capture", take_static_steps)
    setting = tiny_setting(epochs=3, **CASES[case])
    train(setting, tiny_corpus, tmp_path / "whole")
    with pytest.raises(RunError, match="stopped after epoch 1"):
        train(setting, tiny_corpus, tmp_path / "stopped", on_epoch=stop)
    train(setting, tiny_corpus, tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


@pytest.mark.parametrize("choices", [{}, MOMENTUM, ADAM | {"average": 0.9}])
def test_all_that_a_step_reads_or_changes_stays_in_place(choices, tiny_corpus):
    sizes = {"hidden": 3, "embedding": 2, "bptt": 5, "batch_size": 2}
    trainer = Trainer(Setting(**sizes | choices), tiny_corpus)
    take_static_steps(trainer)
    step = trainer.graphed
    tensors = [step.x, step.y, step.new_share, *(part for layer in step.state for part in layer)]
    tensors += [*step.parameters, *step.average, *step.update.state]
    tensors += [value for value in vars(step.update).values() if isinstance(value, torch.Tensor)]
    places = [tensor.data_ptr() for tensor in tensors]
    assert len(set(places)) == len(places)
    x, y = next(iter(windows(tiny_corpus["train"], 2, 5)))
    _, state = trainer.step(x, y, trainer.model.initial_state(2))
    with trainer.averaged():
        assert [tensor.data_ptr() for tensor in tensors] == places
    assert [tensor.data_ptr() for tensor in tensors] == places
    assert state is step.state
    assert torch.equal(step.x, x) and torch.equal(step.y, y)
    assert all(part.abs().sum() > 0 for part in state[0][:1])


@pytest.mark.parametrize("choices", [{}, MOMENTUM, ADAM | {"average": 0.9}])
def test_a_capture_changes_nothing(choices, tiny_corpus, monkeypatch):
    """Without a GPU: it runs four steps, and all that they change is put back."""

    def captured(call):
        for _ in range(4):
            call()
        return call

    monkeypatch.setattr("ptb.training.cuda_graph.captured", captured)
    sizes = {"hidden": 3, "embedding": 2, "bptt": 5, "batch_size": 2, "weight_decay": 0.1}
    one, other = (Trainer(Setting(**sizes | choices), tiny_corpus) for _ in range(2))
    one.model.embedding.sparse = False
    one.graphed = GraphedStep(one)
    take_static_steps(other)
    for x, y in list(windows(tiny_corpus["train"], 2, 5))[:3]:
        for trainer in (one, other):
            trainer.step(x, y, trainer.model.initial_state(2))
    assert all(map(torch.equal, one.parameters, other.parameters))
    assert all(map(torch.equal, one.average, other.average))


# ---------------------------------------------------------------- where there is a GPU
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@pytest.mark.parametrize("choices", [{}, MOMENTUM, ADAM | {"average": 0.9}])
@pytest.mark.parametrize("cell", CELLS)
def test_graphed_steps_are_the_cpus(cell, choices, tiny_corpus):
    sizes = {"hidden": 8, "embedding": 6, "bptt": 6, "batch_size": 4, "epochs": 2, "lr": 1.0}
    maskless = {"attention_dropout" if cell is TRANSFORMER else "weight_drop": 0.0}
    setting = Setting(**sizes | choices | cell | maskless)
    ours, expected = (Trainer(setting, tiny_corpus, device) for device in ("cuda", "cpu"))
    assert ours.graphed is not None
    for name in ("train", "valid"):
        found, exact = ours.run_epoch()[name], expected.run_epoch()[name]
        assert found == pytest.approx(exact, rel=1e-3)


@needs_gpu
def test_masks_differ_from_replay_to_replay_and_follow_the_seed(tiny_corpus):
    sizes = {"hidden": 8, "embedding": 6, "bptt": 6, "batch_size": 4, "lr": 0.0, "dropout": 0.5}
    trainer = Trainer(Setting(**sizes), tiny_corpus, "cuda")
    x, y = (part.cuda() for part in next(iter(windows(tiny_corpus["train"], 4, 6))))
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        zero = trainer.model.initial_state(4)
        found.append([trainer.step(x, y, zero)[0].item() for _ in range(5)])
    assert found[0] == found[1] and len(set(found[0])) == 5
