"""ptb.studies.factors: one choice changed in each row, the constant rate kept to the end."""

from dataclasses import asdict

from ptb.recipes import recipe
from ptb.studies.factors import BASE, CHANGES, OVERFITTING, factors
from ptb.studies.named import STUDIES
from ptb.training.optim import learning_rate


def changed(setting) -> dict:
    base = asdict(BASE[setting.cell])
    return {name: value for name, value in asdict(setting).items() if value != base[name]}


def test_each_row_changes_one_choice_of_a_quick_recipe():
    assert all(setting in STUDIES["dropout"] for setting in BASE.values())
    found = factors()
    assert changed(found["LSTM without dropout"]) == {"dropout": 0.0}
    assert changed(found["GRU without dropout"]) == {"dropout": 0.0}
    zaremba = "LSTM, Zaremba's schedule"
    for name, change in CHANGES.items():
        assert changed(found[f"LSTM, {name}"]) == change
        assert len(change) == 1 or name in zaremba
    rates = [learning_rate(found[zaremba], epoch, 0.5) for epoch in range(6)]
    assert rates == [25, 25, 25, 25, 12.5, 6.25]


def test_overfitting_is_at_a_constant_rate_without_and_with_dropout():
    kinds = {(setting.cell, setting.dropout) for setting in OVERFITTING}
    assert kinds == {(cell, dropout) for cell in ("lstm", "gru") for dropout in (0.0, 0.25)}
    for setting in OVERFITTING:
        rates = {learning_rate(setting, epoch, 0.3) for epoch in range(setting.epochs)}
        assert rates == {10.0} and setting.epochs >= 25


def test_seeds_are_five_of_each_quick_recipe():
    seeds = STUDIES["dropout"] + STUDIES["seeds"]
    for cell, dropout in (("lstm", 0.25), ("gru", 0.25), ("lstm", 0.0), ("gru", 0.0)):
        same = [s for s in seeds if (s.cell, s.dropout) == (cell, dropout)]
        assert same == [recipe(cell, dropout, seed=seed) for seed in range(1, 6)]
