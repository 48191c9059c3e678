"""`python -m ptb`: its help, one tiny run scored and sampled, one line for what is wrong."""

import io
import json
import math
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pypdf
import pytest

from ptb.__main__ import chosen_setting, main, parser
from ptb.data.corpora import load
from ptb.errors import SettingError, StudyError
from ptb.evaluation.scoring import score_sentences
from ptb.paths import ROOT
from ptb.recipes import recipe
from ptb.runs.run import Run, load_model
from ptb.training.train import train

COMMANDS = (
    "train",
    "trial",
    "study",
    "adapt",
    "baselines",
    "score",
    "sample",
    "copies",
    "student",
    "site",
)
SLOW = ("torch", "pandas", "papermill", "matplotlib", "IPython")  # to import
HELP = f"""
import sys
from ptb.__main__ import main
for words in {[[], *([name] for name in COMMANDS)]}:
    try:
        main([*words, "--help"])
    except SystemExit as end:
        assert end.code == 0
print("loaded:", *[name for name in {SLOW} if name in sys.modules])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on the embedded corpus, trained to its end."""
    setting = recipe("gru", 0.0, "embedded", hidden=8, embedding=8, epochs=1, batch_size=200)
    folder = tmp_path_factory.mktemp("runs") / setting.name
    train(setting, load("embedded"), folder)
    return Run(folder)


@pytest.fixture
def sentences():
    """Two sentences in words of the embedded corpus."""
    text = load("embedded").text(load("embedded")["test"][:40].tolist())
    return [line.strip() for line in text.split("<eos>") if line.strip()][:2]


# ---------------------------------------------------------------- help
def test_help_of_every_command_needs_no_torch():
    done = subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
    for name in COMMANDS:
        assert f"example:\n  python -m ptb {name}" in done.stdout


def test_all_commands_are_known():
    (commands,) = (a for a in parser()._actions if isinstance(a.choices, dict))
    assert set(commands.choices) == set(COMMANDS)


def test_as_a_module():
    words = [sys.executable, "-m", "ptb", "score", "nowhere", "a word"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "nowhere is not the folder of a finished run: it has no metrics.json\n"


# ---------------------------------------------------------------- train
def test_train_prints_an_epoch_a_line_and_what_it_reached(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ptb.runs.run.RUNS", tmp_path)
    line = "train --corpus embedded --cell rnn --hidden 8 --embedding 8 --epochs 2 --batch-size 200"
    assert main(shlex.split(f"{line} --study mine")) == 0
    (folder,) = (tmp_path / "mine").iterdir()
    shown, metrics = capsys.readouterr().out.splitlines(), Run(folder).metrics
    assert [line.split(",")[0].split()[-1] for line in shown[:2]] == ["1/2", "2/2"]
    assert shown[2] == f"{folder}: finished"
    assert shown[3:] == [
        f"{split}: perplexity {metrics[split]['perplexity']:.2f}"
        for split in ("train", "valid", "test")
    ]


# ---------------------------------------------------------------- score
def test_score_shows_each_words_loss_and_their_perplexity(run, sentences, capsys):
    assert main(["score", str(run.folder), *sentences]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    words = [word for sentence in sentences for word in [*sentence.split(), "<eos>"]]
    assert [row.split()[1] for row in rows] == words
    losses = [float(row.split()[0]) for row in rows]
    mean = sum(losses) / len(losses)
    assert last.startswith(f"{len(words)} words, ")
    assert float(last.split()[2]) == pytest.approx(mean, abs=2e-3)
    assert float(last.split()[-1]) == pytest.approx(math.exp(mean), rel=2e-3)


def test_score_is_the_models_own_loss(run, sentences, capsys):
    main(["score", str(run.folder), *sentences])
    corpus = load("embedded")
    expected = score_sentences(load_model(run, corpus), corpus, sentences)
    assert capsys.readouterr().out.splitlines()[-1].endswith(f": {expected.perplexity:.2f}")


def test_score_reads_standard_input_a_line_a_sentence(run, sentences, capsys, monkeypatch):
    main(["score", str(run.folder), *sentences])
    given = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(sentences) + "\n"))
    assert main(["score", str(run.folder)]) == 0
    assert capsys.readouterr().out == given


def test_standard_input_is_read_as_a_corpus_is(run, sentences, capsys):
    """A mark before the text is none of its words, and a form feed ends no line."""
    main(["score", str(run.folder), *sentences])
    given = capsys.readouterr().out
    typed = "\ufeff" + "\r\n".join(s.replace(" ", "\f", 1) for s in sentences) + "\r\n"
    words = [sys.executable, "-m", "ptb", "score", run.folder]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, input=typed.encode())
    assert done.stdout.decode() == given


