"""ptb.experiments and ptb.answers: tables and sentences follow the numbers in the records."""

import math
from dataclasses import replace

import pytest

from ptb.report import answers, claims, experiments, observations
from ptb.runs.run import Run
from ptb.runs.table import find_runs
from ptb.studies.architectures import FIFTEEN, FULL, REPORTED, at_scale

TEXTS = [
    {"temperature": heat, "start": "the", "text": "a b c d e"} for heat in (0.0,) * 8 + (1.0,) * 2
]
VALID = {  # as the solution's, the LSTM a little better than its GRU
    **{name: row.valid for name, row in REPORTED.items()},
    "LSTM": 108.0,
}


def make_experiment(folder, setting, valid, best=2, epochs=3, seconds=10.0, **more):
    """A finished run whose best epoch is that one; a tenth is added for each epoch beside it."""
    rows = []
    for epoch in range(1, epochs + 1):
        worse = valid * (1 + abs(epoch - best) / 10)
        row = {"epoch": epoch, "lr": 1.0, "train_running": 300 / epoch, "train": 150 / epoch}
        row |= {"valid": worse, "test": worse, "seconds": seconds * epoch}
        rows.append(row | {"tokens_per_second": 9.0})
    with Run(folder / setting.name).writing(setting) as run:
        run.write_history(rows)
        run.write("samples.json", [{"temperature": 1.0, "text": "it rose"}])
        run.write("texts.json", TEXTS)
        run.write("analysis.json", make_analysis(setting, **more))
        measured = {"loss": math.log(valid), "perplexity": valid, "tokens": 999}
        metrics = dict.fromkeys(("train", "valid", "test"), measured)
        metrics |= {"status": "finished", "best_epoch": best, "floor": {}, "types": 10_000}
        if setting.cell == "transformer":
            metrics["sliding"] = {"valid": measured | {"perplexity": valid * 0.9}}
        run.finish(metrics | {"parameters": 1000 * setting.hidden, "device": "cpu"})
    return run


def make_analysis(setting, falls=(0.5, 0.5), steps=None):
    """falls: what is left of the gradient, a step back, before and after training."""
    flow = [[fall**n for n in reversed(range(35))] for fall in falls]
    flow = [{"average": norms, "each": norms} for norms in flow]
    steps = steps or {"carried": [4.0] * 35, "fresh": [5.0] + [4.0] * 34}
    found = dict.fromkeys(("frequency", "position", "distance"), [])
    found |= {"sentences": {"loss": [1.0], "tokens": [1]}, "steps": steps, "unigram": 700.0}
    recurrent = setting.cell != "transformer"
    return found | (
        {"flow": dict(zip(("before", "after"), flow, strict=True))} if recurrent else {}
    )


def make_study(folder, valid=VALID, scale=1.0, **more):
    """The experiments that valid names, with these best validation perplexities."""
    for name, value in valid.items():
        make_experiment(folder, at_scale(FULL[name], scale), value, **more.get(name, {}))
    return experiments.experiments(find_runs(folder))


def but(**changes):
    """VALID with other numbers: but(a31=99) changes 3.1a."""
    return VALID | {f"3.{key[1]}{key[0]}": value for key, value in changes.items()}


# ---------------------------------------------------------------- the table
def test_rows_are_by_architecture_optimiser_and_number(tmp_path):
    table = make_study(tmp_path)
    assert " ".join(experiments.results(table)["run"]) == (
        "3.1d 3.1e 3.1a 3.1b 3.1c 3.2a 3.2c 3.3a 3.3b 3.3c 3.2b 3.4a 3.4b 3.4c 3.4d LSTM"
    )


def test_bold_are_the_best_of_each_architecture_of_the_exercise(tmp_path):
    table = make_study(tmp_path)
    assert list(table.loc[experiments.best_rows(table), "tag"]) == ["3.1b", "3.2c", "3.4d"]
    other = make_study(tmp_path / "other", but(a4=100.0))
    assert list(other.loc[experiments.best_rows(other), "tag"])[-1] == "3.4a"


