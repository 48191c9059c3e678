"""Ablations that add one thing at a time, and tables that show what is there."""

from dataclasses import asdict

import pytest
from test_run import row

from ptb.report import beyond
from ptb.report.beyond import reached, steps
from ptb.runs.run import Run, write_json
from ptb.runs.table import ADAPTED, ANALYSIS
from ptb.setting import Setting
from ptb.studies import ablation
from ptb.studies.named import STUDIES

PLAIN = {cell: next(iter(ablation.steps(cell).values())) for cell in ablation.ABLATED}


def finish(folder, setting, valid):
    values = {"train": 50.0, "valid": valid, "test": valid - 3}
    metrics = {"status": "finished", "best_epoch": 1, "parameters": 7, "floor": {}, "types": 9}
    measured = {"loss": 4.0, "tokens": 60}
    metrics |= {split: {"perplexity": p, **measured} for split, p in values.items()}
    with Run(folder / setting.name).writing(setting) as run:
        run.write_history([row(1, **values)])
        run.write("samples.json", [{"temperature": 1.0, "text": "a b"}])
        run.write("analysis.json", dict.fromkeys(ANALYSIS, []))
        run.finish(metrics)


def changes(before: Setting, after: Setting) -> dict:
    before, after = asdict(before), asdict(after)
    return {name: after[name] for name in after if after[name] != before[name]}


@pytest.mark.parametrize("cell", ablation.ABLATED)
def test_each_step_adds_one_thing_to_the_one_before(cell):
    plain, tied, projected = ablation.steps(cell).values()
    assert changes(plain, tied) == {"tied": True}
    assert changes(tied, projected) == {"projected": True}


def test_all_are_two_layers_of_200_units_and_each_is_there_once():
    settings = STUDIES["ablation"] + STUDIES["beyond"]
    assert {(s.embedding, s.hidden, s.layers) for s in settings} == {(200, 200, 2)}
    assert len({s.name for s in settings}) == len(settings)


def test_steps_show_perplexities_and_changes_and_dashes_for_what_is_missing(tmp_path):
    for setting, valid in zip(ablation.steps("gru").values(), (110.0, 99.0, 100.98), strict=True):
        finish(tmp_path, setting, valid)
    finish(tmp_path, PLAIN["lstm"], 109.0)
    table = steps(tmp_path)
    assert list(table["GRU"][:2]) == ["110.00 / 107.00", "99.00 / 96.00 (−10.0%)"]
    assert list(table["GRU"][2:]) == ["100.98 / 97.98 (+2.0%)"]
    assert list(table["LSTM"]) == ["109.00 / 106.00", "–", "–"]


def test_reached_has_others_then_finalists_then_what_adapts_them(tmp_path):
    others = len(reached(tmp_path))
    finalist = STUDIES["beyond"][0]
    finish(tmp_path, finalist, 84.0)
    adapted = {"kind": "temperature", "chosen": "1.1", "valid": 83.0, "test": 80.0}
    ours = {"run": finalist.name} | adapted
    theirs = {"run": PLAIN["gru"].name} | adapted
    write_json(tmp_path / ADAPTED, [ours, theirs])
    table = reached(tmp_path)
    assert others >= 2 and list(table["valid"][others:]) == ["84.00", "83.00"]
    assert list(table["test"][others:]) == ["81.00", "80.00"]
    assert list(table.iloc[-1][:2]) == [f"LSTM, {finalist.epochs} epochs", "temperature"]
    assert f"tied to the output, dropout {finalist.dropout}" in table.iloc[-2]["how"]


def test_what_adapts_is_explained_where_it_was_measured(tmp_path):
    assert "Dynamic" not in beyond.about(tmp_path).title()
    write_json(tmp_path / ADAPTED, [])
    assert "window of 5 words" in beyond.about(tmp_path).replace("\n", " ")


def test_an_ensemble_is_shown_where_it_is_of_finalists_and_no_others(tmp_path):
    first, *_ = STUDIES["beyond"]
    finish(tmp_path, first, 84.0)
    row = {"run": "", "kind": "ensemble", "chosen": "equal", "valid": 80.0, "test": 78.0}
    write_json(tmp_path / ADAPTED, [row | {"runs": [first.name, "another"]}])
    assert "ensemble" not in set(reached(tmp_path)["how"])
    write_json(tmp_path / ADAPTED, [row | {"runs": [first.name, first.name]}])
    found = reached(tmp_path).iloc[-1]
    model = " + ".join([f"LSTM, {first.epochs} epochs"] * 2)
    assert list(found[["model", "how", "test"]]) == [model, "ensemble", "78.00"]
