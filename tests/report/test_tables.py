"""Tables follow the numbers in the records."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_literature import PLAIN, finish
from test_run import measured, parameters
from test_table import make_run as make_record

from ptb.recipes import recipe
from ptb.report import figures, tables
from ptb.report.contrast import Percent
from ptb.runs.run import Run
from ptb.runs.table import four_settings, gather
from ptb.studies import ablation, baselines

PERPLEXITIES = {  # (cell, dropout): train, valid, test
    ("lstm", 0.0): (60.0, 120.0, 116.0),
    ("lstm", 0.3): (70.0, 98.0, 95.0),
    ("gru", 0.0): (62.0, 118.0, 114.0),
    ("gru", 0.3): (75.0, 101.0, 97.0),
}


def make_run(folder, cell, dropout, perplexities, best_epoch=2, **choices):
    setting = recipe(cell, dropout, epochs=3, **choices)
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
            metrics[split] = measured(value, 2000)
        run.finish(metrics | {"parameters": parameters(setting, 10_000)})
    return run


def make_analysis(seed, perplexity):
    """Two hundred sentences of ten words whose mean loss is that perplexity's."""
    noise = np.random.default_rng(list(seed.encode())).normal(0, 0.5, 200)
    losses = 10 * math.log(perplexity) + noise - noise.mean()
    bins = [  # of 2000 words with a total loss of 2000 · ln(perplexity)
        {"bin": "1–9", "loss": 1000 * math.log(perplexity) + 500, "tokens": 1000},
        {"bin": "10+", "loss": 1000 * math.log(perplexity) - 500, "tokens": 1000},
    ]
    analysis = {"sentences": {"loss": losses.tolist(), "tokens": [10] * 200}}
    return analysis | dict.fromkeys(("frequency", "position", "distance"), bins)


def make_table(folder, perplexities=PERPLEXITIES, **others):
    return four_settings(
        gather([make_run(folder, *key, value, **others) for key, value in perplexities.items()])
    )


def test_table_has_the_settings_in_the_exercises_order(tmp_path):
    table = tables.perplexities(make_table(tmp_path))
    assert list(table["setting"]) == [
        "LSTM, no dropout", "LSTM, dropout 0.3", "GRU, no dropout", "GRU, dropout 0.3",
    ]  # fmt: skip
    assert list(table["valid"]) == ["120.00", "98.00", "118.00", "101.00"]
    assert list(table["target"]) == ["125: yes", "100: yes", "125: yes", "100: no"]


def test_a_best_epoch_is_a_whole_number_beside_a_run_that_has_none(tmp_path):
    table = make_table(tmp_path)
    beside = table.assign(best_epoch=table["best_epoch"].astype(float))
    assert list(tables.perplexities(beside)["best epoch"]) == ["2 of 3"] * 4


def test_the_gap_is_of_the_whole_training_split_and_its_start_stands_beside_it(tmp_path):
    first = tables.perplexities(make_table(tmp_path)).iloc[0]
    assert (first["train"], first["start"], first["gap"]) == ("60.00", "60.00", "2.00")
    table = make_table(tmp_path / "last", best_epoch=3)  # its last row of train is 0.9 of the rest
    assert tables.perplexities(table).iloc[0][["train", "start"]].tolist() == ["60.00", "54.00"]


def test_a_corpus_without_a_target_has_a_dash(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "target_of", lambda setting: None)
    assert set(tables.perplexities(make_table(tmp_path))["target"]) == {"–"}


def test_recipes_show_what_differs_and_share_the_rest(tmp_path):
    table = make_table(tmp_path)
    assert "epochs" not in tables.recipes(table).columns
    assert "epochs 3" in tables.common(table) and "hidden 200" in tables.common(table)
    assert "momentum" not in tables.common(table)  # it is off
    assert "heads" not in tables.common(table) and "experiment" not in tables.common(table)


def test_gathering_keeps_the_better_of_two_runs_of_one_setting(tmp_path):
    runs = [
        make_run(tmp_path, "lstm", p, (50, v, 95))
        for p, v in ((0.2, 97.0), (0.3, 96.0), (0.5, 99.0))
    ]
    table = four_settings(gather(runs))
    assert isinstance(table, pd.DataFrame) and list(table["dropout"]) == [0.3]


