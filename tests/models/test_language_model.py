"""The whole model is torch's modules put together; dropout stays off the recurrence."""

import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ptb.errors import WeightsError
from ptb.models.cross_entropy import augmented_loss
from ptb.models.language_model import build, count_parameters, load_weights
from ptb.models.layers import drop
from ptb.models.plain import PlainModel
from ptb.paths import ROOT
from ptb.report.model_table import parameter_table
from ptb.setting import Setting
from ptb.studies.architectures import FULL

CELLS = ("lstm", "gru", "rnn")
KINDS = [("lstm", "after"), ("gru", "after"), ("gru", "before"), ("rnn", "after")]
VOCABULARY = 11


def small(cell="lstm", **chosen) -> Setting:
    return Setting(cell=cell, **{"embedding": 5, "hidden": 5, "init": 0.5, **chosen})


def make(setting: Setting, vocabulary: int = VOCABULARY, dtype=torch.float64):
    torch.manual_seed(1)
    return build(setting, vocabulary).to(dtype)


def window(steps=4, batch=3, vocabulary=VOCABULARY):
    torch.manual_seed(2)
    return torch.randint(vocabulary, (2, steps, batch))  # x and y


def plain_copy(setting: Setting, model) -> PlainModel:
    """The model of `ptb.models.plain`, on torch's modules alone, with the same weights."""
    vocabulary = model.embedding.num_embeddings
    sizes = setting.embedding, setting.hidden, setting.layers
    theirs = PlainModel(setting.cell, vocabulary, *sizes, setting.dropout).double()
    if setting.tied:
        theirs.output.weight = theirs.embedding.weight
    for name, parameter in model.named_parameters():
        counterpart(theirs, name).data.copy_(parameter.data)
    return theirs


def counterpart(theirs: PlainModel, name: str) -> nn.Parameter:
    """layers.0.weight_ih is there rnn.weight_ih_l0; the other names are the same."""
    return theirs.get_parameter(re.sub(r"layers\.(\d)\.(\w+)", r"rnn.\2_l\1", name))


def plain_loss(theirs: PlainModel, x, y, state=None):
    logits, state = theirs(x, state)
    return F.cross_entropy(logits.flatten(0, 1), y.flatten()), state


COUNTS = {  # the second exercise's, as a solution of it counted
    "3.1a": 8_019_856,
    "3.2a": 9_799_568,
    "3.3a": 5_314_960,
    "3.3b": 61_479_824,
    "3.3c": 12_948_368,
}


@pytest.mark.parametrize(("experiment", "count"), COUNTS.items())
def test_parameter_count_of_the_second_exercises_models(experiment, count):
    assert count_parameters(FULL[experiment], 10_000) == count
    with torch.device("meta"):  # shapes alone
        model = build(FULL[experiment], 10_000)
    rows = parameter_table(model, FULL[experiment])
    assert sum(p.numel() for p in model.parameters()) == count
    assert sum(row["held"] for row in rows) == sum(row["expected"] for row in rows) == count


def test_counting_parameters_takes_no_compiler():
    script = (
        "import sys\n"
        "from ptb.models.language_model import count_parameters\n"
        "from ptb.setting import Setting\n"
        "assert count_parameters(Setting(), 10_000) > 4e6\n"
        "sys.exit('torch._dynamo' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_weights_are_drawn_as_the_second_exercise_draws_them():
    setting = small("gru", init=0.1, hidden=50, embedding=50, biases=1, initial="exercise")
    model = make(setting, 200)
    for name, weights in model.named_parameters():
        bound = 0.1 if name.startswith(("embedding", "output")) else 1 / math.sqrt(50)
        if name == "output.bias":
            assert not weights.any()
        else:
            assert 0.97 * bound < weights.abs().max() <= bound, name
            assert abs(weights.std() / (bound / math.sqrt(3)) - 1) < 0.1, name


SHAPES = [{}, {"embedding": 3}, {"tied": True}, {"layers": 1}, {"layers": 3}]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_loss_and_gradients_are_those_of_torchs_modules(cell, shape):
    setting = small(cell, **shape)
    model = make(setting)
    theirs = plain_copy(setting, model)
    x, y = window()
    ours, _ = model.loss(x, y, model.initial_state(3))
    expected, _ = plain_loss(theirs, x, y)
    ours.backward()
    expected.backward()
    assert ours.item() == pytest.approx(expected.item(), abs=1e-12)
    for name, parameter in model.named_parameters():
        gradient = counterpart(theirs, name).grad
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_state_carried_into_a_second_window_is_torchs(cell):
    setting = small(cell)
    model = make(setting)
    theirs, (x, y) = plain_copy(setting, model), window()
    _, state = model.loss(x, y, model.initial_state(3))
    _, their_state = theirs(x)
    ours, expected = model.loss(y, x, state)[0], plain_loss(theirs, y, x, their_state)[0]
    assert ours.item() == pytest.approx(expected.item(), abs=1e-12)
    assert ours.item() != pytest.approx(model.loss(y, x, model.initial_state(3))[0].item())


def test_gradients_stop_between_windows():
    model, (x, y) = make(small()), window()
    _, state = model.loss(x, y, model.initial_state(3))
    assert not any(part.requires_grad for layer in state for part in layer)


def test_token_losses_and_logits_agree_with_the_loss():
    model, (x, y) = make(small("gru")), window()
    state = model.initial_state(3)
    with torch.no_grad():
        losses, after = model.token_losses(x, y, state)
        logits, also_after = model.logits(x, state)
        mean, _ = model.loss(x, y, state)
    by_logits = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y)
    torch.testing.assert_close(losses, by_logits)
    torch.testing.assert_close(losses.mean(), mean)
    torch.testing.assert_close(after, also_after)


