"""architectures.ipynb from end to end: tiny runs of all experiments, judged, reported, printed."""

from dataclasses import replace
from html import unescape

import nbformat
import pypdf
import pytest
from test_architecture_tables import VALID, make_experiment, make_stopped, make_study
from test_notebooks import NOTEBOOKS, displayed

import ptb_utils as pu
from ptb import notebook
from ptb.data.corpus import Corpus
from ptb.data.synthetic import embedded
from ptb.errors import SettingError
from ptb.report.architecture_runs import largest, smaller
from ptb.report.publish import make_pdf
from ptb.report.texts import shortened
from ptb.runs.run import Run
from ptb.runs.table import find_runs
from ptb.studies.architectures import FULL, PAIR, all_settings, at_scale
from ptb.studies.judging import judge
from ptb.training.train import train


def cut_corpus() -> Corpus:
    """The beginning of the embedded corpus."""
    whole, sizes = embedded(), {"train": 5000, "valid": 500, "test": 400}
    return Corpus(whole.name, whole.words, {s: whole[s][:n] for s, n in sizes.items()})


def diverge(setting, folder):
    with Run(folder / setting.name).writing(setting) as run:
        metrics = {"status": "diverged", "reason": "loss nan", "best_epoch": None}
        run.finish(metrics | {"parameters": 7, "floor": {}, "types": 361, "device": "cpu"})


@pytest.fixture(scope="module")
def mixed_study(tmp_path_factory):
    """All experiments at the smallest scale, 3.1c diverged, and the pair at a larger scale too."""
    folder, corpus = tmp_path_factory.mktemp("runs") / "architectures", cut_corpus()
    settings = all_settings("embedded", 0.0)
    larger = [at_scale(replace(FULL[name], corpus="embedded"), 0.04) for name in PAIR]
    for setting in settings + larger:
        if setting.experiment == "3.1c":
            diverge(setting, folder)
        else:
            train(setting, corpus, folder / setting.name)
    judge(find_runs(folder))
    return folder


@pytest.fixture(scope="module")
def report(mixed_study):
    """The executed notebook and its PDF."""
    return make_pdf(mixed_study, "architectures.ipynb")


@pytest.fixture(scope="module")
def text(report):
    """The report's words, without the pages' numbers, which may come amid a sentence."""
    pages = [page.extract_text().strip() for page in pypdf.PdfReader(report).pages]
    return " ".join(" ".join(p.removesuffix(str(n)) for n, p in enumerate(pages, 1)).split())


def test_the_report_shows_what_the_records_hold(mixed_study, text):
    for run in find_runs(mixed_study):
        if run.setting.experiment != "3.1c":
            assert f"{run.metrics['valid']['perplexity']:.1f}" in text
            assert f"{run.history['train_running'].iloc[-1]:.1f}" in text
    assert "3.1d ×0.04" in text and "3.2a ×0.04" in text and "3.4d ×0" in text
    assert "Runs at 0 of the size" in text and "–/1*" not in text  # the diverged one has no numbers


def test_all_texts_of_the_pair_are_in_the_appendix(mixed_study, text):
    joined = "".join(text.split())
    for setting in (at_scale(replace(FULL[name], corpus="embedded"), 0.04) for name in PAIR):
        texts = Run(mixed_study / setting.name).texts
        assert len(texts) == 30
        for written in texts:
            shown = f"{written['start']}{shortened(written['text'])}"
            assert "".join(shown.split()) in joined


def test_figures_and_tables_are_captioned_and_no_code_is_shown(report, text):
    for figure in range(1, 7):
        assert f"Figure {figure}:" in text
    for table in range(1, 8):
        assert f"Table {table}:" in text
    assert "import ptb_utils" not in text and "In [" not in text
    (bold,) = (
        c for c in nbformat.read(report.with_suffix(".ipynb"), 4).cells if "bold(runs)" in c.source
    )
    assert bold.outputs[0].data["text/latex"].count(r"\textbf{3.") >= 2


# ---------------------------------------------------------------- what the notebook says
def said(folder) -> str:
    """All that the notebook displays as Markdown for a study's folder, its captions too."""
    outputs = displayed(NOTEBOOKS / "architectures.ipynb", study=str(folder))
    texts = [output.data.get("text/markdown", "") for output in outputs]
    return " ".join([*texts, *(output.metadata.get("caption", "") for output in outputs)])