def test_a_row_has_the_best_epoch_and_the_end(tmp_path):
    rows = experiments.results(make_study(tmp_path)).set_index("run")
    row = rows.loc["3.2a"]
    assert (row["model"], row["step"], row["B"], row["p"]) == (
        "GRU 2×512",
        "Adam 1e-3",
        "128",
        "0.5",
    )
    assert (row["s"], row["best"], row["par."]) == ("30", "2/20", "0.51")
    assert (row["train"], row["valid"]) == ("150.0", "110.2")
    assert (row["train′"], row["valid′"]) == ("100.0", "121.2")
    assert row["solution"] == "110.2 (17)" and rows.loc["LSTM", "solution"] == "–"
    assert rows.loc["3.4d", "model"] == "TF 6×1024"


def test_the_solutions_figures_are_beside_runs_like_its_own_alone(tmp_path):
    assert "solution" not in experiments.results(make_study(tmp_path, scale=0.5))
    other = replace(FULL["3.1a"], corpus="embedded")
    make_experiment(tmp_path / "embedded", other, 99.0)
    table = experiments.experiments(find_runs(tmp_path / "embedded"))
    assert "solution" not in experiments.results(table)
    assert claims.yardstick(table) == []


def test_all_that_the_solution_reports_is_beside_ours(tmp_path):
    rows = experiments.beside(make_study(tmp_path, but(a2=121.242))).set_index("run")
    assert len(rows) == 15
    ours, theirs = ["121.2", "100.0", "30"], ["110.2", "64.1", "852"]
    assert list(rows.loc["3.2a", ["best valid", "train, end", "seconds"]]) == ours
    assert list(rows.loc["3.2a", ["solution", "solution's", "its seconds"]]) == theirs
    assert rows.loc["3.2a", "ours / its"] == "1.10"
    scaled = make_study(tmp_path / "scaled", scale=0.5)
    assert experiments.beside(scaled).empty


def test_runs_that_diverged_are_rows_too(tmp_path):
    with Run(tmp_path / FULL["3.1c"].name).writing(FULL["3.1c"]) as run:
        metrics = {"status": "diverged", "reason": "loss nan", "best_epoch": None}
        run.finish(metrics | {"parameters": 7, "floor": {}, "types": 9})
    table = make_study(tmp_path, {k: v for k, v in VALID.items() if k != "3.1c"})
    row = experiments.results(table).set_index("run").loc["3.1c"]
    assert (row["best"], row["valid"], row["s"]) == ("–/20*", "–", "–")
    assert "*: it diverged" in experiments.results_caption(table)
    for said in (answers.rates, answers.gru, claims.claims, answers.generalisation):
        assert said(table) and "nan" not in answers.bullets(said(table))
    assert "3.1c diverges before its first epoch ends." in answers.rates(table)
    assert experiments.beside(table).set_index("run").loc["3.1c", "ours / its"] == "–"


@pytest.fixture
def mixed(tmp_path):
    """The pair at full size, everything at a quarter."""
    make_study(tmp_path, {name: VALID[name] for name in ("3.1d", "3.2a")})
    return make_study(tmp_path, {name: 2 * value for name, value in VALID.items()}, 0.25)


def test_a_mixed_study_marks_its_runs_and_compares_like_with_like(mixed):
    assert len(mixed) == 18 and list(mixed["tag"][:2]) == ["3.1d", "3.1d ×0.25"]
    assert set(experiments.core(mixed)["scale"]) == {0.25}
    assert [row["tag"] for row in experiments.largest(mixed)] == ["3.1d", "3.2a", "LSTM ×0.25"]
    said = experiments.scales(mixed)
    assert "Runs marked ×0.25 have" in said and "at full size: 3.1d, 3.2a." in said
    assert "3.2c ×0.25 (213.4)" in answers.generalisation(mixed)[0]
    caption = experiments.results_caption(mixed)
    assert "Bold: the best of each architecture at each scale." in caption
    abstract = answers.abstract(mixed)
    assert "of each architecture at scale 0.25: 3.1b ×0.25 (309.8)" in abstract
    assert abstract.endswith(" At full size: 3.1d (155.7), 3.2a (110.2).")
    assert claims.yardstick(mixed)[0].startswith("2 of 2 full-size runs")


