"""What the notebooks' second cells refuse, each in one line, before anything is created."""

import math
import re
import shutil
from html import unescape

import nbformat
import pytest
import torch
from bs4 import BeautifulSoup

import ptb_utils as pu
from ptb import notebook
from ptb.data.corpus import Corpus
from ptb.data.synthetic import embedded
from ptb.errors import PlainError
from ptb.models.language_model import build
from ptb.paths import RECORDS, ROOT
from ptb.recipes import recipe
from ptb.report.display import Surprises
from ptb.runs import run as runs
from ptb.runs.run import Run
from ptb.training.train import train

NAN, INF = math.nan, math.inf


def cells(notebook: str) -> list[str]:
    """The sources of a notebook's code cells."""
    found = nbformat.read(ROOT / "notebooks" / notebook, 4).cells
    return [cell.source for cell in found if cell.cell_type == "code"]


@pytest.fixture
def run_cells(tmp_path, monkeypatch):
    """Executes a notebook's first cells, with other values for its parameters, as papermill does.

    A report's are three: its title and authors are checked where its title page is made.
    """
    for module in (pu, notebook, runs):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")

    def run(notebook, **chosen):
        first, *rest = cells(notebook)[: 3 if notebook == "report.ipynb" else 2]
        injected = "# Parameters\n" + "".join(f"{n} = {v!r}\n" for n, v in chosen.items())
        names = {"nan": NAN, "inf": INF, "In": [""]}
        for cell in (first, injected, *rest):
            execute(cell, names)
        return names

    return run


def execute(cell: str, names: dict) -> None:
    """As IPython does, which keeps the source in `In` first."""
    names["In"].append(cell)
    exec(cell, names)


def text_of(html: str) -> str:
    """What a browser shows of HTML or of Markdown with HTML in it."""
    return BeautifulSoup(getattr(html, "data", html), "html.parser").get_text()


def refusal(run_cells, notebook, chosen) -> str:
    with pytest.raises(PlainError) as error:
        run_cells(notebook, **chosen)
    assert not pu.RUNS.exists()
    line = str(error.value)
    assert "\n" not in line
    return line