def test_claims_that_hold_are_made_and_the_place_for_ones_own(tmp_path):
    make_stopped(tmp_path, FULL["3.4d"], 117.0)
    valid = {name: value for name, value in VALID.items() if name not in ("3.4d", "3.3b")}
    text = said(make_study(tmp_path, valid, **{"3.4c": {"best": 3}})["run"][0].folder.parent)
    assert "Of the exercise's 15 settings of RNN, GRU and Transformer, 13 were trained" in text
    claims = ["lowest validation perplexity of the 13 runs that ended is that of 3.2c (106.7)"]
    claims += ["the GRU 3.2a (110.2) is 29% below the RNN 3.1d (155.7)", "Not trained at full size"]
    claims += ["six layers, 3.4a (122.1), against two, 3.4b (126.9)", "Your own conclusions"]
    claims += ["13 of 13 runs are within 3%", "Another run, stopped early, is shown"]
    assert [claim for claim in claims if claim not in text] == []
    assert "Width alone overfits" not in text  # here 3.4c ends at its best
    assert "nan" not in text


@pytest.mark.parametrize("names", [("3.1a",), ("3.4b", "3.3a")])
def test_a_study_of_few_runs_is_reported(tmp_path, names):
    make_study(tmp_path, {name: VALID[name] for name in names})
    text = said(tmp_path)
    assert f"{VALID[names[0]]:.1f}" in text and "nan" not in text.replace("finance", "")


# ---------------------------------------------------------------- which runs
@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(notebook, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(notebook, "RECORDS", tmp_path / "records")
    return tmp_path


def fill(folder, names, scale=1.0):
    for name in names:
        make_experiment(folder / "architectures", at_scale(FULL[name], scale), VALID[name])


def test_your_own_study_is_shown_once_no_experiment_is_missing(places):
    fill(places / "records", FULL)
    fill(places / "runs", list(FULL)[1:], 0.5)
    table, whose = pu.choose_experiments(None)
    assert pu.is_published(table) and "published study" in whose
    fill(places / "runs", ["3.1a"], 0.25)
    table, whose = pu.choose_experiments(None)
    assert not pu.is_published(table) and "your own study" in whose


def test_a_named_study_says_what_is_missing_and_left_out(places):
    fill(places / "runs", ["3.1a", "3.2a"])
    bad = places / "runs" / "architectures" / FULL["3.2a"].name
    (bad / "texts.json").write_text("[")
    table, whose = pu.choose_experiments("architectures")
    assert list(table["experiment"]) == ["3.1a"]
    assert "Not trained at full size: 3.1b, 3.1c" in whose
    assert "texts.json is damaged" in unescape(whose) and "Not shown" not in whose
    (bad / "setting.json").write_text("[")
    _, whose = pu.choose_experiments("architectures")
    assert "setting.json is damaged" in unescape(whose) and "Not shown" not in whose


def test_of_two_runs_of_an_experiment_the_one_in_float32_is_shown_and_the_other_named(places):
    rounded = replace(FULL["3.2a"], precision="tf32")
    for setting, valid in ((FULL["3.2a"], 108.0), (rounded, 107.0)):
        make_experiment(places / "runs" / "architectures", setting, valid)
    table, whose = pu.choose_experiments("architectures")
    assert list(table["valid"]) == [108.0]
    assert f"Not shown, as another run of the same experiment is: {rounded.name}." in whose


def test_a_scale_of_which_no_run_ended_is_not_what_the_report_is_about(places):
    fill(places / "runs", ["3.1a", "3.2a"], 0.25)
    make_stopped(places / "runs" / "architectures", FULL["3.2a"], 160.0)
    table, whose = pu.choose_experiments("architectures")
    assert set(largest(table)["scale"]) == {0.25} and "Not trained at scale 0.25" in whose
    assert [set(runs["scale"]) for runs in smaller(table)] == [{1}]


def test_an_lstm_alone_is_no_study_of_the_exercise(places):
    fill(places / "runs", ["LSTM"])
    with pytest.raises(SettingError, match="no finished run of the second exercise"):
        pu.choose_experiments("architectures")


def test_a_stopped_run_is_shown_and_not_left_out(places):
    fill(places / "runs", ["3.1a"])
    make_stopped(places / "runs" / "architectures", FULL["3.1b"], 160.0)
    table, whose = pu.choose_experiments("architectures")
    assert list(table["status"]) == ["finished", "stopped"] and "Left out" not in whose


def test_without_a_run_the_line_says_what_to_do(places):
    with pytest.raises(SettingError, match="no finished run .* make architectures"):
        pu.choose_experiments(None)
    diverge(FULL["3.1c"], places / "runs" / "architectures")
    with pytest.raises(SettingError, match="no finished run"):
        pu.choose_experiments(None)