def test_a_mixed_study_compares_the_pair_at_each_scale_and_marks_every_run(mixed):
    first, second, *_ = answers.gru(mixed)
    assert "the GRU 3.2a (110.2) is 29% below 3.1d (155.7)" in first
    assert "the GRU 3.2a ×0.25 (220.4) is 29% below 3.1d ×0.25 (311.5)" in second
    said = answers.bullets(answers.rates(mixed) + answers.gru(mixed)[1:] + answers.sizes(mixed))
    said += answers.bullets(answers.transformers(mixed) + answers.generalisation(mixed))
    said = said.replace("trained as 3.2a", "")
    for name in FIFTEEN:
        assert said.count(name) == said.count(f"{name} ×0.25") > 0


def test_a_mixed_study_ranks_reaches_at_one_scale(mixed):
    *each, full, scaled = observations.flows(mixed)
    small = ["LSTM ×0.25", "3.1d ×0.25 RNN", "3.2a ×0.25 GRU"]
    assert [text.split(":")[0] for text in each] == ["3.1d RNN", "3.2a GRU", *small]
    assert full.endswith(": 3.1d RNN, then 3.2a GRU.")
    assert scaled.endswith(": LSTM ×0.25, then 3.1d ×0.25 RNN, then 3.2a ×0.25 GRU.")


def test_scaled_runs_are_no_answer_for_the_full_size(mixed, tmp_path):
    first, *orders = claims.caution(mixed)
    assert first.startswith("The answers are about scale 0.25. 0 of 16 runs there are still at")
    assert orders == [
        "At full size 3.1d (155.7) is 41% above 3.2a (110.2), at scale 0.25 3.1d ×0.25 (311.5) is "
        "41% above 3.2a ×0.25 (220.4): the order is the same."
    ]
    turned = {"3.1d": 155.7, "3.2a": 160.2}
    assert claims.caution(make_study(tmp_path, turned))[1].endswith("is the other way round.")
    assert " at scale 0.25: 3.3b ×0.25" in claims.claims(mixed)[1]
    assert claims.caution(make_study(tmp_path / "full")) == []


def test_nothing_is_said_of_scales_where_all_are_full(tmp_path):
    table = make_study(tmp_path)
    assert experiments.scales(table) == "" and set(table["tag"]) == set(FULL)


# ---------------------------------------------------------------- sentences
def test_question_6_names_the_best_and_the_first_below(tmp_path):
    seconds = {"3.2a": 4.0, "3.2b": 1.0, "3.1a": 0.1}
    table = make_study(tmp_path, **{name: {"seconds": value} for name, value in seconds.items()})
    said = answers.generalisation(table)
    assert said[0].startswith("For generalisation: 3.2c (106.7): GRU, 2 layers of 512, Adam at")
    assert "3.2a is the first to get below 117.4" in said[1] and "after 8 seconds" in said[1]
    assert "3.2b is the first to get below 160.1" in said[2] and "after 1 seconds" in said[2]
    assert "fewest seconds in all is 3.1a (0): it is number 14 of 15" in said[3]


def test_question_7_says_which_optimiser_the_rate_matters_to(tmp_path):
    said = answers.bullets(answers.rates(make_study(tmp_path)))
    assert "3.1c (3993.6) is 17.0 times 3.1a (235.5)" in said
    assert "3.1c never gets below what word frequencies alone give (700)" in said
    assert "by a factor of 16.96 with SGD and 1.13 with Adam: Adam is the less sensitive" in said
    turned = answers.bullets(answers.rates(make_study(tmp_path / "t", but(c1=240.0, e1=900.0))))
    assert "3.1c (240.0) is 2% above 3.1a" in turned and "SGD is the less sensitive" in turned


