"""Sentences and tables follow the numbers in the records."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from ptb.recipes import recipe
from ptb.report import findings
from ptb.runs.run import Run
from ptb.runs.table import four_settings, gather

PERPLEXITIES = {  # (cell, dropout): train, valid, test
    ("lstm", 0.0): (60.0, 120.0, 116.0),
    ("lstm", 0.3): (70.0, 98.0, 95.0),
    ("gru", 0.0): (62.0, 118.0, 114.0),
    ("gru", 0.3): (75.0, 101.0, 97.0),
}


def make_run(folder, cell, dropout, perplexities, best_epoch=2):
    setting = recipe(cell, dropout, epochs=3)
    run, rows = Run(folder / setting.name), []
    for epoch in (1, 2, 3):
        worse = 1 + abs(epoch - best_epoch) / 10
        values = dict(
            zip(("train", "valid", "test"), (p * worse for p in perplexities), strict=True)
        )
        rows.append({"epoch": epoch, "lr": 1.0, "seconds": 60.0 * epoch, **values})
        rows[-1] |= {"train_running": values["train"], "tokens_per_second": 9.0}
    rows[2]["train"] = perplexities[0] * 0.9
    with run.writing(setting):
        run.write_history(rows)
        run.write("analysis.json", make_analysis(cell, perplexities[2]))
        run.write("samples.json", [{"temperature": 1.0, "text": "it rose <eos>"}])
        metrics = {"status": "finished", "best_epoch": best_epoch, "floor": {}, "types": 10_000}
        for split, value in zip(("train", "valid", "test"), perplexities, strict=True):
            metrics[split] = {"loss": 0.0, "perplexity": value, "tokens": 999}
        run.finish(metrics | {"parameters": 4_653_200})
    return run


def make_analysis(seed, perplexity):
    """Two hundred sentences of ten words whose mean loss is that perplexity's."""
    noise = np.random.default_rng(list(seed.encode())).normal(0, 0.5, 200)
    losses = 10 * math.log(perplexity) + noise - noise.mean()
    bins = [{"bin": "1–9", "loss": 30.0, "tokens": 5}, {"bin": "10+", "loss": 20.0, "tokens": 10}]
    analysis = {"sentences": {"loss": losses.tolist(), "tokens": [10] * 200}}
    return analysis | dict.fromkeys(("frequency", "position", "distance"), bins)


def make_table(folder, perplexities=PERPLEXITIES, **others):
    return four_settings(
        gather([make_run(folder, *key, value, **others) for key, value in perplexities.items()])
    )


def test_table_has_the_settings_in_the_exercises_order(tmp_path):
    table = findings.perplexities(make_table(tmp_path))
    assert list(table["setting"]) == [
        "LSTM, no dropout", "LSTM, dropout 0.3", "GRU, no dropout", "GRU, dropout 0.3",
    ]  # fmt: skip
    assert list(table["valid"]) == ["120.00", "98.00", "118.00", "101.00"]
    assert list(table["bar"]) == ["125: yes", "100: yes", "125: yes", "100: no"]


def test_conclusions_name_the_run_above_its_bar(tmp_path):
    text = findings.conclusions(make_table(tmp_path))
    assert (
        "3 of 4 settings are below" in text and "not GRU, dropout 0.3 (101.0 against 100)" in text
    )


def test_conclusions_follow_when_the_numbers_turn(tmp_path):
    better_gru = PERPLEXITIES | {("gru", 0.3): (60.0, 90.0, 88.0)}
    before = findings.conclusions(make_table(tmp_path / "before"))
    after = findings.conclusions(make_table(tmp_path / "after", better_gru))
    assert "With dropout the LSTM (95.0) is ahead of the GRU (97.0) by 2.11%" in before
    assert "With dropout the GRU (88.0) is ahead of the LSTM (95.0) by 7.95%" in after
    assert "All 4 settings are below" in after
    assert "Best of these on validation: LSTM, dropout 0.3" in before
    assert "Best of these on validation: GRU, dropout 0.3" in after


def test_dropout_that_harms_is_said_to_raise(tmp_path):
    harmed = PERPLEXITIES | {("lstm", 0.3): (70.0, 130.0, 128.0)}
    text = findings.conclusions(make_table(tmp_path, harmed))
    assert re.search(r"raises test perplexity \(from 116\.0 to 128\.0: \+10\.34%", text)
    assert re.search(r"lowers test perplexity \(from 114\.0 to 97\.0: −14\.91%.*for the GRU", text)


def test_a_difference_that_may_be_chance_is_called_none(tmp_path):
    level = PERPLEXITIES | {("gru", 0.3): (75.0, 101.0, 95.2)}
    text = findings.conclusions(make_table(tmp_path, level))
    assert "With dropout there is no difference beyond chance: the LSTM (95.0) is before" in text


@pytest.mark.parametrize(("best", "said"), [(2, 4 * ["overfitting"]), (3, ["In every run"])])
def test_what_follows_the_best_epoch(tmp_path, best, said):
    found = findings.past_best(make_table(tmp_path, best_epoch=best))
    assert re.findall("overfitting|In every run|the last epoch, 3, is the best", found) == said


def test_the_gap_with_dropout_is_told_after_as_many_epochs_and_at_the_end():
    plain = pd.DataFrame({"train": [100.0, 50.0], "valid": [110.0, 90.0]})
    dropped = pd.DataFrame({"train": [100.0, 80.0, 50.0], "valid": [110.0, 88.0, 75.0]})
    text = findings._gaps(plain, dropped)
    assert "is 1.80 without it after 2 epochs, and 1.10 with it (1.50 after 3)." in text
    assert "1.80 without it after 2 epochs, and 1.80 with it." in findings._gaps(plain, plain)


def test_an_incomplete_study_still_concludes(tmp_path):
    only = {("lstm", 0.0): PERPLEXITIES["lstm", 0.0]}
    text = findings.conclusions(make_table(tmp_path, only))
    assert "The one setting is below" in text and "GRU" not in text


def test_recipes_show_what_differs_and_share_the_rest(tmp_path):
    table = make_table(tmp_path)
    assert "epochs" not in findings.recipes(table).columns
    assert "epochs 3" in findings.common(table) and "hidden 200" in findings.common(table)
    assert "momentum" not in findings.common(table)  # it is off
    assert "heads" not in findings.common(table) and "experiment" not in findings.common(table)


def test_gathering_keeps_the_better_of_two_runs_of_one_setting(tmp_path):
    runs = [
        make_run(tmp_path, "lstm", p, (1, v, 1)) for p, v in ((0.2, 97.0), (0.3, 96.0), (0.5, 99.0))
    ]
    table = four_settings(gather(runs))
    assert isinstance(table, pd.DataFrame) and list(table["dropout"]) == [0.3]
