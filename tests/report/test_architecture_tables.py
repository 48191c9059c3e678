"""The second report's records and tables: they follow the numbers in the runs' folders."""

import math
from dataclasses import replace

import pytest
from test_run import analysed, measured, parameters

from ptb.report import architecture_runs as records
from ptb.report import architecture_tables as tables
from ptb.report.architecture_tables import REPORTED
from ptb.runs.run import Run
from ptb.studies.architectures import FIFTEEN, FULL, at_scale

TEXTS = [
    {"temperature": heat, "start": "the", "text": "a b <unk> d e"}
    for heat in (0.0,) * 8 + (1.0,) * 2
]
VALID = {  # as the solution's, the LSTM a little better than its GRU
    **REPORTED["valid"],
    "LSTM": 108.0,
}


def make_history(setting, valid, best, epochs, seconds):
    """A history whose best epoch is that one; a tenth is added for each epoch beside it."""
    rows = []
    for epoch in range(1, epochs + 1):
        worse = valid * (1 + abs(epoch - best) / 10)
        row = {"epoch": epoch, "lr": setting.lr, "train_running": 300 / epoch, "train": 150 / epoch}
        row |= {"valid": worse, "test": worse, "seconds": seconds * epoch}
        rows.append(row | {"tokens_per_second": 9.0})
    return rows


def make_experiment(folder, setting, valid, best=2, epochs=3, seconds=10.0, device="cpu", **more):
    """A finished run."""
    with Run(folder / setting.name).writing(setting) as run:
        run.write_history(make_history(setting, valid, best, epochs, seconds))
        run.write("samples.json", [{"temperature": 1.0, "text": "it rose"}])
        run.write("texts.json", TEXTS)
        metrics = dict.fromkeys(("train", "valid", "test"), measured(valid, 999))
        run.write("analysis.json", make_analysis(setting, metrics["test"], **more))
        metrics |= {"status": "finished", "best_epoch": best, "floor": {}, "types": 10_000}
        if setting.cell == "transformer":
            metrics["sliding"] = {"valid": measured(valid * 0.9, 999)}
        run.finish(metrics | {"parameters": parameters(setting, 10_000), "device": device})
    return run


def make_stopped(folder, setting, valid, best=2, epochs=2, seconds=10.0):
    """A run that was stopped: its setting and its history so far."""
    with Run(folder / setting.name).writing(setting) as run:
        run.write_history(make_history(setting, valid, best, epochs, seconds))
    return run


def make_analysis(setting, test, falls=(0.5, 0.5), steps=None):
    """falls: what is left of the gradient, a step back, before and after training."""
    flow = [[fall**n for n in reversed(range(35))] for fall in falls]
    flow = [{"average": norms, "each": norms} for norms in flow]
    steps = steps or {"carried": [4.0] * 35, "fresh": [5.0] + [4.0] * 34}
    found = analysed(test) | {"steps": steps, "unigram": 700.0}
    recurrent = setting.cell != "transformer"
    return found | (
        {"flow": dict(zip(("before", "after"), flow, strict=True))} if recurrent else {}
    )


def make_study(folder, valid=VALID, scale=1.0, **more):
    """The experiments that valid names, with these best validation perplexities."""
    for name, value in valid.items():
        make_experiment(folder, at_scale(FULL[name], scale), value, **more.get(name, {}))
    return records.experiments(folder)


def but(**changes):
    """VALID with other numbers: but(a31=99) changes 3.1a."""
    return VALID | {f"3.{key[1]}{key[0]}": value for key, value in changes.items()}


# ---------------------------------------------------------------- the runs
def test_rows_are_by_architecture_optimiser_and_number(tmp_path):
    table = make_study(tmp_path)
    assert " ".join(tables.results(table)["run"]) == (
        "3.1d 3.1e 3.1a 3.1b 3.1c 3.2a 3.2c 3.3a 3.3b 3.3c 3.2b 3.4a 3.4b 3.4c 3.4d LSTM"
    )


def test_a_stopped_run_is_shown_and_not_ranked(tmp_path):
    make_stopped(tmp_path, FULL["3.4d"], 90.0)
    table = make_study(tmp_path, {n: v for n, v in VALID.items() if n != "3.4d"})
    row = tables.results(table).set_index("run").loc["3.4d"]
    assert (row["best"], row["valid"], row["par."], row["s"]) == ("2/2‡", "90.0", "70.89", "20")
    assert "‡: stopped before its last epoch" in tables.results_caption(table)
    runs = records.largest(table)
    assert records.shown(runs.loc["3.4d"]) == "3.4d (90.0, stopped after epoch 2)"
    assert records.described(runs.loc["3.4d"]).endswith("6×1024, Adam 1e-4, B 128, p 0.1, stopped")
    assert set(records.best_of_each(runs)["tag"]) == {"3.1b", "3.2c", "3.4a"}
    assert "3.4d" not in records.ended(runs).index and "3.4d" not in set(
        tables.solution_and_ours(runs)["run"]
    )
    assert "3.4d" not in set(tables.qualities(runs)["run"])


