"""ptb.setting: what no run can have is refused in one line; names."""

import math
from dataclasses import asdict, fields, replace

import pytest

from ptb.errors import SettingError
from ptb.setting import Setting, check_names, target_of

NAN, INF = math.nan, math.inf
TRANSFORMER = {"cell": "transformer", "heads": 8}
REFUSED = [  # what is chosen, and what the line must say: the value, what is allowed, the guess
    ({"cell": "lsmt"}, ["'lsmt'", "lstm, gru, rnn, transformer", "did you mean 'lstm'?"]),
    ({"cell": "GRU"}, ["'GRU'", "lstm, gru, rnn, transformer", "did you mean 'gru'?"]),
    ({"cell": "cnvk"}, ["'cnvk' is none of lstm, gru, rnn, transformer"]),
    ({"cell": 3}, ["cell = 3", "lstm, gru, rnn, transformer"]),
    ({"optimiser": "adam"}, ["'adam'", "sgd, adamw", "did you mean 'adamw'?"]),
    ({"cell": "gru", "reset": "befor"}, ["'befor'", "after, before", "did you mean 'before'?"]),
    ({"reset": "before"}, ["reset = 'before'", "for the gru, not lstm", "use 'after'"]),
    ({"schedule": "cosinus"}, ["'cosinus'", "linear, cosine, hold", "did you mean 'cosine'?"]),
    ({"dropout": 1.5}, ["dropout = 1.5", "from 0 to below 1", "did you mean 0.15?"]),
    ({"dropout": 50}, ["dropout = 50", "from 0 to below 1", "did you mean 0.5?"]),
    ({"dropout": 1}, ["dropout = 1 ", "from 0 to below 1"]),
    ({"dropout": -0.5}, ["dropout = -0.5", "from 0 to below 1", "did you mean 0.5?"]),
    ({"dropout": "0.5"}, ["dropout = '0.5'", "a number from 0 to below 1"]),
    ({"dropout": NAN}, ["dropout = nan", "from 0 to below 1"]),
    ({"dropout": None}, ["dropout = None", "from 0 to below 1"]),
    ({"lr": INF}, ["lr = inf", "from 0 to 1000"]),
    ({"lr": -INF}, ["lr = -inf", "from 0 to 1000"]),
    ({"lr": -20}, ["lr = -20", "from 0 to 1000", "did you mean 20?"]),
    ({"lr": True}, ["lr = True", "a number from 0 to 1000"]),
    ({"epochs": 2.5}, ["epochs = 2.5", "a whole number from 1 to 1000", "did you mean 2?"]),
    ({"epochs": "4"}, ["epochs = '4'", "a whole number from 1 to 1000"]),
    ({"epochs": 0}, ["epochs = 0", "from 1 to 1000"]),
    ({"epochs": NAN}, ["epochs = nan", "a whole number from 1 to 1000"]),
    ({"epochs": INF}, ["epochs = inf", "a whole number from 1 to 1000"]),
    ({"hidden": 20_000}, ["hidden = 20000", "from 1 to 4096", "did you mean 2000?"]),
    ({"hidden": 10**400}, ["hidden = 1000", "from 1 to 4096"]),
    ({"layers": False}, ["layers = False", "a whole number from 1 to 16"]),
    ({"seed": -2_026_010}, ["seed = -2026010", "did you mean 2026010?"]),
    ({"seed": -7}, ["seed = -7", "from 0 to below 2147483648", "did you mean 7?"]),
    ({"tied": "yes"}, ["tied = 'yes'", "True or False"]),
    ({"tied": 1}, ["tied = 1", "True or False"]),
    ({"corpus": 3.5}, ["corpus = 3.5", "text", "quotes"]),
    ({"tied": True, "embedding": 100}, ["tied = True", "embedding = hidden", "100", "200"]),
    ({"augmented": 0.1}, ["augmented = 0.1", "needs tied = True"]),
    ({"projected": True}, ["projected = True", "needs tied = True"]),
    ({"optimiser": "adamw", "momentum": 0.9}, ["momentum = 0.9", "sgd", "adamw", "use 0"]),
    ({"cell": "transformer"}, ["heads = 16 must divide hidden = 200"]),
    (
        {"cell": "transformer", "hidden": 514, "embedding": 514, "heads": 250},
        ["heads = 250 must divide hidden = 514: did you mean 2?"],  # no more than 256 are allowed
    ),
    ({**TRANSFORMER, "embedding": 100}, ["embedding = 100", "must be hidden = 200"]),
    ({**TRANSFORMER, "tied": True}, ["tied = True is for recurrent cells", "use False"]),
    ({**TRANSFORMER, "init": 0.2}, ["init = 0.2 is for recurrent cells", "use 0.1"]),
    ({**TRANSFORMER, "reset": "before"}, ["for the gru, not transformer"]),
    ({**TRANSFORMER, "attention_dropout": 10}, ["from 0 to below 1", "did you mean 0.1?"]),
    ({**TRANSFORMER, "biases": 1}, ["biases = 1 is for recurrent cells", "use 2"]),
    ({"biases": 3}, ["biases = 3", "a whole number from 1 to 2"]),
    ({"precision": "bf16"}, ["'bf16'", "float32, tf32, bfloat16", "did you mean 'bfloat16'?"]),
    ({"initial": "exercises"}, ["'exercises'", "uniform, exercise", "did you mean 'exercise'?"]),
    ({"experiment": "3.1/a"}, ["experiment = '3.1/a'", "a plain name"]),
    ({"scale": 2}, ["scale = 2", "a number from 0 to 1"]),
    ({"heads": 8}, ["heads = 8 is for the transformer, not lstm: use 16"]),
    ({"cell": "gru", "feedforward": 800}, ["feedforward = 800 is for the transformer", "use 2048"]),
    ({"attention_dropout": 0.0}, ["attention_dropout = 0.0 is for the transformer", "use 0.1"]),
]