CELLS = "lstm, gru, rnn, transformer"
TRAIN = [  # the value, what is allowed, the likeliest intention
    ({"cell": "lsmt"}, f"cell = 'lsmt' is none of {CELLS}: did you mean 'lstm'?"),
    ({"cell": "LSTM"}, f"cell = 'LSTM' is none of {CELLS}: did you mean 'lstm'?"),
    ({"cell": None}, f"cell = None is none of {CELLS}"),
    ({"cell": True}, f"cell = True is none of {CELLS}"),
    ({"cell": ["lstm", "gru"]}, f"cell = ['lstm', 'gru'] is none of {CELLS}"),
    ({"dropout": "0,5"}, "dropout = '0,5' must be a number from 0 to below 1; did you mean 0.5?"),
    ({"dropout": "0.3"}, "dropout = '0.3' must be a number from 0 to below 1; did you mean 0.3?"),
    ({"dropout": "half"}, "dropout = 'half' must be a number from 0 to below 1"),
    ({"dropout": 30}, "dropout = 30 must be a number from 0 to below 1; did you mean 0.3?"),
    ({"dropout": -0.3}, "dropout = -0.3 must be a number from 0 to below 1; did you mean 0.3?"),
    ({"dropout": True}, "dropout = True must be a number from 0 to below 1"),
    ({"dropout": None}, "dropout = None must be a number from 0 to below 1"),
    ({"dropout": NAN}, "dropout = nan must be a number from 0 to below 1"),
    ({"dropout": INF}, "dropout = inf must be a number from 0 to below 1"),
    ({"dropout": [0, 0.3]}, "dropout = [0, 0.3] must be a number from 0 to below 1; execute the"),
    ({"dropout": {"p": 1}}, "dropout = {'p': 1} must be a number from 0 to below 1"),
    (
        {"corpus": "pbt"},
        "corpus = 'pbt' is none of ptb, embedded and no folder: did you mean 'ptb'?",
    ),
    (
        {"corpus": "embeded"},
        "corpus = 'embeded' is none of ptb, embedded and no folder: did you mean 'embedded'",
    ),
    ({"corpus": None}, "corpus = None must be text, in quotes"),
    ({"seed": -7}, "seed = -7 must be a whole number from 0 to below 2147483648; did you mean 7?"),
    ({"epochs": "4"}, "epochs = '4' must be a whole number from 1 to 1000; did you mean 4?"),
    ({"epochs": 2.5}, "epochs = 2.5 must be a whole number from 1 to 1000; did you mean 2?"),
    ({"epochs": 0}, "epochs = 0 must be a whole number from 1 to 1000"),
    ({"epochs": True}, "epochs = True must be a whole number from 1 to 1000"),
    ({"lr": "20,5"}, "lr = '20,5' must be a number from 0 to 1000; did you mean 20.5?"),
    ({"lr": -INF}, "lr = -inf must be a number from 0 to 1000"),
    ({"batch_size": NAN}, "batch_size = nan must be a whole number from 1 to 4096"),
    ({"hidden": 20_000}, "hidden = 20000 must be a whole number from 1 to 4096; did you mean 2000"),
    ({"layers": [2]}, "layers = [2] must be a whole number from 1 to 16; execute the notebook"),
    ({"tied": "True"}, "tied = 'True' must be yes or no: True or False"),
    ({"schedule": "cosinus"}, "schedule = 'cosinus' is none of linear, cosine, hold, plateau: did"),
    ({"optimiser": "adam"}, "optimiser = 'adam' is none of sgd, adamw: did you mean 'adamw'?"),
    ({"drpout": 0.5}, "no parameter is called 'drpout': did you mean 'dropout'?"),
    ({"batchsize": 20}, "no parameter is called 'batchsize': did you mean 'batch_size'?"),
    ({"optimizer": "sgd"}, "no parameter is called 'optimizer': did you mean 'optimiser'?"),
    ({"xyz": 1}, "no parameter is called 'xyz': it can be 'cell', 'dropout', 'corpus'"),
    # choices that clash
    ({"optimiser": "adamw", "lr": 0.1, "momentum": 0.9}, "momentum = 0.9 is for sgd, not adamw"),
    ({"optimiser": "adamw"}, "optimiser = 'adamw' needs a lr of its own: try lr = 0.002"),
    ({"reset": "before"}, "reset = 'before' is for the gru, not lstm: use 'after'"),
    ({"tied": True, "embedding": 100}, "tied = True needs embedding = hidden, not 100 and 200"),
    ({"study": "a", "folder": "b"}, "study = 'a' and folder = 'b': give one of them alone"),
    # places
    ({"study": "../mine"}, "study = '../mine' must be a plain name, of a folder in runs/: did you"),
    ({"study": ".."}, "study = '..' must be a plain name, of a folder in runs/"),
    ({"study": "/etc"}, "study = '/etc' must be a plain name, of a folder in runs/"),
    ({"study": "a/b"}, "study = 'a/b' must be a plain name, of a folder in runs/"),
    ({"study": "runs/mine"}, "of a folder in runs/: did you mean 'mine'? folder takes any other"),
    ({"study": ""}, "study = '' must be text, in quotes"),
    ({"study": 1.5}, "study = 1.5 must be text, in quotes, or with papermill as -r study 1.5"),
    ({"folder": " "}, "folder = ' ' must be text, in quotes"),
    (
        {"folder": True},
        "folder = True must be text, in quotes, or with papermill as -r folder True",
    ),
    ({"folder": __file__}, "is a file"),
    ({"folder": f"{__file__}/run"}, f"but {__file__} is a file"),
    ({"device": "gpu"}, "device = 'gpu' is none of cpu, cuda: did you mean 'cuda'?"),
    ({"device": "cdua"}, "device = 'cdua' is none of cpu, cuda: did you mean 'cuda'?"),
    ({"threads": 0}, "threads = 0 must be a whole number from 1 to 1024"),
    ({"threads": "2"}, "threads = '2' must be a whole number from 1 to 1024; did you mean 2?"),
    ({"threads": 1.5}, "threads = 1.5 must be a whole number from 1 to 1024; did you mean 2?"),
    ({"threads": True}, "threads = True must be a whole number from 1 to 1024"),
    ({"threads": 10**9}, "threads = 1000000000 must be a whole number from 1 to 1024"),
]


@pytest.mark.parametrize(("chosen", "said"), TRAIN, ids=lambda case: str(case)[:40])
def test_train_refuses_in_one_line(run_cells, chosen, said):
    assert said in refusal(run_cells, "train.ipynb", chosen)


def test_a_study_that_is_a_file_is_refused(run_cells):
    pu.RUNS.mkdir()
    (pu.RUNS / "mine").write_text("")
    with pytest.raises(PlainError, match="mine is a file"):
        run_cells("train.ipynb", study="mine")


