"""ptb.report.live: what is seen while a run trains; ptb.report.one_run and dropout beside it."""

import re

import pytest

from ptb.recipes import recipe
from ptb.report import live as lives
from ptb.report.drawings import draw_dropout
from ptb.report.live import Live, duration
from ptb.report.one_run import next_steps, setting_table
from ptb.report.tables import nearest
from ptb.runs.files import HISTORY
from ptb.runs.run import Run


class Place:
    """What `display` gives in Jupyter: the place of an output, with all that it showed."""

    def __init__(self):
        self.shown = []

    def update(self, value, **given):
        self.shown.append(getattr(value, "data", value))


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets, in seconds."""
    now = [0.0]
    monkeypatch.setattr(lives.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def watched(monkeypatch, clock, tiny_corpus, tiny_setting) -> Live:
    """A run of two epochs that a person watches."""
    monkeypatch.setenv("JPY_SESSION_NAME", "train.ipynb")
    monkeypatch.setattr(lives, "display", lambda *shown, **given: Place())
    return Live(tiny_setting(epochs=2), tiny_corpus)


def test_the_bar_has_speed_and_time_left(watched, clock):
    watched.step(0, 0.0, 9.0)
    clock[0] = 10.0
    watched.step(0, 0.5, 7.25)  # a quarter of the run, in ten seconds
    speed = len(watched.corpus["train"]) * 0.5 / 10
    assert watched.bar.shown[-1].startswith('<progress value="0.2500"')
    said = f"epoch 1/2, running perplexity 7.2, {speed:,.0f} tokens/s, 30 s left"
    assert watched.bar.shown[-1].endswith(said)
    clock[0] = 10.1  # at most twice a second
    watched.step(0, 0.6, 7.0)
    assert watched.bar.shown[-1].endswith(said)


def test_a_resumed_run_counts_from_where_it_resumed(watched, clock):
    watched.step(1, 0.0, 5.0)
    clock[0] = 6.0
    watched.step(1, 0.25, 5.0)
    assert watched.bar.shown[-1].endswith(", 18 s left") and not watched.figure.shown


def test_a_curve_grows_within_the_first_epoch(watched, clock):
    for clock[0] in (0.0, 1.0, 2.0, 7.0, 8.0):
        watched.step(0, clock[0] / 10, 9.0 - clock[0])
    first, second = watched.figure.shown  # at once, and after five seconds
    assert first != second and len(watched.running) == 5


def test_the_last_measurement_is_announced_with_its_time(watched, clock, capsys):
    ids = {split: len(watched.corpus[split]) for split in ("valid", "train")}
    watched.measure("valid")
    clock[0] = 4.0
    watched.measure("train")
    seconds = duration(ids["train"] / (ids["valid"] / 4))
    said = f"measuring the saved weights on train: {ids['train']:,} tokens, {seconds}"
    assert watched.bar.shown[-1].endswith(said)
    for what, said in (("sliding", "a whole window before each"), ("texts", "writing texts")):
        watched.measure(what)
        assert said in watched.bar.shown[-1]
    out = capsys.readouterr().out
    assert out == "measuring the saved weights on every token of all splits\n"


def test_what_is_watched_ends_with_a_figure_that_has_a_caption_and_no_bar(watched):
    given = []
    watched.figure.update = lambda data, **more: given.append(more)
    row = dict.fromkeys(HISTORY, 2.0) | {"epoch": 1}
    with watched:
        watched.epoch([row])
    assert watched.bar.shown[-1] == watched.view.shown[-1] == ""
    assert given[-1]["metadata"]["caption"].startswith("Convergence of LSTM")


def test_durations_are_as_a_person_says_them():
    said = [duration(seconds) for seconds in (0, 42, 300, 4800)]
    assert said == ["1 s", "42 s", "5 min", "1 h 20 min"]


def test_the_published_run_beside_ones_own_is_the_nearest():
    found = nearest(recipe("lstm", 0.3))
    rates = {0.25, 0.35}  # of the quick and of the long recipe
    assert found.setting.cell == "lstm" and found.setting.dropout in rates
    assert nearest(recipe("gru", 0.34)).setting.dropout == 0.35
    quick = recipe("gru", 0.0)
    assert nearest(quick).setting == quick
    assert nearest(recipe("transformer", 0.0)) is None
    assert nearest(recipe("lstm", 0.0, "embedded")) is None


# ---------------------------------------------------------------- the setting, the drawing, links
@pytest.mark.parametrize(
    ("setting", "there", "not_there"),
    [
        (recipe("lstm", 0.0), {"clip", "tied", "momentum"}, {"heads", "reset", "hold", "scale"}),
        (recipe("gru", 0.0, schedule="hold"), {"reset", "hold", "decay"}, {"augmented"}),
        (recipe("transformer", 0.1), {"heads"}, {"tied", "same_mask", "momentum", "reset"}),
        (recipe("lstm", 0.0), {"lr"}, {"precision"}),
        (recipe("lstm", 0.0, precision="tf32"), {"precision"}, set()),
    ],
)
def test_the_settings_table_has_what_applies(setting, there, not_there):
    shown = set(setting_table(setting).frame["choice"].values.flat)
    assert there <= shown and not not_there & shown


@pytest.mark.parametrize(
    ("setting", "dropped"),
    [
        (recipe("lstm", 0.25), 9),  # at each of three steps: two layers' inputs, the last's output
        (recipe("lstm", 0.0), 0),
        (recipe("gru", 0.25, layers=1), 6),
        (recipe("transformer", 0.1), 4),  # what goes on from the embedding, twice, and two parts
    ],
)
def test_dashed_arrows_are_where_dropout_acts(setting, dropped):
    (axes,) = draw_dropout(setting).axes
    dashed = [t for t in axes.texts if getattr(t, "arrowprops", {}).get("ls") == "--"]
    assert len(dashed) == dropped


def test_the_next_steps_name_the_runs_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = next_steps(Run(tmp_path / "my runs" / "one")).data
    assert "\nrun = 'my runs/one'\n" in text
    assert re.search(r"papermill evaluate.ipynb out.ipynb -p run 'my runs/one'\n", text)
