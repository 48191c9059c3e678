"""ptb.beyond: ladders that add one thing at a time, and tables that show what is there."""

from dataclasses import asdict

import pytest
from test_runs import row

from ptb import beyond
from ptb.beyond import finalist, ladder, reached, steps, study
from ptb.records import ADAPTED, ANALYSIS
from ptb.runs import Run, write_json


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


@pytest.mark.parametrize("cell", beyond.CELLS)
def test_each_step_adds_one_thing_to_the_step_before(cell):
    climbed = [asdict(setting) for setting in ladder(cell).values()]
    for before, after, added in zip(climbed, climbed[1:], beyond.ADDED.values(), strict=False):
        changed = {name: after[name] for name in after if after[name] != before[name]}
        assert changed == added and changed


def test_all_are_two_layers_of_200_units_and_each_is_there_once():
    settings = study()
    assert {(s.embedding, s.hidden, s.layers) for s in settings} == {(200, 200, 2)}
    assert len({s.name for s in settings}) == len(settings) == 2 * (len(beyond.ADDED) + 2)


def test_steps_show_perplexities_and_changes_and_dashes_for_what_is_missing(tmp_path):
    first, second, *_ = ladder("gru").values()
    finish(tmp_path, first, 110.0)
    finish(tmp_path, second, 99.0)
    table = steps(tmp_path)
    assert list(table["GRU"][:3]) == ["110.00 / 107.00", "99.00 / 96.00 (-10.0%)", "–"]
    assert set(table["LSTM"]) == {"–"}


def test_reached_has_others_then_finalists_then_what_adapts_them(tmp_path):
    others = len(reached(tmp_path))
    finish(tmp_path, finalist("lstm"), 84.0)
    adapted = {"kind": "temperature", "chosen": "1.1", "valid": 83.0, "test": 80.0}
    ours = {"run": finalist("lstm").name} | adapted
    theirs = {"run": ladder("gru")["the long recipe's model"].name} | adapted
    write_json(tmp_path / ADAPTED, [ours, theirs])
    table = reached(tmp_path)
    assert others >= 2 and list(table["valid"][others:]) == ["84.00", "83.00"]
    assert list(table["test"][others:]) == ["81.00", "80.00"]
    assert table.iloc[-1]["model"] == "LSTM" and table.iloc[-1]["how"] == "temperature"
