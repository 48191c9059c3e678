"""The studies that have a name: the right models, each once."""

from dataclasses import replace

from ptb.setting import Setting
from ptb.studies.named import STUDIES


def test_the_long_recipes_are_of_the_same_four_models():
    four = {(s.cell, s.dropout > 0): s for s in STUDIES["dropout"]}
    for setting in STUDIES["long"]:
        quick = four.pop((setting.cell, setting.dropout > 0))
        model = {name: getattr(quick, name) for name in ("embedding", "hidden", "layers", "tied")}
        beyond = {"same_mask": False, "word_dropout": 0.0, "weight_drop": 0.0, "augmented": 0.0}
        beyond |= {"projected": False}
        assert replace(setting, **model, **beyond) == setting
    assert not four


def test_the_four_settings_of_the_exercise():
    four = {(s.cell, s.dropout > 0) for s in STUDIES["dropout"]}
    assert four == {("lstm", False), ("lstm", True), ("gru", False), ("gru", True)}
    for setting in STUDIES["dropout"]:
        small = Setting(cell=setting.cell, dropout=setting.dropout)
        assert (setting.hidden, setting.layers, setting.tied) == (small.hidden, 2, False)


def test_the_runs_in_bfloat16_differ_from_the_quick_recipes_in_nothing_else():
    exact = [replace(setting, precision="float32") for setting in STUDIES["bfloat16"]]
    assert exact == STUDIES["dropout"] and STUDIES["bfloat16"] != exact