def test_a_finished_run_takes_the_place_of_a_stopped_one(tmp_path):
    make_stopped(tmp_path, replace(FULL["3.1a"], clip=0.26), 90.0)
    (row,) = make_study(tmp_path, {"3.1a": 235.0}).to_dict("records")
    assert (row["status"], row["valid"]) == ("finished", 235.0)


def test_an_empty_or_damaged_history_is_no_stopped_run(tmp_path):
    make_stopped(tmp_path, FULL["3.1a"], 90.0, epochs=0)
    (make_stopped(tmp_path, FULL["3.1b"], 90.0).folder / "history.csv").write_text("epoch,lr")
    assert list(make_study(tmp_path, {"3.2a": 110.0})["tag"]) == ["3.2a"]


def test_notes_say_what_seconds_depend_on(tmp_path):
    names = [make_stopped(tmp_path, FULL["3.1a"], 300.0).folder.name]
    names += [
        make_experiment(tmp_path, FULL[name], 200.0, device=device).folder.name
        for name, device in (("3.1b", "GPU"), ("3.1d", "cpu"))
    ]
    lines = [f'{name},GPU,tf32,"GPU, shared by two"' for name in names]
    (tmp_path / "notes.csv").write_text("\n".join(["run,recorded,precision,device", *lines]))
    runs = records.experiments(tmp_path).set_index("tag")
    assert runs.loc["3.1a", "device"] == runs.loc["3.1b", "device"] == "GPU, shared by two"
    assert "shared" not in runs.loc["3.1d", "device"]  # made anew on a CPU
    named = tables.reached(runs.reset_index(), [200]).set_index("run")["device"]
    assert list(named[["3.1a", "3.1b"]]) == ["GPU, shared by two", ""]
    assert named["3.1d"].endswith("thread")
    assert "the table of seconds names each run's" in tables.seconds_note(runs.reset_index())
    alone = make_study(tmp_path / "one")
    assert tables.seconds_note(alone) == f" Seconds were measured on: {alone['device'].iloc[0]}."


def test_products_in_another_precision_have_a_column(tmp_path):
    """As the setting has it, or the notes on a run whose record is older than the choice."""
    noted = make_stopped(tmp_path, FULL["3.1a"], 300.0).folder.name
    (tmp_path / "notes.csv").write_text(f"run,recorded,precision,device\n{noted},GPU,tf32,alone\n")
    make_experiment(tmp_path, FULL["3.1b"], 200.0)
    make_experiment(tmp_path, replace(FULL["3.1d"], precision="bfloat16"), 200.0)
    table = records.experiments(tmp_path)
    shown = tables.results(table).set_index("run")["prec."].to_dict()
    assert shown == {"3.1a": "tf32", "3.1b": "float32", "3.1d": "bfloat16"}
    assert "prec.: precision of the matrix products" in tables.results_caption(table)
    plain = make_study(tmp_path / "one")
    assert "prec." not in tables.results(plain)
    assert "prec." not in tables.results_caption(plain)


@pytest.fixture
def mixed(tmp_path):
    """The pair at full size, everything at a quarter."""
    make_study(tmp_path, {name: VALID[name] for name in ("3.1d", "3.2a")})
    return make_study(tmp_path, {name: 2 * value for name, value in VALID.items()}, 0.25)


def test_the_report_is_about_the_largest_scale_and_the_rest_is_an_appendix(mixed):
    assert len(mixed) == 18 and list(mixed["tag"][:2]) == ["3.1d", "3.1d ×0.25"]
    assert list(records.largest(mixed)["tag"]) == ["3.1d", "3.2a"]
    (small,) = records.smaller(mixed)
    assert len(small) == 16 and set(small["scale"]) == {0.25}
    assert list(small.loc[["LSTM", "3.2a"], "tag"]) == ["LSTM ×0.25", "3.2a ×0.25"]


# ---------------------------------------------------------------- results
def test_bold_are_the_best_of_each_architecture_of_the_exercise(tmp_path):
    table = make_study(tmp_path)
    assert list(table.loc[tables.bold(table), "tag"]) == ["3.1b", "3.2c", "3.4d"]
    other = make_study(tmp_path / "other", but(a4=100.0))
    assert list(other.loc[tables.bold(other), "tag"])[-1] == "3.4a"