def test_steps_show_perplexities_and_changes_and_dashes_for_what_is_missing(tmp_path):
    for setting, valid in zip(
        ablation.variants("gru").values(), (110.0, 99.0, 100.98), strict=True
    ):
        finish(tmp_path, setting, valid)
    finish(tmp_path, PLAIN["lstm"], 109.0)
    table = tables.variants(tmp_path)
    assert list(table["GRU"][:2]) == ["110.00 / 107.00", "99.00 / 96.00 (−10.0%)"]
    assert list(table["GRU"][2:]) == ["100.98 / 97.98 (+2.0%)"]
    assert list(table["LSTM"]) == ["109.00 / 106.00", "–", "–"]


def test_seeds_of_one_setting_are_one_row_and_other_settings_none(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    make_record(tmp_path / "dropout", "gru", 0.3, valid=97.0)
    make_record(tmp_path / "dropout", "lstm", 0.3, valid=91.0)
    assert tables.seeds().empty
    make_record(tmp_path / "seeds", "gru", 0.3, valid=100.0, seed=2)
    (row,) = tables.seeds().to_dict("records")
    assert row["setting"] == "GRU, dropout 0.3"
    assert row["valid"] == "98.50 ± 2.12" and row["valid, each"] == "97.00, 100.00"  # 3 / √2 apart
    assert row["test"] == "97.50 ± 2.12" and row["test, each"] == "96.00, 99.00"


def test_runs_in_bfloat16_stand_beside_the_same_and_other_seeds_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    for cell, valid in (("gru", 97.0), ("lstm", 91.0)):
        make_record(tmp_path / "dropout", cell, 0.3, valid=valid)
        make_record(tmp_path / "seeds", cell, 0.3, valid=valid + 3, seed=2)
    assert tables.rounded().empty
    for cell, valid in (("gru", 97.0), ("lstm", 91.0)):
        make_record(tmp_path / "bfloat16", cell, 0.3, valid=valid + 1, precision="bfloat16")
    lstm, gru = tables.rounded().to_dict("records")
    assert list(lstm.values()) == [
        "LSTM, dropout 0.3",
        "92.00 / 91.00",
        "91.00 / 90.00",
        "91.00 to 94.00 (2 seeds)",
    ]
    assert gru["bfloat16: valid / test"] == "98.00 / 97.00"


def test_each_changed_run_stands_beside_its_recipes_own(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RECORDS", tmp_path)
    base = recipe("lstm", 0.3, epochs=3)
    changed = {"no clipping": replace(base, clip=0.0), "longer": replace(base, bptt=70)}
    monkeypatch.setattr(tables, "BASE", {"lstm": base})
    monkeypatch.setattr(tables, "factors", lambda: changed)
    assert tables.one_factor().empty
    make_run(tmp_path / "factors", "lstm", 0.3, (71.0, 99.0, 96.9), clip=0.0)
    assert tables.one_factor().empty  # with nothing to stand beside
    make_run(tmp_path / "dropout", "lstm", 0.3, (70.0, 98.0, 95.0))
    found = tables.one_factor()
    assert list(found["name"]) == ["LSTM, quick recipe", "no clipping"]
    assert found["beside"][1].mean == pytest.approx(2)
    table = tables.one_factor_table(found)
    assert list(table["test"]) == ["95.00", "96.90"] and table.iloc[0, -2] == "–"
    assert table.iloc[1, -2].startswith("+2.0% (95% interval +")
    (axes,) = figures.one_factor(found).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["no clipping"]
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == (found["beside"][1].low, found["beside"][1].high)
    make_run(tmp_path / "factors", "lstm", 0.3, (2e43, 1e43, 2e43), bptt=70)
    last = tables.one_factor_table(tables.one_factor()).iloc[-1]
    assert (last["run"], last["valid"], last["change on test"]) == ("longer", "1e43", "diverged")
    failed = found.iloc[[1]].assign(name="failed", beside=[Percent(550.0, 500.0, 600.0)])
    (axes,) = figures.one_factor(pd.concat([found, failed])).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["no clipping"]


def test_ngrams_are_those_of_the_record():
    models = json.loads(baselines.BASELINES.read_text())["models"]
    table = tables.ngrams()
    assert list(table["valid"]) == [f"{m['valid']['perplexity']:.2f}" for m in models]
    cached = table.iloc[-1]
    assert cached["model"].endswith(models[-1]["chosen"])
    assert math.exp(float(cached["nats"])) == pytest.approx(float(cached["test"]), rel=1e-3)