def test_independent_sentences_are_scored_as_if_alone(run, sentences, capsys):
    given, alone = [str(run.folder), *sentences], []
    for sentence in sentences:
        main(["score", str(run.folder), sentence])
        alone += capsys.readouterr().out.splitlines()[:-1]
    for words in (["--independent", *given], [*given, "--independent"]):
        main(["score", *words])
        assert capsys.readouterr().out.splitlines()[:-1] == alone
    main(["score", *given])
    assert capsys.readouterr().out.splitlines()[:-1] != alone


# ---------------------------------------------------------------- sample
def sampled(run, line: str, capsys) -> str:
    assert main(["sample", str(run.folder), *shlex.split(line)]) == 0
    return capsys.readouterr().out


def test_sample_writes_on_from_the_prompt(run, sentences, capsys):
    prompt = " ".join(sentences[0].split()[:2])
    text = sampled(run, f"--prompt '{prompt}' --length 30", capsys)
    assert text.startswith(prompt) and "<eos>" not in text
    assert set(text.split()) <= set(load("embedded").words)


def test_a_line_may_end_before_its_first_word(run, monkeypatch, capsys):
    corpus = load("embedded")
    ids = [corpus.index["<eos>"], 1, corpus.index["<eos>"], corpus.index["<eos>"], 2]
    monkeypatch.setattr("ptb.evaluation.generation.generate", lambda *_: ids)
    assert sampled(run, "", capsys) == f"\n{corpus.words[1]}\n\n{corpus.words[2]}\n"


def test_samples_seed_and_temperature_count(run, capsys):
    first, again, other = (sampled(run, f"--seed {seed}", capsys) for seed in (1, 1, 2))
    assert first == again != other
    cold = {sampled(run, f"--temperature 0 --seed {seed}", capsys) for seed in (1, 2)}
    assert len(cold) == 1


# ---------------------------------------------------------------- what is wrong
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train --cell gur", "cell = 'gur' is none of lstm, gru, rnn, transformer: did you mean"),
        ("train --dropout 1.5", "dropout = 1.5 must be a number from 0 to below 1"),
        ("train --corpus embeded", "did you mean 'embedded'?"),
        ("train --corpus ''", "corpus = '' must be text, in quotes"),
        ("train --corpus embedded --threads 0", "threads = 0 must be a whole number from 1"),
        ("study run drpout", "no study is called 'drpout': did you mean 'dropout'?"),
        ("study run demo --workers 0", "workers = 0 must be a whole number from 1"),
        ("study run demo --only 3.1a", "demo has no experiments: leave out --only 3.1a"),
        ("study publish architectures --only 3.1a", "--only is for `study run`: publish takes"),
        ("study report demo --device cpu", "--device is for `study run`: report takes"),
        ("study run architectures --only 3.9", "architectures has no experiment '3.9'"),
        ("adapt mime", "/ has no study 'mime': did you mean 'mine'?"),
        ("sample RUN --temperature -1", "temperature = -1.0 must be a number from 0 to 100"),
        ("sample RUN --length 0", "length = 0 must be a whole number from 1"),
        ("sample RUN --seed 99999999999999999999", "must be a whole number from 0"),
        ("sample RUN --prompt zzz", "'zzz'"),
        ("score RUN zzz", "'zzz'"),
        ("score RUN ''", "there is no word to score"),
        ("sample nowhere", "nowhere is not the folder of a finished run"),
        (f"score '{'the company said ' * 30}'", "is not the folder of a finished run"),
    ],
)
def test_a_bad_value_is_one_line(line, said, run, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ptb.runs.run.RUNS", tmp_path)
    monkeypatch.setattr("ptb.__main__.RUNS", tmp_path)
    (tmp_path / "mine").mkdir()
    words = [str(run.folder) if word == "RUN" else word for word in shlex.split(line)]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert said in shown.err and len(shown.err.splitlines()) == 1 and shown.out == ""
    assert not list(tmp_path.rglob("setting.json"))


@pytest.mark.parametrize(
    ("typed", "given", "said"),
    [
        ([], b"caf\xe9\n", "standard input is not UTF-8"),
        ([b"caf\xe9"], b"", r"the word 'caf\udce9' is not in the vocabulary"),  # a word of Latin-1
    ],
)
def test_words_that_are_no_utf8_are_refused_in_one_line(run, typed, given, said):
    words = [sys.executable, "-m", "ptb", "score", run.folder, *typed]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, input=given)
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 1 and line.startswith(said)