@pytest.mark.parametrize(
    ("cell", "tied", "count"),
    [
        ("lstm", False, 4_653_200),
        ("gru", False, 4_492_400),
        ("lstm", True, 2_653_200),
        ("gru", True, 2_492_400),
    ],
)
def test_parameter_count_of_the_exercises_models(cell, tied, count):
    setting = Setting(cell=cell, tied=tied)
    rows = parameter_table(build(setting, 10_000), setting)
    assert sum(row["held"] for row in rows) == count
    assert sum(row["expected"] for row in rows) == count


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_parameter_table_holds_what_it_expects_row_by_row(cell, shape):
    setting = small(cell, **shape)
    model = build(setting, VOCABULARY)
    rows = parameter_table(model, setting)
    assert [row["held"] for row in rows] == [row["expected"] for row in rows]
    assert sum(row["held"] for row in rows) == sum(p.numel() for p in model.parameters())
    assert len(rows) == setting.layers + 2


def test_parameter_table_shows_a_model_that_is_not_the_settings():
    setting = small(embedding=3)
    model = build(setting, VOCABULARY)
    model.layers[1].bias_hh = None  # as if it had one bias vector
    second = parameter_table(model, setting)[2]
    assert second["expected"] - second["held"] == 4 * setting.hidden


@pytest.mark.parametrize("tied", [False, True])
def test_all_weights_are_drawn_from_one_uniform_range(tied):
    model = make(Setting(embedding=40, hidden=40, init=0.07, tied=tied), 200)
    for name, weights in model.named_parameters():
        tolerance = 4 / math.sqrt(weights.numel())
        assert weights.abs().max() <= 0.07, name
        assert weights.abs().max() > 0.07 * (1 - 3 * tolerance), name
        assert abs(weights.std() / (0.07 / math.sqrt(3)) - 1) < tolerance, name
        assert abs(weights.mean()) < 0.07 * tolerance, name


def test_fresh_weights_come_from_torchs_random_state():
    one, again = make(small()), make(small())
    other = build(small(), VOCABULARY).double()
    assert torch.equal(one.embedding.weight, again.embedding.weight)
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


# ---------------------------------------------------------------- dropout
def states_and_output(model, x, state=None):
    with torch.no_grad():
        y, state = model(x, state or model.initial_state(x.shape[1]))
    return y, state


def test_dropout_is_off_in_evaluation():
    plain, dropped = make(small()).eval(), make(small(dropout=0.5)).eval()
    x, _ = window()
    torch.testing.assert_close(states_and_output(plain, x), states_and_output(dropped, x))


def test_dropout_zero_is_none_in_training():
    model, (x, _) = make(small()), window()
    torch.testing.assert_close(
        states_and_output(model.train(), x), states_and_output(model.eval(), x)
    )


def test_masks_differ_between_windows_and_steps():
    model, (x, _) = make(small(dropout=0.5, hidden=30)).train(), window(steps=6)
    one, other = states_and_output(model, x)[0], states_and_output(model, x)[0]
    assert not torch.equal(one == 0, other == 0)
    assert not torch.equal(one[0] == 0, one[1] == 0)


def cut_off(weights):
    nn.init.zeros_(weights)


@pytest.mark.parametrize(("cell", "reset"), KINDS)
def test_recurrence_is_never_dropped(cell, reset):
    """With all inputs of both layers cut off, only the recurrence is left: no mask shows in it."""
    model, (x, _) = make(small(cell, dropout=0.9, reset=reset)), window(steps=8)
    for layer in model.layers:
        cut_off(layer.weight_ih)
    torch.manual_seed(3)
    first = tuple(tuple(torch.randn_like(part) for part in s) for s in model.initial_state(3))
    y, after = states_and_output(model.train(), x, first)
    y_eval, after_eval = states_and_output(model.eval(), x, first)
    torch.testing.assert_close(after, after_eval)
    assert not torch.equal(y, y_eval)  # the last output is dropped


def test_last_output_is_dropped_at_the_rate_and_scaled():
    model, (x, _) = make(small(dropout=0.25, hidden=50)), window(steps=30)
    for layer in model.layers:
        cut_off(layer.weight_ih)
    y, y_eval = (states_and_output(model.train(mode), x)[0] for mode in (True, False))
    assert (y == 0).double().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(y[y != 0], y_eval[y != 0] / 0.75)


def test_embedding_is_dropped():
    model, (x, _) = make(small(dropout=0.5)).train(), window()
    first_layer = [states_and_output(model, x)[1][0][0] for _ in range(2)]
    assert not torch.equal(*first_layer)