@pytest.mark.parametrize(("chosen", "said"), REFUSED, ids=lambda case: str(case)[:40])
def test_refused_in_one_line_that_says_what_is_meant(chosen, said):
    with pytest.raises(SettingError) as error:
        Setting(**chosen)
    line = str(error.value)
    assert "\n" not in line
    assert [part for part in said if part not in line] == []


def test_notebook_shows_the_line_and_no_traceback():
    with pytest.raises(SettingError) as error:
        Setting(dropout=1.5)
    assert error.value._render_traceback_() == [f"SettingError: {error.value}"]


@pytest.mark.parametrize(
    ("name", "meant"), [("drpout", "dropout"), ("learning_rate", "lr"), ("Cell", "cell")]
)
def test_unknown_name_is_refused_with_a_suggestion_or_all_names(name, meant):
    with pytest.raises(SettingError, match=f"{name!r}: .*{meant!r}") as error:
        check_names(["cell", name])
    assert "\n" not in str(error.value)


def test_known_names_pass_and_the_first_unknown_is_named():
    check_names(field.name for field in fields(Setting))
    with pytest.raises(SettingError, match="'first'"):
        check_names(["cell", "first", "second"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", "0"), ("lr", "nan"), ("lr", "1e400"), ("dropout", "25"), ("seed", 2**31)],
)
def test_what_would_be_refused_itself_is_not_suggested(name, value):
    with pytest.raises(SettingError, match=f"{name} = {value!r} must be [^?]*$"):
        Setting(**{name: value})


EDGES = [("dropout", 0), ("dropout", 0.999), ("epochs", 1), ("lr", 1000), ("seed", 2**31 - 1)]


@pytest.mark.parametrize(("name", "value"), EDGES)
def test_ends_of_a_range_are_allowed(name, value):
    assert getattr(Setting(**{name: value}), name) == value


def test_numbers_become_the_kind_that_the_field_has():
    setting = Setting(dropout=0, epochs=4.0, lr=20)
    assert [type(value) for value in (setting.dropout, setting.epochs, setting.lr)] == [
        float,
        int,
        float,
    ]
    assert setting == Setting()
    assert setting.name == Setting().name


def test_setting_is_frozen():
    with pytest.raises(AttributeError):
        Setting().dropout = 0.5


def test_round_trip_through_a_dictionary():
    setting = Setting(cell="gru", dropout=0.3, tied=True, average=0.99, seed=7)
    assert Setting(**asdict(setting)) == setting


def test_name_is_stable():
    assert Setting().name == "lstm-dropout0-seed1-44136f"
    assert Setting(cell="gru", dropout=0.25, seed=3).name.startswith("gru-dropout0.25-seed3-")


OTHER = {
    "cell": "rnn", "dropout": 0.5, "corpus": "embedded", "embedding": 100, "hidden": 100,
    "layers": 3, "tied": True, "init": 0.05, "bptt": 70, "batch_size": 40, "optimiser": "adamw",
    "lr": 1.0, "momentum": 0.9, "weight_decay": 0.1, "schedule": "cosine", "hold": 1, "decay": 0.9,
    "clip": 0.0, "average": 0.9, "epochs": 5, "seed": 2,
    "reset": "before", "heads": 4, "feedforward": 800, "attention_dropout": 0.0,
    "biases": 1, "initial": "exercise", "experiment": "3.1a", "scale": 0.5,
    "same_mask": True, "word_dropout": 0.1, "weight_drop": 0.5,
    "augmented": 0.1, "projected": True, "carried": False, "random_offset": False,
    "precision": "bfloat16",
}  # fmt: skip


def test_a_run_of_the_second_exercise_is_named_after_its_experiment():
    name = Setting(experiment="3.1a", scale=0.5).name
    assert name.startswith("3.1a-lstm-dropout0-seed1-")
    assert name != Setting(experiment="3.1a").name


def test_every_choice_alone_gives_another_name():
    assert set(OTHER) == {field.name for field in fields(Setting)}
    base = Setting(cell="gru")
    transformer = Setting(**TRANSFORMER)
    tied = replace(base, tied=True, lr=1.5)
    bases = dict.fromkeys(("heads", "feedforward", "attention_dropout"), transformer)
    bases["augmented"] = bases["projected"] = tied
    settings = [Setting(), base, transformer, tied]
    for name, value in OTHER.items():
        settings.append(replace(bases.get(name, base), **{name: value}))
    assert len({setting.name for setting in settings}) == len(settings)


def test_the_target_of_the_exercise():
    assert target_of(Setting()) == 125
    assert target_of(Setting(dropout=0.1)) == 100
    assert target_of(Setting(corpus="embedded")) is None
    assert target_of(Setting(**TRANSFORMER)) is None


def test_minus_zero_is_zero():
    assert Setting(dropout=-0.0).name == Setting().name
