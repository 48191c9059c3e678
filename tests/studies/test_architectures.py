"""ptb.studies.architectures: the exercise's fifteen settings, and what a scale makes of them."""

from dataclasses import fields, replace

import pytest
import torch

from ptb.__main__ import chosen_study, main, parser
from ptb.errors import SettingError
from ptb.setting import Setting
from ptb.studies.architectures import FIFTEEN, FULL, all_settings, at_scale, tag
from ptb.training.optim import OPTIMISERS, learning_rate

TABLE = """
3.1a rnn sgd 1 128 512 2 .8
3.1b rnn sgd 1 20 512 2 .8
3.1c rnn sgd 10 128 512 2 .8
3.1d rnn adamw 1e-3 128 512 2 .8
3.1e rnn adamw 1e-4 128 512 2 .8
3.2a gru adamw 1e-3 128 512 2 .5
3.2b gru sgd 10 128 512 2 .5
3.2c gru adamw 1e-3 20 512 2 .5
3.3a gru adamw 1e-3 128 256 2 .2
3.3b gru adamw 1e-3 128 2048 2 .5
3.3c gru adamw 1e-3 128 512 4 .5
3.4a transformer adamw 1e-4 128 512 6 .9
3.4b transformer adamw 1e-4 128 512 2 .9
3.4c transformer adamw 1e-4 128 2048 2 .6
3.4d transformer adamw 1e-4 128 1024 6 .9
"""  # as the exercise has them: keep is the probability of keeping


def test_the_fifteen_settings_are_the_exercises():
    found = {}
    for name, s in FIFTEEN.items():
        sizes = s.batch_size, s.hidden, s.layers
        found[name] = [s.cell, s.optimiser, s.lr, *map(float, sizes), round(1 - s.dropout, 6)]
    lines = [line.split() for line in TABLE.strip().splitlines()]
    assert found == {name: [c, o, *map(float, rest)] for name, c, o, *rest in lines}


@pytest.mark.parametrize("name", FIFTEEN)
def test_what_all_fifteen_share(name):
    setting = FIFTEEN[name]
    shared = ("seed", "epochs", "bptt", "clip", "momentum", "weight_decay", "average", "scale")
    seed = 1 if name == "3.3c" else 1111
    assert [getattr(setting, field) for field in shared] == [seed, 20, 35, 0.25, 0, 0, 0, 1]
    assert {learning_rate(setting, epoch, 0.5) for epoch in range(20)} == {setting.lr}
    assert (setting.corpus, setting.experiment, setting.tied) == ("ptb", name, False)
    if setting.cell == "transformer":
        found = setting.embedding, setting.heads, setting.feedforward, setting.attention_dropout
        assert found == (setting.hidden, 16, 2048, 0.1)
    else:
        found = setting.embedding, setting.biases, setting.initial, setting.init
        assert found == (200, 1, "exercise", 0.1)
        assert setting.reset == ("before" if setting.cell == "gru" else "after")


def test_the_lstm_is_the_gru_with_another_cell():
    lstm, gru = FULL["LSTM"], FULL["3.2a"]
    differing = {f.name for f in fields(Setting) if getattr(lstm, f.name) != getattr(gru, f.name)}
    assert differing == {"cell", "reset", "experiment"}


def test_adamw_without_weight_decay_is_adam_to_the_bit():
    torch.manual_seed(1)
    ours, theirs = (torch.nn.Parameter(torch.ones(50) / 3) for _ in range(2))
    optimisers = OPTIMISERS["adamw"].make(FULL["3.2a"], [ours]), torch.optim.Adam([theirs], lr=1e-3)
    for _ in range(5):
        ours.grad = theirs.grad = torch.randn(50)
        for optimiser in optimisers:
            optimiser.step()
    assert torch.equal(ours, theirs) and not torch.equal(ours, torch.ones(50) / 3)


# ---------------------------------------------------------------- scaled
SCALED = [  # experiment, scale, hidden, embedding, feedforward, epochs
    ("3.1a", 0.5, 256, 200, 2048, 10),
    ("3.1a", 0.1, 51, 200, 2048, 2),
    ("3.3a", 0.05, 16, 200, 2048, 1),
    ("3.3b", 0.01, 20, 200, 2048, 1),
    ("3.4a", 0.5, 256, 256, 1024, 10),
    ("3.4a", 0.1, 48, 48, 205, 2),
    ("3.4d", 0.05, 48, 48, 102, 1),
    ("3.4d", 0.0, 16, 16, 16, 1),
    ("3.1a", 0.0, 16, 200, 2048, 1),
    ("3.4c", 1.0, 2048, 2048, 2048, 20),
]


@pytest.mark.parametrize("case", SCALED, ids=str)
def test_scale_multiplies_widths_and_epochs(case):
    name, scale, hidden, embedding, feedforward, epochs = case
    found = at_scale(FULL[name], scale)
    sizes = {"hidden": hidden, "embedding": embedding, "feedforward": feedforward}
    assert found == replace(FULL[name], **sizes, epochs=epochs, scale=scale)


def test_a_scale_is_of_the_exercise_whatever_it_was_before_and_the_corpus_stays():
    small = at_scale(replace(FULL["3.4a"], corpus="embedded"), 0.05)
    assert small.corpus == "embedded"
    assert at_scale(small, 1) == replace(FULL["3.4a"], corpus="embedded")


def test_no_two_experiments_share_a_folder_at_any_scale():
    settings = [s for scale in (0, 0.05, 0.1, 1) for s in all_settings("embedded", scale)]
    assert len({s.name for s in settings}) == len(settings) == 4 * 16


def test_what_has_no_scale_is_refused():
    with pytest.raises(SettingError, match="of no experiment"):
        at_scale(Setting(), 0.5)
    with pytest.raises(SettingError, match="scale = 2 must be a number from 0 to 1"):
        at_scale(FULL["3.1a"], 2)


def test_tags_tell_that_a_run_is_scaled():
    assert tag(FULL["3.1a"]) == "3.1a"
    assert tag(at_scale(FULL["3.1a"], 0.25)) == "3.1a ×0.25"


# ---------------------------------------------------------------- as a study
def test_study_at_a_scale_and_in_part():
    options = parser().parse_args(
        ["study", "run", "architectures", "--scale", "0.25", "--only", "3.1d", "3.2a"]
    )
    assert chosen_study(options) == [at_scale(FULL[name], 0.25) for name in ("3.1d", "3.2a")]
    options = parser().parse_args(["study", "run", "architectures"])
    assert chosen_study(options) == list(FULL.values())


def test_study_in_another_precision():
    line = "study run architectures --scale 0.25 --only 3.1d --precision tf32"
    (setting,) = chosen_study(parser().parse_args(line.split()))
    assert setting == replace(at_scale(FULL["3.1d"], 0.25), precision="tf32")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["architectures", "--only", "3.1f"], "has no experiment '3.1f': did you mean '3.1"),
        (["architectures", "--scale", "3"], "scale = 3.0 must be a number from 0 to 1"),
        (["dropout", "--scale", "0.5"], "is of no experiment of the second exercise"),
    ],
)
def test_what_a_study_cannot_be_is_refused_in_one_line(words, said, capsys):
    assert main(["study", "run", *words]) == 1
    line = capsys.readouterr().err
    assert said in line and line.count("\n") == 1
