"""architectures.ipynb from end to end: tiny runs of all experiments, judged, reported, printed."""

from dataclasses import replace

import nbformat
import pypdf
import pytest
from test_answers import VALID, make_experiment

import ptb_utils as pu
from ptb import notebook
from ptb.data.corpus import Corpus
from ptb.data.synthetic import embedded
from ptb.errors import SettingError
from ptb.report.publish import make_pdf
from ptb.runs.run import Run
from ptb.runs.table import find_runs
from ptb.studies.architectures import FULL, PAIR, at_scale
from ptb.studies.architectures import study as experiments
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
    settings = experiments("embedded", 0.0)
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
    assert "Runs marked ×0, ×0.04 have the exercise’s widths and epochs times that" in text
    assert "–/1*" in text and "*: it diverged" in text


def test_every_question_has_an_answer(text):
    beginnings = ["For generalisation:", "Adam, batches of 128", "With Adam at 0.001"]
    beginnings += ["3.3a ×0 (", "The best Transformer,"]  # questions 6 to 10
    beginnings += ["halves every", "Spearman’s rank correlation"]
    assert [beginning for beginning in beginnings if beginning not in text] == []


def test_all_texts_of_the_pair_are_in_the_appendix(mixed_study, text):
    joined = "".join(text.split())
    for setting in (at_scale(replace(FULL[name], corpus="embedded"), 0.04) for name in PAIR):
        texts = Run(mixed_study / setting.name).texts
        assert len(texts) == 30
        for written in texts:
            assert "".join(f"{written['start']}{written['text']}".split()) in joined


def test_figures_and_tables_are_captioned_and_no_code_is_shown(report, text):
    for figure in range(1, 11):
        assert f"Figure {figure}:" in text
    for table in range(1, 4):
        assert f"Table {table}:" in text
    assert "import ptb_utils" not in text and "In [" not in text
    (bold,) = (
        c for c in nbformat.read(report.with_suffix(".ipynb"), 4).cells if "bold" in c.source
    )
    assert bold.outputs[0].data["text/latex"].count(r"\textbf{3.") >= 3


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
    assert "Missing: 3.1b, 3.1c" in whose and "texts.json is damaged" in whose


def test_without_a_run_the_line_says_what_to_do(places):
    with pytest.raises(SettingError, match="no finished run .* make architectures"):
        pu.choose_experiments(None)
    diverge(FULL["3.1c"], places / "runs" / "architectures")
    with pytest.raises(SettingError, match="no finished run"):
        pu.choose_experiments(None)
