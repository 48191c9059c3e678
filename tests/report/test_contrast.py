"""Two runs compared: percent, interval, by kind of word; NaN where there is no ground."""

import math

import pandas as pd
import pytest
from test_tables import PERPLEXITIES, make_table

from ptb.evaluation.comparison import MIN_SENTENCES
from ptb.report.contrast import Contrast, OverSeeds, Percent, after, by_setting, too_short


def change(table, **parts):
    """Parts of every run's analysis replaced."""
    for run in table["run"]:
        run.write("analysis.json", run.analysis | parts)


def test_a_missing_setting_is_a_row_of_nothing(tmp_path):
    four = by_setting(make_table(tmp_path, {("gru", 0.3): PERPLEXITIES["gru", 0.3]}))
    assert list(four.index) == [("lstm", False), ("lstm", True), ("gru", False), ("gru", True)]
    assert list(four["valid"].isna()) == [True, True, True, False]
    missing, there = four.loc["lstm", True], four.loc["gru", True]
    contrast = Contrast(missing, there)
    assert math.isnan(contrast.mean) and contrast.by("frequency").isna().all()
    assert str(contrast) == "not measured"
    assert after(missing, 1).isna().all()


def test_a_contrast_is_the_second_against_the_first_in_percent(tmp_path):
    four = by_setting(make_table(tmp_path))
    contrast = Contrast(four.loc["lstm", False], four.loc["gru", True])
    assert contrast.mean == pytest.approx(100 * (97 / 116 - 1), abs=0.01)
    assert contrast.low < contrast.mean < contrast.high < 0
    low, high = (f"−{-end:.1f}%" for end in (contrast.low, contrast.high))
    assert str(contrast) == f"−16.4% (95% interval {low} to {high})"


def test_a_difference_that_may_be_chance_has_zero_in_its_interval(tmp_path):
    level = PERPLEXITIES | {("gru", 0.3): (75.0, 101.0, 95.2)}
    four = by_setting(make_table(tmp_path, level))
    contrast = Contrast(four.loc["lstm", True], four.loc["gru", True])
    assert contrast.low < 0 < contrast.high


def test_the_change_by_bin_is_that_of_its_mean_losses(tmp_path):
    table = make_table(tmp_path)
    first, second = table["run"][:2]
    bins = [{"bin": "1–9", "loss": 20.0, "tokens": 5}, {"bin": "10–29", "loss": 9.0, "tokens": 9}]
    second.write("analysis.json", second.analysis | {"frequency": bins})
    bins[0] = {"bin": "1–9", "loss": 25.0, "tokens": 5}
    first.write("analysis.json", first.analysis | {"frequency": bins})
    found = Contrast(*(table.iloc[i] for i in (0, 1))).by("frequency")
    assert found["1–9"] == pytest.approx(100 * (math.exp(-1) - 1)) and found["10–29"] == 0
    assert math.isnan(found["10000+"])


def test_the_difference_over_seeds_is_of_all_runs_in_percent():
    first, second = pd.DataFrame({"test": [90.0, 100.0]}), pd.DataFrame({"test": [99.0, 110.0]})
    found = OverSeeds(first, second)
    assert found.mean == pytest.approx(10)
    error = 4.303 * math.log(100 / 90) / math.sqrt(2)  # of the mean logarithms, on two degrees
    assert found.high == pytest.approx(100 * (1.1 * math.exp(error) - 1))
    assert found.low == pytest.approx(100 * (1.1 * math.exp(-error) - 1))
    assert str(found).startswith("+10.0% (95% interval −")


def test_an_end_near_zero_shows_on_which_side_it_is():
    assert str(Percent(-1.68, -3.41, 0.04)) == "−1.7% (95% interval −3.4% to +0.04%)"
    assert str(Percent(-1.68, -3.41, -0.04)) == "−1.7% (95% interval −3.4% to −0.04%)"


@pytest.mark.parametrize(("count", "said"), [(1, "1 sentence:"), (MIN_SENTENCES - 1, "sentences:")])
def test_a_short_text_has_no_interval_and_the_report_says_why(tmp_path, count, said):
    table = make_table(tmp_path)
    assert too_short(table) == ""
    change(table, sentences={"loss": [9.0] * count, "tokens": [2] * count})
    assert f"has {count} " in too_short(table) and said in too_short(table)
    contrast = Contrast(table.iloc[0], table.iloc[1])
    assert contrast.mean == 0 and math.isnan(contrast.low) and math.isnan(contrast.high)
    assert contrast.by("position").isna().all()
    assert str(contrast) == "+0.0% (without an interval)"


def test_a_history_after_an_epoch_has_its_gap(tmp_path):
    row = make_table(tmp_path).iloc[0]
    found = after(row, 2)
    assert (found["train"], found["valid"], found["gap"]) == (60.0, 120.0, 2.0)
    assert after(row, 4).isna().all()  # it has three