def test_question_8_names_the_grus_that_are_behind(tmp_path):
    said = answers.bullets(answers.gru(make_study(tmp_path)))
    assert "3.2a (110.2) is 29% below 3.1d (155.7)" in said
    assert "5 of 6 are, but not 3.3a (184.4)" in said
    assert "An LSTM trained as 3.2a, LSTM (108.0), is 2% below 3.2a (110.2)" in said
    turned = answers.bullets(answers.gru(make_study(tmp_path / "turned", but(a3=150.0, d1=110.5))))
    assert "3.2a (110.2) is level with 3.1d (110.5)" in turned
    assert "Not every GRU is before the best RNN, 3.1d" in turned
    all_ahead = answers.gru(make_study(tmp_path / "ahead", but(a3=150.0)))
    assert "All 6 GRU runs are before the best RNN, 3.1b (154.9)." in all_ahead


def test_question_9_says_where_the_validation_curve_runs(tmp_path):
    said = answers.sizes(make_study(tmp_path))
    assert len(said) == 3 and "3.3a (184.4)" in said[0] and "is 67% above 3.2a" in said[0]
    assert "100.0 with dropout and 50.0 without" in said[0]
    assert "(202.8) runs above the training curve" in said[0]
    below = answers.sizes(make_study(tmp_path / "below", but(a3=50.0)))[0]
    assert "55% below 3.2a" in below and "(55.0) runs below the training curve" in below


def test_question_10_compares_the_transformers(tmp_path):
    said = answers.bullets(answers.transformers(make_study(tmp_path)))
    assert "The best Transformer, 3.4d (121.2), is 14% above 3.2c (106.7), the best GRU" in said
    assert "is 22% below 3.1b (154.9), the best RNN" in said
    assert "Six layers instead of two: 3.4a (122.1) is 4% below 3.4b (126.9)." in said
    assert "3.4c 137.4 (152.6), 3.4d 109.1 (121.2)." in said
    assert "So measured, the best Transformer, 3.4d (109.1), is 2% above 3.2c (106.7)" in said
    assert "2 times the width, six layers: 3.4d" in said and "4 times the width and more" in said


@pytest.mark.parametrize(
    ("best", "said"), [(3, "still at its best in the last epoch, 3"), (2, "overfitting")]
)
def test_what_became_of_a_run_after_its_best_epoch(tmp_path, best, said):
    table = make_study(tmp_path, **{name: {"best": best} for name in VALID})
    assert answers.bullets(answers.transformers(table)).count(said) == 4


def test_the_solutions_claims_are_held_against_the_runs(tmp_path):
    said = answers.bullets(claims.claims(make_study(tmp_path)))
    assert "in all cases.* Not every GRU is" in said
    assert "*With more units the perplexity is lower.* Not so: 3.3b (112.7) is 2% above" in said
    assert (
        "In its own table not so: 112.65 against 110.22." in said
        and "3.4b and 3.3a, a Trans" in said
    )
    assert (REPORTED["3.4b"].seconds, REPORTED["3.3a"].seconds) == (685, 780)
    assert REPORTED["3.3a"].valid > REPORTED["3.1b"].valid
    fast = {"3.4b": {"seconds": 1.0}, "3.3a": {"seconds": 2.0}}
    turned = answers.bullets(claims.claims(make_study(tmp_path / "t", but(b3=90.0), **fast)))
    assert "*With more units the perplexity is lower.* So it is: 3.3b (90.0)" in turned
    assert "1 of the two fastest runs, 3.4b and 3.3a, is a Transformer" in turned


def test_yardstick_names_the_runs_that_are_worse(tmp_path):
    said = claims.yardstick(make_study(tmp_path))
    assert said[0].startswith("14 of 14 full-size runs are")
    assert said[1].endswith("alone give (3994 against 700); ours does not either.")
    said = claims.yardstick(make_study(tmp_path / "worse", but(a2=116.0, b2=122.0, c1=300.0)))
    assert said[0].startswith("13 of 14") and said[1].startswith("3.2a (116.0) is not: the solu")
    assert said[2].endswith("ours does.")