def test_a_row_has_the_best_epoch_and_the_end(tmp_path):
    rows = tables.results(make_study(tmp_path)).set_index("run")
    row = rows.loc["3.2a"]
    assert list(row[["model", "step", "B", "p"]]) == ["GRU 2×512", "Adam 1e-3", "128", "0.5"]
    assert list(row[["s", "best", "par."]]) == ["30", "2/20", "9.80"]
    assert (row["train"], row["valid"]) == ("150.0", "110.2")
    assert (row["train′"], row["valid′"]) == ("100.0", "121.2")
    assert row["solution"] == "110.2" and rows.loc["LSTM", "solution"] == "–"
    assert rows.loc["3.4d", "model"] == "TF 6×1024"


def test_the_solutions_figures_are_beside_runs_like_its_own_alone(tmp_path):
    assert "solution" not in tables.results(make_study(tmp_path, scale=0.5))
    make_experiment(tmp_path / "embedded", replace(FULL["3.1a"], corpus="embedded"), 99.0)
    table = records.experiments(tmp_path / "embedded")
    assert "solution" not in tables.results(table) and tables.solution_and_ours(table).empty


def test_all_that_the_solution_reports_is_beside_ours(tmp_path):
    rows = tables.solution_and_ours(make_study(tmp_path, but(a2=121.242))).set_index("run")
    assert len(rows) == 15
    ours, theirs = ["121.2", "100.0", "30"], ["110.2 (17)", "64.1", "852"]
    assert list(rows.loc["3.2a", ["best valid", "train, end", "s"]]) == ours
    assert list(rows.loc["3.2a", ["theirs (epoch)", "theirs", "their s"]]) == theirs
    assert rows.loc["3.2a", "ours / theirs"] == "1.10"


def test_every_experiment_has_what_the_solution_reported():
    assert set(REPORTED.index) == set(FIFTEEN)
    assert REPORTED["valid"].idxmin() == "3.2c" and REPORTED.valid["3.2a"] == 110.22


def test_runs_that_diverged_are_rows_too(tmp_path):
    with Run(tmp_path / FULL["3.1c"].name).writing(FULL["3.1c"]) as run:
        metrics = {"status": "diverged", "reason": "loss nan", "best_epoch": None}
        run.finish(metrics | {"parameters": 7, "floor": {}, "types": 9})
    table = make_study(tmp_path, {k: v for k, v in VALID.items() if k != "3.1c"})
    row = tables.results(table).set_index("run").loc["3.1c"]
    assert (row["best"], row["valid"], row["s"]) == ("–/20*", "–", "–")
    assert "*: it diverged" in tables.results_caption(table)
    assert "3.1c" not in records.largest(table).index
    assert tables.solution_and_ours(table).set_index("run").loc["3.1c", "ours / theirs"] == "–"


def test_a_run_that_ended_above_guessing_is_marked_as_one_that_diverged(tmp_path):
    table = make_study(tmp_path, {"3.1a": 200.0, "3.1c": 1e6})
    assert list(tables.results(table).set_index("run")["best"].str.endswith("*")) == [False, True]
    assert "3.1c" not in records.reaching(table.set_index("tag")).index


def test_a_table_by_epoch_has_every_run(tmp_path):
    make_stopped(tmp_path, FULL["3.1c"], 4e11, epochs=1, best=1)
    rows = tables.by_epoch(make_study(tmp_path, {"3.1a": 200.0})).set_index("epoch")
    assert list(rows["3.1a"]) == ["300.0 / 220.0", "150.0 / 200.0", "100.0 / 220.0"]
    assert list(rows["3.1c"]) == ["300.0 / 4e11", "–", "–"]


# ---------------------------------------------------------------- seconds, claims
def test_seconds_until_a_perplexity_is_reached(tmp_path):
    runs = records.largest(make_study(tmp_path, {"3.1a": 200.0, "3.2a": 100.0, "3.3a": 205.0}))
    below = tables.seconds_below(runs, 215.0)
    assert below.to_dict() == {"3.1a": 20.0, "3.2a": 10.0, "3.3a": 20.0}
    rows = tables.reached(runs, [215.0, 105.0]).set_index("run")
    assert list(rows["below 215"]) == ["20", "10", "20"]
    assert list(rows["below 105"]) == ["–", "20", "–"] and rows.loc["3.1a", "s an epoch"] == "10.0"
    assert rows.loc["3.1a", "device"].endswith("thread") and set(rows["device"][1:]) == {""}


