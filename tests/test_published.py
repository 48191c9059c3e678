"""ptb.published: the table of others' figures is read right, and set beside our records."""

import math

import pandas as pd
import pytest

from ptb import published
from ptb.published import beside, best_published


def test_the_best_on_validation_is_taken_for_each_setting_in_order():
    best = best_published()
    assert [(row["cell"], row["dropout"]) for row in best] == [
        ("lstm", False), ("lstm", True), ("gru", False), ("gru", True),
    ]  # fmt: skip
    assert [(row["valid"], row["test"]) for row in best] == [
        (118.1, 112.6), (96.7, 93.1), (121.5, 117.3), (101.8, 97.95),
    ]  # fmt: skip


def test_figures_are_whole():
    table = pd.read_csv(published.TABLE)
    assert table["test"].between(50, 200).all() and table["source"].str.len().gt(3).all()
    assert set(table["kind"]) == {"plain", "beyond"}


def test_our_records_stand_beside_them(monkeypatch):
    quick = published.recorded("dropout")
    monkeypatch.setattr(
        published, "recorded", lambda study: quick if study == "dropout" else quick.head(0)
    )
    table = beside()
    assert list(table["long recipe"]) == ["–"] * 4
    for text, (_, run) in zip(table["quick recipe"], quick.iterrows(), strict=True):
        valid, test, minutes = (float(word.strip("()")) for word in text.split() if word != "/")
        assert math.isclose(valid, run["valid"], abs_tol=0.051)
        assert math.isclose(test, run["test"], abs_tol=0.051)
        assert minutes == pytest.approx(run["minutes"], abs=0.51)
