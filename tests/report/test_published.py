"""ptb.published: the table of others' figures is read right, and set beside our records."""

import math

import pandas as pd
import pytest
from test_table import make_run

from ptb.report import published
from ptb.report.published import beside, best_published, seeds


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


def test_seeds_of_one_setting_are_one_row_and_other_settings_none(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "RECORDS", tmp_path)
    make_run(tmp_path / "dropout", "gru", 0.3, valid=97.0)
    make_run(tmp_path / "dropout", "lstm", 0.3, valid=91.0)
    assert seeds().empty
    make_run(tmp_path / "seeds", "gru", 0.3, valid=100.0, seed=2)
    (row,) = seeds().to_dict("records")
    assert row["setting"] == "GRU, dropout 0.3" and row["seeds"] == "1, 2"
    assert row["valid"] == "98.50 ± 2.12" and row["test"] == "97.50 ± 2.12"  # 3 / √2 apart
