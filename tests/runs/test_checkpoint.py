"""ptb.runs.checkpoint: nothing is taken from a checkpoint that is damaged or of another run."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from ptb.errors import RunError, WeightsError
from ptb.runs import checkpoint
from ptb.runs.checkpoint import SEAL
from ptb.runs.run import Run
from ptb.training.train import train
from ptb.training.trainer import Trainer


class Stop(Exception):
    """What ends a process in the middle."""


def stop_after(number):
    def on_epoch(rows):
        if len(rows) == number:
            raise Stop

    return on_epoch


@pytest.fixture
def momentum(tiny_setting):
    return tiny_setting(epochs=3, momentum=0.9, lr=1.0, average=0.5)


@pytest.fixture
def stopped(momentum, tiny_corpus, tmp_path) -> Run:
    """A run of three epochs that was stopped after its second."""
    with pytest.raises(Stop):
        train(momentum, tiny_corpus, tmp_path / "run", on_epoch=stop_after(2))
    return Run(tmp_path / "run")


def refusal(setting, corpus, run: Run) -> str:
    """The one line by which a run does not go on; its files stay as they are."""
    before = (run.folder / "checkpoint.pt").read_bytes()
    with pytest.raises(RunError) as error:
        train(setting, corpus, run.folder)
    assert (run.folder / "checkpoint.pt").read_bytes() == before and not run.done
    assert "\n" not in str(error.value) and "delete it, and the run starts" in str(error.value)
    return str(error.value)


def same(first, second) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize(("sealed", "least"), [(True, 290), (False, 50)])
def test_any_bit_that_is_flipped_is_noticed_or_changes_nothing(stopped, sealed, least):
    """Of a checkpoint as it is written now, and of an older one, that has no seal."""
    path, whole = stopped.folder / "checkpoint.pt", stopped.read_checkpoint()
    content, noticed = path.read_bytes(), 0
    content = content if sealed else content[: content.rindex(SEAL)]
    for place in range(0, len(content), len(content) // 300):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert same(stopped.read_checkpoint(), whole), f"byte {place}"
        except RunError as error:
            noticed += 1
            assert "checkpoint.pt is " in str(error) and "delete it" in str(error)
    assert noticed > least


def test_a_flipped_bit_of_a_tensor_is_named(stopped, momentum, tiny_corpus):
    path = stopped.folder / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    weights = stopped.read_checkpoint()["model"]["output.bias"].numpy().tobytes()
    content[content.index(weights)] ^= 1
    for damaged in (content, content[: content.rindex(SEAL)]):  # as now, and as older ones are
        path.write_bytes(damaged)
        said = refusal(momentum, tiny_corpus, stopped)
        assert "checkpoint.pt is damaged, " in said and "differs from its checksum" in said


def change(*path, value):
    """Gives the entry of a state at path that value, or what a function makes of it."""

    def changed(state):
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value(state[path[-1]]) if callable(value) else value

    return changed


def rows_for_ever(state):
    state["history"] = [state["history"][0] | {"epoch": n + 1} for n in range(100)]


def not_finite(tensor):
    tensor = tensor.clone()
    tensor.view(-1)[3] = math.nan
    return tensor


WRONG = [
    (change("setting", "cell", value="gru"), "is of another setting"),
    (change("setting", value=None), "is of another setting"),
    (change("text", value="0" * 64), "is of another text"),
    (rows_for_ever, "has 100 rows of history for the 3 epochs of its run"),
    (change("history", value=lambda rows: rows[1:]), "has 1 row of history for the 3 epochs"),
    (change("history", 0, "valid", value=math.nan), "has a history with wrong columns or values"),
    (change("history", 0, "valid", value="low"), "has a history with wrong columns or values"),
    (
        change("history", 0, value=lambda row: {"epoch": 1}),
        "has a history with wrong columns or values",
    ),
    (change("history", value=7), "has a history with wrong columns or values"),
    (change("cuts", value=3), "has counted 3 cuts"),
    (change("steps", value=-1), "and -1 steps"),
    (change("steps", value="many"), "and many steps"),
    (change("model", "output.bias", value=not_finite), "output.bias of its model has values that"),
    (change("model", "output.bias", value=lambda b: b[1:]), "another model: output.bias of"),
    (change("model", "output.bias", value=lambda b: b.double()), "another model: output.bias of"),
    (change("model", value=lambda m: dict(list(m.items())[1:])), "is of another model: embedding."),
    (change("model", value=None), "is of another model: embedding.weight, "),
    (change("average", value=[]), "is of another model: 0, 1, "),
    (change("average", 0, value=not_finite), "0 of its average has values that are not finite"),
    (change("optimiser", "param_groups", 0, "momentum", value=0.5), "is of another optimiser"),
    (change("optimiser", "param_groups", value=[]), "is of another optimiser"),
    (change("optimiser", "state", 0, "momentum_buffer", value=lambda b: b[1:]), "other optimiser"),
    (change("optimiser", "state", value=lambda s: {99: s[0]}), "is of another optimiser"),
    (change("optimiser", value={}), "is of another optimiser"),
    (lambda state: state.pop("cuts"), "lacks cuts"),
    (lambda state: [state.pop(key) for key in ("model", "steps")], "lacks model, steps"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_what_is_not_this_runs_is_refused(wrong, said, stopped, momentum, tiny_corpus):
    state = stopped.read_checkpoint()
    wrong(state)
    torch.save(state, stopped.folder / "checkpoint.pt")
    line = refusal(momentum, tiny_corpus, stopped)
    assert line.startswith(f"{momentum.name}: its checkpoint.pt ") and said in line


@pytest.mark.parametrize("content", [[], 7, "text", None, {}])
def test_what_is_no_state_is_refused(content, stopped, momentum, tiny_corpus):
    torch.save(content, stopped.folder / "checkpoint.pt")
    said = refusal(momentum, tiny_corpus, stopped)
    lacking = "lacks average, cuts, history"
    assert (lacking if content == {} else "not a checkpoint of a run") in said


def test_a_refused_state_leaves_the_trainer_as_it_was(stopped, momentum, tiny_corpus):
    trainer, state = Trainer(momentum, tiny_corpus), stopped.read_checkpoint()
    before = copy.deepcopy(trainer.state())
    state["optimiser"]["param_groups"] = []
    with pytest.raises(RunError):
        trainer.resume(state)
    assert same(trainer.state(), before)


def test_an_older_checkpoint_that_names_no_run_goes_on(stopped, momentum, tiny_corpus, tmp_path):
    state = stopped.read_checkpoint()
    older = {key: state[key] for key in state.keys() - {"setting", "text", "weights"}}
    torch.save(older, stopped.folder / "checkpoint.pt")
    train(momentum, tiny_corpus, stopped.folder)
    train(momentum, tiny_corpus, tmp_path / "whole")
    first, second = (path / "weights.safetensors" for path in (stopped.folder, tmp_path / "whole"))
    assert first.read_bytes() == second.read_bytes()


def test_best_weights_that_were_changed_are_noticed_when_the_run_goes_on(
    stopped, momentum, tiny_corpus
):
    path = stopped.folder / "weights.safetensors"
    flipped = bytearray(path.read_bytes())
    flipped[-3] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(WeightsError, match="weights.safetensors is not the file that the"):
        train(momentum, tiny_corpus, stopped.folder, on_epoch=lambda rows: pytest.fail("too late"))
    assert not stopped.done


def test_too_little_memory_is_no_reason_to_delete_it(stopped, monkeypatch):
    def load(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(RunError, match="can't be read: there is too little memory") as error:
        stopped.read_checkpoint()
    assert "delete" not in str(error.value)


def test_a_folder_without_its_setting_is_given_to_nobody(stopped, momentum, tiny_corpus):
    (stopped.folder / "setting.json").unlink()
    for setting in (momentum, replace(momentum, cell="gru")):
        with pytest.raises(RunError, match="but no setting.json that says of which") as error:
            train(setting, tiny_corpus, stopped.folder)
        assert "history.csv, weights.safetensors, checkpoint.pt" in str(error.value)
    assert not (stopped.folder / "setting.json").exists()


def test_torchs_archive_has_checksums(tmp_path):
    """Without them no flipped bit would be noticed."""
    (tmp_path / "file").write_bytes(checkpoint.pack({"a": torch.arange(9.0)}))
    assert checkpoint.read(tmp_path / "file")["a"].tolist() == list(range(9))