def test_train_takes_what_is_allowed_and_creates_nothing_yet(run_cells):
    names = run_cells("train.ipynb", cell="gru", dropout=0.3, corpus="embedded", study="my-own.2")
    assert names["place"].parent == pu.RUNS / "my-own.2" and not pu.RUNS.exists()
    assert run_cells("train.ipynb")["place"].parent == pu.RUNS / "dropout"
    assert run_cells("train.ipynb", corpus="embedded")["place"].parent == pu.RUNS / "demo"


def test_the_second_cell_may_run_again_after_the_others(run_cells):
    names = run_cells("train.ipynb")
    execute("live = metrics = 1; dropout = 0.5", names)
    execute(cells("train.ipynb")[1], names)
    assert names["setting"].dropout == 0.5 and names["live"] == 1


OWN = """import numpy as np
import sys; sys.path.insert(0, "..")
best_lr: float = 12
def double(x): return 2 * x
"""


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_students_own_cell_is_left_alone(run_cells, place):
    """Above the parameters, below them, or below papermill's."""
    first, second, *_ = cells("train.ipynb")
    ran = [first, "# Parameters\ndropout = 0.5"]
    names = {"In": [""]}
    for cell in [*ran[:place], OWN, *ran[place:], second]:
        execute(cell, names)
    assert names["setting"].dropout == 0.5
    assert names["best_lr"] == 12 and names["double"](1) == 2 and names["np"].pi


def test_a_name_that_another_cell_corrects_is_no_parameter_any_more(run_cells):
    first, second, *_ = cells("train.ipynb")
    names = {"In": [""]}
    execute(first.replace("dropout =", "dropuot ="), names)
    with pytest.raises(PlainError, match="'dropuot': did you mean 'dropout'"):
        execute(second, names)
    execute(first, names)
    execute(second, names)
    assert names["setting"].dropout == 0 and names["dropuot"] == 0


def test_without_published_runs_a_folder_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr("ptb.notebook.RECORDS", tmp_path)
    for find in (pu.find_run, pu.find_recurrent_runs):
        with pytest.raises(PlainError, match="no run is published in .*: name a finished run's"):
            find(None)


def test_after_a_refusal_no_earlier_setting_is_left(run_cells, saved):
    for name, chosen, wrong, gone in (
        ("train.ipynb", {}, "dropout = 30", "setting"),
        ("evaluate.ipynb", {"run": str(saved.folder)}, "length = 0", "found"),
        ("report.ipynb", {"study": str(RECORDS / "dropout")}, "study = 'none'", "table"),
    ):
        names = run_cells(name, **chosen)
        assert gone in names
        execute(wrong, names)
        with pytest.raises(PlainError):
            execute(cells(name)[1], names)
        assert gone not in names


def test_a_whole_number_is_text_where_text_is_meant(run_cells):
    """As papermill makes one of `-p study 2026`."""
    names = run_cells("train.ipynb", study=2026)
    assert names["place"].parent == pu.RUNS / "2026"
    with pytest.raises(PlainError, match="corpus = '1984' is none of"):
        run_cells("train.ipynb", corpus=1984)


# ---------------------------------------------------------------- evaluate and report
@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Run:
    """A finished run on the embedded corpus, whose vocabulary has no <unk>."""
    setting = recipe("rnn", 0, "embedded", hidden=4, embedding=4, epochs=1, batch_size=500)
    run = Run(tmp_path_factory.mktemp("runs") / setting.name)
    train(setting, embedded(), run.folder)
    return run


