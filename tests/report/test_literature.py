"""Others' figures are read right, and stand beside what our records hold."""

import math

import pandas as pd
import pytest
from test_run import analysed, measured, parameters, row

from ptb.report import literature
from ptb.report.literature import best_published, beyond, published_and_ours
from ptb.report.tables import recorded
from ptb.runs.environment import environment
from ptb.runs.files import ADAPTED, write_json
from ptb.runs.run import Run
from ptb.studies import ablation
from ptb.studies.named import STUDIES

MEASURED = {"minutes": 0.5, "environment": environment()}
PLAIN = {cell: next(iter(ablation.variants(cell).values())) for cell in ablation.ABLATED}


def finish(folder, setting, valid):
    values = {"train": 50.0, "valid": valid, "test": valid - 3}
    metrics = {"status": "finished", "best_epoch": 1, "floor": {}, "types": 9}
    metrics["parameters"] = parameters(setting, 9)
    metrics |= {split: measured(p) for split, p in values.items()}
    with Run(folder / setting.name).writing(setting) as run:
        run.write_history([row(1, **values)])
        run.write("samples.json", [{"temperature": 1.0, "text": "a b"}])
        run.write("analysis.json", analysed(metrics["test"]))
        run.finish(metrics)


def test_the_best_on_validation_is_taken_for_each_setting_in_order():
    best = best_published()
    assert [(row["cell"], row["dropout"]) for row in best] == [
        ("lstm", False), ("lstm", True), ("gru", False), ("gru", True),
    ]  # fmt: skip
    assert [(row["valid"], row["test"]) for row in best] == [
        (118.1, 112.6), (96.7, 93.1), (121.5, 117.3), (101.8, 97.95),
    ]  # fmt: skip


def test_figures_are_whole():
    table = pd.read_csv(literature.LITERATURE)
    assert table["test"].between(50, 200).all() and table["source"].str.len().gt(3).all()
    assert set(table["kind"]) == {"plain", "beyond"}


def test_our_records_stand_beside_them(monkeypatch):
    quick = recorded("dropout")
    monkeypatch.setattr(
        literature, "recorded", lambda study: quick if study == "dropout" else quick.head(0)
    )
    table = published_and_ours()
    assert list(table["long recipe"]) == ["–"] * 4
    for text, (_, run) in zip(table["quick recipe"], quick.iterrows(), strict=True):
        valid, test, minutes = (float(word.strip("()")) for word in text.split() if word != "/")
        assert math.isclose(valid, run["valid"], abs_tol=0.051)
        assert math.isclose(test, run["test"], abs_tol=0.051)
        assert minutes == pytest.approx(run["minutes"], abs=0.51)


def test_beyond_has_others_then_finalists_then_what_adapts_them(tmp_path):
    others = len(beyond(tmp_path))
    finalist = STUDIES["beyond"][0]
    finish(tmp_path, finalist, 84.0)
    adapted = {"kind": "temperature", "chosen": "1.1", "valid": 83.0, "test": 80.0}
    adapted |= MEASURED
    ours = {"run": finalist.name} | adapted
    theirs = {"run": PLAIN["gru"].name} | adapted
    write_json(tmp_path / ADAPTED, [ours, theirs])
    table = beyond(tmp_path)
    assert others >= 2 and list(table["valid"][others:]) == ["84.00", "83.00"]
    assert list(table["test"][others:]) == ["81.00", "80.00"]
    assert list(table.iloc[-1][:2]) == [f"LSTM, {finalist.epochs} epochs", "temperature"]
    assert f"tied, dropout {finalist.dropout}" in table.iloc[-2]["how"]


def test_a_damaged_file_of_what_adapts_them_is_named_and_the_rest_shown(tmp_path):
    finish(tmp_path, STUDIES["beyond"][0], 84.0)
    whole = beyond(tmp_path)
    (tmp_path / ADAPTED).write_text("[{")
    table = beyond(tmp_path)
    assert table[:-1].equals(whole) and whole.iloc[-1]["valid"] == "84.00"
    assert list(table.iloc[-1][["model", "valid", "test"]]) == ["left out", "–", "–"]
    assert f"{tmp_path.name}: {ADAPTED} is damaged" in table.iloc[-1]["how"]


def test_an_ensemble_is_shown_where_it_is_of_finalists_and_no_others(tmp_path):
    first, *_ = STUDIES["beyond"]
    finish(tmp_path, first, 84.0)
    row = {"run": "", "kind": "ensemble", "chosen": "equal", "valid": 80.0, "test": 78.0}
    row |= MEASURED
    write_json(tmp_path / ADAPTED, [row | {"runs": [first.name, "another"]}])
    assert "ensemble" not in set(beyond(tmp_path)["how"])
    write_json(tmp_path / ADAPTED, [row | {"runs": [first.name, first.name]}])
    found = beyond(tmp_path).iloc[-1]
    model = " + ".join([f"LSTM, {first.epochs} epochs"] * 2)
    assert list(found[["model", "how", "test"]]) == [model, "ensemble", "78.00"]