# ---------------------------------------------------------------- gradients, steps, texts
def test_half_lives_before_and_after_training(tmp_path):
    flows = {"3.1d": {"falls": (0.5, 0.25)}, "3.2a": {"falls": (0.5, 2**-0.125)}}
    table = make_study(tmp_path, **flows)
    rows = observations.flow_table(table).set_index(["run", "training"])["half-life"]
    assert rows["3.1d", "after"] == "0.50" and rows["3.2a", "after"] == "8.00"
    said = observations.flows(table)
    assert said[0].startswith("3.2a GRU: the gradient halves every 1.00 steps before training and")
    assert "8.00 after it: training lengthens its reach" in said[0]
    assert "LSTM: the gradient halves every 1.00 steps" in said[1]
    assert said[1].endswith("leaves its reach as it is.") and "shortens its reach" in said[2]
    assert said[-1] == (
        "After training, from the furthest reach to the shortest: 3.2a GRU, then LSTM, "
        "then 3.1d RNN."
    )


def test_along_the_window_a_fresh_start_costs_what_it_is_above_the_carried_state(tmp_path):
    steps = {"carried": [4.0] * 34 + [5.0], "fresh": [4.5] + [4.1] * 33 + [5.1]}
    said = observations.along_the_window(make_study(tmp_path, **{"3.1b": {"steps": steps}}))
    assert "loss is 4.50 nats at the first step (word frequencies alone: 6.55) and 4.20" in said[0]
    assert "0.50 more than with the state carried at the first step, 0.10 at the last" in said[0]
    assert (
        "5.00 nats at the first step (word frequencies alone: 6.55) and 4.00" in said[1]
        and "carried" not in said[2]
    )


def judged(table, cost, judge=lambda cell: "x"):
    """Each run's texts cost the judge what cost makes of its validation perplexity."""
    for _, row in table.iterrows():
        record = {
            "judge": judge(row["cell"]),
            "real": 4.0,
            "losses": [4.0 + cost(row["valid"])] * len(TEXTS),
        }
        row["run"].write("judged.json", record)
    return observations.correlation(table)


def test_whether_quality_follows_perplexity_is_counted(tmp_path):
    table = make_study(tmp_path)
    assert observations.correlation(table) == []  # no text was judged
    assert experiments.judges(table) == ""
    said = judged(table, math.log)[0]
    assert (
        experiments.judges(table)
        == " x read those of the RNNs, the GRUs, the Transformers, the LSTMs."
    )
    assert "Over 16 models" in said and "+1.00: the higher the one, the higher the other" in said
    assert "-1.00: the higher the one, the lower" in judged(table, lambda valid: -valid)[0]
    assert "no more than chance may give" in judged(table, lambda valid: valid % 7)[0]
    assert len(judged(table, math.log)) == 1  # all repeat alike: that has no correlation
    judges = {"gru": FULL["3.1d"].name}
    two = judged(table, math.log, lambda cell: judges.get(cell, FULL["3.2a"].name))
    assert [text.split()[1] for text in two] == ["10", "6"]  # models read by the one, by the other
    assert "loss of sampled texts to 3.1d, which read them, is +1.00" in two[1]
    assert "3.1d read those of the GRUs." in experiments.judges(table)


def test_the_abstract_counts_the_exercises_settings(tmp_path):
    assert answers.abstract(make_study(tmp_path)).startswith("15 of the exercise's 15 settings")
    part = {name: VALID[name] for name in ("3.1a", "LSTM")}
    assert answers.abstract(make_study(tmp_path / "part", part)).startswith(
        "1 of the exercise's 15"
    )


@pytest.mark.parametrize("names", [("3.1a",), ("3.4b", "3.3a"), tuple(FIFTEEN)[:5]])
def test_an_incomplete_study_still_has_its_answers(tmp_path, names):
    table = make_study(tmp_path, {name: VALID[name] for name in names})
    questions = (answers.generalisation, answers.rates, answers.gru, answers.sizes)
    rest = (answers.transformers, claims.claims, observations.flows, observations.along_the_window)
    for answer in (*questions, *rest, observations.correlation, claims.yardstick, claims.caution):
        assert "nan" not in answers.bullets(answer(table))
    assert len(experiments.greedy_texts(table))