def test_what_reads_no_further_than_a_line_ends_the_output(run, sentences):
    words = [sys.executable, "-m", "ptb", "score", run.folder]
    shell, text = f"{shlex.join(map(str, words))} | head -1", "\n".join(sentences * 2000)
    done = subprocess.run(shell, shell=True, cwd=ROOT, capture_output=True, text=True, input=text)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == ""


def test_a_closed_standard_input_has_no_text_to_score(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["score", str(run.folder)]) == 1
    assert capsys.readouterr().err == "there is no text: standard input is closed\n"


def test_a_closed_standard_input_is_not_asked(run):
    words = [sys.executable, "-m", "ptb", "sample", run.folder, "--length", "3"]
    shell = f"{shlex.join(map(str, words))} <&-"
    done = subprocess.run(shell, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_that_diverged_has_no_model_to_score_with(run, tmp_path, capsys):
    shutil.copytree(run.folder, tmp_path / "run")
    diverged = {"status": "diverged", "reason": "loss nan", "best_epoch": None}
    Run(tmp_path / "run").write("metrics.json", run.metrics | diverged)
    assert main(["score", str(tmp_path / "run"), "a word"]) == 1
    assert "no measured weights: it diverged (loss nan)" in capsys.readouterr().err


def test_runs_go_side_by_side_on_the_cores_that_one_may_use_and_not_on_a_gpu(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    asked = []

    def pool(workers):
        asked.append(workers)
        raise StudyError("no pool")

    monkeypatch.setattr("ptb.studies.local.LocalPool", pool)
    for device in ("cpu", "cuda"):
        main(["study", "run", "demo", "--device", device])
    assert asked == [3, 1]


def test_a_corpus_of_ones_own_has_one_name_however_it_is_typed(tmp_path, monkeypatch):
    """So its runs have one name too, and are found from any folder."""
    (tmp_path / "mine").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "mine" / f"{split}.txt").write_text("a b\n")
    monkeypatch.chdir(tmp_path)
    lines = [["train", "--corpus", typed] for typed in ("mine", "./mine/", str(tmp_path / "mine"))]
    chosen = {chosen_setting(parser().parse_args(line)).corpus for line in lines}
    assert chosen == {str(tmp_path / "mine")}


def test_a_folder_that_is_called_like_a_built_in_corpus_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "embedded").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "embedded" / f"{split}.txt").write_text("a b\n")
    monkeypatch.setattr("ptb.paths.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="'embedded' is the name of a built-in corpus: rename"):
        chosen_setting(parser().parse_args(["train", "--corpus", "./embedded"]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "python -m ptb: the following arguments are required: COMMAND (see --help)"),
        (
            "scroe",
            "python -m ptb: no command is called 'scroe': did you mean 'score'? (see --help)",
        ),
        ("--verbose train", "python -m ptb: there is no '--verbose' (see --help)"),
        ("study run demo --studdy x", "python -m ptb study: there is no '--studdy' (see --help)"),
        ("score RUN --independent 'it rose'", "'it rose' is one word too many, or belongs before"),
        ("train --drpout 0.5", "python -m ptb train: there is no '--drpout': did you mean '--drop"),
        ("train --cel gru", "there is no '--cel': did you mean '--cell'?"),  # not taken for --cell
        ("train --lr hot", "python -m ptb train: argument --lr: invalid float value: 'hot'"),
        ("study fly", "invalid choice: 'fly'"),
        ("sample RUN --temprature=1", "there is no '--temprature': did you mean '--temperature'?"),
    ],
)
def test_what_cannot_be_parsed_is_refused_in_one_line(line, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line))
    shown = capsys.readouterr().err
    assert end.value.code == 2 and said in shown and len(shown.splitlines()) == 1


# ---------------------------------------------------------------- nbconvert
def test_nbconvert_stands_by_itself(tmp_path):
    """`nbconvert NOTEBOOK --to pdf`, without the word jupyter before it."""
    cell = nbformat.v4.new_code_cell("print(6 * 7)")
    python = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=python)
    (tmp_path / "tiny.ipynb").write_text(json.dumps(notebook))
    program = Path(sys.executable).with_name("nbconvert")
    words = [str(program), "tiny.ipynb", "--to", "pdf", "--execute"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "42" in pypdf.PdfReader(tmp_path / "tiny.pdf").pages[0].extract_text()