INSIDE = [
    ({"top_k": 0}, "top_k = 0 must be a whole number from 1 to"),
    ({"sentnce": "the"}, "no parameter is called 'sentnce': did you mean 'sentence'?"),
]
EVALUATE = [
    ({"temperature": -1}, "temperature = -1 must be a number from 0 to 100; did you mean 1?"),
    (
        {"temperature": "0,7"},
        "temperature = '0,7' must be a number from 0 to 100; did you mean 0.7",
    ),
    ({"temperature": NAN}, "temperature = nan must be a number from 0 to 100"),
    ({"temperature": None}, "temperature = None must be a number from 0 to 100"),
    ({"length": 0}, "length = 0 must be a whole number from 1 to 10000"),
    ({"length": 2.5}, "length = 2.5 must be a whole number from 1 to 10000; did you mean 2?"),
    ({"length": -40}, "length = -40 must be a whole number from 1 to 10000; did you mean 40?"),
    ({"temprature": 1}, "no parameter is called 'temprature': did you mean 'temperature'?"),
    ({"cell": "gru"}, "no parameter is called 'cell': it can be 'run', 'passage', 'prompt'"),
    ({"prompt": ""}, "prompt = '' must be text, in quotes"),
    ({"prompt": 1987}, "the word '1987' is not in the vocabulary of embedded"),
    ({"prompt": 0.5}, "prompt = 0.5 must be text, in quotes, or with papermill as -r prompt 0.5"),
    ({"passage": " \n"}, r"passage = ' \n' must be text, in quotes"),
    (
        {"prompt": "raka dodo"},
        "the word 'dodo' is not in the vocabulary of embedded: did you mean ",
    ),
    ({"passage": "Raka"}, "'Raka' is not in the vocabulary of embedded: did you mean 'raka'?"),
    ({"words": "rakaa"}, "'rakaa' is not in the vocabulary of embedded: did you mean 'raka'?"),
    ({"words": ["raka"]}, "words = ['raka'] must be text, in quotes"),
    ({"run": 3}, "run = '3' is not the folder of a finished run, it has no metrics.json"),
    ({"run": "~nosuch/run"}, "run = '~nosuch/run': ~nosuch is not a user here"),
    (
        {"run": "../runs"},
        "run = '../runs' is not the folder of a finished run, it has no metrics.json",
    ),
    ({"run": "lstm-dropout0-seed1"}, f"records/dropout/{recipe('lstm', 0.0).name}'?"),
]


@pytest.mark.parametrize(("chosen", "said"), INSIDE)
def test_inside_refuses_in_one_line(run_cells, chosen, said):
    assert said in refusal(run_cells, "inside.ipynb", chosen)


@pytest.mark.parametrize(("chosen", "said"), EVALUATE, ids=lambda case: str(case)[:40])
def test_evaluate_refuses_in_one_line(run_cells, saved, chosen, said):
    assert said in refusal(run_cells, "evaluate.ipynb", {"run": str(saved.folder)} | chosen)


def test_a_run_is_found_in_ones_home(saved, monkeypatch):
    monkeypatch.setenv("HOME", str(saved.folder.parent))
    assert pu.find_run(f"~/{saved.folder.name}").folder == saved.folder


def test_evaluate_has_a_default_for_every_text(run_cells, saved):
    names = run_cells("evaluate.ipynb", run=str(saved.folder))
    assert len(names["text"]) == 60 and len(names["start"]) == 3 and len(names["listed"]) == 4


def test_words_that_become_unk_are_shown_as_typed(tiny_setting):
    corpus = Corpus("tiny", ("<eos>", "a", "<unk>"), {})
    words = pu.read_text(corpus, "passage", "a Zebra a yak")
    assert words == ["a", "Zebra", "a", "yak"]
    model = build(tiny_setting(), vocabulary=3)
    shown = pu.surprises(model, corpus, words)
    assert shown.words == ["a", "Zebra (<unk>)", "a", "yak (<unk>)"]
    assert "not in the vocabulary" in shown.about
    continued = text_of(pu.continued(model, corpus, words, 2, 0.0))
    assert continued.startswith("> a Zebra (<unk>) a yak (<unk>) ")
    with pytest.raises(PlainError, match="'zebra' is not in the vocabulary"):
        pu.read_text(corpus, "words", "a zebra")


def test_our_own_passage_is_shown_for_penn_treebank():
    corpus = Corpus("ptb", ("<eos>", "<unk>"), {})  # its splits are not asked
    assert len(pu.read_text(corpus, "passage", None)) == len(notebook.OWN_TEXT["passage"].split())


@pytest.mark.parametrize("line", [[1, 2, 1, 2, 0], [1, 0]])
def test_the_default_texts_fit_a_small_corpus(line):
    """Two words, splits of one sentence."""
    corpus = Corpus("tiny", ("<eos>", "a", "b"), {"test": torch.tensor(line)})
    text = " ".join(corpus.words[i] for i in line)
    assert " ".join(pu.read_text(corpus, "passage", None)) == text
    assert len(pu.read_text(corpus, "prompt", None)) == min(3, len(line))
    assert pu.read_text(corpus, "words", None) == ["a", "b"]


def test_surprises_are_readable_with_and_without_colours():
    shown = Surprises(["<unk>", "$5", "it's"], [1.0, 7.6, 30.0])
    html = shown._repr_html_()
    colours = re.findall("background-color: (#......)", html)
    assert len(set(colours[:3])) == 3 and colours[2] == colours[-1]  # beyond the scale: its end
    assert text_of(html).startswith("<unk>1.0 $57.6 it's30.0Raised: bits. 0 bits 4 bits")
    assert text_of(shown._repr_markdown_()).startswith("> <unk>^1^ $5^8^ it's^30^")
    assert repr(shown).startswith("<unk> (1.0) $5 (7.6) it's (30.0)\n12.87 bits per word")
    assert "a perplexity of inf." in repr(Surprises(["word"], [2000.0]))