def test_the_solutions_claims_stand_beside_both_figures(tmp_path):
    fast = {"3.4b": {"seconds": 1.0}, "3.3a": {"seconds": 2.0}}
    make_stopped(tmp_path, FULL["3.3a"], 209.6)
    part = {name: VALID[name] for name in VALID if name not in ("3.3a", "3.3b")}
    rows = tables.common_claims(records.largest(make_study(tmp_path, part, **fast)))
    units = "3.3b – and 3.2a 110.2; 3.4c 152.6 and 3.4b 126.9"
    assert list(rows["ours"])[:2] == ["3.3a 209.6‡ and 3.1b 154.9", units]
    assert rows["theirs"].iloc[1] == units.replace("–", "112.7")
    assert rows["theirs"].iloc[0] == "3.3a 184.4 and 3.1b 154.9"
    assert rows["ours"].iloc[3].startswith("3.4b 3 s and ")
    assert rows["theirs"].iloc[3] == "3.4b 685 s and 3.3a 780 s"


# ---------------------------------------------------------------- gradients, texts
def test_half_lives_before_and_after_training(tmp_path):
    flows = {"3.1d": {"falls": (0.5, 0.25)}, "3.2a": {"falls": (0.5, 2**-0.125)}}
    rows = tables.flow_table(records.flowing(make_study(tmp_path, **flows)))
    assert list(rows["run"].unique()) == ["3.1d RNN", "3.2a GRU", "LSTM"]
    rows = rows.set_index(["run", "training"])
    assert rows.loc[("3.1d RNN", "after"), "half-life"] == "0.5"
    assert rows.loc[("3.2a GRU", "after"), "half-life"] == "8.0"
    assert rows.loc[("3.2a GRU", "after"), "left at step 1"] == f"{2 ** (-34 / 8):.2g}"
    assert list(rows["state"].unique()) == ["h", "h and c"]


def test_gradients_of_a_run_that_learned_nothing_are_not_compared(tmp_path):
    runs = records.largest(make_study(tmp_path, VALID | {"3.1c": 2e6}))
    assert runs.loc["3.1c", "status"] == "finished"
    names = set(records.reaching(runs)["experiment"])
    assert names == {name for name in VALID if name < "3.4" or name == "LSTM"} - {"3.1c"}


def test_the_average_and_each_texts_gradient_have_columns_of_their_own(tmp_path):
    run = make_experiment(tmp_path, FULL["3.2a"], 110.0)
    analysis = run.analysis
    analysis["flow"]["after"]["each"] = [0.25**n for n in reversed(range(35))]
    run.write("analysis.json", analysis)
    after = tables.flow_table(records.experiments(tmp_path)).set_index("training").loc["after"]
    assert after["half-life"] == "1.0" and after["half-life, each"] == "0.5"
    assert after["left at step 1"] == f"{0.5**34:.2g}"
    assert after["left at step 1, each"] == f"{0.25**34:.2g}"


def test_an_lstms_h_alone_is_beside_h_and_c_where_it_is_recorded(tmp_path):
    run = make_experiment(tmp_path, FULL["LSTM"], 110.0)
    analysis = run.analysis
    for norms in analysis["flow"].values():
        alone = [0.25**n for n in reversed(range(35))]
        norms |= {"average, h": alone, "each, h": alone}
    run.write("analysis.json", analysis)
    rows = tables.flow_table(records.experiments(tmp_path))
    assert list(rows["state"]) == ["h and c", "h alone"] * 2
    assert list(rows["half-life"]) == ["1.0", "0.5"] * 2


def judge_all(table, cost, judge=lambda cell: "3.2a-x"):
    """Each run's texts cost the judge what cost makes of its validation perplexity."""
    for _, row in table.iterrows():
        losses = [4.0 + cost(row["valid"])] * len(TEXTS)
        record = {"judge": judge(row["cell"]), "real": 4.0, "losses": losses}
        row["run"].write("judged.json", record)
    return tables.qualities(table)


def test_quality_of_texts_beside_perplexity(tmp_path):
    table = make_study(tmp_path)
    assert tables.qualities(table)["loss"].isna().all()  # no text was judged
    found = judge_all(table, math.log)
    assert list(found["valid"]) == sorted(VALID.values()) and set(found["judge"]) == {"3.2a"}
    assert list(found["loss"]) == pytest.approx([math.log(valid) for valid in found["valid"]])
    judge_all(table, lambda valid: -valid / 100)
    assert list(tables.quality_table(table).loc[0, ["run", "valid", "loss", "<unk>"]]) == [
        "3.2c GRU", "106.7", "−1.07 ± 0.00", "0.20",
    ]  # fmt: skip


def test_greedy_texts_are_the_pairs_or_of_the_best_of_each(tmp_path):
    assert set(tables.greedy_texts(make_study(tmp_path))["run"]) == {"3.1d RNN", "3.2a GRU"}
    part = make_study(tmp_path / "part", {name: VALID[name] for name in ("3.4b", "3.3a", "3.3b")})
    assert set(tables.greedy_texts(part)["run"]) == {"3.4b Transformer", "3.3b GRU"}
