"""Publishing: what is copied of which study, what is refused, where the reports go."""

import json
import shutil
from dataclasses import replace

import pytest
from test_architecture_tables import make_study
from test_literature import finish as write_records

from ptb.errors import StudyError
from ptb.recipes import recipe
from ptb.report import publish as publishing
from ptb.report.publish import publish, rebuild, report
from ptb.runs.environment import environment
from ptb.runs.files import ADAPTED, JUDGED, PUBLISHED
from ptb.runs.run import Run
from ptb.setting import Setting
from ptb.studies.architectures import FULL, all_settings
from ptb.studies.named import STUDIES

TINY = recipe("lstm", 0.0, "embedded", hidden=4, embedding=4, epochs=2)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders of one's own for runs and records; nothing is rebuilt."""
    monkeypatch.setattr(publishing, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(publishing, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(publishing, "rebuild", lambda name: None)
    return tmp_path


def finish(setting, folder):
    """A run's folder as it is when all is done."""
    write_records(folder, setting, 99.0)
    contents = dict.fromkeys(PUBLISHED, "{}") | {"texts.json": "[]"}
    contents |= {JUDGED: '{"judge": "another", "real": 4.0, "losses": []}'}
    for name, content in contents.items():
        if not (folder / setting.name / name).exists():
            (folder / setting.name / name).write_text(content)


def test_the_main_study_is_published_whole_and_no_study_without_a_run(places, monkeypatch):
    other = replace(TINY, seed=2)
    for name in ("dropout", "demo"):
        monkeypatch.setitem(STUDIES, name, [TINY, other])
    finish(TINY, places / "runs" / "dropout")
    with pytest.raises(StudyError, match=f"not finished; still to train: {other.name}"):
        publish("dropout")
    with pytest.raises(StudyError, match="still to train: "):
        publish("demo")
    assert not (places / "records").exists()


def test_a_study_is_published_as_it_grows(places, monkeypatch, capsys):
    other = replace(TINY, seed=2)
    monkeypatch.setitem(STUDIES, "demo", [TINY, other])
    finish(TINY, places / "runs" / "demo")
    publish("demo")
    assert f"still to train: {other.name}" in capsys.readouterr().out
    shutil.rmtree(places / "runs")
    finish(other, places / "runs" / "demo")
    publish("demo")
    assert "still to train" not in capsys.readouterr().out
    published = {path.name for path in (places / "records" / "demo").iterdir()}
    assert published == {TINY.name, other.name}


@pytest.mark.parametrize(
    ("name", "left"), [("dropout", set()), ("beyond", set()), ("long", {"weights.safetensors"})]
)
def test_publishing_copies_the_records_and_of_two_studies_the_weights(
    name, left, places, monkeypatch
):
    monkeypatch.setitem(STUDIES, name, [TINY])
    finish(TINY, places / "runs" / name)
    publish(name)
    published = {p.name for p in (places / "records" / name / TINY.name).iterdir()}
    assert published == {*PUBLISHED, JUDGED} - left


def test_rows_of_adapted_models_go_with_the_weights_that_they_are_of(places, monkeypatch):
    names = TINY.name, replace(TINY, seed=2).name
    monkeypatch.setitem(STUDIES, "beyond", [TINY, replace(TINY, seed=2)])
    for setting in STUDIES["beyond"]:
        finish(setting, places / "runs" / "beyond")
    adapted = places / "runs" / "beyond" / ADAPTED
    rows = [adapted_row(name, 80.0) for name in names]
    adapted.write_text(json.dumps(rows))
    publish("beyond")
    mine = adapted_row(names[0], 79.0)
    adapted.write_text(json.dumps([mine]))
    publish("beyond")  # the other's row stays
    published = places / "records" / "beyond" / ADAPTED
    assert json.loads(published.read_text()) == [mine, rows[1]]
    metrics = places / "runs" / "beyond" / names[1] / "metrics.json"
    again = json.loads(metrics.read_text()) | {"weights_sha256": "ab" * 32}
    metrics.write_text(json.dumps(again))
    monkeypatch.setattr(publishing, "faults", lambda run: None)
    publish("beyond")  # other weights: what was measured of the first ones goes
    assert json.loads(published.read_text()) == [mine]


def adapted_row(name, perplexity):
    row = {"run": name, "kind": "temperature", "chosen": "1", "minutes": 0.1}
    return row | {"valid": perplexity, "test": perplexity, "environment": environment()}


def test_damaged_records_are_named_and_what_was_published_stays(places, monkeypatch):
    monkeypatch.setitem(STUDIES, "demo", [TINY])
    finish(TINY, places / "runs" / "demo")
    publish("demo")
    history = places / "runs" / "demo" / TINY.name / "history.csv"
    whole = history.read_text()
    history.write_text(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=f"can't be published: {TINY.name}: history.csv is damag"):
        publish("demo")
    assert (places / "records" / "demo" / TINY.name / "history.csv").read_text() == whole


def test_a_copy_that_fails_half_way_leaves_what_was_published(places, monkeypatch):
    def full(source, target, **options):
        raise OSError("no space left")

    monkeypatch.setitem(STUDIES, "demo", [TINY])
    finish(TINY, places / "runs" / "demo")
    publish("demo")
    with monkeypatch.context() as broken, pytest.raises(OSError, match="no space left"):
        broken.setattr("shutil.copyfile", full)
        publish("demo")
    assert (places / "records" / "demo" / TINY.name / "metrics.json").exists()
    publish("demo")
    assert [path.name for path in (places / "records").iterdir()] == ["demo"]


def test_publishing_that_is_stopped_between_its_renames_loses_no_record(places, monkeypatch):
    other = replace(TINY, seed=2)
    monkeypatch.setitem(STUDIES, "demo", [TINY, other])
    finish(TINY, places / "runs" / "demo")
    publish("demo")
    (places / "records" / "demo").rename(places / "records" / "demo.old")
    (places / "records" / "demo.partial").mkdir()
    shutil.rmtree(places / "runs")
    finish(other, places / "runs" / "demo")
    publish("demo")
    assert [path.name for path in (places / "records").iterdir()] == ["demo"]
    published = {path.name for path in (places / "records" / "demo").iterdir()}
    assert published == {TINY.name, other.name}


def test_what_a_stopped_publishing_left_to_clear_away_is_cleared(places, monkeypatch):
    monkeypatch.setitem(STUDIES, "demo", [TINY])
    finish(TINY, places / "runs" / "demo")
    publish("demo")
    shutil.copytree(places / "records" / "demo", places / "records" / "demo.old")
    publish("demo")
    assert [path.name for path in (places / "records").iterdir()] == ["demo"]


def test_a_report_of_a_study_that_is_not_there_says_how_to_run_it(places):
    with pytest.raises(StudyError, match="no run of demo is there: python -m ptb study run demo"):
        report("demo")


def test_a_pdf_that_nbconvert_does_not_make_is_one_line(places, monkeypatch):
    finish(TINY, places / "runs" / "demo")
    monkeypatch.setattr("ptb.report.publish._execute", lambda *arguments: None)
    with pytest.raises(StudyError, match="nbconvert made no PDF of .*report.ipynb"):
        report("demo")  # there is no executed notebook


def test_a_report_that_its_runs_do_not_allow_is_one_line(places):
    (places / "runs" / "demo" / "lstm").mkdir(parents=True)
    with pytest.raises(StudyError, match="^report.ipynb: SettingError: no finished run of"):
        report("demo")


def test_a_run_that_diverged_at_once_is_complete_and_published(places, monkeypatch):
    monkeypatch.setitem(STUDIES, "demo", [TINY])
    folder = places / "runs" / "demo" / TINY.name
    with Run(folder).writing(TINY) as run:
        metrics = {"status": "diverged", "reason": "loss nan", "best_epoch": None}
        run.finish(metrics | {"parameters": 7, "floor": {}, "types": 9})
    (folder / "train.ipynb").write_text("executed")
    publish("demo")
    assert (places / "records" / "demo" / TINY.name / "metrics.json").exists()


def test_publishing_takes_any_scale_and_no_weights(places):
    folder = places / "runs" / "architectures"
    for setting in all_settings("ptb", 0.1):
        finish(setting, folder)
    finish(FULL["3.2a"], folder)
    finish(Setting(), folder)  # of another study
    publish("architectures")
    published = {path.name: path for path in (places / "records" / "architectures").iterdir()}
    assert len(published) == 17 and Setting().name not in published
    files = {path.name for path in published[FULL["3.2a"].name].iterdir()}
    assert files == {*PUBLISHED, JUDGED} - {"weights.safetensors"}


@pytest.mark.parametrize("study", ["architectures", "demo-architectures"])
def test_rebuilding_writes_the_second_reports_pdf_and_the_pages_tables(
    tmp_path, monkeypatch, study
):
    records = tmp_path / "records" / "architectures"
    asked, executed = [], records / "architectures.ipynb"

    def report(*arguments):
        asked.append(arguments)
        executed.write_text("executed")
        executed.with_suffix(".pdf").write_text("printed")
        return executed.with_suffix(".pdf")

    for folder in (records, tmp_path / "report"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(publishing, "RECORDS", records.parent)
    monkeypatch.setattr(publishing, "make_pdf", report)
    monkeypatch.setattr(publishing, "ROOT", tmp_path)
    monkeypatch.setattr(publishing, "with_tables", lambda page: f"{page}, with its tables")
    pages = tmp_path / "README.md", tmp_path / "docs" / "second-exercise.md"
    for page in pages:
        page.parent.mkdir(exist_ok=True)
        page.write_text("old")
    rebuild(study)
    assert asked == [(records, "architectures.ipynb")]
    assert (tmp_path / "report" / "architectures.pdf").read_text() == "printed"
    assert not executed.exists() and not (tmp_path / "figures").exists()
    assert [page.read_text() for page in pages] == ["old, with its tables"] * 2


def test_a_report_that_fails_leaves_pages_and_figures_as_they_were(tmp_path, monkeypatch):
    def report(study, name):
        (study / name).write_text("executed as far as the claim that fails")
        raise StudyError("report.ipynb: ClaimError: the GRU is ahead")

    (tmp_path / "dropout").mkdir()
    monkeypatch.setattr(publishing, "RECORDS", tmp_path)
    monkeypatch.setattr(publishing, "make_pdf", report)
    for name in ("write_tables", "figures.save_all"):
        monkeypatch.setattr(f"ptb.report.publish.{name}", lambda *_: pytest.fail("it is changed"))
    with pytest.raises(StudyError, match="ClaimError"):
        rebuild("dropout")
    assert not list((tmp_path / "dropout").iterdir())


def test_a_killed_kernel_is_one_line(places, monkeypatch):
    died = type("DeadKernelError", (RuntimeError,), {})

    def killed(*arguments, **named):
        raise died("Kernel died")

    finish(TINY, places / "runs" / "demo")
    monkeypatch.setattr("papermill.execute_notebook", killed)
    with pytest.raises(StudyError, match="report.ipynb: its kernel was killed, perhaps for want"):
        report("demo")


def test_a_missing_experiment_is_named_and_the_others_published(places, capsys):
    for setting in all_settings("ptb", 0.1)[1:]:
        finish(setting, places / "runs" / "architectures")
    publish("architectures")
    assert "architectures is not finished; still to train: 3.1a" in capsys.readouterr().out
    assert len(list((places / "records" / "architectures").iterdir())) == 15


def test_the_table_of_experiments_does_without_a_solution_where_all_runs_are_scaled(
    tmp_path, monkeypatch
):
    page = (publishing.ROOT / "docs" / "second-exercise.md").read_text()
    assert "| valid | solution |" in publishing.with_tables(page)
    monkeypatch.setattr(publishing, "RECORDS", tmp_path)
    make_study(tmp_path / "architectures", {"3.1a": 556.4}, scale=0.2)
    table = publishing.with_tables(page).split("<!-- experiments")[1].split("<!-- end")[0]
    assert "| train | valid |\n" in table and "556.4" in table and "solution" not in table