def test_output_of_the_first_layer_is_dropped_before_the_second():
    model, (x, _) = make(small(dropout=0.5)).train(), window()
    cut_off(model.layers[0].weight_ih)  # so that the embedding's mask does not show
    (first, second), (first_again, second_again) = (
        states_and_output(model, x)[1] for _ in range(2)
    )
    torch.testing.assert_close(first, first_again)
    assert not torch.equal(second[0], second_again[0])


# ---------------------------------------------------------------- saved weights
@pytest.mark.parametrize("tied", [False, True])
def test_load_weights_makes_the_same_model(tied):
    saved, model = make(small(tied=tied)), build(small(tied=tied), VOCABULARY).double()
    load_weights(model, dict(saved.named_parameters()))
    x, y = window()
    ours, expected = (m.loss(x, y, m.initial_state(3))[0].item() for m in (model, saved))
    assert ours == expected


@pytest.mark.parametrize(
    ("other", "differing"),
    [
        (small(hidden=6), "layers.0.weight_hh"),
        (small(tied=True), "output.weight"),
        (small(layers=3), "layers.2.bias_hh"),
        (small("gru"), "layers.1.weight_ih"),
    ],
)
def test_weights_of_another_setting_are_refused_and_nothing_changes(other, differing):
    model, saved = make(small()), build(other, VOCABULARY)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(WeightsError, match=differing) as error:
        load_weights(model, dict(saved.named_parameters()))
    assert "\n" not in str(error.value)
    assert all(map(torch.equal, model.parameters(), before))


# ---------------------------------------------------------------- beyond the exercise
def test_the_same_mask_holds_for_all_steps_of_a_window_and_no_longer():
    model = make(small(dropout=0.5, same_mask=True, embedding=64, hidden=64)).train()
    ones = torch.ones(6, 3, 64, dtype=torch.float64)
    first, second = model.drop(ones), model.drop(ones)
    assert (first == first[:1]).all() and set(first.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(first, second)
    assert not torch.equal(first[:, 0], first[:, 1])  # rows of the batch have masks of their own
    assert torch.equal(model.eval()._embed(window()[0]), model.embedding(window()[0]))


def test_a_dropped_word_is_zero_wherever_the_window_has_it():
    model = make(small(word_dropout=0.4), vocabulary=50).train()
    x, _ = window(steps=40, vocabulary=50)
    ratio = (model._embed(x) / model.embedding(x)).mean(2)  # (T, B)
    for word in x.unique():
        (factor,) = ratio[x == word].round(decimals=3).unique().tolist()
        assert factor in (0.0, pytest.approx(1 / 0.6, abs=1e-2))
    assert 0 < (ratio == 0).double().mean() < 0.8
    assert torch.equal(model.eval()._embed(x), model.embedding(x))


@pytest.mark.parametrize("cell", CELLS)
def test_dropped_recurrent_weights_are_dropped_at_all_steps(cell):
    setting = small(cell, layers=1, weight_drop=0.5)
    model, (x, y) = make(setting).train(), window()
    state = model.initial_state(3)
    torch.manual_seed(5)
    loss, _ = model.loss(x, y, state)
    loss.backward()
    (layer,) = model.layers
    torch.manual_seed(5)
    mask = drop(torch.ones_like(layer.weight_hh), 0.5)
    assert 0 < (mask == 0).sum() < mask.numel()
    assert ((layer.weight_hh.grad == 0) == (mask == 0)).all()
    with torch.no_grad():
        layer.weight_hh.mul_(mask)
    assert model.eval().loss(x, y, state)[0].item() == pytest.approx(loss.item(), abs=1e-12)


def test_a_projection_is_between_the_last_layer_and_the_tied_output():
    setting = small("gru", tied=True, projected=True)
    model, plain = make(setting).eval(), make(replace(setting, projected=False)).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    (x, _), state = window(), model.initial_state(3)
    own = dict(model.projection.named_parameters())
    hidden, _ = plain(x, state)
    projected = hidden + F.linear(hidden, **own) / 10
    expected = F.linear(projected, model.embedding.weight, model.output.bias)
    torch.testing.assert_close(model.logits(x, state)[0], expected)
    rows = {row["place"]: row for row in parameter_table(model, setting)}
    assert rows["projection"]["held"] == rows["projection"]["expected"] == 5 * 5 + 5
    assert sum(row["held"] for row in rows.values()) == sum(p.numel() for p in model.parameters())


def test_an_augmented_loss_adds_its_gradient_in_training_but_not_its_value():
    setting = small(tied=True)
    plain, model = make(setting).train(), make(replace(setting, augmented=0.3)).train()
    (x, y), state = window(), plain.initial_state(3)
    losses = [m.loss(x, y, state)[0] for m in (plain, model)]
    assert losses[0].item() == losses[1].item()
    hidden, _ = plain(x, state)
    more = 0.3 * augmented_loss(hidden.flatten(0, 1), plain.output.weight, y.flatten())
    (losses[0] + more).backward()
    losses[1].backward()
    for (name, one), other in zip(plain.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=name)