def test_neighbours_of_words_are_a_table(saved):
    corpus = embedded()
    words = [corpus.words[3], corpus.words[8]]
    shown = pu.neighbour_table(pu.load_model(saved, corpus), corpus, words, count=2).frame
    assert list(shown["word"]) == [corpus.words[3], "", corpus.words[8], ""]
    word, cosine = shown["embedding"][0].split()
    assert word in corpus.words and -1 <= float(cosine) <= 1


REPORT = [
    ({"autors": "Ada"}, "no parameter is called 'autors': did you mean 'authors'?"),
    ({"authors": ["Ada"]}, "authors = ['Ada'] must be text, in quotes"),
    ({"title": 1.5}, "title = 1.5 must be text, in quotes, or with papermill as -r title 1.5"),
    ({"study": 3}, "runs/3: train first; it can be 'demo', 'dropout'"),
    ({"study": "dropout"}, "runs/dropout: train first; it can be 'demo'"),
    ({"study": "dropuot"}, "runs/dropuot: train first; did you mean 'dropout'?"),
]


@pytest.mark.parametrize(("chosen", "said"), REPORT, ids=lambda case: str(case)[:40])
def test_report_refuses_in_one_line(run_cells, chosen, said):
    assert said in refusal(run_cells, "report.ipynb", chosen)


def test_evaluate_refuses_faulty_records_and_a_run_without_weights(run_cells, saved, tmp_path):
    copy = shutil.copytree(saved.folder, tmp_path / "copy")
    (copy / "history.csv").unlink()
    said = "copy: history.csv has no row for the best epoch, 1"
    assert refusal(run_cells, "evaluate.ipynb", {"run": str(copy)}) == said
    diverged = {"status": "diverged", "reason": "loss nan", "best_epoch": None}
    Run(copy).write("metrics.json", Run(copy).metrics | diverged)
    said = f"{copy} has no measured weights: it diverged (loss nan)"
    assert refusal(run_cells, "evaluate.ipynb", {"run": str(copy)}) == said


def test_your_own_study_is_shown_once_its_four_runs_are_done(tmp_path, monkeypatch):
    runs, records = tmp_path / "runs", tmp_path / "records"
    monkeypatch.setattr(notebook, "RUNS", runs)
    monkeypatch.setattr(notebook, "RECORDS", records)
    shutil.copytree(RECORDS / "dropout", records / "dropout")
    *three, fourth = (path for path in (records / "dropout").iterdir() if path.is_dir())
    for run in three:
        shutil.copytree(run, runs / "dropout" / run.name)
    table, whose = pu.choose_study(None)
    assert pu.is_published(table) and "the published study: 4 of 4" in whose
    shutil.copytree(fourth, runs / "dropout" / fourth.name)
    table, whose = pu.choose_study(None)
    assert not pu.is_published(table) and "your own study: 4 of 4" in whose


def test_the_published_study_is_known_however_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    for study in ("../report/records/dropout", str(RECORDS / "dropout")):
        table, whose = pu.choose_study(study)
        assert pu.is_published(table) and "the published study" in whose
    with pytest.raises(PlainError, match="study = '' must be text"):
        pu.choose_study("")
    monkeypatch.setattr(notebook, "RUNS", tmp_path)  # as long as runs/ has no such study
    shutil.copytree(RECORDS / "dropout", tmp_path / "report" / "records" / "dropout")
    monkeypatch.chdir(ROOT)
    assert not pu.is_published(pu.choose_study("report/records/dropout")[0])


def test_a_report_says_what_is_missing_and_what_it_leaves_out(tmp_path):
    for name in (recipe("lstm", 0.0).name, recipe("gru", 0.0).name):
        shutil.copytree(RECORDS / "dropout" / name, tmp_path / name)
    table, whose = pu.choose_study(str(tmp_path))
    assert len(table) == 2
    assert whose.endswith("Missing: GRU with dropout, LSTM with dropout.")
    (tmp_path / name / "history.csv").unlink()
    table, whose = pu.choose_study(str(tmp_path))
    shown = unescape(re.sub("<.*?>", "", whose))
    assert len(table) == 1 and f"GRU without dropout. Left out: {name}: " in shown
